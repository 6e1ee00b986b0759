"""Models in a single file: what it is, by the names of its tensors, and what else it needs.

Such a file holds weights alone. What it lacks, at least settings and the words that the
model knows, comes from a model folder of the same kind beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.engines.local import folders
from core.engines.local.untrusted import loads
from core.errors import Category, Problem, ProblemError

SUFFIX = ".safetensors"
LORA = "lora"
Header = Mapping[str, Mapping[str, Any]]
_UNET, _PREFIX = "model.diffusion_model.", "model.diffusion_model."
BEGINS: Mapping[str, tuple[str, ...]] = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
"""How the tensors of each part begin in a file; those of the other parts are the whole file."""
_REFINER = 2560
"""What the refiner of Stable Diffusion XL is told of a picture; the base model hears more."""
_XL = ("StableDiffusionXLPipeline",)
_SD = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a single file is.

    Attributes:
        family: Who runs it.
        title: What people call it.
        held: Parts whose weights it holds.
        pipelines: What the index of the folder beside it must name.
    """

    family: str
    title: str
    held: frozenset[str]
    pipelines: tuple[str, ...]


def header_of(path: Path) -> Header:
    """Return the tensors of a file by name, without their numbers.

    Raises:
        ProblemError: It is damaged, or no safetensors.
    """
    if path.suffix.lower() != SUFFIX:
        if path.suffix.lower() in folders.PICKLES:
            raise folders._pickle(path)
        raise _problem(
            f"{path.name} is no model file.",
            f"Choose a {SUFFIX} file, or the folder that holds {folders.INDEX}.",
            path,
        )
    folders.check_safetensors(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        found: dict[str, Mapping[str, Any]] = loads(file.read(length))
    found.pop("__metadata__", None)
    return found


def kind_of(path: Path) -> Kind:
    """Return what the model file `path` is.

    Raises:
        ProblemError: It is no model that can be run, or something else; the problem says what.
    """
    header = header_of(path)
    for look in (_animatediff, _wan, _ltx, _stable_diffusion):
        found = look(header)
        if found is not None:
            return found
    raise _unknown(path, header)


def is_lora(path: Path) -> bool:
    """Say whether a file is a LoRA. Raises ProblemError where it cannot be read."""
    return any("lora_" in name or ".lora." in name for name in header_of(path))


def sizes_of(found: folders.ModelFolder, part: str) -> dict[str, int]:
    """Return each tensor of a part that a file holds, with its count of numbers."""
    assert found.file is not None
    begins = BEGINS.get(part, ("",))
    return {
        name: math.prod(entry["shape"])
        for name, entry in header_of(found.file).items()
        if name.startswith(begins) and not (part == "transformer" and name.startswith("vae."))
    }


def check(place: Path, layout: folders.Layout) -> folders.ModelFolder:
    """Look through a model folder, or through a single file and the folder beside it.

    Args:
        place: Of the model.
        layout: What models of the family hold.

    Raises:
        ProblemError: It cannot be run, or nothing beside a file has what it lacks.
    """
    if not place.is_file():
        return folders.check(place, layout)
    return beside(place, kind_of(place), layout)


def beside(path: Path, kind: Kind, layout: folders.Layout) -> folders.ModelFolder:
    """Return the folder beside a file that has what the file lacks.

    One of the file's own name comes first.

    Raises:
        ProblemError: There is none.
    """
    # A folder for AnimateDiff's adapter may be one that only makes pictures.
    fitting = replace(layout, pipelines=kind.pipelines)
    reasons = []
    for place in _folders_beside(path):
        folder = folders.snapshot(place)
        try:
            if not _names(folder, kind.pipelines):
                continue
            found = folders.check(folder, fitting, kind.held)
        except ProblemError as error:
            reasons.append(error.problem.message)
            continue
        size = found.weights_bytes + path.stat().st_size
        return replace(found, file=path, held=kind.held, weights_bytes=size)
    lacks = sorted({*layout.models, *layout.configs} - kind.held - layout.optional)
    raise ProblemError(
        Problem(
            Category.MODEL_NOT_FOUND,
            f"{path.name} is a {kind.title} in a single file, which does not hold all that is "
            f"needed: {', '.join(lacks)} and settings are missing."
            + (f" {reasons[0]}" if reasons else ""),
            f"Put a model folder for {' or '.join(kind.pipelines)} beside the file; of the parts "
            "that the file holds, the small .json files are enough.",
            f"Path: {path}",
        )
    )


def _names(folder: Path, pipelines: tuple[str, ...]) -> bool:
    """Say whether a folder's index names one of `pipelines`."""
    try:
        return folders.pipeline_of(folder) in pipelines
    except (ProblemError, OSError):
        return False


def _folders_beside(path: Path) -> list[Path]:
    try:
        found = sorted(place for place in path.parent.iterdir() if place.is_dir())
    except OSError:
        return []
    return sorted(found, key=lambda place: place.name != path.stem)


# ---- by the names of tensors


def _bare(header: Header) -> dict[str, Mapping[str, Any]]:
    return {name.removeprefix(_PREFIX): entry for name, entry in header.items()}


def _shape(header: Header, name: str, side: int) -> int:
    """Return one side of a tensor; 0 where there is none."""
    shape = header.get(name, {}).get("shape", ())
    return int(shape[side]) if len(shape) > side else 0


def _animatediff(header: Header) -> Kind | None:
    inside = [name for name in header if ".motion_modules." in name]
    if len(inside) != len(header) or not inside or any("lora" in name for name in inside):
        return None
    pipelines = folders.PIPELINES
    return Kind("animatediff", "motion adapter", frozenset({"motion_adapter"}), pipelines)


def _wan(header: Header) -> Kind | None:
    found = _bare(header)
    if "head.modulation" not in found or "patch_embedding.weight" not in found:
        return None
    if any(name.startswith(("vace_", "motion_encoder.", "control_")) for name in found):
        return None
    picture = _shape(found, "patch_embedding.weight", 1) == 36
    pipeline = "WanImageToVideoPipeline" if picture else "WanPipeline"
    return Kind("wan", "WAN model", frozenset({"transformer"}), (pipeline,))


def _ltx(header: Header) -> Kind | None:
    found = _bare(header)
    if "patchify_proj.weight" not in found or any("av_ca" in name for name in found):
        return None
    held = {"transformer"}
    if any(name.startswith("vae.decoder.") for name in header):
        held.add("vae")
    return Kind("ltx", "LTX-Video", frozenset(held), ("LTXPipeline", "LTXImageToVideoPipeline"))


def _stable_diffusion(header: Header) -> Kind | None:
    if _shape(header, f"{_UNET}input_blocks.0.0.weight", 1) != 4:
        return None
    if _is_refiner(header):
        return None
    held = {"unet"}
    marks: tuple[tuple[str, str], ...] = (
        ("first_stage_model.decoder.", "vae"),
        ("cond_stage_model.transformer.", "text_encoder"),
        ("conditioner.embedders.0.transformer.", "text_encoder"),
        ("conditioner.embedders.1.model.", "text_encoder_2"),
    )
    held |= {part for mark, part in marks if any(name.startswith(mark) for name in header)}
    large = f"{_UNET}label_emb.0.0.weight" in header
    title = "Stable Diffusion XL model" if large else "Stable Diffusion model"
    return Kind("stable_diffusion", title, frozenset(held), _XL if large else _SD)


def _is_refiner(header: Header) -> bool:
    return _shape(header, f"{_UNET}label_emb.0.0.weight", 1) == _REFINER or any(
        name.startswith("conditioner.embedders.0.model.") for name in header
    )


def _begin(*words: str) -> Callable[[Header], bool]:
    """Return what says whether a tensor's name begins with one of `words`."""
    return lambda header: any(name.startswith(words) for name in header)


def _takes(channels: int) -> Callable[[Header], bool]:
    """Return what says whether a network takes pictures of so many channels."""
    return lambda header: _shape(header, f"{_UNET}input_blocks.0.0.weight", 1) == channels


def _unknown(path: Path, header: Header) -> ProblemError:
    plain = "Choose the plain model that it was made from."
    words: list[tuple[Callable[[Header], bool], str, str]] = [
        (
            lambda header: any("lora_" in name or ".lora." in name for name in header),
            "is a LoRA, which changes a model and is none",
            "Choose a model that it was made for, and the file in the form’s LoRA field.",
        ),
        (_takes(9), "is a model for inpainting, which fills holes in pictures", plain),
        (_takes(8), "is a model that edits pictures by orders", plain),
        (
            _is_refiner,
            "is a refiner, which goes over pictures that another model made",
            "Choose the base model of Stable Diffusion XL.",
        ),
        (
            _begin("control_model.", "controlnet_", "control_"),
            "is a ControlNet, which guides a model and is none",
            "Choose the model that it was made for.",
        ),
        (
            lambda header: "conv_first.weight" in header,
            "is an upscale model",
            "Choose it in the form’s Upscale model field.",
        ),
        (
            lambda header: "emb_params" in header,
            "is an embedding, a word for a model and none itself",
            "Choose a model; embeddings cannot be used.",
        ),
        (
            _begin("first_stage_model.", "decoder.", "encoder.", "vae."),
            "is an autoencoder (VAE), one part of a model",
            f"Open the folder that holds {folders.INDEX} instead.",
        ),
        (
            _begin("down_blocks.", "transformer_blocks.", "text_model."),
            "is one part of a model",
            f"Open the folder that holds {folders.INDEX} instead.",
        ),
    ]
    for fits, what, hint in words:
        if fits(header):
            return _problem(f"{path.name} {what}.", hint, path)
    first = next(iter(sorted(header)), "nothing")
    return _problem(
        f"{path.name} is a model that is not known: it holds {len(header)} tensors, "
        f"the first is {first}.",
        "In a single file, Stable Diffusion 1.5 and XL, motion adapters, WAN and LTX-Video "
        "can be opened.",
        path,
    )


def _problem(message: str, hint: str, path: Path) -> ProblemError:
    return ProblemError(Problem(Category.MODEL_NOT_FOUND, message, hint, f"Path: {path}"))

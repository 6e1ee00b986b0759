"""Model folders, looked at before anything is loaded, and without torch.

A damaged or dangerous file is found here in milliseconds and named, instead
of deep inside a library after a minute of loading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.engines.local.untrusted import is_pickle, loads
from core.errors import Category, Problem, ProblemError

INDEX = "model_index.json"
PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")
PIPELINES = ("AnimateDiffPipeline", "StableDiffusionPipeline")
"""Pipelines whose parts make an AnimateDiff, given a motion adapter."""

MODELS: Mapping[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel", "UNetMotionModel"),
    "motion_adapter": ("MotionAdapter",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
}
"""Parts with weights and the classes they may be of."""

TOKENIZER = ("tokenizer_config.json", "vocab.json", "tokenizer.json")
CONFIGS: Mapping[str, tuple[str, ...]] = {
    "tokenizer": TOKENIZER,
    "scheduler": ("scheduler_config.json",),
}
"""Parts without weights and files of which one must be there."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the model folders of one family hold.

    Attributes:
        title: The family's name.
        pipelines: Pipeline classes that their index may name.
        models: Parts with weights and the classes they may be of.
        configs: Parts without weights and files of which one must be there.
        optional: Parts of both kinds that a model may do without.
    """

    title: str
    pipelines: tuple[str, ...]
    models: Mapping[str, tuple[str, ...]]
    configs: Mapping[str, tuple[str, ...]]
    optional: frozenset[str] = frozenset()


ANIMATEDIFF = Layout("AnimateDiff", PIPELINES, MODELS, CONFIGS)
_OF_TRANSFORMERS = ("text_encoder", "text_encoder_2", "image_encoder")
"""Parts whose files are named as transformers names them."""

_MAY_BE_GGUF = ("transformer", "transformer_2")
_WHO_READS = "Check who may read the folder, then retry."
_HEADER_LIMIT = 100_000_000
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8}
_BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32}
_BITS |= {"I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that was looked through and can be loaded.

    Attributes:
        path: The folder.
        pipeline: Pipeline class named by its index.
        classes: Class name of each part with weights.
        variants: Variant of each part's files, such as "fp16"; None for plain.
        weights_bytes: Size of the weights that will be read.
        configs: Its parts without weights.
        options: What else its index says, such as `boundary_ratio`.
        file: A single file that holds some of the weights; None for a folder alone.
        held: Parts whose weights that file holds.
    """

    path: Path
    pipeline: str
    classes: Mapping[str, str]
    variants: Mapping[str, str | None]
    weights_bytes: int
    configs: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    held: frozenset[str] = frozenset()


def native_size(folder: Path) -> int | None:
    """Return the width in pixels that the model was made for, None if it does not say."""
    try:
        unet = loads((folder / "unet" / "config.json").read_bytes())
        vae = loads((folder / "vae" / "config.json").read_bytes())
        size = int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return size if 64 <= size <= 2048 and size % 8 == 0 else None


def snapshot(folder: Path) -> Path:
    """Return the model that a folder of the Hugging Face cache stands for; any other as it is.

    One that was fetched by a revision has no main branch there: the newest stands for it then.
    """
    if not folder.name.startswith("models--"):
        return folder
    try:
        name = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        name = ""
    if name:
        return folder / "snapshots" / name if name.isalnum() else folder
    try:
        whole = [one for one in (folder / "snapshots").iterdir() if (one / INDEX).is_file()]
        return max(whole, key=lambda one: one.stat().st_mtime, default=folder)
    except OSError:
        return folder


def name_of(folder: Path) -> str:
    """Return what a model folder is called; in the Hugging Face cache that is a folder above."""
    place = folder.parent.parent.name
    inside = folder.parent.name == "snapshots" and place.startswith("models--")
    return place.rpartition("--")[2] if inside else folder.name.removesuffix(".safetensors")


def pipeline_of(folder: Path) -> str:
    """Return the pipeline class that the index of a model folder names; "" for none.

    Raises:
        ProblemError: It is missing, empty, a pickle, or its index is damaged.
    """
    return _named(_index(folder))


def _named(index: Mapping[str, Any]) -> str:
    name = index.get("_class_name")
    return name if isinstance(name, str) else ""


def config_of(folder: Path, part: str, name: str = "config.json") -> Mapping[str, Any]:
    """Return the settings of a part; empty where they cannot be read."""
    try:
        found = loads((folder / part / name).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check(
    folder: Path, layout: Layout = ANIMATEDIFF, held: frozenset[str] = frozenset()
) -> ModelFolder:
    """Look through the model folder `folder` of the family that `layout` is of.

    Args:
        folder: The model's.
        layout: What it has to hold.
        held: Parts whose weights are found elsewhere; of those, settings are enough.

    Raises:
        ProblemError: It is missing, empty, incomplete, damaged, holds pickles
            instead of safetensors, or is of a pipeline that cannot be run.
    """
    index = _index(folder)
    pipeline = _named(index)
    if pipeline not in layout.pipelines:
        known = " or ".join(layout.pipelines)
        raise _problem(
            f"{name_of(folder)} is a model for {pipeline or 'an unnamed pipeline'}, "
            f"which {layout.title} cannot run.",
            f"Choose a folder whose {INDEX} names {known}.",
            folder,
        )
    left_out = {name for name in layout.optional if not _is_there(folder, index, name)}
    configs = tuple(name for name in layout.configs if name not in left_out)
    for part in configs:
        names = layout.configs[part]
        if not any((folder / part / name).is_file() for name in names):
            raise _missing(folder, part, names[0])
    classes: dict[str, str] = {}
    variants: dict[str, str | None] = {}
    size = 0
    for part, allowed in layout.models.items():
        if part in held and not (folder / part).is_dir():
            # What such a file holds tells its settings too.
            classes[part], variants[part] = allowed[0], None
        elif part not in left_out:
            classes[part] = _class_of(folder, index, part, allowed, layout.title)
            variants[part], part_size = (None, 0) if part in held else _weights(folder, part)
            size += part_size
    options = {name: value for name, value in index.items() if not isinstance(value, list)}
    return ModelFolder(folder, pipeline, classes, variants, size, configs, options)


def _is_there(folder: Path, index: Mapping[str, Any], part: str) -> bool:
    """Say whether a part that a model may do without belongs to this one."""
    entry = index.get(part)
    if isinstance(entry, list):
        return any(name is not None for name in entry)
    return (folder / part).is_dir()


def _index(folder: Path) -> dict[str, Any]:
    if folder.is_file():
        if folder.suffix.lower() in PICKLES:
            raise _pickle(folder)
        raise _problem(
            f"{folder.name} is a file, not a model folder.",
            f"Choose the folder that holds {INDEX}.",
            folder,
        )
    if not folder.is_dir():
        raise _problem(
            f"The model folder {name_of(folder)} is not there.",
            "Check the path, or choose another model and retry.",
            folder,
        )
    path = folder / INDEX
    if path.is_file():
        return _json_object(path, folder)
    contents = list(folder.iterdir())
    if not contents:
        raise _problem(
            f"The model folder {name_of(folder)} is empty.",
            "Copy the whole model into it, or choose another folder.",
            folder,
        )
    pickles = sorted(path for path in contents if path.suffix.lower() in PICKLES)
    if pickles:
        raise _pickle(pickles[0])
    raise _problem(
        f"{name_of(folder)} holds no {INDEX}, so it is not a model in diffusers' format.",
        f"Choose the folder that holds {INDEX}.",
        folder,
    )


def _json_object(path: Path, folder: Path) -> dict[str, Any]:
    try:
        data = loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _problem(
            f"{path.relative_to(folder)} cannot be read: {error.strerror}.",
            _WHO_READS,
            path,
        ) from error
    except ValueError as error:
        data = None
        reason = str(error)
    else:
        reason = "it is no JSON object"
    if not isinstance(data, dict):
        raise _problem(
            f"{path.relative_to(folder)} is damaged: {reason}.",
            "Copy this file again from where the model came from.",
            path,
        )
    return data


def _class_of(
    folder: Path, index: Mapping[str, Any], part: str, allowed: tuple[str, ...], title: str
) -> str:
    if not (folder / part).is_dir():
        raise _missing(folder, part, "config.json")
    config = _json_object(folder / part / "config.json", folder)
    entry = index.get(part)
    named = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    found = str(config.get("_class_name") or named or (config.get("architectures") or [""])[0])
    if found not in allowed:
        raise _problem(
            f"The part {part} of {name_of(folder)} is a {found or 'model without a name'}, "
            f"but {title} needs a {' or '.join(allowed)}.",
            f"Choose a model folder made for {title}.",
            folder / part,
        )
    return found


def _weights(folder: Path, part: str) -> tuple[str | None, int]:
    """Check the weights of one part; return their variant and size, bytes."""
    place = folder / part
    found = sorted(place.glob("*.safetensors"))
    if not found and part in _MAY_BE_GGUF and (beside := ggufs(folder, part)):
        return None, check_gguf(beside[0])
    if not found:
        pickles = sorted(path for path in place.iterdir() if path.suffix.lower() in PICKLES)
        if pickles:
            raise _pickle(pickles[0])
        raise _missing(folder, part, "its .safetensors weights")
    stem = "model" if part in _OF_TRANSFORMERS else "diffusion_pytorch_model"
    for variant in (None, "fp16"):
        ending = f".{variant}" if variant else ""
        single = place / f"{stem}{ending}.safetensors"
        listing = place / f"{stem}.safetensors.index{ending}.json"
        if listing.is_file():
            return variant, _shards(listing, folder)
        if single.is_file():
            return variant, check_safetensors(single)
    raise _problem(
        f"The weights of {part} have names that are not known: {found[0].name}.",
        f"Rename the file to {stem}.safetensors, or fetch the model in diffusers' format.",
        place,
    )


def _shards(listing: Path, folder: Path) -> int:
    table = _json_object(listing, folder).get("weight_map")
    names = sorted(set(map(str, table.values()))) if isinstance(table, dict) else []
    if not names:
        raise _problem(
            f"{listing.relative_to(folder)} is damaged: it lists no files.",
            "Copy this file again from where the model came from.",
            listing,
        )
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise _problem(
                f"{listing.relative_to(folder)} is damaged: it leads out of its folder.",
                "Fetch the model anew from where you trust it.",
                listing,
            )
        if not (listing.parent / name).is_file():
            raise _missing(folder, listing.parent.name, name)
    return sum(check_safetensors(listing.parent / name) for name in names)


def ggufs(folder: Path, part: str) -> list[Path]:
    """Return the GGUF files of a part: its own, for the first transformer those beside it too."""
    beside = sorted(folder.glob("*.gguf")) if part == "transformer" else []
    return [*sorted((folder / part).glob("*.gguf")), *beside]


def check_gguf(path: Path) -> int:
    """Check how a GGUF file begins; return its size in bytes. Raises ProblemError."""
    try:
        with path.open("rb") as file:
            begins = file.read(4)
    except OSError as error:
        raise _problem(
            f"{path.name} cannot be read: {error.strerror}.",
            _WHO_READS,
            path,
        ) from error
    if begins != b"GGUF":
        raise _damaged(path, "it does not begin as a GGUF file does")
    return path.stat().st_size


def check_safetensors(path: Path) -> int:
    """Check that a safetensors file is whole; return its size in bytes.

    Raises:
        ProblemError: The file is cut, padded or not safetensors at all; the
            problem names it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _HEADER_LIMIT):
                if is_pickle(length.to_bytes(8, "little")):
                    raise _pickle(path)
                raise _damaged(path, f"it ends after {size:,} bytes, inside its own header")
            header = loads(file.read(length))
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        raise _problem(
            f"{path.name} cannot be read: {error.strerror}.",
            "Choose a file that is there." if gone else _WHO_READS,
            path,
        ) from error
    except ValueError as error:
        raise _damaged(path, "its header cannot be read") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header cannot be read")
    needed = 8 + length + _data_bytes(path, header)
    if size != needed:
        raise _damaged(path, f"it has {size:,} bytes where its header asks for {needed:,}")
    return size


def _data_bytes(path: Path, header: Mapping[str, Any]) -> int:
    """Return the bytes that the tensors of `header` fill without a gap."""
    spans: list[tuple[int, int]] = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            start, end = entry["data_offsets"]
            bits = _BITS[entry["dtype"]] * math.prod(entry["shape"])
            fits = bits == 8 * (end - start)
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            raise _damaged(path, f"its entry {name!r} makes no sense")
        spans.append((start, end))
    reached = 0
    for start, end in sorted(spans):
        if start != reached:
            raise _damaged(path, "its parts overlap or leave gaps")
        reached = end
    return reached


def _problem(message: str, hint: str, path: Path) -> ProblemError:
    return ProblemError(Problem(Category.MODEL_NOT_FOUND, message, hint, f"Path: {path}"))


def _damaged(path: Path, reason: str) -> ProblemError:
    return _problem(
        f"The model file {path.parent.name}/{path.name} is damaged: {reason}.",
        "Copy or download this file again; a copy that was cut short is the usual cause.",
        path,
    )


def _missing(folder: Path, part: str, what: str) -> ProblemError:
    return _problem(
        f"The model {name_of(folder)} is incomplete: {part} lacks {what}."
        if (folder / part).is_dir()
        else f"The model {name_of(folder)} is incomplete: its part {part} is missing.",
        "Copy the whole model folder again, or choose another model.",
        folder / part,
    )


def _pickle(path: Path) -> ProblemError:
    return _problem(
        f"{path.name} is a pickle, which can run any program hidden in it, so it is not opened.",
        "Use the model's .safetensors files instead, or convert it with a tool you trust.",
        path,
    )

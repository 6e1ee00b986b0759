"""LoRA: small changes to a model, from files of their own, put on and taken off a warm one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engines.local import folders
from core.errors import ProblemError, invalid
from core.events import Noted
from core.jobs import Kind, Parameter

if TYPE_CHECKING:
    from core.engines.local.context import Context
    from core.engines.local.pipelines import Model

FIELD, SCALE = "lora", "lora_scale"
SUFFIX = ".safetensors"
_DOWN = re.compile(
    r"(.+?)(?:\.lora_A|\.lora_down|[._]lora\.down|\.lora_linear_layer\.down)\.weight"
)
"""How the first half of each pair is called behind its layer, by trainers old and new."""
_KINDS = {
    "high": ("high_noise", "highnoise", "high-noise"),
    "low": ("low_noise", "lownoise", "low-noise"),
}
"""Words in the name of a file that is for one of a model's two halves."""


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA that a job asks for.

    Attributes:
        path: Its file.
        size: Of the file, bytes.
        changed_ns: When the file was changed last.
        scale: How much of it.
    """

    path: Path
    size: int
    changed_ns: int
    scale: float

    @property
    def file(self) -> tuple[Path, int, int]:
        """The file as it lies on the disk."""
        return self.path, self.size, self.changed_ns


def parameters() -> tuple[Parameter, ...]:
    """Return the knobs; as they come, they change nothing."""
    return (
        Parameter(
            FIELD,
            Kind.IMAGE,
            "LoRA",
            "",
            choices=(SUFFIX,),
            help="A .safetensors file that changes what the model makes; empty: none.",
            group="lora",
        ),
        Parameter(
            SCALE,
            Kind.NUMBER,
            "LoRA strength",
            1.0,
            -4,
            4,
            help="How much of it; 0 is as good as none.",
            group="lora",
        ),
    )


def asked(params: Mapping[str, Any]) -> tuple[Lora, ...]:
    """Return what a job asks for. Imports nothing.

    Raises:
        ProblemError: The file is not there, damaged, or no safetensors.
    """
    text = str(params.get(FIELD, "") or "")
    scale = float(params.get(SCALE, 1.0))
    if not text or scale == 0:
        return ()
    path = Path(text)
    if path.suffix.lower() != SUFFIX:
        raise invalid(
            FIELD,
            f"{path.name} is no {SUFFIX} file, and other kinds can run any program hidden in them.",
            f"Choose the LoRA's {SUFFIX} file.",
        )
    try:
        folders.check_safetensors(path)
        found = path.stat()
    except ProblemError as error:
        raise ProblemError(replace(error.problem, field=FIELD)) from error
    return (Lora(path, found.st_size, found.st_mtime_ns, scale),)


def apply(context: Context, model: Model) -> None:
    """Put on what the job asks for, in place of what an earlier one asked for.

    What is taken off leaves the model's own weights as they were read.

    Raises:
        ProblemError: A file does not fit this model; the model stays as it was read.
    """
    wanted = asked(context.job.params)
    if wanted == model.loras:
        return
    pipe = model.pipe
    if [one.file for one in wanted] != [one.file for one in model.loras]:
        remove(model)
        try:
            for number, one in enumerate(wanted):
                _put_on(context, pipe, one, f"lora_{number}")
        except BaseException:
            if hasattr(pipe, "unload_lora_weights"):
                pipe.unload_lora_weights()
            raise
    model.loras = wanted
    if wanted:
        pipe.set_adapters(
            [f"lora_{number}" for number in range(len(wanted))], [one.scale for one in wanted]
        )


def remove(model: Model) -> None:
    """Take off what is on a model."""
    if model.loras:
        model.loras = ()
        model.pipe.unload_lora_weights()


def _parts(pipe: Any) -> dict[str, Any]:
    names = (*getattr(pipe, "_lora_loadable_modules", ()), "transformer_2")
    found = {name: getattr(pipe, name, None) for name in names}
    return {name: part for name, part in found.items() if part is not None}


def _put_on(context: Context, pipe: Any, one: Lora, name: str) -> None:
    """Load one file into a pipeline."""
    from safetensors.torch import load_file

    if not hasattr(pipe, "load_lora_weights"):
        raise _unfit(one, "no LoRA can be put on this kind of model")
    parts = _parts(pipe)
    main = parts.get("unet") or parts["transformer"]
    tensors = {
        key: tensor.to(main.dtype) if tensor.ndim > 1 and tensor.is_floating_point() else tensor
        for key, tensor in load_file(one.path).items()
    }
    if any("dora_scale" in key for key in tensors):
        text = f"{one.path.name} is a DoRA; only its LoRA part is used."
        context.report(Noted(job_id=context.job.id, text=text))
    try:
        state = _converted(pipe, tensors)
        for into in _targets(one, parts):
            options = {"load_into_transformer_2": True} if into == "transformer_2" else {}
            pipe.load_lora_weights(dict(tensors), adapter_name=name, **options)
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _unfit(one, _first_line(error)) from error
    there = set().union(*(_names_in(part, name) for part in parts.values()))
    given = {found[1] for found in map(_DOWN.fullmatch, state) if found}
    missing = sorted(layer for layer in given if there.isdisjoint(_names_of(layer)))
    if missing or not given:
        raise _unfit(one, _missing_words(missing, len(given)))


def _converted(pipe: Any, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the file's tensors under diffusers' names."""
    unet = getattr(pipe, "unet", None)
    options = {"unet_config": unet.config} if unet is not None else {}
    found = pipe.lora_state_dict(dict(tensors), **options)
    state: Mapping[str, Any] = found[0] if isinstance(found, tuple) else found
    return state


def _targets(one: Lora, parts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which of a model's two halves a file is for; without a word in its name, both."""
    if "transformer_2" not in parts:
        return ("",)
    name = one.path.stem.lower()
    if any(word in name for word in _KINDS["low"]):
        return ("transformer_2",)
    return ("",) if any(word in name for word in _KINDS["high"]) else ("", "transformer_2")


def _names_in(part: Any, adapter: str) -> set[str]:
    """Return the layers of a part that an adapter is on."""
    ending = f".lora_A.{adapter}.weight"
    return {
        name.removesuffix(ending) for name, _ in part.named_parameters() if name.endswith(ending)
    }


def _names_of(layer: str) -> set[str]:
    """Return what a layer of a file may be called in the part that it is for."""
    path = layer.partition(".")[2].removeprefix("text_model.").replace(".processor.", ".")
    stem, _, last = path.rpartition(".")
    if last.startswith("to_"):
        # Text encoders have other names for the same.
        return {path, f"{path}.0", f"{stem}.{last[3:]}_proj"}
    return {path}


def _missing_words(missing: list[str], count: int) -> str:
    if not count:
        return "it holds nothing of a LoRA"
    if len(missing) == count:
        return f"none of its {count} parts is for this model; the first is {missing[0]}"
    return f"{len(missing)} of its {count} parts are not in this model; the first is {missing[0]}"


def _first_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]}"[:200]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    sized = [line for line in lines if line.startswith("size mismatch")]
    text = (sized or lines or [type(error).__name__])[0]
    return text if len(text) <= 200 else text[:199] + "…"


def _unfit(one: Lora, reason: str) -> ProblemError:
    return invalid(
        FIELD,
        f"The LoRA {one.path.name} does not fit this model: {reason.rstrip('.')}.",
        "Choose one that was made for this model's family, or none.",
    )

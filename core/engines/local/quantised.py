"""Weights made smaller while they are loaded, by libraries that need not be there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from core.engines.local import folders, parts
from core.engines.local.offload import EIGHT, FOUR, GGUF, OFF, SEQUENTIAL
from core.engines.local.placement import SAMPLERS, Wishes
from core.errors import Category, Problem, ProblemError, invalid

FIELD = "quantised"


def of(found: folders.ModelFolder, wishes: Wishes, *, on_card: bool) -> str:
    """Return how the weights of a model are made smaller, before anything is loaded.

    A model of which only a GGUF file is there is read from that.

    Raises:
        ProblemError: A library or the file is missing, or it does not go with the rest.
    """
    only = any(parts.only_gguf(found.path, name) for name in found.classes if name in SAMPLERS)
    asked = GGUF if only and wishes.quantised == OFF else wishes.quantised
    if asked == OFF:
        return OFF
    if asked == GGUF:
        if parts.gguf_file(found.path) is None:
            raise invalid(
                FIELD,
                f"There is no GGUF file in {found.path.name}.",
                f"Put it into {found.path.name}/transformer, or switch Quantised off.",
            )
        _need("gguf")
        _need("accelerate")
        return GGUF
    if only:
        raise invalid(
            FIELD,
            f"The weights of {found.path.name} are a GGUF file, which is quantised already.",
            "Set Quantised to GGUF file or to off.",
        )
    if wishes.offload == SEQUENTIAL:
        raise invalid(
            "offload",
            "Quantised weights cannot be moved layer by layer.",
            "Set Offload to automatic, off or by parts.",
        )
    library(on_card=on_card)
    return asked


def library(*, on_card: bool) -> str:
    """Return the library that quantises here. Raises ProblemError, naming what to install."""
    # bitsandbytes is the faster one, and computes on a card alone.
    names = ("bitsandbytes", "torchao") if on_card else ("torchao",)
    for name in names:
        if importlib.util.find_spec(name) is not None:
            return name
    raise _missing(names[0])


def options(quantised: str, dtype: Any, *, on_card: bool) -> dict[str, Any]:
    """Return what `from_pretrained` of a denoiser is given beside the rest."""
    if quantised not in (EIGHT, FOUR):
        return {}
    import diffusers

    if library(on_card=on_card) == "bitsandbytes":
        if quantised == EIGHT:
            return {"quantization_config": diffusers.BitsAndBytesConfig(load_in_8bit=True)}
        config = diffusers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
        return {"quantization_config": config}
    kinds = importlib.import_module("torchao.quantization")
    kind = kinds.Int8WeightOnlyConfig if quantised == EIGHT else kinds.Int4WeightOnlyConfig
    return {"quantization_config": diffusers.TorchAoConfig(kind())}


def from_gguf(path: Path, class_name: str, config: Path, dtype: Any) -> Any:
    """Return a transformer with the weights of a GGUF file.

    Args:
        path: The file; its tensors are named as diffusers or as the model's makers do.
        class_name: Its class in diffusers.
        config: Folder of its config.json.
        dtype: To compute in.

    Raises:
        ProblemError: It is no such file, or one of another model.
    """
    import diffusers

    try:
        made = getattr(diffusers, class_name).from_single_file(
            str(path),
            config=str(config),
            quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=dtype),
            torch_dtype=dtype,
            local_files_only=True,
        )
    except (ValueError, KeyError, RuntimeError, OSError, IndexError) as error:
        raise _unreadable(path, str(error)) from error
    missing = [name for name, weight in made.named_parameters() if weight.device.type == "meta"]
    if missing:
        raise _unreadable(path, f"it lacks {missing[0]} and {len(missing) - 1} more")
    return made


def _need(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise _missing(name)


def _missing(name: str) -> ProblemError:
    return ProblemError(
        Problem(
            Category.INVALID_PARAMS,
            f"Quantised weights need {name}, which is not installed.",
            f"Run “pip install {name}” in the engine's Python, or switch Quantised off.",
            field=FIELD,
        )
    )


def _unreadable(path: Path, reason: str) -> ProblemError:
    return ProblemError(
        Problem(
            Category.MODEL_NOT_FOUND,
            f"The GGUF file {path.name} cannot be used for this model: {reason}.",
            "Fetch the file made for this very model again, or switch Quantised off.",
            f"Path: {path}",
        )
    )

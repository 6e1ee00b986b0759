"""Reads the weights of one part out of a single file; nothing is fetched from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.engines.local import folders, singles
from core.errors import Category, Problem, ProblemError

_LARGEST_LISTED = 200


def weights(
    found: folders.ModelFolder,
    name: str,
    class_name: str,
    dtype: Any,
    more: Mapping[str, Any] | None = None,
) -> Any:
    """Return a part of the model in `found.file`, on the processor.

    Args:
        found: The file and the folder beside it.
        name: Of the part.
        class_name: Of its model.
        dtype: Type of its weights.
        more: What else its loading is given, such as how it is quantised.

    Raises:
        ProblemError: What the file holds does not fit the settings of the folder beside it.
    """
    assert found.file is not None
    try:
        part = _read(found, found.file, name, class_name, dtype, more or {})
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError) as error:
        words = str(error).strip().splitlines()[:1]
        # Weights without numbers are those that the file lacks.
        lacking = bool(words) and "meta tensor" in words[0]
        words = ["it lacks weights that they ask for"] if lacking else words
        raise _unfit(found, name, words) from error
    if any(weight.device.type == "meta" for weight in part.parameters()):
        raise _unfit(found, name, ["it lacks weights that they ask for"])
    return (part if more else part.to(dtype)).eval()


def _read(
    found: folders.ModelFolder,
    file: Path,
    name: str,
    class_name: str,
    dtype: Any,
    more: Mapping[str, Any],
) -> Any:
    import diffusers
    import transformers
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
    from safetensors import safe_open

    begins = singles.BEGINS.get(name, ())
    with safe_open(file, "pt") as opened:
        tensors = {
            key: opened.get_tensor(key)
            for key in opened.keys()  # noqa: SIM118 - no mapping
            if not begins or key.startswith(begins)
        }
    if name == "motion_adapter":
        return _adapter(tensors, found.path / name)
    if name == "transformer":
        tensors = {key: value for key, value in tensors.items() if not key.startswith("vae.")}
    where = {"config": str(found.path), "subfolder": name, "local_files_only": True}
    if name.startswith("text_encoder"):
        kind = getattr(transformers, class_name)
        return create_diffusers_clip_model_from_ldm(kind, tensors, **where)
    kind = getattr(diffusers, class_name)
    typed = {"torch_dtype": dtype, **more} if more else {}
    return kind.from_single_file(tensors, **where, **typed)


def _adapter(tensors: dict[str, Any], place: Path) -> Any:
    """Return a motion adapter; without settings of its own, they are the shapes of its tensors."""
    import diffusers
    from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers

    converted = convert_animatediff_checkpoint_to_diffusers(tensors)
    settings = (
        diffusers.MotionAdapter.load_config(place, local_files_only=True)
        if (place / "config.json").is_file()
        else adapter_settings(tensors, converted)
    )
    made = diffusers.MotionAdapter.from_config(settings)
    missing, unexpected = made.load_state_dict(converted, strict=False)
    lacking = [key for key in missing if "pos_embed" not in key]
    if lacking or unexpected:
        raise ValueError(f"{(lacking or unexpected)[0]} is not where it belongs")
    return made


def adapter_settings(tensors: Mapping[str, Any], converted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a motion adapter that its tensors tell.

    Args:
        tensors: As the file names them.
        converted: As diffusers names them.
    """
    widths: dict[int, int] = {}
    layers = 1
    for key, tensor in converted.items():
        words = key.split(".")
        if words[0] == "down_blocks" and key.endswith("proj_in.weight"):
            widths[int(words[1])] = int(tensor.shape[0])
            layers = max(layers, int(words[3]) + 1)
    lengths = [int(t.shape[1]) for key, t in tensors.items() if key.endswith("pos_encoder.pe")]
    return {
        "block_out_channels": tuple(widths[number] for number in sorted(widths)),
        "motion_layers_per_block": layers,
        "motion_max_seq_length": min(lengths, default=32),
        "use_motion_mid_block": any(key.startswith("mid_block.") for key in converted),
    }


def _unfit(found: folders.ModelFolder, name: str, words: list[str]) -> ProblemError:
    assert found.file is not None
    reason = words[0][:_LARGEST_LISTED].rstrip(".") if words else "no reason was given"
    return ProblemError(
        Problem(
            Category.MODEL_NOT_FOUND,
            f"The part {name} in {found.file.name} does not fit the settings in "
            f"{folders.name_of(found.path)}: {reason}.",
            "Put a folder of the same kind of model beside the file, under the file's own name.",
            f"Path: {found.file}",
        )
    )

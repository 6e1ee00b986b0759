"""Small parts of pipelines: tokenizers, samplers, start pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import invalid

if TYPE_CHECKING:
    from core.engines.local.context import Context

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def cut_words(tokenizer: Any, text: str, limit: int) -> str:
    """Return the end of `text` that does not fit into `limit` tokens."""
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = spans["offset_mapping"]
    added = tokenizer.num_special_tokens_to_add()
    if len(offsets) <= limit - added:
        return ""
    return text[offsets[limit - added][0] :].strip()


def plain_part(folder: Path, name: str) -> Any:
    """Return a tokenizer or a picture's preparation; no code of the folder is run."""
    import transformers

    if name.startswith("tokenizer"):
        return transformers.AutoTokenizer.from_pretrained(
            folder / name, local_files_only=True, trust_remote_code=False
        )
    # With the newest transformers the plain one asks for torchvision.
    kind = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    return kind.from_pretrained(folder / name, local_files_only=True)


def own_scheduler(config: Mapping[str, Any]) -> Any:
    """Return the sampler that a model came with; one of diffusers' own, whatever it is called."""
    import diffusers

    name = str(config.get("_class_name", ""))
    known = name.endswith("Scheduler") and hasattr(diffusers, name)
    return getattr(diffusers, name if known else "DDIMScheduler").from_config(dict(config))


def channels_of(vae: Any) -> int:
    """Return the channels of an autoencoder's latents."""
    config = vae.config
    return int(getattr(config, "latent_channels", 0) or config.z_dim)


def picture(context: Context, name: str = "image") -> Any:
    """Return the start picture of a job as PIL has it, cut to its shape and size."""
    from PIL import Image, ImageOps

    params = context.job.params
    path = Path(str(params[name]))
    size = int(params["width"]), int(params["height"])
    try:
        with Image.open(path, formats=_FORMATS) as found:
            upright = ImageOps.exif_transpose(found).convert("RGB")
            return ImageOps.fit(upright, size, Image.Resampling.LANCZOS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise invalid(
            name,
            f"The start picture {path.name} cannot be read.",
            "Choose a PNG, JPEG or WebP that opens elsewhere.",
        ) from error

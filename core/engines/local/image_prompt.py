"""A picture in place of words: an IP-Adapter, where one lies in the model's folder.

Its folder `ip_adapter` holds one .safetensors file of it, and the folder `image_encoder`
of the network that looks at pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engines.local import folders, offload
from core.errors import ProblemError, invalid
from core.jobs import Kind, Parameter

if TYPE_CHECKING:
    from core.engines.local.context import Context
    from core.engines.local.pipelines import Model

FIELD, SCALE = "image_prompt", "image_prompt_scale"
FOLDER, ENCODER = "ip_adapter", "image_encoder"


def file_of(model: Path) -> Path | None:
    """Return the file of the IP-Adapter in a model's folder; None without a whole one."""
    place = model / FOLDER
    if not (place / ENCODER / "config.json").is_file():
        return None
    return next(iter(sorted(place.glob("*.safetensors"))), None)


def parameters(model: Path) -> tuple[Parameter, ...]:
    """Return the knobs of a model that has one; none else. Imports nothing."""
    if file_of(model) is None:
        return ()
    return (
        Parameter(
            FIELD,
            Kind.IMAGE,
            "Image prompt",
            "",
            help="A picture whose content and style are taken up; empty: none.",
            group="image_prompt",
        ),
        Parameter(
            SCALE,
            Kind.NUMBER,
            "Its strength",
            0.6,
            0,
            2,
            help="How much of it.",
            group="image_prompt",
        ),
    )


def apply(context: Context, model: Model) -> None:
    """Put the adapter on where the job asks for it, and take it off where not.

    Raises:
        ProblemError: It does not fit the model; the model stays as it was read.
    """
    wanted = bool(context.job.params.get(FIELD))
    pipe = model.pipe
    if wanted and not model.takes_pictures:
        try:
            _put_on(context, pipe)
        except BaseException:
            pipe.unload_ip_adapter()
            raise
        model.takes_pictures = True
    elif not wanted and model.takes_pictures:
        model.takes_pictures = False
        _take_off(pipe)
    if wanted:
        pipe.set_ip_adapter_scale(float(context.job.params[SCALE]))


def _take_off(pipe: Any) -> None:
    pipe.unload_ip_adapter()
    offload.again(pipe.unet)
    pipe.register_modules(image_encoder=None, feature_extractor=None)


def given(params: Mapping[str, Any], picture: Any) -> dict[str, Any]:
    """Return what a pipeline is called with beside the rest.

    Args:
        params: Of the job.
        picture: Reads a picture of the job by its field.
    """
    return {"ip_adapter_image": picture(FIELD)} if params.get(FIELD) else {}


def _put_on(context: Context, pipe: Any) -> None:
    import transformers

    file = file_of(Path(context.job.model))
    if file is None:
        raise _unfit("the model's folder holds none any more")
    folders.check_safetensors(file)
    encoder = file.parent / ENCODER
    found = sorted(encoder.glob("*.safetensors"))
    if not found:
        raise _unfit(f"{ENCODER} lacks its .safetensors weights")
    folders.check_safetensors(found[0])
    network = transformers.CLIPVisionModelWithProjection.from_pretrained(
        encoder, use_safetensors=True, local_files_only=True, dtype=pipe.unet.dtype
    )
    # With the newest transformers the plain one asks for torchvision.
    kind = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    side = int(network.config.image_size)
    pipe.register_modules(
        image_encoder=network.to(context.device).eval(),
        feature_extractor=kind(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
    )
    try:
        pipe.load_ip_adapter(
            str(file.parent), subfolder="", weight_name=file.name, local_files_only=True
        )
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _unfit(f"{file.name} does not fit this model") from error
    offload.again(pipe.unet)
    for name in ("unet", "image_encoder"):
        getattr(pipe, name).eval()


def _unfit(reason: str) -> ProblemError:
    return invalid(
        FIELD,
        f"The image prompt cannot be used: {reason}.",
        "Copy an IP-Adapter for this model and its image_encoder into the folder ip_adapter, "
        "or leave the field empty.",
    )

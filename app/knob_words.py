"""The knobs of a draft in a person's words, for the dialog that offers them."""

from __future__ import annotations

from types import MappingProxyType

from core.engines.comfy.drafts import Draft
from core.engines.comfy.knobs import value_of
from widgets.knob_picker import Offer

_MOST_VALUE = 200
_ROLES = MappingProxyType(
    {
        "prompt": "prompt",
        "negative_prompt": "negative prompt",
        "seed": "seed",
        "width": "size",
        "height": "size",
        "frames": "length",
        "fps": "length",
        "steps": "steps",
        "guidance_scale": "guidance",
        "denoise": "denoise",
        "shift": "shift",
        "sampler": "method",
        "scheduler": "method",
        "model": "model",
        "image": "picture",
    }
)


def offers_of(draft: Draft) -> list[Offer]:
    """Return what the dialog shows of `draft`."""
    return [
        Offer(
            one.knob.parameter.name,
            one.knob.parameter.label,
            _ROLES.get(one.role, "other"),
            one.where,
            " ".join(str(value_of(draft.graph, one.knob)).split())[:_MOST_VALUE],
            one.shown,
        )
        for one in draft.found
    ]

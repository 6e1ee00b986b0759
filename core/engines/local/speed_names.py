"""The speed switches in words, and the knob; the window reads this on its way up."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from core.jobs import Kind
from core.several import Several

OFF, AUTO, FAST = "off", "auto", "fast"
KNOB = "speed"
UNETS = ("animatediff", "stable_diffusion", "svd")
TRANSFORMERS = ("wan", "ltx")

WORDS: Mapping[str, tuple[str, str, tuple[str, ...]]] = MappingProxyType(
    {
        "channels_last": (
            "Channels last",
            "Weights lie in memory as convolutions read them.",
            UNETS,
        ),
        "fuse_qkv": (
            "Fused projections",
            "Query, key and value of an attention are one product.",
            ("animatediff", "stable_diffusion", *TRANSFORMERS),
        ),
        "cudnn_attention": (
            "cuDNN attention",
            "Attention by NVIDIA's own library. Needs an NVIDIA GPU.",
            TRANSFORMERS,
        ),
        "flash_attention": (
            "Flash attention",
            "Attention by the flash-attn library. Needs an NVIDIA GPU.",
            TRANSFORMERS,
        ),
        "sage_attention": (
            "Sage attention",
            "Attention in 8 bits by the sageattention library. "
            "Needs an NVIDIA GPU. Changes the pictures.",
            TRANSFORMERS,
        ),
        "xformers": (
            "xFormers attention",
            "Attention by the xformers library. Needs an NVIDIA GPU.",
            UNETS,
        ),
        "compile": (
            "Compiled blocks",
            "The blocks that repeat are compiled; the first run takes a minute or so longer.",
            UNETS + TRANSFORMERS,
        ),
        "compile_max": (
            "Compiled whole",
            "All of the model is compiled, and the fastest kernels are looked for; it takes "
            "minutes once. Needs an NVIDIA GPU.",
            UNETS + TRANSFORMERS,
        ),
        "graphs": (
            "CUDA graphs",
            "The kernels of a step are started as one. Needs an NVIDIA GPU.",
            UNETS + TRANSFORMERS,
        ),
        "autocast": (
            "Half precision",
            "Products of the sampler's model are computed in bf16. Changes the pictures.",
            UNETS + TRANSFORMERS,
        ),
        "decode_half": (
            "Half precision decode",
            "Frames are decoded in bf16. Changes the pictures.",
            UNETS + TRANSFORMERS,
        ),
        "step_cache": (
            "First-block cache",
            "Steps whose first block changes little reuse the others' result. "
            "Changes the pictures.",
            TRANSFORMERS,
        ),
        "taylor_cache": (
            "Forecast steps",
            "Inner blocks are computed in every other step and foretold in between. "
            "Changes the pictures.",
            UNETS + TRANSFORMERS,
        ),
        "attention_cache": (
            "Attention cache",
            "Attention of inner blocks is computed in every other step and reused in between. "
            "Changes the pictures.",
            UNETS,
        ),
        "few_steps": (
            "Few steps",
            "A model that was made for few steps takes at most four. Changes the pictures.",
            UNETS + TRANSFORMERS,
        ),
    }
)
"""By the name of a switch: its title, one sentence, and whose pipelines it fits."""


def parameter(family: str) -> Several:
    """Return the knob of a family's recipes."""
    fitting = [name for name, (_, _, families) in WORDS.items() if family in families]
    return Several(
        KNOB,
        Kind.CHOICE,
        "Speed",
        AUTO,
        choices=(AUTO, OFF, FAST),
        titles=("As measured", "Off", "Fast, changes pixels"),
        help="As measured: what `framedeck bench engine` found fastest here without changing "
        "the pictures. Fast: also what changes them.",
        group=KNOB,
        switches=tuple(fitting),
        named=tuple(WORDS[name][0] for name in fitting),
        told=tuple(WORDS[name][1] for name in fitting),
    )

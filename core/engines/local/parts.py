"""What the files of a model say of its size: headers alone, no weights, no torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.engines.local import folders, singles
from core.engines.local.placement import SAMPLERS, Figures, Part
from core.statistics import formula
from core.statistics.formula import Family

_BLOCK = re.compile(r"(?!mid_block\.)(.*?\.\d+)\.")
"""What goes and comes by itself; the middle of a UNet stays as long as it works."""
_LIKE = {
    "animatediff": "animatediff",
    "stable_diffusion": "svd",
    "svd": "svd",
    "wan": "wan-1.3b",
    "ltx": "ltx-video",
}
"""Which figures of resources/forecast.json a family has that is none of those by name."""
_SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def figures(
    found: folders.ModelFolder,
    family: str,
    *,
    half: str = "bfloat16",
    other_half: str = "float16",
    full_decoder: bool = False,
    tiles: bool = True,
) -> Figures:
    """Return what a planner wants to know of a model.

    Args:
        found: The folder, looked through.
        family: Who runs it.
        half: Type of its weights on a card, as torch names it.
        other_half: The same on a card without bfloat16.
        full_decoder: Its autoencoder stays in full precision.
        tiles: It can decode in tiles.
    """
    constants = formula.load()
    named = constants.family(folders.name_of(found.path))
    shape = _as_configured(named or constants.families[_LIKE[family]], found.path)
    parts = tuple(_part(found, name) for name in found.classes)
    return Figures(
        parts, shape, _SHORT[half], _SHORT[other_half], full_decoder, tiles,
        constants.activation_bytes,
    )  # fmt: skip


def _as_configured(shape: Family, folder: Path) -> Family:
    """Return figures with the width that the transformer's own settings tell."""
    config = folders.config_of(folder, "transformer")
    heads, each = config.get("num_attention_heads"), config.get("attention_head_dim")
    if isinstance(heads, int) and isinstance(each, int):
        shape = replace(shape, width=heads * each)
    return shape


def gguf_file(folder: Path, part: str = "transformer") -> Path | None:
    """Return the GGUF file of a part: in the part's folder, or for the first one beside it."""
    return next(iter(folders.ggufs(folder, part)), None)


def _part(found: folders.ModelFolder, name: str) -> Part:
    if name in found.held:
        return _of_sizes(name, singles.sizes_of(found, name))
    folder = found.path
    sizes = dict(_sizes(folder / name))
    gguf = gguf_file(folder, name) if name in SAMPLERS else None
    gguf_bytes = gguf.stat().st_size if gguf is not None else 0
    if not sizes and gguf is not None:
        return _from_gguf(gguf, name, gguf_bytes)
    return _of_sizes(name, sizes, gguf_bytes)


def _of_sizes(name: str, sizes: Mapping[str, int], gguf_bytes: int = 0) -> Part:
    blocks: dict[str, int] = {}
    outside = 0
    for tensor, count in sizes.items():
        block = _BLOCK.match(tensor)
        if block is None:
            outside += count
        else:
            blocks[block[1]] = blocks.get(block[1], 0) + count
    whole = sum(sizes.values())
    largest = max(sizes.values(), default=0)
    return Part(name, whole, largest, max(blocks.values(), default=whole),
                outside if blocks else 0, gguf_bytes)  # fmt: skip


def _sizes(place: Path) -> Iterator[tuple[str, int]]:
    """Yield each tensor of a part with its count of numbers."""
    for path in _files(place):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, math.prod(entry["shape"])


def _files(place: Path) -> Iterable[Path]:
    """Return the files that will be read: those of one variant alone."""
    found = sorted(place.glob("*.safetensors"))
    plain = [path for path in found if ".fp16" not in path.name]
    return plain or found


def _from_gguf(path: Path, name: str, size: int) -> Part:
    """Return a part of which only the GGUF file is there; its numbers from its own list."""
    from gguf import GGUFReader

    tensors: Any = GGUFReader(path).tensors
    counts = {str(one.name): math.prod(int(side) for side in one.shape) for one in tensors}
    return _of_sizes(name, counts, size)


def only_gguf(folder: Path, part: str) -> bool:
    """Say whether the weights of a part are there as a GGUF file alone."""
    there = any((folder / part).glob("*.safetensors"))
    return not there and gguf_file(folder, part) is not None

"""The sizes of a model as its family plans with them, for whoever plans ahead; no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.engines.local import families, parts, singles

if TYPE_CHECKING:
    from core.engines.local import folders
    from core.engines.local.pipelines import Maker
    from core.engines.local.placement import Figures


def figures_of(family: str, folder: Path) -> Figures:
    """Return what the worker would plan with. Reads the headers of the model's files.

    Raises:
        ProblemError: The folder is no model of that family.
        KeyError: No such family makes its clips with a model.
    """
    kind = vars(families.load(family)).get("_Maker")
    if kind is None:
        raise KeyError(family)
    maker: Maker = kind()
    return of(maker, singles.check(folder, maker.layout))


def of(maker: Maker, found: folders.ModelFolder) -> Figures:
    """Return the figures of a folder that was looked through."""
    return parts.figures(
        found, maker.family, half=maker.half, other_half=maker.half_before_ampere,
        full_decoder=maker.decodes_in_full(found), tiles=maker.tiles,
    )  # fmt: skip

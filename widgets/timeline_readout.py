"""What the timeline says about one instant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter

from core.units import memory
from widgets.timeline_axes import NODE_STRIP, STRIP
from widgets.timeline_bands import Band
from widgets.timeline_data import (
    LOAD,
    POWER,
    REST,
    TEMPERATURE,
    USED,
    Past,
    Track,
    ago,
    gigabytes,
)
from widgets.timeline_paint import paint_box

if TYPE_CHECKING:
    from widgets.theme import Tokens

MOST_HOLDERS = 8
"""Processes named; what the others hold is summed up."""


def lines(
    track: Track,
    past: Past,
    seconds: float,
    values: tuple[float, ...],
    most: int = MOST_HOLDERS,
) -> list[tuple[str, str]]:
    """Return the readout at `seconds`: (colour's name in Tokens or "", text) a line."""
    used = gigabytes(values[USED])
    texts = [("", f"{ago((past.now or seconds) - seconds)} · {used} in use")]
    if values[REST] == values[REST]:
        texts += [
            (part.colour, f"{name}: {gigabytes(part.of(values))}") for part, name in track.parts
        ]
    texts += _holders(track, seconds, most)
    more = [
        _known(values[LOAD], "load {:.0f} %"),
        _known(values[TEMPERATURE], "{:.0f} °C"),
        _known(values[POWER], "{:.0f} W"),
    ]
    if any(more):
        texts.append(("", " · ".join(text for text in more if text)))
    now = past.now or seconds
    band, node = past.bands.at(seconds, now), past.bands.node_at(seconds, now)
    if band is not None:
        name = f"{_short(band.title)} · " if band.title else ""
        texts.append((f"phase_{band.phase.value}", f"{name}{band.doing}"))
    if node is not None:
        texts.append(("", f"node: {_short(node.name)}"))
    return texts


def _holders(track: Track, seconds: float, most: int) -> list[tuple[str, str]]:
    """Name every process with what it held, the largest first."""
    held = track.holders.at(seconds)
    shown = held if len(held) <= most else held[: max(1, most - 1)]
    texts = [("", f"    {_short(item.name, 28)}: {_amount(item.used_bytes)}") for item in shown]
    if len(held) > len(shown):
        others = held[len(shown) :]
        total = sum(item.used_bytes or 0 for item in others)
        texts.append(("", f"    {len(others)} more: {memory(total)}"))
    return texts


def _amount(used: int | None) -> str:
    return "–" if used is None else memory(used)


def paint_lines(
    painter: QPainter,
    x: float,
    right: float,
    height: float,
    texts: list[tuple[str, str]],
    tokens: Tokens,
) -> None:
    """Draw a box of lines beside `x`, to the right where there is room, in a view so high."""
    metrics = QFontMetricsF(painter.font())
    width = max(metrics.horizontalAdvance(text) + (15 if name else 0) for name, text in texts)
    width, step = width + 18, metrics.height()
    tall = step * len(texts) + 8
    left = x + 10 if x + 10 + width <= right else x - 10 - width
    top = max(0.0, min(STRIP + NODE_STRIP + 2.0, height - tall))
    box = QRectF(max(0.0, left), top, width, tall)
    paint_box(painter, box, tokens)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
    painter.setPen(QColor(tokens.text))
    for number, (name, text) in enumerate(texts):
        line = QRectF(box.left() + 9, box.top() + 4 + number * step, width, step)
        if name:
            swatch = QRectF(line.left(), line.center().y() - 4, 9, 9)
            painter.fillRect(swatch, QColor(getattr(tokens, name)))
            line.adjust(15, 0, 0, 0)
        painter.drawText(line, int(Qt.AlignmentFlag.AlignVCenter), text)


def describe(band: Band, now: float) -> str:
    """Return the tooltip of a band."""
    end = now if band.end is None else band.end
    length = max(0.0, end - band.start)
    took = f"{length:.1f} s" if length < 60 else f"{int(length // 60)}:{int(length % 60):02} min"
    state = "so far" if band.end is None else band.outcome
    what = f"{band.doing} · {took}" + (f" · {state}" if state else "")
    whose = "its" if band.whose else "the job's"
    return "\n".join(filter(None, [band.title, what, f"Click, or Enter, for {whose} trace"]))


def _known(value: float, text: str) -> str:
    return text.format(value) if value == value else ""


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

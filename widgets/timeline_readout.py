"""What the timeline says about one instant."""

from __future__ import annotations

from core.units import memory
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
        texts.append((f"phase_{band.phase.value}", f"{name}{band.phase.value}"))
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


def describe(band: Band, now: float) -> str:
    """Return the tooltip of a band."""
    end = now if band.end is None else band.end
    length = max(0.0, end - band.start)
    took = f"{length:.1f} s" if length < 60 else f"{int(length // 60)}:{int(length % 60):02} min"
    state = "so far" if band.end is None else band.outcome
    what = f"{band.phase.value} · {took}" + (f" · {state}" if state else "")
    return "\n".join(filter(None, [band.title, what, "Click, or Enter, for the job's trace"]))


def _known(value: float, text: str) -> str:
    return text.format(value) if value == value else ""


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

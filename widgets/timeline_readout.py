"""What the timeline says about one instant."""

from __future__ import annotations

from widgets.timeline_data import (
    LOAD,
    POWER,
    PROGRAMS,
    REST,
    TEMPERATURE,
    USED,
    Band,
    Past,
    Track,
    ago,
    gigabytes,
)


def lines(track: Track, past: Past, seconds: float, values: tuple[float, ...]) -> list[str]:
    """Return the readout at `seconds`, unknown values as dashes."""
    engine, programs, rest = track.labels
    texts = [f"{ago((past.now or seconds) - seconds)} · {gigabytes(values[USED])} in use"]
    if values[REST] == values[REST]:
        texts += [
            f"{engine}: {gigabytes(values[USED] - values[PROGRAMS])}",
            f"{programs}: {gigabytes(values[PROGRAMS] - values[REST])}",
            f"{rest}: {gigabytes(values[REST])}",
        ]
    more = [
        _known(values[LOAD], "load {:.0f} %"),
        _known(values[TEMPERATURE], "{:.0f} °C"),
        _known(values[POWER], "{:.0f} W"),
    ]
    if any(more):
        texts.append(" · ".join(text for text in more if text))
    band = past.bands.at(seconds, past.now or seconds)
    if band is not None:
        texts.append(f"{_short(band.title)} · {band.phase.value}")
    return texts


def describe(band: Band, now: float) -> str:
    """Return the tooltip of a band."""
    end = now if band.end is None else band.end
    length = max(0.0, end - band.start)
    took = f"{length:.1f} s" if length < 60 else f"{int(length // 60)}:{int(length % 60):02} min"
    state = "so far" if band.end is None else band.outcome
    return f"{band.title}\n{band.phase.value} · {took}" + (f" · {state}" if state else "")


def _known(value: float, text: str) -> str:
    return text.format(value) if value == value else ""


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

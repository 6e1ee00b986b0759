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


def lines(
    track: Track, past: Past, seconds: float, values: tuple[float, ...]
) -> list[tuple[str, str]]:
    """Return the readout at `seconds`: (colour's name in Tokens or "", text) a line."""
    engine, programs, rest = track.labels
    used = gigabytes(values[USED])
    texts = [("", f"{ago((past.now or seconds) - seconds)} · {used} in use")]
    if values[REST] == values[REST]:
        texts += [
            ("series_worker", f"{engine}: {gigabytes(values[USED] - values[PROGRAMS])}"),
            ("series_panel", f"{programs}: {gigabytes(values[PROGRAMS] - values[REST])}"),
            ("series_other", f"{rest}: {gigabytes(values[REST])}"),
        ]
    more = [
        _known(values[LOAD], "load {:.0f} %"),
        _known(values[TEMPERATURE], "{:.0f} °C"),
        _known(values[POWER], "{:.0f} W"),
    ]
    if any(more):
        texts.append(("", " · ".join(text for text in more if text)))
    band = past.bands.at(seconds, past.now or seconds)
    if band is not None:
        name = f"{_short(band.title)} · " if band.title else ""
        texts.append((f"phase_{band.phase.value}", f"{name}{band.phase.value}"))
    return texts


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

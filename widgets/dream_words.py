"""What the player says of its buffer, in words."""

from __future__ import annotations

from core.stream.buffer import LOWEST_FPS, FrameBuffer, State


def held(buffer: FrameBuffer) -> str:
    """Return how much is in store, such as "18 s in buffer"."""
    seconds = _seconds(buffer.seconds())
    if buffer.paused:
        return f"paused · {seconds} in buffer"
    match buffer.state:
        case State.OVER:
            return "ended"
        case State.DEPLETED:
            return "buffer empty · holds the last frame"
        case State.FILLING:
            return f"filling · {seconds} in buffer"
        case State.PLAYING if buffer.over:
            return f"ends in {seconds}"
        case State.PLAYING:
            return f"{seconds} in buffer"


def short(buffer: FrameBuffer) -> str:
    """Return the same in a word or two, for where there is little room."""
    return _seconds(buffer.seconds())


def tip(buffer: FrameBuffer) -> str:
    """Return everything that is known of the buffer."""
    figures, most = buffer.figures(), buffer.most_seconds()
    lines = [
        f"{share(buffer):.0%} of {_seconds(most)}; the source waits while it is full.",
        f"{figures.shown:,} frames shown, {figures.late:,} late, {figures.dropped:,} left out.",
    ]
    if most < buffer.target_seconds - 0.5:
        room = f"{buffer.most_bytes / 2**30:.1f} GB"
        lines.insert(1, f"Not {_seconds(buffer.target_seconds)}: it may take {room} of memory.")
    made = buffer.made_fps()
    if made is not None and buffer.room():
        lines.append(f"{made:.1f} frames a second come in.")
    return "\n".join(lines)


def share(buffer: FrameBuffer) -> float:
    """Return how full it is, 0 to 1."""
    most = buffer.most_seconds()
    return min(1.0, buffer.seconds() / most) if most > 0 else 0.0


def warning(buffer: FrameBuffer) -> str:
    """Return what to say of a buffer that ran empty, with what to do; "" while all is well."""
    if not buffer.short or buffer.over:
        return ""
    made, fps = buffer.made_fps(), buffer.fps or 0.0
    if made is None or made < 0.1:
        return "The buffer ran empty: no frames come just now. The last one stays until they do."
    text = f"The buffer ran empty: {_rate(made)} frames a second are made, {fps:g} wanted."
    if slower(buffer) is None:
        return f"{text} Make the dream smaller, or with fewer steps."
    return f"{text} Show fewer, or make the dream smaller."


def slower(buffer: FrameBuffer) -> int | None:
    """Return the rate that the source can keep up with; None where there is none to choose."""
    made, fps = buffer.made_fps(), buffer.fps
    if made is None or fps is None:
        return None
    found = int(made * 0.95)
    return found if LOWEST_FPS <= found < fps else None


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 2 else f"{seconds:.0f} s"


def _rate(fps: float) -> str:
    return f"{fps:.1f}" if fps < 10 else f"{fps:.0f}"

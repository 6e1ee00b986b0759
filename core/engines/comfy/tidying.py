"""Freeing a server's memory by itself, after a job and before the next prompt is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from core.engines.comfy.free import free
from core.engines.comfy.memory import rss_of
from core.errors import ProblemError
from core.events import Event, Noted
from core.units import memory

if TYPE_CHECKING:
    from core.engines.comfy.client import ComfyEngine

_WAIT_SECONDS = 30.0


def look(engine: ComfyEngine, job_id: str) -> None:
    """Note what the server holds after a job. Raises ProblemError when it does not answer."""
    engine.held.ended(engine.server.stats(), job_id, _process(engine))


def clean_up(engine: ComfyEngine, job_id: str, pause: Callable[[float], bool]) -> Iterator[Event]:
    """Free the server's memory when it is time, and note what came of it."""
    due, why = engine.clean_ups.finished(), ""
    if engine.clean_ups.when_leaking:
        with suppress(ProblemError):
            look(engine, job_id)
        why = engine.held.due
        due = bool(why)
    if not due:
        return
    try:
        before = _process(engine)
        freed = free(engine.server, pause, wait_seconds=_WAIT_SECONDS)
    except ProblemError as error:
        yield Noted(job_id=job_id, text=f"No clean-up: {error.problem.message}")
        return
    after = _process(engine)
    same = before is not None and after is not None and before[0] == after[0]
    ram = before[1] - after[1] if same and before is not None and after is not None else None
    text = f"Memory cleaned up: {freed.words()}"
    if why:
        engine.held.cleaned(freed, ram)
        said = freed.words().removesuffix(freed.why_not).rstrip()
        text = f"{why} Memory cleaned up: {said} {engine.held.why_not(freed)}".rstrip()
        lost = engine.held.lost_bytes
        if lost is not None:
            text += f" It did not help: {memory(lost)} leaked since the server was started."
    yield Noted(job_id=job_id, text=text)


def _process(engine: ComfyEngine) -> tuple[int, int] | None:
    """Return the server's process and the main memory it holds, where that can be read."""
    pid = engine.pid
    rss = None if pid is None else rss_of(pid)
    return None if pid is None or rss is None else (pid, rss)

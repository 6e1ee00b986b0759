"""What the queue says about a job, in words: chip, line, tooltip, spoken text."""

from __future__ import annotations

import time
from dataclasses import dataclass
from html import escape

from core.events import Event, PhaseStarted, Progressed, Sampled, WorkerStarted
from core.jobs import Job, JobState, Phase
from core.queue import Group, JobRow, Order
from core.units import memory
from widgets.time_words import UNKNOWN, duration

_DOING = {
    Phase.LOAD: "loading",
    Phase.SAMPLE: "sampling",
    Phase.DECODE: "decoding",
    Phase.ENCODE: "encoding",
    Phase.VERIFY: "verifying",
}
_TONES = {
    JobState.RUNNING: "info",
    JobState.DONE: "success",
    JobState.FAILED: "danger",
    JobState.LOST: "warning",
}
ORDERED = {
    Order.NEWEST: "",
    Order.OLDEST: "oldest first",
    Order.LONGEST: "longest first",
    Order.PEAK: "highest peak first",
    Order.STATE: "by state",
}
"""How finished jobs are sorted, for the line over them."""
LOST = "its end was not seen · Retry?"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the running job is.

    Attributes:
        text: What it does, such as "sampling 13/20".
        fraction: Part of this phase that is done, 0 to 1; None when unknown.
        seconds_left: Time to its end, or what a waiting job takes; None when unknown.
        at_least: Something of what is left is not known, so it takes longer than that.
        doing: A word on how it goes, such as "slow"; "" when nothing is known.
        tone: Of that word.
        reason: Why that is thought.
        waits: Why a waiting job waits; "" when it only waits its turn.
    """

    text: str
    fraction: float | None = None
    seconds_left: float | None = None
    doing: str = ""
    tone: str = ""
    reason: str = ""
    at_least: bool = False
    waits: str = ""


def progress_after(event: Event) -> Progress | None:
    """Return what `event` says about progress; None when it says nothing."""
    match event:
        case WorkerStarted():
            return Progress("starting")
        case PhaseStarted(phase=phase):
            return Progress(_DOING[phase])
        case Sampled(step=step, steps=steps, seconds_left=left):
            return Progress(f"sampling {step}/{steps}", min(step / max(steps, 1), 1.0), left)
        case Progressed(total=0, text=text) if text:
            return Progress(f"endless · {text.split(' · ')[0]}")
        case Progressed(phase=phase, done=done, total=total) if total > 0:
            return Progress(f"{_DOING[phase]} {done}/{total}", min(done / total, 1.0))
        case _:
            return None


def header(
    group: Group,
    count: int,
    *,
    paused: bool,
    outlook: str = "",
    of: int | None = None,
    order: Order = Order.NEWEST,
) -> str:
    """Return the line over a section.

    Args:
        group: Which.
        count: How many jobs it shows.
        paused: Whether the queue is held.
        outlook: When what waits is done.
        of: How many there are in all, where a search hides some; else None.
        order: Of finished jobs.
    """
    many = f"{count:,}" if of is None else f"{count:,} of {of:,}"
    if group is Group.WAITING:
        return _joined(f"Next · {many} waiting", "paused" if paused else "", outlook)
    if group is Group.RUNNING:
        return f"Running · {many}"
    return _joined(f"Finished · {many}", ORDERED[order])


def state_of_queue(running: int, waiting: int, *, paused: bool) -> str:
    """Return how the queue is, such as "1 running · 12 waiting"."""
    counts = _joined(
        f"{running:,} running" if running else "", f"{waiting:,} waiting" if waiting else ""
    )
    if paused:
        return _joined("Queue paused", counts or "nothing waits")
    return counts or "Queue is empty"


def chip(row: JobRow, progress: Progress | None) -> tuple[str, str]:
    """Return the text of the state chip and its tone."""
    text = row.state.value
    if is_marked(row, progress):
        assert progress is not None
        return progress.doing, progress.tone
    if row.state is JobState.RUNNING and progress is not None and progress.text:
        text = progress.text
    return text, _TONES.get(row.state, "muted")


def is_marked(row: JobRow, progress: Progress | None) -> bool:
    """Say whether a waiting job bears a word of its own, such as "needs a decision"."""
    return row.state is JobState.WAITING and progress is not None and bool(progress.doing)


def line(row: JobRow, progress: Progress | None = None) -> str:
    """Return what stands behind the chip; of a job that waits for something, for what."""
    if row.state is JobState.LOST:
        # One whose clip was found says so with a word of its own, which is the offer.
        return "" if progress is not None and progress.doing else LOST
    if row.state is JobState.FAILED and row.problem is not None:
        return row.problem.message
    if row.state is JobState.DONE:
        return _joined(
            duration(row.seconds) if row.seconds is not None else "", peak(row), "verified"
        )
    if row.state is not JobState.WAITING:
        return what(row.job)
    again = f"attempt {row.attempt + 1}" if row.attempt else ""
    waits = progress.waits if progress is not None else ""
    # Why it waits is what a person looks for: it comes before what may be cut off.
    return (
        _joined(priority(row), waits, again)
        if waits
        else _joined(priority(row), again, what(row.job))
    )


def priority(row: JobRow) -> str:
    """Return a mark and a word for a waiting job that begins sooner or later than others."""
    if not row.priority:
        return ""
    return "▲ high" if row.priority > 0 else "▼ low"


def what(job: Job) -> str:
    """Return recipe, size and length, such as "Test pattern · 512×512 · 16 frames"."""
    params = job.params
    wide, high = params.get("width"), params.get("height")
    frames = params.get("frames")
    return _joined(
        job.made_with,
        f"{wide}×{high}" if wide and high else "",
        f"{frames} frames" if frames else "",
    )


def peak(row: JobRow) -> str:
    """Return the most memory the job held: the GPU's where there is one."""
    held = row.peak_vram_bytes if row.peak_vram_bytes is not None else row.peak_rss_bytes
    return f"peak {memory(held)}" if held else ""


def right(row: JobRow, progress: Progress | None) -> str:
    """Return the figure at the right end: what it takes, or what of that is left."""
    if row.state not in (JobState.RUNNING, JobState.WAITING):
        return ""
    if progress is None:
        return UNKNOWN
    if progress.seconds_left is not None:
        return ("> " if progress.at_least else "") + duration(progress.seconds_left)
    return UNKNOWN if progress.fraction is None else f"{progress.fraction:.0%}"


def tooltip(row: JobRow, progress: Progress | None = None, times: str = "") -> str:
    """Return everything about the job as rich text, for hovering."""
    job = row.job
    prompt = str(job.params.get("prompt", "")) or job.title
    facts = [what(job), times]
    if progress is not None and progress.doing:
        facts.append(f"{progress.doing.capitalize()}: {progress.reason}")
    waits = progress is not None and progress.waits not in progress.reason
    if progress is not None and waits and row.state is JobState.WAITING:
        facts.insert(0, progress.waits[0].upper() + progress.waits[1:])
    if "seed" in job.params:
        facts.append(f"Seed {job.params['seed']}")
    if row.problem is not None:
        facts += [row.problem.message, row.problem.hint]
    if row.seconds is not None:
        facts.append(_joined(f"Took {duration(row.seconds)}", peak(row)))
    if row.ended_at is not None:
        facts.append(time.strftime("Ended %Y-%m-%d %H:%M", time.localtime(row.ended_at)))
    facts.append(row.output.path if row.output is not None else job.output)
    lines = "<br>".join(escape(fact) for fact in facts if fact)
    return f"<p>{escape(prompt)}</p><p>{lines}</p>"


def spoken(row: JobRow, progress: Progress | None) -> str:
    """Return the row as a screen reader says it."""
    doing, _ = chip(row, progress)
    left = ""
    if progress is not None and progress.seconds_left is not None:
        least = "at least " if progress.at_least else ""
        left = f"{least}{duration(progress.seconds_left)} left"
        if row.state is JobState.WAITING:
            left = f"takes about {duration(progress.seconds_left)}"
    word = progress.doing if progress is not None and not is_marked(row, progress) else ""
    parts = (row.job.title, doing, word, line(row, progress), left)
    return ", ".join(part for part in parts if part)


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)

"""What a running job is doing: working, slow, spilling, stuck or dead.

A job is late when nothing was heard of it for longer than such a stretch usually
takes. Late and alive is slow; late and without any sign of life is stuck. Signs
are looked for everywhere: a decode on the CPU leaves the GPU idle, a model that
is read from a slow disk moves only memory. A reading that is None is no sign of
either: without enough witnesses a job is never called stuck. Where all of them are
there and none moves for long enough, it is stuck however long it usually takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter

from core.gpu.readings import Reading, Role
from core.jobs import Phase
from core.units import MEGABYTE


class State(StrEnum):
    """What a running job is doing."""

    WORKING = "working"
    SLOW = "slow"
    SPILLING = "spilling"
    STUCK = "stuck"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Sign:
    """What was read at one instant that may show life; None for what was not read.

    Attributes:
        held_bytes: GPU memory held by the process that runs the job.
        pcie_bytes_per_second: Both ways together.
        cpu_percent: Of one core, by the process that runs the job and its children.
        rss_bytes: Main memory of that process.
        io_bytes: What it has read and written since it began, files and disk together.
        calls: Connections that it opened to other machines.
        spilled_bytes: GPU memory that lies in main memory.
    """

    at_seconds: float
    utilisation_percent: float | None = None
    power_watts: float | None = None
    core_clock_mhz: float | None = None
    pcie_bytes_per_second: float | None = None
    used_bytes: float | None = None
    total_bytes: float | None = None
    held_bytes: float | None = None
    cpu_percent: float | None = None
    rss_bytes: float | None = None
    spilled_bytes: float | None = None
    io_bytes: float | None = None
    calls: float | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What the job said last, and what is usual for it.

    Attributes:
        phase: The phase it is in; None for none known.
        since_event_seconds: Time since its last event.
        usual_p99_seconds: The gap between events of that phase that 99 of 100 in its
            history stay below; None without a history.
        usual_watts: Median draw of the GPU in that phase of earlier runs that did not spill.
        alive: Whether the process that runs it is there; None when that cannot be asked.
    """

    phase: Phase | None
    since_event_seconds: float
    usual_p99_seconds: float | None = None
    usual_watts: float | None = None
    alive: bool | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Where the lines are drawn; tuned on one half of the traces of the tests.

    Attributes:
        quiet_seconds: All signs must be still for so long.
        late_factor: Late is so many times the usual gap.
        unseen_factor: And so many times where the process cannot be watched,
            because it may compute on the CPU.
        still_seconds: One that is watched wholly and does nothing at all for so long is
            stuck, whatever its history says.
        moved_io_bytes: What a process reads and writes while it does nothing is less.
    """

    quiet_seconds: float = 30.0
    late_factor: float = 1.5
    soonest_seconds: float = 20.0
    stuck_seconds: float = 45.0
    unseen_factor: float = 8.0
    unseen_seconds: float = 300.0
    still_seconds: float = 60.0
    busy_percent: float = 10.0
    busy_watts_share: float = 0.15
    moved_bytes: float = 32 * MEGABYTE
    moved_io_bytes: float = 1 * MEGABYTE
    pcie_bytes: float = 200e6
    cpu_percent: float = 20.0
    full_share: float = 0.97
    spill_watts_share: float = 0.7
    spill_bytes: float = 256 * MEGABYTE
    spill_pcie_bytes: float = 2e9


NO_HISTORY = {Phase.LOAD: 300.0}
NO_HISTORY_SECONDS = 60.0
"""The usual gap between events where no history tells."""

DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the job is doing, and why that is thought."""

    state: State
    reason: str


def sign_of(reading: Reading, device: int, cpu_percent: float | None = None) -> Sign:
    """Return the signs in a reading of GPU `device`, for our own engine."""
    found = next((item for item in reading.devices if item.index == device), None)
    rss = reading.system.worker_rss_bytes
    if found is None:
        return Sign(reading.at_seconds, cpu_percent=cpu_percent, rss_bytes=rss)
    ways = found.pcie_receive_bytes_per_second, found.pcie_send_bytes_per_second
    held = None
    if found.processes is not None:
        ours = [item.used_bytes for item in found.processes if item.role is Role.WORKER]
        held = None if None in ours else sum(value or 0 for value in ours)
    return Sign(
        at_seconds=reading.at_seconds,
        utilisation_percent=found.utilisation_percent,
        power_watts=found.power_watts,
        core_clock_mhz=found.core_clock_mhz,
        pcie_bytes_per_second=None if None in ways else sum(value or 0.0 for value in ways),
        used_bytes=found.used_bytes,
        total_bytes=found.total_bytes,
        held_bytes=held,
        cpu_percent=cpu_percent,
        rss_bytes=rss,
        spilled_bytes=found.spilled_bytes,
    )


def classify(heard: Heard, signs: Sequence[Sign], limits: Limits = DEFAULT) -> Judgement:
    """Judge a running job by its last event and its recent signs, oldest first.

    Signs should reach back `limits.quiet_seconds` or more. None of them is needed:
    with fewer a job is rather called slow than stuck.
    """
    if _is_dead(heard, signs):
        return Judgement(State.DEAD, "The process that ran it is gone.")
    recent = _recent(signs, limits.quiet_seconds)
    usual = heard.usual_p99_seconds
    known = usual is not None
    if usual is None:
        usual = NO_HISTORY_SECONDS if heard.phase is None else NO_HISTORY.get(heard.phase, 60.0)
    late_after = usual * limits.late_factor if known else usual
    late = heard.since_event_seconds > max(limits.soonest_seconds, late_after)
    spill = _spill(heard, recent, limits, late=late)
    if spill:
        return Judgement(State.SPILLING, spill)
    since = f"Nothing was heard for {heard.since_event_seconds:.0f} s"
    since += f", usual are {usual:.0f}" if known or late else ""
    if _still(heard, signs, limits):
        return Judgement(State.STUCK, f"{since}, and nothing moves at all.")
    if not late:
        return Judgement(State.WORKING, "It reports as usual.")
    life = _life(heard, recent, limits)
    if life:
        return Judgement(State.SLOW, f"{since}, but {life}.")
    if not _watched(recent, limits):
        return Judgement(State.SLOW, f"{since}; too little can be read to tell more.")
    wait = limits.stuck_seconds
    files = _column(recent, "rss_bytes") or _column(recent, "io_bytes")
    unread = heard.phase is Phase.LOAD and not files
    if unread or not _column(recent, "cpu_percent"):
        # It may compute, or read a file, where nobody sees it.
        wait = max(limits.unseen_seconds, limits.unseen_factor * usual)
    if heard.since_event_seconds < wait:
        return Judgement(State.SLOW, f"{since}.")
    return Judgement(State.STUCK, f"{since}, and nothing moves.")


@dataclass(frozen=True, slots=True)
class Far:
    """What is known of a server of another machine, whose card nobody reads here.

    Attributes:
        gone: Why it is taken to be gone; "" when it is not.
        stuck: Why nothing runs on it any more; "" when that is not so.
        slow: Why its answers say little just now; "" when they come as usual.
    """

    gone: str = ""
    stuck: str = ""
    slow: str = ""


def classify_far(heard: Heard, far: Far, limits: Limits = DEFAULT) -> Judgement | None:
    """Judge a job of another machine by its events and by what its server says.

    Silence alone is never called stuck: what its card does is not known.

    Returns:
        None when nothing can be told, as of a prompt that waits, or that is silent
        without a history that says what is usual.
    """
    if far.gone:
        return Judgement(State.DEAD, far.gone)
    if far.stuck:
        return Judgement(State.STUCK, far.stuck)
    if far.slow:
        return Judgement(State.SLOW, far.slow)
    if heard.phase is None:
        return None
    usual, since = heard.usual_p99_seconds, heard.since_event_seconds
    if since <= max(limits.soonest_seconds, (usual or 0.0) * limits.late_factor):
        return Judgement(State.WORKING, "It reports as usual.")
    if usual is None:
        return None
    why = f"Nothing was heard for {since:.0f} s, usual are {usual:.0f}"
    return Judgement(State.SLOW, f"{why}; of its machine nothing can be read here.")


def _recent(signs: Sequence[Sign], seconds: float) -> list[Sign]:
    if not signs:
        return []
    since = signs[-1].at_seconds - seconds
    return [sign for sign in signs if sign.at_seconds >= since - 0.5]


def _column(signs: Iterable[Sign], name: str) -> list[float]:
    """Return the known values of one sign."""
    # Every judgement asks this a dozen times of many signs: `attrgetter` takes a quarter less.
    return [value for value in map(attrgetter(name), signs) if value is not None]


def _is_dead(heard: Heard, signs: Sequence[Sign]) -> bool:
    if heard.alive is not None:
        return not heard.alive
    held = _column(signs, "held_bytes")
    # Nobody can say, but it held memory and has held none for several readings.
    return len(held) >= 8 and max(held) > 0 and not any(held[-4:])


def _spill(heard: Heard, signs: Sequence[Sign], limits: Limits, *, late: bool) -> str:
    """Say why the job seems to spill, "" when it does not or nobody can tell."""
    spilled = _column(signs, "spilled_bytes")
    busy = _column(signs, "utilisation_percent")
    if spilled and _median(spilled) >= limits.spill_bytes and (not busy or _median(busy) >= 5):
        return "A part of its memory lies in main memory."
    full = [
        sign.used_bytes / sign.total_bytes
        for sign in signs
        if sign.used_bytes is not None and sign.total_bytes
    ]
    if not full or _median(full) < limits.full_share or not busy or _median(busy) < 60:
        return ""
    traffic = _column(signs, "pcie_bytes_per_second")
    if traffic and heard.phase is not Phase.LOAD and _median(traffic) >= limits.spill_pcie_bytes:
        return "Memory is full and much goes to and from main memory."
    watts = _column(signs, "power_watts")
    if heard.usual_watts is not None and watts:
        weak = _median(watts) < limits.spill_watts_share * heard.usual_watts
        return "Memory is full and the GPU draws little power at full load." if weak else ""
    if late and _median(busy) >= 90 and not traffic:
        return "Memory is full and it is late at full load."
    return ""


def _life(heard: Heard, signs: Sequence[Sign], limits: Limits) -> str:
    """Say which sign of life there is, "" for none."""
    busy = _column(signs, "utilisation_percent")
    # A few readings may be the desktop's.
    if sum(value >= limits.busy_percent for value in busy) >= max(2.0, 0.04 * len(busy)):
        return f"the GPU is at work ({max(busy):.0f} %)"
    watts = _column(signs, "power_watts")
    if watts:
        # The last readings of work before may still be cooling down: only a rise counts.
        rise = max((later - earlier for earlier, later in _pairs(watts)), default=0.0)
        high = heard.usual_watts is not None and _median(watts) > 0.6 * heard.usual_watts
        if rise > max(15.0, limits.busy_watts_share * max(watts)) or high:
            return "the GPU draws power"
    traffic = _column(signs, "pcie_bytes_per_second")
    if sum(value >= limits.pcie_bytes for value in traffic) >= 2:
        return "data goes to and from the GPU"
    cpu = _column(signs, "cpu_percent")
    if cpu and sum(cpu) / len(cpu) >= limits.cpu_percent:
        return f"the CPU is at work ({sum(cpu) / len(cpu):.0f} %)"
    if any(_column(signs, "calls")):
        # A node that has a picture made elsewhere does nothing here until it comes.
        return "it waits for another machine"
    for name, text, least in (
        ("held_bytes", "its memory changes", limits.moved_bytes),
        ("used_bytes", "GPU memory changes", limits.moved_bytes),
        ("rss_bytes", "its main memory changes", limits.moved_bytes),
        ("io_bytes", "it reads or writes", limits.moved_io_bytes),
    ):
        values = _column(signs, name)
        if values and max(values) - min(values) >= least:
            return text
    return ""


def _still(heard: Heard, signs: Sequence[Sign], limits: Limits) -> bool:
    """Say whether a job that is watched wholly has done nothing at all for long enough."""
    seconds = limits.still_seconds
    if heard.since_event_seconds < seconds or len(signs) < 2:
        return False
    long = _recent(signs, seconds)
    if signs[-1].at_seconds - long[0].at_seconds < 0.9 * seconds:
        return False
    half = max(5, len(long) // 2)

    def read(*names: str) -> bool:
        return any(len(_column(long, name)) >= half for name in names)

    process = read("cpu_percent") and read("rss_bytes", "io_bytes")
    card = read("utilisation_percent", "power_watts") or not _has_card(long)
    return process and card and not _life(heard, long, limits)


def _has_card(signs: Iterable[Sign]) -> bool:
    """Say whether anything was read of a card that the job may compute on."""
    names = "total_bytes", "used_bytes", "utilisation_percent", "power_watts"
    return any(getattr(sign, name) is not None for sign in signs for name in names)


def _watched(signs: Sequence[Sign], limits: Limits) -> bool:
    """Say whether enough was read for long enough to speak of stillness."""
    if len(signs) < 2 or signs[-1].at_seconds - signs[0].at_seconds < 0.8 * limits.quiet_seconds:
        return False
    half = max(5, len(signs) // 2)
    witnesses = ["utilisation_percent", "power_watts", "pcie_bytes_per_second", "cpu_percent"]
    if not _has_card(signs):
        # Without a card the process alone tells: what it computes, and what it reads.
        witnesses += ["rss_bytes", "io_bytes"]
    known = [name for name in witnesses if len(_column(signs, name)) >= half]
    seen = "utilisation_percent" in known or "cpu_percent" in known
    return seen and len(known) >= 2


def _pairs(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return every value with the lowest one before it."""
    found, low = [], values[0]
    for value in values[1:]:
        found.append((low, value))
        low = min(low, value)
    return found


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2

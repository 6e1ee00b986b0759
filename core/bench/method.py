"""The method: warm up, then all ways in turn, in another order each round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from core.bench.figures import PLAIN, Run, Way, fastest, same_pixels, together
from core.several import JOINT

LEAST_RUNS = 5
Ask = Callable[[str], Run]
"""Runs a way by its name."""
Told = Callable[[int, int, str], None]
"""Gets (done, total, words)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a switch before it is measured."""

    id: str
    lossy: bool = False
    group: str = ""


@dataclass(slots=True)
class Report:
    """What a measurement found.

    Attributes:
        ways: By name, the plain one first.
        left_out: Why a way was not measured, by its name.
        auto: Fastest switches without loss; empty: the plain way.
        fast: Fastest switches of all.
        plains: The plain way of the rounds that a way stood in.
    """

    ways: dict[str, Way] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    auto: tuple[str, ...] = ()
    fast: tuple[str, ...] = ()
    plains: dict[str, Way] = field(default_factory=dict)

    def plain_of(self, name: str) -> Way:
        """Return the plain way that ran in turn with the way called `name`."""
        return self.plains.get(name, self.ways[PLAIN])


def measure(ask: Ask, kinds: Sequence[Kind], runs: int, told: Told) -> Report:
    """Measure each switch against the plain way, and those that are worth it together.

    Args:
        ask: Runs a way and says what was measured.
        kinds: The switches, in the order of their application.
        runs: How often each way runs, beside its warm-up.
        told: Hears how far it is.
    """
    report = Report()
    progress = _Progress(told, (runs + 1) * (len(kinds) + 1))
    first = _in_turn(ask, [PLAIN, *(kind.id for kind in kinds)], runs, progress, report)
    report.ways = first
    plain = first[PLAIN]
    singles = [way for name, way in first.items() if name != PLAIN]
    groups = {kind.id: kind.group for kind in kinds}
    kept = {way.name for way in singles if same_pixels(way)}
    lossless = [kind.id for kind in kinds if not kind.lossy and kind.id in kept]
    wanted = {
        "auto": together(plain, singles, groups, lossless),
        "fast": together(plain, singles, groups, groups),
    }
    joined = {name: JOINT.join(names) for name, names in wanted.items() if len(names) > 1}
    if joined:
        names = [PLAIN, *dict.fromkeys(joined.values())]
        progress.more((runs + 1) * len(names))
        second = _in_turn(ask, names, runs, progress, report)
        base = second.pop(PLAIN)
        report.plains = dict.fromkeys(second, base)
        report.ways |= second
    report.auto = _choice(report, [*lossless, joined.get("auto", "")])
    report.fast = _choice(report, [*groups, *joined.values()])
    return report


def _choice(report: Report, names: Iterable[str]) -> tuple[str, ...]:
    """Return the fastest of some ways as switches.

    Ways of other rounds are compared by how much faster they were than the plain way there.
    """
    best, ratio = "", 1.0
    for name in names:
        way = report.ways.get(name)
        if way is None:
            continue
        plain = report.plain_of(name)
        if fastest(plain, [way]) is not None and plain.median / way.median > ratio:
            best, ratio = name, plain.median / way.median
    return tuple(best.split(JOINT)) if best else ()


class _Progress:
    def __init__(self, told: Told, total: int) -> None:
        self._told, self._done, self._total = told, 0, total

    def __call__(self, words: str) -> None:
        self._told(self._done, self._total, words)
        self._done += 1

    def more(self, count: int) -> None:
        """Expect further runs, those that were left out being none."""
        self._total = self._done + count


def _in_turn(
    ask: Ask, names: Sequence[str], runs: int, progress: _Progress, report: Report
) -> dict[str, Way]:
    """Run all ways in turn; each round begins with another one, so that none is always first."""
    ways: dict[str, Way] = {}
    for name in names:
        progress(f"warm-up, {name}")
        run = ask(name)
        missing = set() if name == PLAIN else set(name.split(JOINT)) - set(run.switches)
        if missing:
            report.left_out[name] = " ".join(run.notes) or f"{', '.join(sorted(missing))}: not on"
            continue
        ways[name] = Way(name, warm_up=run)
    order = list(ways)
    for number in range(runs):
        turn = number % len(order)
        for name in order[turn:] + order[:turn]:
            progress(f"run {number + 1} of {runs}, {name}")
            ways[name].runs.append(ask(name))
    return ways

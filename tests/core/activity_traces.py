"""Variations of the shipped traces, each with what the job was really doing.

The base is always a trace that ships; a variation stretches its time, scales its
power, adds noise and the desktop's load, takes readings away, and says of the
process and the bus what goes with the story.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from core.gpu import traces
from core.jobs import Phase
from core.statistics.classify import Heard, Sign, State

MB = 2**20
WINDOW = 40.0


Row = dict[str, Any]
"""Values of one `Sign` by name, which is made once they are all told."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is known at one instant, and the truth."""

    story: str
    truth: State
    heard: Heard
    signs: tuple[Sign, ...]


def _base(name: str) -> traces.GpuTrace:
    """Return the past of one card, without its processes: no story reads them."""
    gpu = traces.load(traces.find(name)).gpus[0]
    return replace(gpu, points=tuple(replace(point, processes=None) for point in gpu.points))


BASES = {name: _base(name) for name in traces.shipped()}


class Variation:
    """One card, one desktop and one sampler, drawn by chance."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.watts = rng.uniform(0.5, 1.4)
        self.step = rng.choice([0.1, 0.5, 1.0, 2.0])
        self.desktop = rng.choice([0.0, 2.0, 4.0])
        self.stretch = rng.uniform(0.7, 2.0)
        self.memory = rng.uniform(0.5, 6.0) * MB

    def signs(
        self,
        name: str,
        until: float,
        more: Callable[[float], dict[str, float]],
        *,
        stretch: float | None = None,
    ) -> list[Row]:
        """Return the last WINDOW seconds of the stretched trace before `until` of it."""
        rng, gpu = self.rng, BASES[name]
        found: list[Row] = []
        stretch = stretch or self.stretch
        count = int(WINDOW / self.step)
        for number in range(count + 1):
            back = (count - number) * self.step
            point = gpu.at(max(0.0, until - back / stretch))
            used, load, watts = (point.values[k] for k in ("used_mb", "utilisation", "power"))
            row: Row = {
                "at_seconds": 1000.0 - back,
                "utilisation_percent": min(100.0, max(0.0, load + abs(rng.gauss(0, self.desktop)))),
                "power_watts": max(5.0, watts * self.watts + rng.gauss(0, 1.5)),
                "core_clock_mhz": max(210.0, 300 + 15 * load),
                "pcie_bytes_per_second": abs(rng.gauss(0, 2e7)),
                "used_bytes": min(gpu.total_mb * MB, used * MB + rng.gauss(0, self.memory)),
                "total_bytes": gpu.total_mb * MB,
                "held_bytes": 2000.0 * MB,
                "cpu_percent": abs(rng.gauss(2, 2)),
                "rss_bytes": 4e9 + rng.gauss(0, 1e6),
            }
            row.update(more(back))
            found.append(row)
        return found

    def hide(self, rows: list[Row], never: frozenset[str]) -> tuple[Sign, ...]:
        """Take whole columns away, and single readings."""
        rng = self.rng
        names = [n for n in Sign.__dataclass_fields__ if n not in ("at_seconds", *never)]
        gone = {name for name in names if rng.random() < 0.2}
        found = []
        for row in rows:
            holes = {n: None for n in names if n in gone or rng.random() < 0.05}
            found.append(Sign(**{**row, **holes}))
        return tuple(found)


def cases(seed: int, count: int) -> Iterator[Case]:
    """Yield `count` cases of each story."""
    for number in range(count):
        for story in STORIES:
            rng = random.Random(f"{seed}:{number}:{story.__name__}")
            yield story(rng)


def _heard(rng: random.Random, phase: Phase, factor: float, **more: object) -> Heard:
    """Return what was heard when an event is `factor` times its usual gap ago."""
    usual = rng.uniform(8, 60)
    values: dict[str, object] = {"usual_p99_seconds": usual, "alive": True, **more}
    return Heard(phase, factor * usual, **values)  # type: ignore[arg-type]


def _nothing(back: float) -> dict[str, float]:
    return {}


def _busy_watts(vary: Variation) -> float:
    return 345 * vary.watts


def working(rng: random.Random) -> Case:
    vary = Variation(rng)
    phase, at = rng.choice([(Phase.SAMPLE, 60.0), (Phase.SAMPLE, 80.0), (Phase.DECODE, 90.0)])
    signs = vary.signs("wan-i2v-24gb", at + rng.uniform(-4, 4), _nothing)
    usual = rng.choice([None, _busy_watts(vary)])
    heard = _heard(rng, phase, rng.uniform(0, 0.95), usual_watts=usual)
    return Case("working", State.WORKING, heard, vary.hide(signs, frozenset()))


def working_full_card(rng: random.Random) -> Case:
    """A server that keeps all it once took: a full card, but full power too."""
    vary = Variation(rng)
    full = rng.uniform(0.972, 0.998) * 24576 * MB
    signs = vary.signs("wan-i2v-24gb", 70 + rng.uniform(-8, 8), lambda back: {"used_bytes": full})
    heard = _heard(rng, Phase.SAMPLE, rng.uniform(0, 0.9), usual_watts=_busy_watts(vary))
    return Case("working, full card", State.WORKING, heard, vary.hide(signs, frozenset()))


def slow(rng: random.Random) -> Case:
    """The shipped slow decode, to six times as slow as usual."""
    vary = Variation(rng)
    at = rng.uniform(80, 144)
    signs = vary.signs("slow-decode", at, _nothing)
    heard = _heard(rng, Phase.DECODE, rng.uniform(2.6, 6), usual_watts=None)
    return Case("slow", State.SLOW, heard, vary.hide(signs, frozenset({"utilisation_percent"})))


def slow_in_bursts(rng: random.Random) -> Case:
    """The GPU works a second or two, then waits as long as twelve seconds."""
    vary = Variation(rng)
    idle, burst, shift = rng.uniform(4, 12), rng.uniform(1.5, 3), rng.uniform(0, 12)

    def bursts(back: float) -> dict[str, float]:
        on = (back + shift) % (idle + burst) < burst
        return {"utilisation_percent": 70.0, "power_watts": 200 * vary.watts} if on else {}

    vary.step = min(vary.step, 0.5)
    signs = vary.signs("stuck-decode", 200, bursts)
    heard = _heard(rng, Phase.DECODE, rng.uniform(2.6, 6))
    never = frozenset({"utilisation_percent"})
    return Case("slow, in bursts", State.SLOW, heard, vary.hide(signs, never))


def slow_on_cpu(rng: random.Random) -> Case:
    """Decoding on the CPU: the GPU is as idle as when it is stuck."""
    vary = Variation(rng)
    load = rng.uniform(60, 800)
    signs = vary.signs("stuck-decode", 200, lambda back: {"cpu_percent": load})
    heard = _heard(rng, Phase.DECODE, rng.uniform(2.6, 5))
    return Case("slow, on the CPU", State.SLOW, heard, vary.hide(signs, frozenset()))


def slow_load(rng: random.Random) -> Case:
    """A model comes from a slow disk: only memory moves."""
    vary = Variation(rng)
    rate = rng.uniform(3, 60) * MB
    signs = vary.signs("stuck-decode", 200, lambda back: {"rss_bytes": 9e9 - rate * back})
    heard = _heard(rng, Phase.LOAD, rng.uniform(2.6, 5))
    return Case("slow, loading", State.SLOW, heard, vary.hide(signs, frozenset({"rss_bytes"})))


def slow_over_bus(rng: random.Random) -> Case:
    """Offloaded weights crawl over the bus; the GPU waits for them."""
    vary = Variation(rng)
    rate = rng.uniform(0.5e9, 1.8e9)
    signs = vary.signs("stuck-decode", 200, lambda back: {"pcie_bytes_per_second": rate})
    heard = _heard(rng, Phase.SAMPLE, rng.uniform(2.6, 5))
    never = frozenset({"pcie_bytes_per_second"})
    return Case("slow, over the bus", State.SLOW, heard, vary.hide(signs, never))


def spilling(rng: random.Random) -> Case:
    vary = Variation(rng)
    name, at, busy = rng.choice(
        [("spill-12gb", 100.0, 165.0), ("llm-contention-16gb", 80.0, 300.0)]
    )
    at += rng.uniform(-20, 20)
    if rng.random() < 0.5:
        rate = rng.uniform(4e9, 2e10)
        signs = vary.signs(name, at, lambda back: {"pcie_bytes_per_second": rate})
        never = frozenset({"pcie_bytes_per_second"})
    else:
        signs, never = vary.signs(name, at, _nothing), frozenset({"power_watts"})
    never |= {"used_bytes", "total_bytes", "utilisation_percent"}
    heard = _heard(rng, Phase.SAMPLE, rng.uniform(0.2, 6), usual_watts=busy * vary.watts)
    return Case("spilling", State.SPILLING, heard, vary.hide(signs, frozenset(never)))


def spilling_as_told(rng: random.Random) -> Case:
    """The system counts what was moved out."""
    vary = Variation(rng)
    moved = rng.uniform(400, 6000) * MB
    signs = vary.signs("spill-12gb", 80, lambda back: {"spilled_bytes": moved})
    heard = _heard(rng, Phase.SAMPLE, rng.uniform(0.2, 6))
    never = frozenset({"spilled_bytes"})
    return Case("spilling, as told", State.SPILLING, heard, vary.hide(signs, never))


def stuck(rng: random.Random) -> Case:
    """Everything is still; 90 s after the last event this must be seen."""
    vary = Variation(rng)
    at = rng.uniform(140, 290)
    idle = rng.uniform(15, 110)
    signs = vary.signs(
        "stuck-decode", at, lambda back: {"power_watts": idle + vary.rng.gauss(0, 1.2)}
    )
    heard = _heard(rng, rng.choice([Phase.DECODE, Phase.SAMPLE]), 1)
    heard = replace(heard, since_event_seconds=90 + rng.uniform(1, 200))
    never = frozenset({"utilisation_percent", "cpu_percent"})
    return Case("stuck", State.STUCK, heard, vary.hide(signs, never))


def stuck_unseen(rng: random.Random) -> Case:
    """On another machine: nobody sees its process, so it takes longer."""
    vary = Variation(rng)
    signs = vary.signs("stuck-decode", 250, _nothing)
    heard = _heard(rng, Phase.DECODE, rng.uniform(9, 20), alive=None)
    heard = replace(heard, since_event_seconds=max(320.0, heard.since_event_seconds))
    never = frozenset({"utilisation_percent", "power_watts", "held_bytes"})
    signs = [{**row, "cpu_percent": None, "rss_bytes": None} for row in signs]
    return Case("stuck, unseen", State.STUCK, heard, vary.hide(signs, never))


def dead(rng: random.Random) -> Case:
    vary = Variation(rng)
    signs = vary.signs("stuck-decode", 200, lambda back: {"used_bytes": 900.0 * MB})
    heard = _heard(rng, Phase.SAMPLE, rng.uniform(0, 6), alive=False)
    return Case("dead", State.DEAD, heard, vary.hide(signs, frozenset()))


def dead_unseen(rng: random.Random) -> Case:
    """Nobody can ask for the process, but its memory is gone from the list."""
    vary = Variation(rng)
    since = rng.uniform(12, 25)
    held = 9000.0 * MB
    signs = vary.signs(
        "wan-i2v-24gb", 70, lambda back: {"held_bytes": held if back > since else 0.0}
    )
    heard = _heard(rng, Phase.SAMPLE, rng.uniform(0.5, 6), alive=None)
    return Case("dead, unseen", State.DEAD, heard, vary.hide(signs, frozenset({"held_bytes"})))


STORIES = (
    working, working_full_card, slow, slow_in_bursts, slow_on_cpu, slow_load, slow_over_bus,
    spilling, spilling_as_told, stuck, stuck_unseen, dead, dead_unseen,
)  # fmt: skip

"""A hang is told within 90 s, a slow job never, and each step is taken once."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.errors import Category
from core.failures.recovery import recovery
from core.jobs import Phase
from core.statistics.classify import DEFAULT, Heard, Sign, State, classify
from core.watchdog import RUNNING, TABLE, Guard, Rules, Signal, Step, hung, overdue

GB = 2**30
LONGEST_SECONDS = 90.0
"""From the last sign of life until a hang is acted upon."""
EVERY = 0.5
KEPT = round(1.2 * DEFAULT.still_seconds / 0.45)
Life = Callable[[float], dict[str, float | None]]


@dataclass
class Told:
    """What came of watching a job."""

    guard: Guard
    at: float
    states: set[State]


def watched(
    phase: Phase | None,
    usual: float | None,
    life: Life,
    until: float,
    *,
    heard: Callable[[float], float] = lambda _: 0.0,
    patient: bool = False,
) -> Told:
    """Watch a job as the window does: two signs and about one judgement a second.

    Args:
        phase: What it is in.
        usual: What its history calls usual, seconds.
        life: Returns what is read at a time, over a process that does nothing at all.
        until: So many seconds.
        heard: Returns when its last event was.
        patient: Its engine looks after hangs itself.
    """
    signs: deque[Sign] = deque(maxlen=KEPT)
    guard, rules, states, now = Guard(), Rules(), set[State](), 0.0
    while now < until and guard.step in RUNNING - {Step.INTERRUPT}:
        now += EVERY
        signs.append(Sign(now, **life(now)))
        if round(now / EVERY) % 2:
            continue
        found = classify(Heard(phase, now - heard(now), usual), signs)
        states.add(found.state)
        guard = guard.judged(found.state, now, rules, patient=patient)
    return Told(guard, now, states)


def idle(*, card: bool, rng: random.Random | None = None) -> dict[str, float | None]:
    """Return what is read of a process that does nothing."""
    rng = rng or random.Random(1)
    found: dict[str, float | None] = {
        "cpu_percent": rng.uniform(0, 3), "rss_bytes": 4.0 * GB, "io_bytes": 9e9,
    }  # fmt: skip
    if card:
        found |= {
            "utilisation_percent": rng.choice([0.0, 0.0, 2.0]),
            "power_watts": 60 + rng.uniform(0, 3),
            "used_bytes": 12.0 * GB, "total_bytes": 24.0 * GB, "held_bytes": 11.0 * GB,
        }  # fmt: skip
    return found


@pytest.mark.parametrize("card", [True, False], ids=["gpu", "no gpu"])
@pytest.mark.parametrize("phase", [None, *Phase])
def test_a_hang_is_told_within_ninety_seconds_in_every_phase(
    phase: Phase | None, card: bool
) -> None:
    """From the first second on or after long work, whatever is usual; the shipped limits."""
    for usual, worked in product((None, 3.0, 40.0, 900.0), (0.0, 7.0, 100.0)):

        def life(now: float, worked: float = worked) -> dict[str, float | None]:
            busy: dict[str, float | None] = {"cpu_percent": 800.0}
            busy |= {"utilisation_percent": 99.0, "power_watts": 330.0} if card else {}
            return idle(card=card) | (busy if now <= worked else {})

        for patient in (False, True):
            told = watched(phase, usual, life, worked + 200, patient=patient)
            assert told.guard.step is Step.INTERRUPT, (usual, worked)
            assert told.at - worked <= LONGEST_SECONDS, (usual, worked, told.at - worked)
            assert told.at >= DEFAULT.stuck_seconds, "it is not told at once either"


def slow_life(rng: random.Random, *, card: bool) -> Life:
    """Return how something lives that is slow: always at least by one sign."""
    kind = rng.choice(["bursts", "bus", "weak"] if card else []) if card and rng.random() < 0.6 \
        else rng.choice(["cpu", "disk", "memory"])  # fmt: skip
    pause, burst, shift = rng.uniform(4, 14), rng.uniform(1.5, 4), rng.uniform(0, 10)
    rate = rng.uniform(0.3e6, 60e6)

    def life(now: float) -> dict[str, float | None]:
        found = idle(card=card, rng=rng)
        match kind:
            case "bursts" if (now + shift) % (pause + burst) < burst:
                found |= {"utilisation_percent": 70.0, "power_watts": 200.0}
            case "weak":
                found |= {"utilisation_percent": rng.uniform(11, 30)}
            case "bus":
                found |= {"pcie_bytes_per_second": rng.uniform(0.3e9, 1.8e9)}
            case "cpu":
                found |= {"cpu_percent": rng.uniform(25, 1600)}
            case "disk":
                found |= {"io_bytes": 9e9 + rate * now}
            case "memory":
                found |= {"rss_bytes": 4.0 * GB + max(rate, 3e6) * now}
        return found

    return life


def test_a_decode_four_times_slower_than_usual_is_left_alone_fifty_of_fifty() -> None:
    left = 0
    for seed in range(50):
        rng = random.Random(seed)
        usual = rng.uniform(8, 240)
        told = watched(
            Phase.DECODE, usual, slow_life(rng, card=bool(seed % 2)), 4 * usual + 5,
            patient=rng.random() < 0.5,
        )  # fmt: skip
        assert told.states <= {State.WORKING, State.SLOW, State.SPILLING}, (seed, told)
        assert State.SLOW in told.states or 4 * usual <= DEFAULT.soonest_seconds
        left += told.guard.step is Step.WATCH
    assert left == 50


def test_where_only_events_tell_a_slow_job_is_left_alone_as_well() -> None:
    """Nothing is read, or only a card that is not its own; its events come four times later."""
    for seed in range(50):
        rng = random.Random(1000 + seed)
        usual, phase = rng.uniform(1, 60), rng.choice(list(Phase))
        gap = 4 * usual
        blind = rng.random() < 0.5

        def life(now: float, blind: bool = blind) -> dict[str, float | None]:
            card = idle(card=True)
            gone = card if blind else ("cpu_percent", "rss_bytes", "io_bytes", "held_bytes")
            return card | dict.fromkeys(gone, None)

        told = watched(phase, usual, life, 3 * gap, heard=lambda now, gap=gap: now - now % gap)
        assert State.STUCK not in told.states, (seed, usual, phase)
        assert told.guard.step is Step.WATCH


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    card=st.booleans(),
    phase=st.none() | st.sampled_from(list(Phase)),
    usual=st.none() | st.floats(0.5, 400),
)
def test_what_lives_is_never_stopped(
    seed: int, card: bool, phase: Phase | None, usual: float | None
) -> None:
    told = watched(phase, usual, slow_life(random.Random(seed), card=card), 240)
    assert State.STUCK not in told.states


def test_a_file_that_is_read_slowly_is_a_sign_of_life() -> None:
    """Neither memory nor processor moves: the disk alone does."""

    def life(now: float) -> dict[str, float | None]:
        return idle(card=True) | {"io_bytes": 100e3 * now}

    assert State.STUCK not in watched(Phase.LOAD, None, life, 600).states


@pytest.mark.parametrize("hidden", ["cpu_percent", "card"])
def test_without_the_process_or_the_card_it_is_not_told_so_soon(hidden: str) -> None:
    """What cannot be read is no proof; there a hang is told later, or not at all."""
    names = ("utilisation_percent", "power_watts") if hidden == "card" else (hidden,)

    def life(now: float) -> dict[str, float | None]:
        return idle(card=True) | dict.fromkeys(names, None)

    assert watched(Phase.SAMPLE, 5.0, life, 250).guard.step is Step.WATCH


# -- the ladder -------------------------------------------------------------------------


class Ladder(RuleBasedStateMachine):
    """Whatever happens in whatever order: who lives is not stopped, and nothing is done twice."""

    def __init__(self) -> None:
        super().__init__()
        self.rules = Rules()
        self.guard = Guard()
        self.now = 0.0
        self.stuck_for: float | None = None
        self.in_row = 0
        self.path = [Step.WATCH]
        self.allowed = False

    def move(self, guard: Guard) -> None:
        if guard.step is not self.guard.step:
            assert guard.step in TABLE[self.guard.step].values()
            self.path.append(guard.step)
        self.guard = guard

    @rule(
        state=st.none() | st.sampled_from(list(State)),
        later=st.floats(0, 5),
        patient=st.booleans(),
    )
    def judge(self, state: State | None, later: float, patient: bool) -> None:
        self.now += later
        before = self.guard.step
        if state is State.STUCK:
            self.in_row += 1
            self.stuck_for = self.now if self.stuck_for is None else self.stuck_for
        else:
            self.in_row, self.stuck_for = 0, None
        self.move(self.guard.judged(state, self.now, self.rules, patient=patient))
        if self.guard.step is Step.INTERRUPT and before is not Step.INTERRUPT:
            assert self.rules.act
            assert self.in_row >= self.rules.sure_judgements
            assert self.now - (self.stuck_for or 0.0) >= self.rules.sure_seconds
            self.allowed = True

    @rule(seconds=st.floats(0, 4000))
    def runs(self, seconds: float) -> None:
        before = self.guard.step
        self.move(self.guard.ran(seconds, self.rules))
        if self.guard.step is Step.INTERRUPT and before is not Step.INTERRUPT:
            assert self.rules.longest_seconds is not None
            assert seconds > self.rules.longest_seconds
            self.allowed = True

    @rule(act=st.booleans(), longest=st.none() | st.just(3600.0))
    def set_rules(self, act: bool, longest: float | None) -> None:
        self.rules = Rules(act=act, longest_seconds=longest)

    @precondition(lambda self: self.guard.step in RUNNING)
    @rule(signal=st.sampled_from([Signal.ENDED, Signal.POISONED]))
    def ends(self, signal: Signal) -> None:
        self.move(self.guard.on(signal))

    @rule(
        signal=st.sampled_from(
            [s for s in Signal if s not in (Signal.SURE, Signal.KNOWN, Signal.OVERDUE,
                                            Signal.ENDED, Signal.POISONED)]
        )
    )  # fmt: skip
    def hears(self, signal: Signal) -> None:
        if signal in (Signal.STUCK, Signal.ALIVE):
            return  # Only judgements say so.
        self.move(self.guard.on(signal))

    @invariant()
    def each_step_once(self) -> None:
        for step in (Step.INTERRUPT, Step.FREE, Step.RESTART, Step.HOLD, Step.RESUBMIT):
            assert self.path.count(step) <= 1, self.path
        if Step.RESUBMIT in self.path:
            before = self.path[self.path.index(Step.RESUBMIT) - 1]
            assert before in (Step.FREE, Step.RESTART, Step.HOLD), self.path
        if Step.INTERRUPT in self.path:
            assert self.allowed
        if Step.DONE in self.path:
            assert self.path[-1] is Step.DONE


TestLadder = Ladder.TestCase
TestLadder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_table_names_every_step_and_leads_out_of_each() -> None:
    assert set(TABLE) == set(Step)
    used = {signal for row in TABLE.values() for signal in row}
    assert used == set(Signal)
    ends = {Step.DONE}
    while len(ends) < len(Step):
        more = {step for step in Step if set(TABLE[step].values()) & ends} | ends
        assert more != ends, set(Step) - ends
        ends = more


def test_who_only_wants_to_know_is_told_and_a_sign_of_life_takes_it_back() -> None:
    rules, guard = Rules(act=False), Guard()
    for now in range(6):
        guard = guard.judged(State.STUCK, float(now), rules)
    assert guard.step is Step.TELL
    assert guard.judged(State.SLOW, 7.0, rules) == Guard()
    assert guard.judged(State.STUCK, 7.0, Rules()).step is Step.INTERRUPT, "changed his mind"


def test_a_hang_says_where_and_how_long_and_can_be_tried_again() -> None:
    problem = hung("ComfyUI", Phase.SAMPLE, "Nothing was heard for 63 s, and nothing moves.")
    for words in ("ComfyUI", "hung while sampling", "was stopped", "63 s"):
        assert words in problem.message
    late = overdue("Local engine", Phase.LOAD, 20)
    assert "20 minutes" in late.message
    for one in (problem, late, hung("x", None, "")):
        assert one.category is Category.TIMEOUT
        found = recovery(one)
        assert found.retryable
        assert not found.poisoned
        assert len(found.steps) >= 2

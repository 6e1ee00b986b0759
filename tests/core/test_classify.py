"""Stuck, slow, spilling, working, dead: told apart on traces that were not tuned on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
from core.jobs import Phase
from core.statistics.classify import Heard, Sign, State, classify, sign_of
from tests.core.activity_traces import STORIES, Case, cases

TUNED_ON, HELD = 1, (101, 202, 303)
EACH = 80


def judged(seed: int) -> list[tuple[Case, State]]:
    return [(case, classify(case.heard, case.signs).state) for case in cases(seed, EACH)]


@pytest.mark.parametrize("seed", [TUNED_ON, *HELD])
def test_nineteen_of_twenty_are_right_and_slow_is_never_stuck(seed: int) -> None:
    found = judged(seed)
    assert len(found) == EACH * len(STORIES)
    wrong = Counter((case.story, state) for case, state in found if state is not case.truth)
    assert sum(wrong.values()) <= 0.05 * len(found), wrong
    # Also each story by itself, so that no easy one hides a hard one.
    by_story = Counter(case.story for case, state in found if state is not case.truth)
    assert all(count <= 0.1 * EACH for count in by_story.values()), by_story
    alive = [case for case, state in found if state is State.STUCK and case.truth is not state]
    assert not alive, alive[:1]


def test_the_shipped_decodes_are_told_apart_at_every_moment() -> None:
    """The slow one never stuck, the stuck one within 90 s."""
    from core.gpu import traces

    for name, begin, end in (("slow-decode", 52, 144), ("stuck-decode", 53, 300)):
        gpu = traces.load(traces.find(name)).gpus[0]
        first = None
        for now in range(begin, end):
            signs = []
            for back in range(40, -1, -1):
                values = gpu.at(now - back).values
                used = values["used_mb"]
                assert used is not None
                signs.append(
                    Sign(
                        at_seconds=now - back,
                        utilisation_percent=values["utilisation"],
                        power_watts=values["power"],
                        used_bytes=used * 2**20,
                        total_bytes=gpu.total_mb * 2**20,
                        cpu_percent=1.0,
                    )
                )
            heard = Heard(Phase.DECODE, now - begin, usual_p99_seconds=20.0, alive=True)
            if classify(heard, signs).state is State.STUCK:
                first = first or now - begin
        assert (first is None) is (name == "slow-decode")
        assert first is None or first <= 90


unknown_or = st.none() | st.floats(0, 1e12)


@given(
    since=st.floats(0, 1e7),
    usual=st.none() | st.floats(0.01, 1e5),
    phase=st.none() | st.sampled_from(list(Phase)),
    count=st.integers(0, 60),
)
def test_without_a_reading_nothing_is_stuck(
    since: float, usual: float | None, phase: Phase | None, count: int
) -> None:
    signs = [Sign(float(second)) for second in range(count)]
    heard = Heard(phase, since, usual, None, None)
    assert classify(heard, signs).state in (State.WORKING, State.SLOW)


@given(
    column=st.sampled_from([n for n in Sign.__dataclass_fields__ if n != "at_seconds"]),
    values=st.lists(unknown_or, min_size=40, max_size=40),
)
def test_one_witness_alone_convicts_nobody(column: str, values: list[float | None]) -> None:
    signs = [replace(Sign(float(at)), **{column: value}) for at, value in enumerate(values)]
    heard = Heard(Phase.DECODE, 1e6, 5.0, 300.0, alive=True)
    assert classify(heard, signs).state is not State.STUCK


def test_none_is_not_zero() -> None:
    still = [
        Sign(float(at), utilisation_percent=0.0, power_watts=30.0, cpu_percent=0.0)
        for at in range(40)
    ]
    heard = Heard(Phase.DECODE, 120.0, 10.0, alive=True)
    assert classify(heard, still).state is State.STUCK
    blind = [replace(sign, utilisation_percent=None, cpu_percent=None) for sign in still]
    assert classify(heard, blind).state is State.SLOW
    assert "too little" in classify(heard, blind).reason
    # Where nobody sees the process it takes longer, as it may compute on the CPU.
    unseen = [replace(sign, cpu_percent=None) for sign in still]
    assert classify(heard, unseen).state is State.SLOW
    assert classify(replace(heard, since_event_seconds=301), unseen).state is State.STUCK


def test_dead_needs_to_be_known() -> None:
    heard = Heard(Phase.SAMPLE, 1.0, 10.0, alive=False)
    assert classify(heard, []).state is State.DEAD
    assert classify(replace(heard, alive=None), []).state is State.WORKING


def test_a_reading_becomes_signs() -> None:
    device = DeviceReading(
        1, "card", 24 * 2**30, 8 * 2**30, 50.0, 60.0, 200.0,
        (ProcessReading(7, "engine", Role.WORKER, 5 * 2**30),
         ProcessReading(8, "game", Role.OTHER, None)),
        pcie_receive_bytes_per_second=1e9, pcie_send_bytes_per_second=None,
    )  # fmt: skip
    reading = Reading(9.0, (device,), SystemReading(1, 1, 77, 1, None), "x")
    sign = sign_of(reading, 1, cpu_percent=3.0)
    assert (sign.held_bytes, sign.rss_bytes, sign.cpu_percent) == (5 * 2**30, 77, 3.0)
    assert sign.pcie_bytes_per_second is None
    assert sign_of(reading, 0).utilisation_percent is None

"""Circuit breakers on a simulated clock: to the second, and against a plain model."""

from __future__ import annotations

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.errors import Category, Problem, ProblemError
from core.scheduling.breaker import ANSWERED, TELLING, Breaker, BreakerRules, State
from core.scheduling.moment import Now

RULES = BreakerRules()


def at(seconds: float) -> Now:
    return Now(1_700_000_000.0 + seconds, seconds)


def problem(category: Category) -> Problem:
    return Problem(category, f"{category.value} happened.", "Retry.")


def failed(breaker: Breaker, seconds: float, category: Category, job: str = "a") -> Breaker:
    return breaker.ended(job, problem(category), at(seconds), RULES, ran=False)


def test_five_failures_open_it_and_one_probe_closes_it_to_the_second() -> None:
    breaker = Breaker()
    for second in range(4):
        breaker = failed(breaker, second, Category.WORKER_UNAVAILABLE)
        assert breaker.state is State.CLOSED
        assert breaker.allows(at(second))
    breaker = failed(breaker, 4.0, Category.TIMEOUT)
    assert breaker.state is State.OPEN
    assert not breaker.allows(at(33.999))
    assert breaker.at(at(33.999)).state is State.OPEN
    assert breaker.left_seconds(at(24.0)) == 10.0
    assert breaker.at(at(34.0)).state is State.HALF_OPEN
    assert breaker.allows(at(34.0))
    breaker = breaker.began("probe", at(34.0))
    assert not breaker.allows(at(34.0)), "one probe at a time"
    assert breaker.ended("probe", None, at(60.0), RULES, ran=True) == Breaker()


def test_each_probe_that_fails_doubles_the_wait_up_to_the_longest() -> None:
    breaker, now, waits = Breaker(), 0.0, []
    for _ in range(5):
        breaker = failed(breaker, now, Category.NETWORK_ERROR)
    for _ in range(8):
        left = breaker.left_seconds(at(now))
        assert left is not None
        waits.append(left)
        now += left
        assert breaker.allows(at(now))
        breaker = breaker.began("p", at(now))
        breaker = failed(breaker, now, Category.NETWORK_ERROR, "p")
        assert breaker.state is State.OPEN
    assert waits == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0]


@pytest.mark.parametrize("category", sorted(set(Category) - TELLING))
def test_what_says_nothing_of_the_engine_never_opens_it(category: Category) -> None:
    breaker = Breaker()
    for second in range(50):
        breaker = failed(breaker, second, category)
    assert breaker == Breaker()


def test_what_is_not_telling_neither_counts_nor_forgives() -> None:
    breaker = Breaker()
    for category in (
        Category.TIMEOUT, Category.INVALID_PARAMS, Category.TIMEOUT, Category.MODEL_NOT_FOUND,
        Category.TIMEOUT, Category.INSUFFICIENT_VRAM, Category.TIMEOUT, Category.UNKNOWN,
    ):  # fmt: skip
        breaker = failed(breaker, 0.0, category)
    assert breaker.state is State.CLOSED
    assert breaker.failures == 4
    assert failed(breaker, 0.0, Category.TIMEOUT).state is State.OPEN


def test_a_finished_job_ends_the_count() -> None:
    breaker = Breaker()
    for _ in range(20):
        for _ in range(4):
            breaker = failed(breaker, 0.0, Category.TIMEOUT)
        breaker = breaker.ended("b", None, at(0.0), RULES, ran=True)
    assert breaker == Breaker()


def half_open() -> Breaker:
    breaker = Breaker()
    for _ in range(5):
        breaker = failed(breaker, 0.0, Category.TIMEOUT)
    return breaker.began("probe", at(30.0))


@pytest.mark.parametrize("category", sorted(ANSWERED))
def test_a_probe_that_the_engine_ran_closes_it_however_the_job_ended(category: Category) -> None:
    assert failed(half_open(), 40.0, category, "probe") == Breaker()


def test_a_probe_that_tells_nothing_leaves_room_for_another() -> None:
    for problem_of in (problem(Category.INVALID_PARAMS), None):
        after = half_open().ended("probe", problem_of, at(31.0), RULES, ran=False)
        assert after.state is State.HALF_OPEN
        assert after.allows(at(31.0))
        assert after.failures == 5


def test_a_job_that_was_sent_before_it_opened_changes_nothing_but_by_finishing() -> None:
    breaker = half_open()
    assert failed(breaker, 31.0, Category.TIMEOUT, "older") == breaker
    assert breaker.ended("older", None, at(31.0), RULES, ran=True) == Breaker()


def test_it_survives_a_restart_and_clocks_that_start_anew_or_are_set_back() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker = failed(breaker, 100.0, Category.TIMEOUT)
    data = json.loads(json.dumps(breaker.to_json(at(110.0))))
    # The machine restarted ten seconds later: the monotonic clock begins at 3.
    again = Breaker.from_json(data, Now(at(120.0).at_unix, 3.0), RULES)
    assert again.left_seconds(Now(0.0, 3.0)) == 10.0
    assert again.failures == 5
    assert again.reason == "timeout happened."
    later = Breaker.from_json(data, Now(at(130.0).at_unix, 3.0), RULES)
    assert later.state is State.HALF_OPEN
    back = Breaker.from_json(data, Now(at(-9999.0).at_unix, 3.0), RULES)
    assert back.left_seconds(Now(0.0, 3.0)) == 20.0
    # A probe ran when the program died: nobody knows what came of it, so another may go.
    probing = half_open().to_json(at(31.0))
    assert Breaker.from_json(probing, at(31.0), RULES).allows(at(31.0))


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"state": "ajar", "failures": 1, "opened": 1},
        {"state": "open", "failures": "many", "opened": 1},
        {"state": "open", "failures": -5, "opened": 1},
        {"state": "open", "failures": 5, "opened": 1, "left_seconds": float("inf")},
        {"state": "open", "failures": 5, "opened": 1, "left_seconds": []},
        {"state": "open", "failures": 5, "opened": 1, "written_at_unix": float("nan")},
    ],
)
def test_a_broken_note_gives_a_closed_one(data: dict[str, object]) -> None:
    assert Breaker.from_json(data, at(0.0), RULES) == Breaker()


def test_a_note_cannot_close_it_for_longer_than_the_rules_do() -> None:
    data = {"state": "open", "failures": 5, "opened": 1, "left_seconds": 1e9}
    breaker = Breaker.from_json(data, at(0.0), RULES)
    assert breaker.left_seconds(at(0.0)) == RULES.most_wait_seconds


def test_it_says_what_it_does() -> None:
    breaker = Breaker()
    assert breaker.words("ComfyUI", at(0.0)) == ""
    for _ in range(5):
        breaker = failed(breaker, 0.0, Category.TIMEOUT)
    assert breaker.words("ComfyUI", at(10.0)) == (
        "ComfyUI failed 5 times in a row and gets no job; it is tried again in 20 s. "
        "Last: timeout happened."
    )
    assert "the next job tries it" in breaker.words("ComfyUI", at(30.0))
    assert "one job tries it now" in half_open().words("ComfyUI", at(31.0))


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        (BreakerRules(failures=0), "failures"),
        (BreakerRules(first_wait_seconds=0), "first_wait_seconds"),
        (BreakerRules(first_wait_seconds=601), "first_wait_seconds"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(rules: BreakerRules, field: str) -> None:
    with pytest.raises(ProblemError) as refused:
        rules.check()
    assert refused.value.problem.field == field


class BreakerMachine(RuleBasedStateMachine):
    """Against a model with plain variables: `streak`, `opened` and the instant `until`."""

    @initialize()
    def begin(self) -> None:
        self.breaker = Breaker()
        self.seconds = 0.0
        self.streak = self.opened = 0
        self.until: float | None = None
        self.probe = ""
        self.number = 0

    @rule(seconds=st.floats(0, 700))
    def wait(self, seconds: float) -> None:
        self.seconds += seconds

    @rule(category=st.sampled_from(list(Category)), finishes=st.booleans(), stops=st.booleans())
    def send(self, category: Category, finishes: bool, stops: bool) -> None:
        now = at(self.seconds)
        if not self.breaker.allows(now):
            return
        self.number += 1
        probing = self.until is not None
        self.breaker = self.breaker.began(f"job {self.number}", now)
        told = None if finishes or stops else problem(category)
        self.breaker = self.breaker.ended(f"job {self.number}", told, now, RULES, ran=finishes)
        if finishes or (probing and not stops and category in ANSWERED):
            self.streak, self.opened, self.until = 0, 0, None
        elif told is not None and category in TELLING:
            self.streak += 1
            if probing or self.streak >= RULES.failures:
                self.opened += 1
                self.until = self.seconds + min(600.0, 30.0 * 2 ** (self.opened - 1))

    @rule(away=st.floats(0, 900))
    def restart(self, away: float) -> None:
        now = at(self.seconds)
        data = json.loads(json.dumps(self.breaker.to_json(now)))
        self.breaker = Breaker.from_json(data, at(self.seconds + away), RULES)
        self.seconds += away

    @invariant()
    def agrees(self) -> None:
        now = at(self.seconds)
        found = self.breaker.at(now)
        assert found.failures == self.streak
        assert found.opened == self.opened
        assert (found.state is State.CLOSED) == (self.until is None)
        if self.until is not None and abs(self.until - self.seconds) > 1e-3:
            assert self.breaker.allows(now) == (self.seconds > self.until)
        # It never stays open for good.
        assert self.breaker.allows(at(self.seconds + RULES.most_wait_seconds + 1e-3))


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)

"""Which job begins where: priorities, models that are loaded, memory, and places that fail."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Category, Problem, ProblemError
from core.scheduling.admission import Answer, admit
from core.scheduling.breaker import BreakerRules
from core.scheduling.choose import preview
from core.scheduling.decisions import Decided, Free, Pause, Relieve, SetAside, Wait
from core.scheduling.limits import Limits, Rules, check
from core.scheduling.moment import Now
from core.scheduling.pressure import Relief
from core.scheduling.scheduler import FREE_SECONDS, Scheduler
from core.scheduling.snapshot import Holder, Lane, Lighter, Mode, Orders, Snapshot, Waiting
from core.statistics.forecast import Band
from core.units import GIGABYTE as GB
from core.units import MEGABYTE as MB

RULES = Rules(Limits(reserve_bytes=512 * MB))


def now(seconds: float = 0.0) -> Now:
    return Now(1_700_000_000.0 + seconds, 100.0 + seconds)


def job(name: str, *places: str, **other: object) -> Waiting:
    return Waiting(name, f"clip {name}", places or ("a",), **other)  # type: ignore[arg-type]


def band(low: float, median: float, high: float) -> Band:
    return Band(low * GB, median * GB, high * GB)


def card(place: str = "a", total: float = 12, free: float = 11, **other: object) -> Lane:
    memory = {"total_bytes": int(total * GB), "free_bytes": int(free * GB)}
    return Lane(place, place.upper(), **(memory | other))  # type: ignore[arg-type]


def begun(decided: Decided) -> list[tuple[str, str]]:
    return [(start.job_id, start.place) for start in decided.starts]


def look(waiting: Sequence[Waiting], lanes: Sequence[Lane], **orders: object) -> Decided:
    return Scheduler(RULES).decide(Snapshot(waiting, lanes, Orders(**orders)), now())  # type: ignore[arg-type]


# -- order ------------------------------------------------------------------------


def test_lanes_take_jobs_in_the_order_of_the_queue_and_side_by_side() -> None:
    waiting = [job("1", "a"), job("2", "a"), job("3", "b"), job("4", "a", "b")]
    lanes = [Lane("a", "A"), Lane("b", "B"), Lane("c", "C")]
    decided = look(waiting, lanes)
    assert begun(decided) == [("1", "a"), ("3", "b")]
    assert [start.overtakes for start in decided.starts] == [(), ()]
    assert decided.next_look_seconds is None


def test_one_job_at_a_time_on_a_card_that_two_lanes_share() -> None:
    lanes = [Lane("a", "A", gpu="0"), Lane("b", "B", gpu="0"), Lane("c", "C", gpu="1")]
    waiting = [job("1", "a"), job("2", "b"), job("3", "c")]
    assert begun(look(waiting, lanes)) == [("1", "a"), ("3", "c")]
    lanes[0] = replace(lanes[0], running="0")
    assert begun(look(waiting, lanes)) == [("3", "c")]


def test_a_second_job_on_a_card_needs_twelve_gigabytes_free() -> None:
    rules = Rules(Limits(at_once=2))
    lanes = [card("a", 48, 11.9, gpu="0", running="x"), card("b", 48, 11.9, gpu="0")]
    waiting = [job("1", "b")]
    assert begun(Scheduler(rules).decide(Snapshot(waiting, lanes), now())) == []
    lanes = [replace(lane, free_bytes=12 * GB) for lane in lanes]
    assert begun(Scheduler(rules).decide(Snapshot(waiting, lanes), now())) == [("1", "b")]


def test_a_loaded_model_comes_first_and_the_minutes_are_told() -> None:
    waiting = [
        job("1", model="svd", load_seconds=90.0), job("2", model="svd"),
        job("3", model="wan", load_seconds=60.0),
    ]  # fmt: skip
    (start,) = look(waiting, [Lane("a", "A", model="wan")]).starts
    assert start.job_id == "3"
    assert start.overtakes == ("1", "2")
    assert start.saved_seconds == 60.0
    assert start.words == (
        "Taken before “clip 1”: its model is loaded already, which saves about 60 s."
    )


def test_never_across_priorities() -> None:
    waiting = [job("1", model="svd", priority=1), job("2", model="wan", priority=0)]
    assert begun(look(waiting, [Lane("a", "A", model="wan")])) == [("1", "a")]


def test_a_load_of_no_time_is_no_reason_to_overtake() -> None:
    waiting = [job("1", model="svd"), job("2", model="wan", load_seconds=0.5)]
    assert begun(look(waiting, [Lane("a", "A", model="wan")])) == [("1", "a")]


def test_a_job_is_overtaken_three_times_and_then_its_turn_has_come() -> None:
    scheduler = Scheduler(RULES)
    waiting = [job("old", model="svd")] + [job(str(n), model="wan") for n in range(9)]
    order = []
    while waiting:
        snapshot = Snapshot(waiting, [Lane("a", "A", model="wan" if len(order) != 4 else "svd")])
        (start,) = scheduler.decide(snapshot, now(len(order))).starts
        scheduler.began(start.job_id, "a", now(len(order)))
        # A restart in between forgets nothing.
        kept = json.loads(json.dumps(scheduler.to_json(now(len(order)))))
        scheduler = Scheduler.from_json(kept, now(len(order)))
        order.append(start.job_id)
        waiting = [one for one in waiting if one.job_id != start.job_id]
    assert order == ["0", "1", "2", "old", "3", "4", "5", "6", "7", "8"]


def test_a_start_that_did_not_come_about_overtakes_nobody() -> None:
    scheduler = Scheduler(RULES)
    snapshot = Snapshot(
        [job("old", model="svd"), job("new", model="wan")], [Lane("a", "A", model="wan")]
    )
    for second in range(10):
        assert begun(scheduler.decide(snapshot, now(second))) == [("new", "a")]
    assert scheduler.overtaken("old") == 0


MODELS = st.sampled_from(["", "wan", "svd", "flux"])
QUEUES = st.lists(st.tuples(MODELS, st.integers(-1, 1), st.integers(1, 90)), max_size=25)


@given(queue=QUEUES, loaded=MODELS, bound=st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_the_order_shown_before_keeps_priorities_and_the_bound(
    queue: list[tuple[str, int, int]], loaded: str, bound: int
) -> None:
    queue.sort(key=lambda one: -one[1])
    waiting = [
        job(str(number), model=model, priority=priority, load_seconds=float(seconds))
        for number, (model, priority, seconds) in enumerate(queue)
    ]
    lane = Lane("a", "A", model=loaded)
    shown = preview(Snapshot(waiting, [lane]), "a", Limits(most_overtaken=bound))
    places = [int(job_id) for job_id in shown.ids]
    assert sorted(places) == list(range(len(queue)))
    ranks = [queue[place][1] for place in places]
    assert ranks == sorted(ranks, reverse=True)
    for at, place in enumerate(places):
        assert sum(later > place for later in places[:at]) <= bound
    plain = preview(Snapshot(waiting, [lane]), "a", Limits(most_overtaken=0))
    assert list(plain.ids) == [one.job_id for one in waiting]
    assert plain.saved_seconds == 0.0
    assert shown.saved_seconds >= 0.0
    assert shown.loads <= plain.loads


def test_five_thousand_waiting_jobs_are_decided_on_at_once() -> None:
    models = ("wan", "svd", "flux")
    waiting = [job(str(n), "a", "b", model=models[n % 3], need=band(4, 5, 6)) for n in range(5000)]
    tied = [job(f"t{n}", "c", model="wan", need=band(4, 5, 6)) for n in range(5000)]
    for jobs, lanes in (
        (waiting, [card("a", model="flux"), card("b", model="svd")]),
        (waiting, [card("a", running="x"), card("b", running="y")]),
        # The worst: every job is for a place that is held, and another one is idle.
        (tied, [card("a"), replace(card("c"), reachable=False)]),
    ):
        scheduler = Scheduler(RULES)
        took = []
        for _ in range(5):
            began = time.perf_counter()
            scheduler.decide(Snapshot(jobs, lanes), now())
            took.append(time.perf_counter() - began)
        assert min(took) < 0.05, f"{min(took) * 1000:.1f} ms"


# -- places -----------------------------------------------------------------------


def test_of_three_servers_the_one_that_has_the_model_and_works_gets_the_job() -> None:
    lanes = [
        card("small", 12, 4), card("loaded", 12, 2, model="wan", ours_bytes=9 * GB),
        replace(card("dead"), reachable=False),
    ]  # fmt: skip
    waiting = [job("1", "small", "loaded", "dead", model="wan", need=band(7, 8, 9))]
    assert begun(look(waiting, lanes)) == [("1", "loaded")]


def test_a_job_whose_engine_failed_it_goes_elsewhere_when_it_can() -> None:
    waiting = [job("1", "a", "b", model="wan", avoid=("a",))]
    lanes = [Lane("a", "A", model="wan"), Lane("b", "B")]
    assert begun(look(waiting, lanes)) == [("1", "b")]
    assert begun(look(waiting, [lanes[0], replace(lanes[1], running="x")])) == [("1", "a")]


def broken(scheduler: Scheduler, place: str, times: int = 5, at: float = 0.0) -> None:
    gone = Problem(Category.WORKER_UNAVAILABLE, "It is gone.", "Start it.")
    for _ in range(times):
        scheduler.ended("x", place, now(at), problem=gone, finished=False)


def test_an_open_breaker_sends_jobs_elsewhere_but_for_those_tied_to_it() -> None:
    scheduler = Scheduler(RULES)
    broken(scheduler, "a")
    waiting = [job("tied", "a"), job("free", "a", "b")]
    decided = scheduler.decide(Snapshot(waiting, [Lane("a", "Box"), Lane("b", "Other")]), now())
    (start,) = decided.starts
    assert (start.job_id, start.place, start.instead_of) == ("free", "b", "a")
    assert start.words == "Box gets no jobs; it goes to Other."
    assert start.overtakes == (), "the tied one could not have run there"
    assert decided.next_look_seconds == 30.0
    # Then one probe, and no second one beside it.
    left = [job("tied", "a"), job("next", "a")]
    later = scheduler.decide(Snapshot(left, [Lane("a", "Box")]), now(30.0))
    assert begun(later) == [("tied", "a")]
    assert later.starts[0].probe
    scheduler.began("tied", "a", now(30.0))
    assert begun(scheduler.decide(Snapshot(left[1:], [Lane("a", "Box")]), now(31.0))) == []
    scheduler.ended("tied", "a", now(40.0), problem=None, finished=True)
    (after,) = scheduler.decide(Snapshot(left[1:], [Lane("a", "Box")]), now(40.0)).starts
    assert not after.probe


def test_a_person_can_close_a_breaker() -> None:
    scheduler = Scheduler(Rules(breaker=BreakerRules(failures=1)))
    broken(scheduler, "a", 1)
    assert scheduler.breakers["a"].failures == 1
    snapshot = Snapshot([job("1")], [Lane("a", "A")])
    assert begun(scheduler.decide(snapshot, now())) == []
    scheduler.reset("a")
    assert begun(scheduler.decide(snapshot, now())) == [("1", "a")]


def test_depth_six_sends_nothing_until_it_is_five() -> None:
    decided = look([job("1")], [Lane("a", "A", depth=6)])
    assert decided.starts == []
    assert decided.next_look_seconds == 1.0
    assert begun(look([job("1")], [Lane("a", "A", depth=5)])) == [("1", "a")]


@pytest.mark.parametrize("mode", [Mode.PAUSED, Mode.DRAINING])
def test_a_place_that_is_paused_or_drains_begins_nothing_and_others_go_on(mode: Mode) -> None:
    waiting = [job("1", "a"), job("2", "a", "b")]
    lanes = [card("a", ours_bytes=4 * GB), card("b")]
    decided = look(waiting, lanes, modes={"a": mode})
    assert begun(decided) == [("2", "b")]
    frees = [one.place for one in decided.decisions if isinstance(one, Free)]
    assert frees == (["a"] if mode is Mode.DRAINING else [])
    assert begun(look(waiting, lanes, mode=mode)) == []


def test_draining_gives_memory_back_once_and_only_after_the_job() -> None:
    scheduler = Scheduler(RULES)
    orders = Orders(mode=Mode.DRAINING)
    busy = Snapshot([job("1")], [card("a", ours_bytes=4 * GB, running="x")], orders)
    assert scheduler.decide(busy, now()).decisions == ()
    idle = Snapshot([job("1")], [card("a", ours_bytes=4 * GB)], orders)
    assert [type(one) for one in scheduler.decide(idle, now(1)).decisions] == [Free]
    for second in range(2, 200, 7):
        assert scheduler.decide(idle, now(second)).decisions == ()


def test_stop_after_the_current_job_pauses_once_it_has_ended() -> None:
    running = [Lane("a", "A", running="x"), Lane("b", "B")]
    assert look([job("1", "b")], running, stop_after_current=True).decisions == ()
    idle = [Lane("a", "A"), Lane("b", "B")]
    (pause,) = look([job("1", "b")], idle, stop_after_current=True).decisions
    assert isinstance(pause, Pause)


def test_a_retry_waits_its_time_and_blocks_nobody() -> None:
    waiting = [job("1", not_before_unix=now(12.5).at_unix), job("2")]
    decided = look(waiting, [Lane("a", "A")])
    assert begun(decided) == [("2", "a")]
    assert decided.starts[0].overtakes == ()
    assert look(waiting[:1], [Lane("a", "A")]).next_look_seconds == pytest.approx(12.5)
    later = Scheduler(RULES).decide(Snapshot(waiting[:1], [Lane("a", "A")]), now(12.5))
    assert begun(later) == [("1", "a")]


# -- memory -----------------------------------------------------------------------


def test_it_says_what_it_waits_for_and_who_holds_it() -> None:
    holders = (Holder("Firefox", 300 * MB), Holder("LM Studio", int(5.2 * GB)))
    decided = look([job("1", need=band(7, 8, 8.4))], [card(free=6.8, holders=holders)])
    (wait,) = decided.decisions
    assert wait == Wait("1", "waits for 2.1 GB: LM Studio holds 5.2 GB", 900.0)
    assert decided.next_look_seconds == 2.0


def test_it_waits_with_an_end_then_tries_what_is_likely_and_tells_the_rest() -> None:
    holders = (Holder("LM Studio", 3 * GB),)
    for need, found in ((band(6, 7, 10), "start"), (band(8, 9, 10), "aside")):
        scheduler = Scheduler(RULES)
        lanes = [card(free=8, holders=holders)]
        snapshot = Snapshot([job("1", need=need)], lanes)
        for second in (0, 1, 450, 899):
            (wait,) = scheduler.decide(snapshot, now(second)).decisions
            assert isinstance(wait, Wait)
            assert wait.left_seconds == 900.0 - second
        decided = scheduler.decide(snapshot, now(900))
        if found == "start":
            assert begun(decided) == [("1", "a")]
            assert "as likely as not" in decided.starts[0].words
            continue
        (aside,) = decided.decisions
        assert isinstance(aside, SetAside)
        assert not aside.for_good
        assert aside.problem.category is Category.INSUFFICIENT_VRAM
        assert aside.problem.message.startswith("Waits for 2.5 GB: LM Studio holds 3.0 GB, and")
        # Others go on without counting as overtaking, and memory that comes back is taken.
        beside = Snapshot([*snapshot.waiting, job("2", need=band(1, 2, 3))], lanes)
        (start,) = scheduler.decide(beside, now(901)).starts
        assert (start.job_id, start.overtakes) == ("2", ())
        free = Snapshot(snapshot.waiting, [card(free=11.5)])
        assert begun(scheduler.decide(free, now(902))) == [("1", "a")]


def test_a_job_that_never_fits_is_told_at_once_and_blocks_nobody() -> None:
    waiting = [job("1", need=band(20, 22, 24)), job("2", need=band(1, 2, 3))]
    decided = look(waiting, [card()])
    assert begun(decided) == [("2", "a")]
    for lanes in ([card()], [card(running="x")]):
        (aside,) = [one for one in look(waiting, lanes).decisions if isinstance(one, SetAside)]
        assert aside.for_good
        assert aside.problem.message == (
            "“clip 1” needs at least 20.0 GB, and A has 11.5 GB for jobs with nothing else on "
            "it: use a smaller size or fewer frames."
        )


def test_a_job_that_fits_another_place_is_not_set_aside() -> None:
    waiting = [job("1", "a", "b", need=band(20, 22, 23))]
    lanes = [card("a"), card("b", 24, 23.6, running="x")]
    assert look(waiting, lanes).decisions == ()
    lanes[1] = card("b", 24, 23.6)
    assert begun(look(waiting, lanes)) == [("1", "b")]


def test_a_job_for_a_place_that_is_gone_is_told() -> None:
    (aside,) = look([job("1", "gone")], [Lane("a", "A", running="x")]).decisions
    assert isinstance(aside, SetAside)
    assert aside.problem.category is Category.WORKER_UNAVAILABLE


def test_what_the_engine_holds_for_another_model_is_given_back_first_and_only_once() -> None:
    scheduler = Scheduler(RULES)
    lane = card(free=3, ours_bytes=8 * GB, model="wan")
    snapshot = Snapshot([job("1", model="svd", need=band(7, 8, 9))], [lane])
    free, wait = scheduler.decide(snapshot, now()).decisions
    assert isinstance(free, Free)
    assert (free.place, free.job_id) == ("a", "1")
    assert free.words == "A first gives back the 8.0 GB that it holds."
    assert isinstance(wait, Wait)
    # While it does, nothing begins there and nothing is asked again.
    assert scheduler.decide(snapshot, now(1)).decisions == ()
    done = Snapshot(snapshot.waiting, [replace(lane, free_bytes=11 * GB, ours_bytes=0, freed=True)])
    assert begun(scheduler.decide(done, now(2))) == [("1", "a")]
    # One that never answers has had its time.
    again = Scheduler(RULES)
    again.decide(snapshot, now())
    assert begun(again.decide(snapshot, now(FREE_SECONDS - 1))) == []
    assert begun(again.decide(snapshot, now(FREE_SECONDS))) == [("1", "a")]


def test_what_the_engine_holds_of_the_same_model_is_used_again() -> None:
    lane = card(free=3, ours_bytes=8 * GB, model="wan")
    assert begun(look([job("1", model="wan", need=band(7, 8, 9))], [lane])) == [("1", "a")]


def test_a_lighter_rung_is_taken_where_it_is_allowed() -> None:
    tiled = Lighter("tiled_decode", band(4, 5, 6), "decode in tiles")
    heavy = job("1", need=band(9, 10, 11), lighter=(tiled,))
    (start,) = look([heavy], [card(free=8)]).starts
    assert start.lighter == tiled
    assert start.words == "3.5 GB are missing, so it runs lighter: decode in tiles."
    # Another card that takes it as it was asked for is better.
    (start,) = look([replace(heavy, places=("a", "b"))], [card(free=8), card("b", 24, 20)]).starts
    assert (start.place, start.lighter) == ("b", None)
    # One that never fits as it is, fits on the rung.
    (start,) = look([replace(heavy, need=band(20, 21, 22))], [card(free=8)]).starts
    assert start.lighter == tiled


def test_a_person_can_start_it_anyway() -> None:
    waiting = [job("1", need=band(20, 22, 24), anyway=True)]
    assert begun(look(waiting, [card(free=0.5, freed=True)])) == [("1", "a")]
    # What can be given back is given back first all the same.
    scheduler = Scheduler(RULES)
    snapshot = Snapshot(waiting, [card(free=0.5)])
    frees = [one for one in scheduler.decide(snapshot, now()).decisions if isinstance(one, Free)]
    assert [one.place for one in frees] == ["a"]
    assert begun(scheduler.decide(snapshot, now(FREE_SECONDS))) == [("1", "a")]


@given(
    need=st.tuples(*[st.floats(0.1, 30)] * 3).map(sorted), total=st.sampled_from([4, 8, 12, 24]),
    used=st.floats(0, 1), ours=st.floats(0, 1), waited=st.floats(0, 2000), known=st.booleans(),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_what_is_admitted_fits_and_nothing_waits_past_its_patience(
    need: list[float], total: int, used: float, ours: float, waited: float, known: bool
) -> None:
    limits = RULES.limits
    taken = used * total
    lane = card(total=total, free=total - taken, ours_bytes=int(taken * ours * GB), model="x")
    wanted = band(*need) if known else None
    answer = admit(job("1", need=wanted), lane, limits, waited_seconds=waited)
    room = lane.room_bytes or 0
    if answer.answer is Answer.START:
        assert room >= limits.min_free_bytes
        if wanted is not None and waited < limits.patience_seconds:
            assert wanted.low <= room
            assert min(wanted.high, total * GB - limits.reserve_bytes) <= room
    if waited >= limits.patience_seconds:
        assert answer.answer is not Answer.WAIT
    never = wanted is not None and wanted.low > total * GB - limits.reserve_bytes
    assert (answer.answer is Answer.NEVER) == never
    if answer.answer is Answer.WAIT:
        assert answer.missing_bytes > 0
        assert answer.left_seconds == limits.patience_seconds - waited


# -- the five actions ---------------------------------------------------------------


def test_two_gigabytes_free_gives_the_five_actions_in_order() -> None:
    scheduler = Scheduler(RULES)
    holders = (Holder("LM Studio", 9 * GB),)
    lane = card(free=2, holders=holders)
    told: list[tuple[float, Relief]] = []
    frees, second = [], 0.0
    while second < 60:
        decided = scheduler.decide(Snapshot([job("1")], [lane]), now(second))
        for one in decided.decisions:
            if isinstance(one, Relieve):
                told.append((second, one.taken.relief))
                assert one.taken.room_bytes == 2 * GB
                assert one.taken.to_json()["action"] == one.taken.relief.value
            if isinstance(one, Free):
                frees.append(second)
        assert decided.starts == []
        assert decided.next_look_seconds is not None
        second += decided.next_look_seconds
    assert [relief for _, relief in told] == [
        Relief.WARN, Relief.REDUCE, Relief.CLEAR, Relief.DRAIN, Relief.RECORD,
    ]  # fmt: skip
    assert [at for at, _ in told[:3]] == [0, 0, 0]
    assert frees == [0]
    assert 5 <= told[3][0] < 8
    assert told[3][0] + 5 <= told[4][0] < told[3][0] + 8


def test_memory_is_cleared_between_jobs_and_the_end_is_recorded_early() -> None:
    scheduler = Scheduler(RULES)

    def reliefs(seconds: float, lane: Lane) -> list[Relief]:
        decided = scheduler.decide(Snapshot([job("1", "b")], [lane]), now(seconds))
        return [one.taken.relief for one in decided.decisions if isinstance(one, Relieve)]

    busy = card(free=2, running="x")
    assert reliefs(0, busy) == [Relief.WARN, Relief.REDUCE]
    assert reliefs(100, busy) == []
    assert reliefs(101, card(free=2)) == [Relief.CLEAR]
    # A little more than the line does not end it yet.
    assert reliefs(102, card(free=3.2)) == []
    assert reliefs(103, card(free=9)) == [Relief.RECORD]
    assert reliefs(104, card(free=9)) == []
    assert reliefs(105, card(free=2)) == [Relief.WARN, Relief.REDUCE, Relief.CLEAR]


def test_what_a_running_job_of_ours_holds_is_no_low_memory() -> None:
    decided = look([job("1")], [card(free=0.5, ours_bytes=11 * GB, running="x")])
    assert decided.decisions == ()


# -- settings -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "total", "field", "words"),
    [
        (Limits(min_free_bytes=12 * GB), 12, "min_free_bytes", "no job would ever begin"),
        (Limits(reserve_bytes=10 * GB), 12, "reserve_bytes", "more than the 12.0 GB of A"),
        (Limits(at_once=2), 8, "at_once", "2 jobs at once need 12.0 GB"),
        (Limits(at_once=0), 12, "at_once", "too small"),
        (Limits(most_depth=-1), 12, "most_depth", "too small"),
        (Limits(patience_seconds=0), 12, "patience_seconds", "cannot wait"),
        (Limits(patience_seconds=float("nan")), 12, "patience_seconds", "cannot wait"),
        (Limits(look_ahead=3), 12, "look_ahead", "Looking through 3 jobs"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(
    limits: Limits, total: float, field: str, words: str
) -> None:
    with pytest.raises(ProblemError) as refused:
        check(Rules(limits), [card(total=total)], Orders())
    assert refused.value.problem.field == field
    assert words in refused.value.problem.message
    assert refused.value.problem.hint


def test_what_is_set_at_first_suits_the_usual_cards() -> None:
    check(Rules(), [card(total=total) for total in (4, 8, 12, 24)] + [Lane("a", "CPU")], Orders())


@pytest.mark.parametrize(
    "data", [{}, {"breakers": 3, "overtaken": [], "streak": "x"},
             {"breakers": {"a": 1}, "overtaken": {"j": -1, "k": "2", "l": True}}],
)  # fmt: skip
def test_a_broken_note_begins_anew(data: dict[str, object]) -> None:
    made = Scheduler.from_json(data, now())
    assert made.streak == 0
    assert made.overtaken("j") == made.overtaken("k") == made.overtaken("l") == 0
    assert begun(made.decide(Snapshot([job("1")], [Lane("a", "A")]), now())) == [("1", "a")]

"""Looking for jobs in a real ledger: words, states, places, and the order of what ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import Category, Problem
from core.events import Failed, Finished, MemoryRead, Output, Stopped
from core.jobs import Job
from core.ledger import Ledger
from core.ledger.look import look
from core.queue import Group, Order, Show, Wanted
from tests.widgets.queue_source import job


def made(number: int, prompt: str, **more: object) -> Job:
    one = job(number, prompt)
    params = {**one.params, "prompt": prompt, **more.pop("params", {})}  # type: ignore[dict-item]
    return replace(one, title=f"Title {number}", params=params, **more)  # type: ignore[arg-type]


def clip(number: int) -> Output:
    return Output(f"/c/{number}.mp4", "", "", 64, 64, 8, 8.0, 10, 0.1, 0.1)


@pytest.fixture
def ledger(tmp_path: Path):
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


def numbers(ledger: Ledger, wanted: Wanted) -> list[int]:
    keys = look(ledger.store, wanted).keys
    assert keys is not None
    return sorted(int(i.replace("-", ""), 16) for i in ledger.job_ids(sorted(keys)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FOX", [1, 2]),
        ("fox snow", [1]),
        ("snow fox", [1]),
        ("100%", [3]),
        ("a_b", [3]),
        ("ÜBER", [4]),
        ("über", [4]),
        ('say "hi"', [5]),
        ("back\\slash", [5]),
        ("Title", [1, 2, 3, 4, 5]),
        ("starter", [1, 2, 3, 4, 5]),
        ("00000000-0000-0000-0000-000000000002", [2]),
        # Names of parameters, folders and numbers are no words of a job.
        ("width", []),
        ("clips", []),
        ("seed", []),
        ("!", []),
    ],
)
def test_words_are_found_wherever_a_person_wrote_them(ledger, text, expected):
    ledger.enqueue(
        [
            made(1, "A fox in fresh snow"),
            made(2, "two FOXES, no winter"),
            made(3, "100% wool, a_b"),
            made(4, "Über den Dächern"),
            made(5, 'say "hi" back\\slash'),
        ]
    )
    assert numbers(ledger, Wanted(text)) == expected


def test_states_places_and_decisions_narrow(ledger):
    there = {"server": "http://b"}
    jobs = [made(n, "x") for n in range(1, 6)]
    jobs += [made(6, "x", engine="comfy", params=there), made(7, "x", engine="comfy")]
    ledger.enqueue(jobs)
    for number in (1, 2, 3, 4):
        ledger.begin(jobs[number - 1].id)
    ledger.end(
        jobs[0].id,
        Finished(
            job_id=jobs[0].id,
            output=clip(1),
            seconds=1.0,
            seed=1,
            peak_rss_bytes=1,
            peak_vram_bytes=None,
        ),
    )
    problem = Problem(Category.UNKNOWN, "It broke.", "Mend it.")
    ledger.end(jobs[1].id, Failed(job_id=jobs[1].id, problem=problem, seconds=1.0))
    ledger.end(jobs[2].id, Failed(job_id=jobs[2].id, problem=problem, seconds=1.0, lost=True))

    def of(*shows: Show, **more: object) -> list[int]:
        return numbers(ledger, Wanted(shows=frozenset(shows), **more))  # type: ignore[arg-type]

    assert of(Show.FINISHED) == [1]
    assert of(Show.FAILED) == [2]
    assert of(Show.LOST) == [3]
    assert of(Show.RUNNING) == [4]
    assert of(Show.NEXT) == [5, 6, 7]
    assert of(Show.FAILED, Show.RUNNING) == [2, 4]
    assert of(Show.DECIDE) == [3]
    assert of(Show.DECIDE, aside=(jobs[5].id, jobs[0].id)) == [3, 6]
    assert of(places=(("comfy", "http://b"),)) == [6]
    assert of(places=(("comfy", None), ("comfy", ""))) == [7]
    assert of(places=(("local", None),)) == [1, 2, 3, 4, 5]
    assert of(places=()) == []
    ledger.remove([jobs[4].id])
    assert of(Show.NEXT) == [6, 7]
    assert not Wanted("  ").narrows
    assert look(ledger.store, Wanted()) == look(ledger.store, Wanted("  "))


def test_what_ended_is_sorted_as_asked_and_holds_every_row_once(ledger):
    jobs = [made(n, "x") for n in range(1, 6)]
    ledger.enqueue(jobs)
    # Of each: seconds, memory, how it ended.
    for number, (seconds, peak) in enumerate(((5.0, 40), (9.0, 10), (1.0, 90), (7.0, None)), 1):
        one = jobs[number - 1]
        ledger.begin(one.id)
        if peak:
            ledger.record(one.id, MemoryRead(job_id=one.id, rss_bytes=1, vram_bytes=peak))
        if number == 2:
            problem = Problem(Category.UNKNOWN, "It broke.", "Mend it.")
            ledger.end(one.id, Failed(job_id=one.id, problem=problem, seconds=seconds))
        elif number == 4:
            ledger.end(one.id, Failed(job_id=one.id, problem=problem, seconds=seconds, lost=True))
        else:
            ledger.end(one.id, Stopped(job_id=one.id, seconds=seconds))

    def sorted_by(order: Order) -> list[int]:
        ended = look(ledger.store, Wanted(order=order)).ended
        assert ended is not None
        assert sorted(ended) == sorted(ledger.ids(Group.FINISHED))
        return [int(i.replace("-", ""), 16) for i in ledger.job_ids(ended)]

    assert sorted_by(Order.OLDEST) == [1, 2, 3, 4]
    assert sorted_by(Order.LONGEST) == [2, 4, 1, 3]
    assert sorted_by(Order.PEAK) == [3, 1, 2, 4]
    assert sorted_by(Order.STATE) == [4, 2, 3, 1]
    assert look(ledger.store, Wanted(order=Order.NEWEST)).ended is None

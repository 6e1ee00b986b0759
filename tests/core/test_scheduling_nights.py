"""Five hundred nights on a simulated clock: every one ends, and nobody starves."""

from __future__ import annotations

from collections import Counter

from tests.core.scheduling_night import Night

NIGHTS = 500


def test_every_night_ends_and_no_job_is_overtaken_beyond_the_bound() -> None:
    ends: Counter[str] = Counter()
    reached: Counter[int] = Counter()
    for seed in range(NIGHTS):
        night = Night(seed)
        night.run()
        assert night.most_overtaken <= night.limits.most_overtaken
        reached[night.limits.most_overtaken] += night.most_overtaken == night.limits.most_overtaken
        for task in night.tasks:
            # What is left over was told, and is more likely than not to fit none of its places.
            for name in task.waiting.places:
                place = night.places[name]
                room = (place.lane.total_bytes or 0) - place.desktop
                assert task.waiting.need is not None
                assert task.waiting.need.median + night.limits.reserve_bytes > room
        ended = [task for task in night.every if task.end]
        assert {id(task) for task in ended}.isdisjoint(id(task) for task in night.tasks)
        assert len(ended) + len(night.tasks) == len(night.every)
        assert all(task.tries >= 1 for task in ended)
        ends.update(task.end for task in ended)
        ends["told"] += len(night.tasks)
        ends["restarts"] += night.restarts
    # The nights were worth playing: all kinds of ends, and each bound was reached.
    assert ends["done"] > 20_000
    assert ends["failed"] > 1_000
    assert ends["told"] > 1_000
    assert ends["restarts"] > 500
    assert min(reached[bound] for bound in (0, 1, 3, 5)) > 50


def test_a_night_is_the_same_every_time() -> None:
    one, other = Night(7), Night(7)
    assert one.run() == other.run()
    assert one.looks == other.looks
    assert [task.end for task in one.every] == [task.end for task in other.every]

"""Five hundred nights on a simulated clock: every one ends, and nobody starves."""

from __future__ import annotations

from collections import Counter

from tests.core.scheduling_night import Night

NIGHTS = 500


def test_every_night_ends_and_no_job_is_overtaken_beyond_the_bound() -> None:
    ends: Counter[str] = Counter()
    overtaken: Counter[int] = Counter()
    for seed in range(NIGHTS):
        night = Night(seed)
        night.run()
        assert night.most_overtaken <= night.limits.most_overtaken
        overtaken[night.most_overtaken] += 1
        for task in night.tasks:
            # What is left over was told, and is more likely than not to fit none of its places.
            for name in task.waiting.places:
                place = night.places[name]
                room = (place.lane.total_bytes or 0) - place.desktop
                assert task.waiting.need is not None
                assert task.waiting.need.median + night.limits.reserve_bytes > room
            ends["told"] += 1
        ends.update(task.end for task in night.every if task.end)
        assert all(task.end or task in night.tasks for task in night.every)
    # The nights were worth playing: all kinds of ends, and the bound was reached.
    assert ends["done"] > 20 * ends["failed"] > 0 or ends["done"] > ends["failed"] > 500
    assert ends["told"] > 500
    assert overtaken[5] > 20
    assert overtaken[0] > 50


def test_a_night_is_the_same_every_time() -> None:
    one, other = Night(7), Night(7)
    assert one.run() == other.run()
    assert one.looks == other.looks

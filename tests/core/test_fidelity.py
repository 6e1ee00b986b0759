"""Counting what a model does right: bars, tables and the prompts asked."""

from __future__ import annotations

from core import judge
from core.engines.local import fidelity
from core.judge import asked, names
from core.judge.asked import Asked


def thing(colour: str, shape: str = "ball", change: float = 0.0) -> judge.Thing:
    return judge.Thing(colour, shape, "left", (40.0, 20.0), (32.0, 32.0), (9.0, 9.0), change, 0.0)


def seen(*things: judge.Thing, motion: str = "left", background: str = "sea") -> judge.Seen:
    return judge.Seen(things, motion, background, 0.0)


LEFT = Asked("a red ball moves left over the sea", ("red",), ("ball",), "left", "sea")


def test_each_thing_is_counted_on_its_own() -> None:
    report = fidelity.Report()
    fidelity.count(report, LEFT, seen(thing("red")))
    fidelity.count(report, LEFT, seen(thing("red", "star", 0.5), background="night"))
    fidelity.count(report, LEFT, seen(thing("blue"), motion="up"))
    shares = {what: round(report.share(what), 2) for what in report.judged}
    assert shares == {
        "object colour": 0.67,
        "background": 0.67,
        "motion": 0.67,
        "shape": 0.67,
        "steady colour": 0.67,
        "steady size": 1.0,
    }
    assert len(report.missed) == 4
    assert not report.meets_bars


def test_a_second_object_that_nobody_asked_for_is_wrong() -> None:
    report = fidelity.Report()
    fidelity.count(report, LEFT, seen(thing("red"), thing("blue")))
    fidelity.count(report, LEFT, seen())
    assert report.share("object colour") == 0


def test_of_two_objects_both_colours_count() -> None:
    report = fidelity.Report()
    pair = Asked("a red ball and a blue ball rise", ("red", "blue"), ("ball", "ball"), "up", "sea")
    fidelity.count(report, pair, seen(thing("blue"), thing("red"), motion="up"))
    fidelity.count(report, pair, seen(thing("red"), thing("red"), motion="up"))
    assert report.share("both colours") == 0.5


def test_all_bars_met_is_said_only_when_all_are() -> None:
    report = fidelity.Report()
    for what in fidelity.BARS:
        report.count(what, True)
    assert report.meets_bars
    assert "100.0%" in report.table()
    report.count("motion", False, "why")
    assert not report.meets_bars
    assert report.missed == ["motion: why"]


def test_prompts_take_turns_and_are_all_kept_from_training() -> None:
    found = [asked.draw(3, number) for number in range(48)]
    assert found == [asked.draw(3, number) for number in range(48)]
    assert {one.motion for one in found} == set(names.MOTIONS)
    assert found != [asked.draw(4, number) for number in range(48)]
    for one in [*found, *(asked.draw(3, number, objects=2) for number in range(12))]:
        things = list(zip(one.colours, one.shapes, strict=True))
        assert names.held_out(things, one.motion, one.background)
        assert all(colour in one.prompt for colour in one.colours)

"""The method of measuring, by scripted clocks: figures, choices, history, refusals."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bench import figures, history, method
from core.bench.figures import PLAIN, Run, Way
from core.bench.history import Record
from core.errors import ProblemError


class Machine:
    """Answers with seconds by the switches that are on, a little unsteady, and drifting."""

    def __init__(
        self, gains: Mapping[str, float], *, noise: float = 0.01, drift: float = 0.0
    ) -> None:
        self.gains, self.noise, self.drift = dict(gains), noise, drift
        self.apart: dict[str, float] = {}
        self.missing: set[str] = set()
        self.asked: list[str] = []
        self._random = random.Random(5)

    def __call__(self, way: str) -> Run:
        self.asked.append(way)
        on = [] if way == PLAIN else [n for n in way.split("+") if n not in self.missing]
        seconds = 10.0 + self.drift * len(self.asked)
        for name in on:
            seconds /= self.gains[name]
        seconds *= 1 + self._random.uniform(-self.noise, self.noise)
        first = way not in self.asked[:-1]
        compiling = 30.0 if first and "compile" in on else 0.0
        return Run(
            seconds + compiling,
            compile_seconds=compiling,
            peak_bytes=100,
            calls=8,
            mean_difference=sum(self.apart.get(name, 0.0) for name in on),
            switches=tuple(on),
            notes=() if len(on) == len(way.split("+")) else ("It needs an NVIDIA GPU.",),
        )


def quiet(done: int, total: int, words: str) -> None:
    """Hear how far it is."""


KINDS = [
    method.Kind("layout"),
    method.Kind("compile", group="compile"),
    method.Kind("graphs", group="compile"),
    method.Kind("half", lossy=True),
]


# ---- figures


def test_the_real_time_factor_is_work_by_what_is_made() -> None:
    found = figures.real_time_factor(2.246, 9.269)
    assert found == pytest.approx(0.242, abs=0.0005)
    assert figures.real_time_factor(2.0, 0.0) is None


def test_figures_of_a_way_are_those_of_its_runs_and_not_of_its_warm_up() -> None:
    plain = Way(PLAIN, [Run(10.0) for _ in range(5)])
    runs = [
        Run(s, peak_bytes=int(s), mean_difference=0.2, max_difference=3) for s in (4, 6, 5, 5, 9)
    ]
    way = Way("layout", runs, warm_up=Run(60.0, compile_seconds=50.0))
    found = way.figures(plain, 2.5)
    assert (found["median_seconds"], found["best_seconds"], found["worst_seconds"]) == (5, 4, 9)
    assert found["mean_seconds"] == pytest.approx(5.8)
    assert found["variance"] == pytest.approx(3.7)
    assert (found["ratio"], found["real_time_factor"], found["wins"]) == (2, 2, 1)
    assert found["spread"] == pytest.approx(0.1)
    assert (found["compile_seconds"], found["peak_bytes"]) == (50, 9)
    assert (found["mean_difference"], found["max_difference"]) == (0.2, 3)


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=40))
def test_figures_are_in_order_whatever_the_seconds(seconds: list[float]) -> None:
    way = Way("any", [Run(one) for one in seconds])
    found = way.figures(way, 1.0)
    assert found["best_seconds"] <= found["median_seconds"] <= found["worst_seconds"]
    assert found["ratio"] == 1
    assert found["spread"] >= 0
    assert found["wins"] == 0
    assert not figures.worth_it(way, way)


# ---- the method


def test_all_ways_run_in_turn_and_none_is_always_first() -> None:
    machine = Machine({"layout": 1.0, "compile": 1.0, "graphs": 1.0, "half": 1.0})
    told: list[tuple[int, int, str]] = []
    report = method.measure(machine, KINDS, 5, lambda *words: told.append(words))
    names = [PLAIN, *(kind.id for kind in KINDS)]
    assert machine.asked[:5] == names
    rounds = [machine.asked[start : start + 5] for start in range(5, 30, 5)]
    assert len(machine.asked) == 30
    assert all(sorted(one) == sorted(names) for one in rounds)
    assert len({one[0] for one in rounds}) == 5
    assert (report.auto, report.fast) == ((), ())
    assert [done for done, _, _ in told] == list(range(30))
    assert all(total == 30 for _, total, _ in told)
    assert report.ways["compile"].compile_seconds == 30
    assert report.ways["compile"].median < 11


def test_what_is_worth_it_is_measured_together_and_chosen() -> None:
    machine = Machine({"layout": 1.2, "compile": 1.5, "graphs": 1.3, "half": 2.0})
    machine.apart = {"half": 3.0}
    report = method.measure(machine, KINDS, 5, quiet)
    assert report.auto == ("layout", "compile")
    assert report.fast == ("layout", "compile", "half")
    together = report.ways["layout+compile"]
    assert together.figures(report.plain_of("layout+compile"), 0)["ratio"] == pytest.approx(
        1.8, rel=0.05
    )


def test_a_machine_that_grows_slower_meanwhile_chooses_nothing_by_that() -> None:
    machine = Machine(dict.fromkeys(("layout", "compile", "graphs", "half"), 1.0), drift=0.15)
    report = method.measure(machine, KINDS, 5, quiet)
    assert (report.auto, report.fast) == ((), ())


def test_a_switch_that_changes_pixels_is_never_without_loss_whatever_it_declares() -> None:
    machine = Machine({"layout": 2.0, "compile": 1.0, "graphs": 1.0, "half": 1.0})
    machine.apart = {"layout": 1.5}
    report = method.measure(machine, KINDS, 5, quiet)
    assert (report.auto, report.fast) == ((), ("layout",))


def test_what_did_not_turn_on_is_left_out_with_its_reason() -> None:
    machine = Machine(dict.fromkeys(("layout", "compile", "graphs", "half"), 1.1))
    machine.missing = {"graphs"}
    report = method.measure(machine, KINDS, 5, quiet)
    assert report.left_out == {"graphs": "It needs an NVIDIA GPU."}
    assert "graphs" not in report.ways
    assert machine.asked.count("graphs") == 1


def test_switches_that_hinder_each_other_are_not_chosen_together() -> None:
    class Clashing(Machine):
        def __call__(self, way: str) -> Run:
            run = super().__call__(way)
            return replace(run, seconds=run.seconds * 3) if "+" in way else run

    report = method.measure(
        Clashing({"layout": 1.2, "compile": 1.5, "graphs": 1.0, "half": 1.1}), KINDS, 5, quiet
    )
    assert (report.auto, report.fast) == (("compile",), ("compile",))


# ---- history

SETTINGS = {"model": "starter", "steps": 16, "width": 128, "types": {"unet": "float32"}}


def record(number: int, seconds: float, **more: object) -> Record:
    peak, calls = int(str(more.pop("peak", 1000))), int(str(more.pop("calls", 16)))
    ways = {PLAIN: {"median_seconds": seconds, "peak_bytes": peak, "calls": calls}}
    settings = {**SETTINGS, **more}
    return Record(number, float(number), settings, {"torch": "2.13.0"}, "0.1.0", ways)


def test_fifteen_percent_slower_is_flagged_and_nine_is_not() -> None:
    old = record(1, 10.0)
    assert history.regressions(old, record(2, 10.9)) == []
    assert history.regressions(old, record(2, 11.0)) == []
    assert history.regressions(old, record(2, 11.5)) == ["off: 15 % slower than in measurement 1"]
    assert history.regressions(old, record(2, 9.0, peak=1150)) == [
        "off: 15 % more memory than in measurement 1"
    ]


def test_runs_of_other_settings_are_not_compared_and_each_difference_is_named() -> None:
    old = record(1, 10.0)
    with pytest.raises(ProblemError) as caught:
        history.regressions(old, record(2, 5.0, steps=8, types={"unet": "bfloat16"}))
    message = caught.value.problem.message
    assert "steps 16 and 8" in message
    assert "types of unet float32 and bfloat16" in message
    assert "width" not in message
    with pytest.raises(ProblemError) as caught:
        history.check_comparable(old, record(2, 5.0, calls=8))
    assert "calls of the model of off 16 and 8" in caught.value.problem.message


def test_the_run_before_is_the_last_of_the_same_settings_and_versions() -> None:
    one, two, other = record(1, 10.0), record(2, 11.0), record(3, 5.0, steps=8)
    newer = replace(record(4, 9.0), versions={"torch": "2.14.0"})
    found = history.before([one, two, other, newer], record(5, 10.0))
    assert found == two
    assert history.before([other], record(5, 10.0)) is None


def test_a_history_outlives_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "data" / "bench.jsonl"
    assert history.read(path) == []
    assert history.next_id([]) == 1
    history.append(path, record(1, 10.0))
    history.append(path, record(2, 11.0))
    path.write_text(path.read_text() + '{"id": 3, "at_sec')
    history.append(path, record(3, 12.0))
    found = history.read(path)
    assert [one.id for one in found] == [1, 2, 3]
    assert found[0] == record(1, 10.0)
    assert history.named(found, "last").id == 3
    assert history.named(found, "2").id == 2
    with pytest.raises(ProblemError) as caught:
        history.named(found, "9")
    assert "1, 2, 3" in caught.value.problem.hint


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3)),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3)),
)
def test_settings_differ_exactly_where_they_do(one: dict[str, int], other: dict[str, int]) -> None:
    found = history.differences(one, other)
    names = {name for name in {*one, *other} if one.get(name) != other.get(name)}
    assert {text.split()[0] for text in found} == names
    assert (found == []) == (one == other)

"""Unloading before the first job, the reserve, and what a language model costs, in the window."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.advice import AdviceDesk
from app.controller import Controller
from app.forecasts import Forecasts
from app.memory import MemoryDesk
from app.unloading import FirstUnload
from app.window import MainWindow
from core import settings as settings_file
from core.events import Finished
from core.gpu.advice import Need
from core.gpu.llm_servers import LmStudio
from core.gpu.readings import DeviceReading, Reading
from core.jobs import Job
from core.statistics.baseline import Usual
from core.statistics.contention import Cost
from tests.app.test_advice import GB, TOLD, WAN, Card
from tests.app.test_forecasts import SMALL, past, reading, say
from tests.core import web_servers as bad
from tests.core.web_servers import Server, serving
from widgets.reserve import ReserveDialog

QUICK = {"prompt": "x", "width": 64, "height": 64, "frames": 8, "steps": 2, "step_seconds": 0.01}


class Bench:
    """The window with readings of a card whose LM Studio can be unloaded over HTTP."""

    def __init__(self, window: MainWindow, card: Card, server: Server, qtbot: Any) -> None:
        assert window.controller is not None
        self.window, self.card, self.server, self.qtbot = window, card, server, qtbot
        self.controller: Controller = window.controller
        self.advice: AdviceDesk = _child(window, AdviceDesk)
        self.first: FirstUnload = _child(window, FirstUnload)
        self.advice._servers = lambda *_: LmStudio(server.url, timeout_seconds=0.5)
        # What the form holds is said by the tests.
        _child(window, Forecasts).need.disconnect(self.advice.set_need)
        self.needs: dict[str, tuple[bool, Need | None]] = {}
        self.first._need_of = lambda job: self.needs.get(job.title, (True, WAN))
        self.began: list[tuple[str, bool]] = []
        self.ended: list[str] = []
        self.controller.job_began.connect(
            lambda job: self.began.append((job.title, card.unloaded.is_set()))
        )
        self.controller.job_ended.connect(self._on_ended)

    def _on_ended(self, job: Job, ending: object) -> None:
        assert isinstance(ending, Finished), ending
        self.ended.append(job.title)

    def read(self, **changed: Any) -> None:
        self.controller.reading.emit(replace(self.card.read(), **changed))

    def add(self, *titles: str) -> None:
        for title in titles:
            self.controller.add("test-pattern", QUICK | {"prompt": title})

    def wait(self, until: Any, read: bool = True) -> None:
        def look() -> bool:
            if read:
                self.read()
            return bool(until())

        self.qtbot.waitUntil(look, timeout=20_000)

    @property
    def posts(self) -> int:
        return sum(asked[0] == "POST" for asked in self.server.asked)


def _child(window: MainWindow, kind: type[Any]) -> Any:
    found = window.findChild(kind)
    assert found is not None
    return found


@pytest.fixture
def bench(window: MainWindow, tmp_path: Path, qtbot: Any) -> Iterator[Bench]:
    card = Card(tmp_path)
    with serving(card.answers) as server:
        yield Bench(window, card, server, qtbot)


def always(bench: Bench) -> None:
    dict(bench.window.menus.unload_first)["always"].trigger()


def test_it_asks_unless_told_otherwise(bench: Bench) -> None:
    values = {value: action.isChecked() for value, action in bench.window.menus.unload_first}
    assert values == {"ask": True, "always": False}
    bench.read()
    bench.add("a")
    bench.wait(lambda: bench.ended == ["a"])
    assert bench.posts == 0


def test_the_first_job_of_a_run_waits_for_the_memory(bench: Bench) -> None:
    always(bench)
    bench.read()
    bench.add("a", "b", "c")
    notice = bench.window.panels.notice
    assert notice.text() == "Unloading the model of LM Studio before “a” begins …"
    assert bench.controller.running is None
    bench.wait(lambda: bench.began)
    # Confirmed by readings before the job began, and told.
    assert bench.began == [("a", True)]
    told = notice.text()
    assert told.startswith("LM Studio unloaded before “a” begins: 5.2 GB freed in ")
    # Loaded again between two jobs of the run: nobody unloads it there.
    bench.card.unloaded.clear()
    bench.card.names = ["qwen"]
    bench.wait(lambda: bench.ended == ["a", "b", "c"])
    assert bench.posts == 1
    # The queue was idle since: another run of jobs.
    bench.wait(lambda: bench.controller.running is None)
    bench.add("d")
    bench.wait(lambda: bench.ended[-1] == "d")
    assert bench.began[-1] == ("d", True)
    assert bench.posts == 2


def test_a_job_that_fits_anyway_leaves_the_model_alone(bench: Bench) -> None:
    always(bench)
    small = Need("x", 2 * GB, 2 * GB, 2 * GB)
    bench.needs = {"small": (True, small), "unknown": (True, None)}
    bench.read()
    bench.add("small")
    assert bench.controller.running is not None
    bench.wait(lambda: bench.ended == ["small"])
    bench.wait(lambda: bench.controller.running is None)
    bench.add("unknown")
    bench.wait(lambda: bench.ended == ["small", "unknown"])
    assert bench.posts == 0


def test_what_is_not_asked_for_on_this_machine_waits_for_nothing(bench: Bench) -> None:
    always(bench)
    bench.first.elsewhere = lambda _: True
    bench.read()
    bench.add("a")
    assert bench.controller.running is not None
    bench.wait(lambda: bench.ended == ["a"])
    # Nobody stands behind the programs of a trace.
    bench.first.elsewhere = lambda _: False
    bench.wait(lambda: bench.controller.running is None, read=False)
    bench.read(driver="simulated")
    bench.add("b")
    assert bench.controller.running is not None
    bench.wait(lambda: bench.ended == ["a", "b"], read=False)
    assert bench.posts == 0


def test_a_job_waits_for_a_reading_and_for_what_it_takes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    always(bench)
    bench.needs = {"a": (False, None)}
    bench.add("a")
    assert bench.controller.running is None
    bench.read()
    assert bench.controller.running is None
    bench.needs = {}
    bench.wait(lambda: bench.ended == ["a"])
    assert bench.began == [("a", True)]
    # But not for ever.
    monkeypatch.setattr("app.unloading.LOOK_SECONDS", 0.2)
    bench.needs = {"b": (False, None)}
    bench.wait(lambda: bench.controller.running is None)
    bench.add("b")
    bench.wait(lambda: bench.ended == ["a", "b"])
    assert bench.posts == 1


def test_a_server_that_fails_or_hangs_keeps_no_job_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    always(bench)
    bench.server.answers = {"/api/v1/models": bad.hang_up}
    bench.read()
    bench.add("a")
    bench.wait(lambda: bench.ended == ["a"])
    assert "cannot be asked" in bench.window.panels.notice.text()
    # It takes the request and gives nothing back.
    monkeypatch.setattr("app.unloading.HOLD_SECONDS", 0.5)
    bench.server.answers = bench.card.answers | {
        "/api/v1/models/unload": lambda handler: bad.send(handler, b"{}")
    }
    bench.wait(lambda: bench.controller.running is None)
    asked = time.monotonic()
    bench.add("b")
    bench.wait(lambda: len(bench.began) == 2)
    assert 0.4 < time.monotonic() - asked < 5
    assert bench.began[-1] == ("b", False)
    bench.wait(lambda: bench.ended == ["a", "b"])
    bench.advice.stop()


def test_a_held_job_can_be_taken_away_and_paused(bench: Bench) -> None:
    always(bench)
    bench.needs = dict.fromkeys("ab", (False, None))
    bench.read()
    bench.add("a")
    held = bench.controller.ledger.next_waiting()
    assert held is not None
    bench.controller.remove([held.id])
    bench.needs = {}
    bench.read()
    assert bench.controller.running is None
    assert bench.posts == 0
    bench.needs = {"b": (False, None)}
    bench.add("b")
    bench.controller.set_paused(True)
    bench.needs = {}
    bench.read()
    assert bench.controller.running is None
    assert bench.posts == 0
    bench.controller.set_paused(False)
    bench.wait(lambda: bench.ended == ["b"])
    assert bench.began == [("b", True)]


def test_the_choice_is_kept(bench: Bench) -> None:
    always(bench)
    bench.window.remember()
    kept, reset = settings_file.load(bench.window.settings_path)
    assert (kept.unload_first, reset) == ("always", [])
    dict(bench.window.menus.unload_first)["ask"].trigger()
    assert not bench.first.always
    assert bench.window.settings.unload_first == "ask"


# What it costs


def test_advice_says_what_was_measured_and_what_came_again(bench: Bench) -> None:
    notice = bench.window.panels.notice
    cost = Cost("LM Studio", round(5.2 * GB), Usual(370, 1, 3), Usual(221, 1, 3))
    handed: list[tuple[str, Any]] = []
    bench.advice.measure = lambda program, receive: handed.append((program, receive))
    bench.read()
    bench.advice.set_need(WAN)
    assert notice.text() == TOLD
    (asked,) = handed
    assert asked[0] == "LM Studio"
    asked[1](None)
    assert notice.text() == TOLD
    asked[1](cost)
    measured = "WAN took 6:10 with LM Studio holding 5.2 GB, 3:41 without (3 runs each)."
    how = "Run language models on the CPU: in LM Studio set GPU offload to 0."
    assert notice.text() == f"{TOLD} {measured} {how}"
    # Closed meanwhile: it does not come back by itself.
    notice.dismiss()
    asked[1](cost)
    assert notice.text() == ""
    # Unloaded, and loaded again.
    bench.advice.set_need(None)
    bench.advice.set_need(WAN)
    bench.advice._unload(LmStudio(bench.server.url), _advice(bench))
    bench.wait(lambda: "freed" in notice.text())
    bench.read()
    bench.card.unloaded.clear()
    bench.read()
    again = "LM Studio loaded a model again after it was unloaded."
    assert notice.text() == f"{TOLD} {again} {how}"


def _advice(bench: Bench) -> Any:
    from core.gpu.advice import advise

    found = advise(bench.card.read(), WAN)
    assert found is not None
    return found


def test_the_runs_compared_are_those_of_the_same_settings(bench: Bench, tmp_path: Path) -> None:
    window, controller = bench.window, bench.controller
    jobs = past(controller, tmp_path / "past", 6, growing=False)
    past(controller, tmp_path / "past", 3, values=SMALL | {"steps": 9}, growing=False)
    controller.reading.emit(reading())
    say(window, bench.qtbot, SMALL, "runs")
    desk = _child(window, MemoryDesk)
    assert sorted(desk._forecasts.alike()) == sorted(job.id for job in jobs)
    answers: list[Any] = []
    desk._measure("LM Studio", answers.append)
    # Nothing was recorded of them: nothing is said.
    bench.qtbot.waitUntil(lambda: answers == [None], timeout=10_000)


# The reserve


def test_the_reserve_counts_everywhere_and_is_kept(bench: Bench, tmp_path: Path) -> None:
    window, controller, qtbot = bench.window, bench.controller, bench.qtbot
    past(controller, tmp_path / "past", 30)
    controller.reading.emit(reading(used=4))
    assert "of 20.0 GB free" in say(window, qtbot, SMALL, "Fits this card")
    window.menus.reserve.trigger()
    dialog = _child(window, ReserveDialog)
    assert dialog.gigabytes.text() == "0.0 GB"
    # Style sheets can leave a spin box's text a pixel to stand in.
    assert dialog.gigabytes.lineEdit().width() > 100
    assert dialog.gigabytes.maximum() == 24.0
    dialog.gigabytes.setValue(3.0)
    dialog.accept()
    box, timeline = window.panels.compose.forecast, window.panels.timeline
    assert "of 17.0 GB free · 3.0 GB kept free" in box.words()
    assert timeline._past.reserve_bytes == 3 * GB
    timeline.reserve_wanted.emit()
    again = next(d for d in window.findChildren(ReserveDialog) if d.isVisible())
    assert again.gigabytes.value() == 3.0
    again.gigabytes.setValue(10.0)
    again.accept()
    assert "Will not fit now" in box.words() or "Tight" in box.words()
    controller.reading.emit(reading(used=0.5, total=16))
    # 11 GB are wanted of 16 less 10.
    assert "Will not fit this card" in box.words()
    window.remember()
    kept, reset = settings_file.load(window.settings_path)
    assert (kept.reserve_gb, reset) == (10.0, [])
    again.reject()
    assert window.settings.reserve_gb == 10.0


def test_the_reserve_counts_in_the_advice(bench: Bench) -> None:
    notice = bench.window.panels.notice
    bench.card.unloaded.set()
    bench.read()
    bench.advice.set_need(Need("WAN", 12.9 * GB, 12.9 * GB, 12.9 * GB))
    assert notice.text() == ""
    bench.advice.set_reserve(3 * GB)
    bench.card.unloaded.clear()
    bench.read()
    assert notice.text() == (
        "LM Studio holds 5.2 GB while WAN needs 12.9 of 16 GB, 3 GB of it to be kept free: "
        "unload its model. 0.5 GB would still be missing at worst."
    )
    bench.advice.set_reserve(6 * GB)
    assert "has 10 GB with nothing else on it beside the 6 GB to be kept free" in notice.text()
    bench.advice.set_reserve(0)
    assert "kept free" not in notice.text()


def test_a_machine_without_a_gpu_can_keep_a_reserve_too(bench: Bench) -> None:
    system = reading().system
    bench.controller.reading.emit(Reading(time.monotonic(), (), system, None))
    dialog = _child(bench.window, MemoryDesk).ask_reserve()
    assert dialog.gigabytes.maximum() == settings_file.MOST_RESERVE_GB
    dialog.gigabytes.setValue(2.0)
    dialog.accept()
    unknown = DeviceReading(0, "card", None, None, None, None, None, None)
    bench.controller.reading.emit(Reading(time.monotonic(), (unknown,), system, "1"))
    assert bench.window.settings.reserve_gb == 2.0

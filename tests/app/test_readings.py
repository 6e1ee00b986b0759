"""How long readings are kept, chosen by a person and obeyed at once; cards told apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.dialogs import show_readings
from app.window import MainWindow
from core import settings as settings_file
from core.engines.local import machine
from core.recorder.keep import Limits
from core.recorder.recorder import Recorder
from core.statistics import baseline
from core.statistics.facts import with_facts
from core.statistics.runs import Asked, Run
from tests.core.recording import reading

ASKED = Asked("starter", "animatediff", "m", 512, 512, 16, 24)


def test_the_dialog_changes_what_is_kept(window: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    controller: Any = window.controller
    recorder = Recorder(controller.ledger.store.path)
    chosen: list[Limits] = []
    dialog = show_readings(window, controller, chosen.append)
    qtbot.waitUntil(lambda: dialog.told.text() == "nothing yet", timeout=10_000)
    assert (dialog.days.value(), dialog.gigabytes.value()) == (30.0, 2.0)
    dialog.days.setValue(7)
    dialog.gigabytes.setValue(0.5)
    dialog.accept()
    assert chosen == [Limits(7.0, 0.5)]
    window.remember()
    kept, bad = settings_file.load(window.settings_path)
    assert (kept.readings_days, kept.readings_gigabytes, bad) == (7.0, 0.5, [])
    # What the recorder does with it: a week-old reading goes at its next step.
    from core.ledger.store import join_store

    store = join_store(controller.ledger.store.path)
    try:
        for number in range(3):
            recorder._inbox.append((1_000_000.0 + number, reading(1000.0 + number, 4000)))
        recorder._limits = Limits(1e9, 100.0)
        recorder.set_busy(True)
        recorder.set_busy(False)
        list(recorder.step(store))
        assert store.read("SELECT count(*) FROM readings")[0][0] > 0
        again = show_readings(window, controller, chosen.append)
        qtbot.waitUntil(lambda: "since 1970-01-12" in again.told.text(), timeout=10_000)
        again.reject()
        recorder.set_limits(chosen[0])
        list(recorder.step(store))
        assert store.read("SELECT count(*) FROM readings")[0][0] == 0
    finally:
        store.close()
    assert len(chosen) == 1


def test_bad_choices_of_the_timeline_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"theme": "dark", "timeline": ["no"], "readings_days": 9}))
    kept, bad = settings_file.load(path)
    assert (kept.timeline, bad, kept.theme, kept.readings_days) == ({}, ["timeline"], "dark", 9)


@pytest.mark.parametrize(
    ("choices", "span", "axis"),
    [
        ({"version": 1, "axis": "power", "span": 600.0}, 600.0, "power"),
        ({"version": 1, "axis": "power", "span": "wide"}, 60.0, "power"),
        ({"version": 1, "axis": ["x"], "span": 600.0}, 600.0, ""),
        ({"version": 99, "axis": "power", "span": 600.0}, 60.0, ""),
        ({}, 60.0, ""),
    ],
)
def test_choices_come_back_each_by_itself(
    window: MainWindow, choices: dict[str, Any], span: float, axis: str
) -> None:
    from app.timeline_wiring import TimelineDesk

    desk = window.findChild(TimelineDesk)
    assert desk is not None
    desk.restore(choices)
    assert desk.choices() == {"version": 1, "axis": axis, "span": span}
    # What is chosen is in the settings at once, and soon in the file.
    window.panels.timeline.set_span(300.0)
    assert window.settings.timeline == {"version": 1, "axis": axis, "span": 300.0}


def test_two_cards_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = []
    for number, (gpu, driver) in enumerate((("RTX 3090", "570.1"), ("RTX 4090", "580.2"))):
        path = tmp_path / f"{number}.json"
        made = {"torch": "2.8", "driver": driver}
        path.write_text(json.dumps({"device": "cuda:0", "gpu": gpu, "made_with": made}))
        found = with_facts(Run(ASKED, 10.0 + number, 1e9, job_id=str(number)), str(path))
        assert found is not None
        runs.append(found)
    assert runs[0].gpu == "RTX 3090"
    compared = baseline.compare(runs[1], runs[:1])
    assert compared.runs == 0
    assert compared.differences == (
        "GPU RTX 4090 instead of RTX 3090",
        "driver version 580.2 instead of 570.1",
    )


def test_the_worker_names_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "gpu" not in machine.facts()  # Nothing was computed on one here.
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        current_device=lambda: 1,
        get_device_name=lambda index: f"NVIDIA Card {index}",
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, __version__="2.8"))
    monkeypatch.setattr(machine, "driver", lambda: "580.2")
    told = machine.facts()
    assert told["gpu"] == "NVIDIA Card 1"
    assert told["made_with"]["driver"] == "580.2"
    assert told["made_with"]["torch"] == "2.8"

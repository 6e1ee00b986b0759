"""`framedeck doctor`, and the dialog that shows the same."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

import app.doctor_cli
import app.doctor_facts
import core.doctor.run
from app.doctor import DoctorDesk
from app.engine_setup import EngineDesk
from app.helping import HelpDesk
from app.main import main
from app.window import MainWindow
from core.doctor import media
from core.doctor.findings import Finding, Looking, Repair, State
from core.ledger import Ledger
from core.places import Places
from core.settings import Settings, save
from tests.core.doctor_scripts import real
from widgets.doctor import DoctorDialog
from widgets.problem_report import ReportDialog

ROOT = Path(__file__).resolve().parents[2]
FOUND = (
    Looking("Framedeck"),
    Finding("versions", "Framedeck", State.OK, "All of one piece."),
    Looking("Starter clip: half", 0.5),
    Finding("keyring", "Keyring", State.NOTE, "There is none.", "Set one up."),
    Finding("torch", "torch and CUDA", State.BROKEN, "Built for CUDA 13.0, driver speaks 12.8.",
            "Take the build cu128.", Repair("switch", "cu128")),
    Finding("space.data", "Room: data folder", State.WARNING,
            f"{Path.home()}/x has 1 GB.", "Delete."),
)  # fmt: skip


def doctor(home: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "app", "doctor", "--home", str(home), *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1"}, **more,
    )  # fmt: skip


# ---- the command ---------------------------------------------------------------


def test_the_starter_clip_is_made_verified_and_judged(tmp_path: Path) -> None:
    *meanwhile, told = media.clip(real(tmp_path))
    assert isinstance(told, Finding)
    assert told.state is State.OK, told
    assert "verified and judged" in told.text
    shares = [one.share for one in meanwhile if isinstance(one, Looking)]
    assert len(shares) > 8
    assert shares == sorted(shares, key=lambda share: share or 0.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("bad", "code"), [(True, 1), (False, 0)])
def test_one_document_of_json(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bad: bool,
    code: int,
) -> None:
    items = FOUND if bad else FOUND[:4]
    monkeypatch.setattr(app.doctor_cli, "examine", lambda *_, **__: iter(items))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(["doctor", "--json", "--home", str(tmp_path)]) == code
    out, said = capsys.readouterr()
    document = json.loads(out)
    assert (document["schema_version"], document["quick"]) == (1, False)
    found = {one["id"]: one for one in document["findings"]}
    assert found["keyring"]["fix"] == "Set one up."
    if bad:
        assert found["torch"]["repair"] == {"action": "switch", "tag": "cu128"}
        assert found["space.data"]["text"] == "~/x has 1 GB."
    assert said == ""


def test_a_quick_look_at_a_damaged_list_is_broken_and_printed_plainly(tmp_path: Path) -> None:
    places = Places.find(tmp_path).make()
    Ledger.open(places.ledger).close()
    data = bytearray(places.ledger.read_bytes())
    data[4096:12288] = os.urandom(8192)
    places.ledger.write_bytes(data)
    child = doctor(tmp_path, "--quick")
    out, said = child.communicate(timeout=120)
    assert child.returncode == 1, out + said
    assert "\x1b" not in out + said
    assert re.search(r"^broken +List of jobs", out, re.MULTILINE)
    assert "→ Close Framedeck and start it again" in out
    assert "Starter clip" not in out
    assert places.ledger.read_bytes() == bytes(data)


def test_bad_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--fast"])
    assert ended.value.code == 2
    assert "--fast" in capsys.readouterr().err


def test_an_interrupt_ends_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    settings = Settings(interpreter=str(_hanging(tmp_path)))
    save(Places.find(tmp_path).make().settings, settings)
    child = doctor(tmp_path)
    assert child.stdout is not None
    assert "Framedeck" in child.stdout.readline()
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=20)
    assert child.returncode == 130
    assert "Stopped." in said
    assert time.monotonic() - began < 10


def _hanging(folder: Path) -> Path:
    path = folder / "python"
    path.write_text("#!/bin/sh\nexec sleep 600\n")
    path.chmod(0o755)
    return path


def test_hosts_of_servers_are_nobodys_business() -> None:
    settings = Settings(servers=[{"base": "http://atelier.example.org:8188"}])
    private = app.doctor_facts.scrubber(settings)
    left = private.clean("ComfyUI atelier.example.org:8188 is away")
    assert "atelier" not in left
    assert "is away" in left


# ---- the dialog ----------------------------------------------------------------


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let the doctor find what `found` holds; "hold" keeps it looking until it is stopped."""
    told: dict[str, Any] = {"found": FOUND, "hold": False, "quick": []}

    def examine(context: Any, *, quick: bool = False) -> Iterator[Finding | Looking]:
        told["quick"].append(quick)
        yield from told["found"]
        while told["hold"] and not context.stopped():
            time.sleep(0.01)

    monkeypatch.setattr(core.doctor.run, "examine", examine)
    return told


def opened(window: MainWindow) -> DoctorDialog:
    window.menus.doctor.trigger()
    dialog = window.findChild(DoctorDialog)
    assert isinstance(dialog, DoctorDialog)
    return dialog


def desk(window: MainWindow) -> DoctorDesk:
    found = window.findChild(DoctorDesk)
    assert isinstance(found, DoctorDesk)
    return found


def states(dialog: DoctorDialog) -> list[State]:
    return [row.finding.state for row in dialog.rows()]


def test_findings_come_in_and_end_with_the_worst_first(
    window: MainWindow, qtbot: Any, given: dict[str, Any]
) -> None:
    given["hold"] = True
    dialog = opened(window)
    qtbot.waitUntil(lambda: len(dialog.rows()) == 4)
    assert states(dialog) == [State.OK, State.NOTE, State.BROKEN, State.WARNING]
    assert dialog.doing.text() == "Starter clip: half"
    assert dialog.bar.value() == 50
    assert dialog.stop.isVisible()
    assert not dialog.copy.isVisible()
    assert not dialog.again.isEnabled()
    given["hold"] = False
    qtbot.waitUntil(lambda: not dialog.running)
    assert states(dialog) == [State.BROKEN, State.WARNING, State.NOTE, State.OK]
    assert "1 broken and 1 warning" in dialog.verdict.text()
    assert dialog.verdict.property("tone") == "danger"
    assert "Take the build cu128" in dialog.rows()[0].accessibleName()
    dialog.close()


def test_cancel_and_escape_stop_it_and_a_second_escape_closes(
    window: MainWindow, qtbot: Any, given: dict[str, Any]
) -> None:
    given["hold"] = True
    dialog = opened(window)
    qtbot.waitUntil(lambda: len(dialog.rows()) == 4)
    qtbot.mouseClick(dialog.stop, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not dialog.running)
    assert dialog.verdict.text().startswith("Stopped.")
    dialog.again.click()
    qtbot.waitUntil(lambda: dialog.running and len(dialog.rows()) == 4)
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: not dialog.running)
    assert dialog.isVisible()
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: window.findChild(DoctorDialog) is None)


def test_closing_the_dialog_stops_the_looking(
    window: MainWindow, qtbot: Any, given: dict[str, Any]
) -> None:
    given["hold"] = True
    dialog = opened(window)
    qtbot.waitUntil(lambda: len(dialog.rows()) == 4)
    dialog.close()
    qtbot.waitUntil(lambda: not window.controller._tasks)  # type: ignore[union-attr]
    assert opened(window) is not dialog


def test_the_end_of_the_program_does_not_wait_for_it(
    window: MainWindow, qtbot: Any, given: dict[str, Any]
) -> None:
    given["hold"] = True
    dialog = opened(window)
    qtbot.waitUntil(lambda: len(dialog.rows()) == 4)
    assert window.controller is not None
    assert window.controller.close()


def test_run_again_with_and_without_the_clip(
    window: MainWindow, qtbot: Any, given: dict[str, Any]
) -> None:
    dialog = opened(window)
    qtbot.waitUntil(lambda: not dialog.running and len(dialog.rows()) == 4)
    dialog.with_clip.setChecked(False)
    dialog.again.click()
    qtbot.waitUntil(lambda: len(given["quick"]) == 2 and not dialog.running)
    assert given["quick"] == [False, True]
    assert len(dialog.rows()) == 4
    dialog.close()


@pytest.mark.qt_log_ignore("does not support raise", extend=True)
def test_the_menu_brings_the_open_one_up(
    window: MainWindow, qtbot: Any, given: dict[str, Any]
) -> None:
    dialog = opened(window)
    qtbot.waitUntil(lambda: not dialog.running)
    assert opened(window) is dialog
    assert given["quick"] == [False]
    dialog.close()


def test_the_report_is_copied_and_saved_with_nothing_private(
    window: MainWindow, qtbot: Any, given: dict[str, Any], tmp_path: Path
) -> None:
    dialog = opened(window)
    qtbot.waitUntil(lambda: not dialog.running)
    dialog.copy.click()
    text = QGuiApplication.clipboard().text()
    assert "~/x has 1 GB." in text
    assert f"{Path.home()}/" not in text
    assert dialog.copy.text() == "Copied"
    desk(window).save_report(tmp_path / "report.txt")
    assert (tmp_path / "report.txt").read_text(encoding="utf-8") == text
    assert "Saved" in shown(window)
    desk(window).save_report(tmp_path / "none" / "report.txt")
    assert "Saved" not in shown(window)
    dialog.close()


def test_a_repair_is_handed_on(window: MainWindow, qtbot: Any, given: dict[str, Any]) -> None:
    dialog = opened(window)
    qtbot.waitUntil(lambda: not dialog.running)
    button = dialog.rows()[0].button
    assert button is not None
    assert button.text() == "Switch to cu128…"
    done: list[Repair] = []
    desk(window).repair = done.append
    button.click()
    assert done == [Repair("switch", "cu128")]
    dialog.close()


@pytest.mark.qt_log_ignore("does not support raise", extend=True)
def test_a_repair_opens_the_set_up_with_its_build_chosen(
    window: MainWindow, qtbot: Any, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMEDECK_ENGINE", "managed")
    monkeypatch.setattr("core.engine_env.locks.locked", lambda *_: ("cpu", "cu126", "cu128"))
    engine = window.findChild(EngineDesk)
    assert isinstance(engine, EngineDesk)
    helping = window.findChild(HelpDesk)
    assert isinstance(helping, HelpDesk)
    engine.join(helping, desk(window))
    dialog = opened(window)
    qtbot.waitUntil(lambda: not dialog.running)
    button = dialog.rows()[0].button
    assert button is not None
    button.click()
    assert engine.dialog is not None
    assert engine.dialog.isVisible()
    assert engine.dialog.builds.currentData() == "cu128"
    desk(window)._on_repair(Repair("reinstall"))
    assert engine.dialog.builds.currentData() == ""
    engine.dialog.close()
    dialog.close()
    qtbot.waitUntil(lambda: not window.controller._tasks)  # type: ignore[union-attr]


def test_a_new_engine_is_looked_at_once(
    window: MainWindow, qtbot: Any, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = window.findChild(EngineDesk)
    assert isinstance(engine, EngineDesk)
    engine.changed.emit()
    assert given["quick"] == []
    monkeypatch.setattr("core.engine_env.engine_python", lambda *_: "/engine/cpu-1/bin/python")
    engine.changed.emit()
    engine.changed.emit()
    qtbot.waitUntil(lambda: "torch and CUDA: Built for" in shown(window))
    assert given["quick"] == [True]


def test_the_report_of_a_problem_takes_the_findings_along(
    window: MainWindow, qtbot: Any, given: dict[str, Any]
) -> None:
    window.menus.report.trigger()
    dialog = window.findChild(ReportDialog)
    assert isinstance(dialog, ReportDialog)
    qtbot.waitUntil(lambda: "doctor.txt" in [part.name for part in dialog.wanted()])
    text = next(part.text for part in dialog.wanted() if part.name == "doctor.txt")
    assert "broken   torch and CUDA" in text
    assert "~/x" in text
    assert given["quick"] == [True]
    dialog.close()


def test_after_an_installation_only_what_is_amiss_is_told(
    window: MainWindow, qtbot: Any, given: dict[str, Any]
) -> None:
    given["found"] = FOUND[:4]
    desk(window).look_quietly()
    qtbot.waitUntil(lambda: given["quick"] == [True] and not window.controller._tasks)  # type: ignore[union-attr]
    QApplication.processEvents()
    assert window.findChild(DoctorDialog) is None
    assert "Keyring" not in shown(window)
    given["found"] = FOUND
    desk(window).look_quietly()
    qtbot.waitUntil(lambda: "torch and CUDA: Built for CUDA 13.0" in shown(window))
    assert "And 1 more." in shown(window)


def shown(window: MainWindow) -> str:
    """Return the words of the notice."""
    from PySide6.QtWidgets import QLabel

    return " ".join(label.text() for label in window.panels.notice.findChildren(QLabel))


def test_narrow_and_with_the_longest_words_nothing_is_cut(
    qtbot: Any, given: dict[str, Any]
) -> None:
    dialog = DoctorDialog()
    qtbot.addWidget(dialog)
    dialog.resize(480, 400)
    dialog.begin()
    long = "word " * 120
    dialog.add(Finding("x", "Title " * 20, State.BROKEN, long, long, Repair("reinstall")))
    dialog.finish()
    dialog.show()
    qtbot.waitExposed(dialog)
    row = dialog.rows()[0]
    assert row.width() <= dialog.scroll.viewport().width()
    assert row.height() > 200
    assert row.button is not None
    assert row.button.geometry().right() <= row.width()

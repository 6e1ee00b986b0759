"""Import jobs: the dialog over a real file, a real queue and a real form."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QTimer, QUrl
from PySide6.QtGui import QDropEvent

from app.batch import BatchDesk
from app.window import MainWindow
from core.queue import Group
from widgets.batch import BatchDialog

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
TABLE = "prompt,seed,recipe\n" + "".join(f"kite {n},{n},test-pattern\n" for n in range(40))


@pytest.fixture
def paused(window: MainWindow) -> MainWindow:
    assert window.controller is not None
    window.controller.set_paused(True)
    return window


def dropped(window: Any, path: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    window.dropEvent(
        QDropEvent(
            QPointF(5, 5), Qt.DropAction.CopyAction, data,
            Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier,
        )
    )  # fmt: skip


def dialog_of(qtbot: Any, window: MainWindow) -> BatchDialog:
    qtbot.waitUntil(lambda: bool(window.findChildren(BatchDialog)), timeout=10_000)
    (dialog,) = window.findChildren(BatchDialog)
    return dialog


def ready(qtbot: Any, dialog: BatchDialog) -> None:
    qtbot.waitUntil(lambda: dialog.count.text() not in ("", "Reading…"), timeout=20_000)


def waiting(window: MainWindow) -> list[str]:
    controller = window.controller
    assert controller is not None
    rows = controller.ledger.rows(controller.ledger.ids(Group.WAITING))
    return [str(row.job.params.get("prompt")) for row in rows]


def test_a_dropped_table_is_shown_then_queued_and_undone_as_one(
    qtbot: Any, paused: MainWindow, tmp_path: Path
) -> None:
    controller = paused.controller
    assert controller is not None
    controller.add("test-pattern", {"prompt": "before"})
    file = tmp_path / "night.csv"
    file.write_text(TABLE.replace("kite 3,3,", "kite 3,three,").replace("kite 9,9,test", "a,9,x"))
    dropped(paused, file)
    dialog = dialog_of(qtbot, paused)
    ready(qtbot, dialog)
    assert dialog.add.text() == "&Add 38 jobs"
    assert dialog.count.text().endswith("2 rows have a problem and are left out")
    assert dialog.told.text().startswith("night.csv, row 5: Seed is not a whole number: 'three'.")
    cells = [dialog.view.model().index(3, n).data() for n in range(4)]
    assert cells[0] == "✕ 5"
    assert cells[3] == "Seed is not a whole number: 'three'."
    assert waiting(paused) == ["before"]  # Nothing is queued by looking.
    dialog.only_bad.setChecked(True)
    shown = dialog.view.model()
    assert [shown.index(n, 0).data() for n in range(shown.rowCount())] == ["✕ 5", "✕ 11"]
    dialog.add.click()
    qtbot.waitUntil(lambda: len(waiting(paused)) == 39, timeout=10_000)
    expected = [f"kite {n}" for n in range(40) if n not in (3, 9)]
    assert waiting(paused) == ["before", *expected]
    qtbot.waitUntil(lambda: paused.menus.undo.text() == "&Undo the import", timeout=5_000)
    paused.menus.undo.trigger()
    assert waiting(paused) == ["before"]
    assert paused.menus.undo.text() == "&Undo adding 1 job", "the one before; the import is over"


def test_other_values_come_from_the_form_unless_unticked(
    qtbot: Any, paused: MainWindow, tmp_path: Path
) -> None:
    compose = paused.panels.compose
    compose.load("test-pattern", {"prompt": "of the form", "steps": 9, "width": 128})
    file = tmp_path / "p.csv"
    file.write_text("prompt,width\nkite,\n,64\n")
    paused.menus.import_jobs.trigger()
    dialog = dialog_of(qtbot, paused)
    assert not dialog.add.isEnabled()
    dialog.take([file])
    ready(qtbot, dialog)
    taken: list[Any] = []
    dialog.add_requested.connect(taken.append)
    assert dialog.recipe.currentData() == "test-pattern"
    dialog.as_form.setChecked(False)
    dialog.as_form.setChecked(True)  # Only what was asked for last is shown.
    ready(qtbot, dialog)
    dialog.add.click()
    got = [(j.params["prompt"], j.params["steps"], j.params["width"]) for j in taken[0]]
    assert got == [("kite", 9, 128), ("of the form", 9, 64)]
    qtbot.waitUntil(lambda: len(waiting(paused)) == 2, timeout=10_000)


def test_a_folder_of_pictures_is_told_from_a_model(
    qtbot: Any, paused: MainWindow, tmp_path: Path
) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    for name in ("b.png", "a.png"):
        (folder / name).write_bytes(PNG)
    dropped(paused, folder)
    dialog = dialog_of(qtbot, paused)
    ready(qtbot, dialog)
    # No recipe of this machine takes a picture: each row says so, and none can be added.
    assert not dialog.add.isEnabled()
    assert dialog.view.model().index(0, 3).data().endswith("takes no picture.")
    dialog.reject()
    qtbot.waitUntil(lambda: not paused.findChildren(BatchDialog), timeout=5_000)
    (tmp_path / "empty").mkdir()
    notice = paused.panels.notice
    dropped(paused, tmp_path / "empty")
    qtbot.waitUntil(notice.isVisible, timeout=10_000)
    assert not paused.findChildren(BatchDialog)


def test_a_file_that_cannot_be_read_is_told_in_the_dialog(
    qtbot: Any, paused: MainWindow, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(b"prompt\n\xff\xff\n")
    dropped(paused, tmp_path / "a.csv")
    dialog = dialog_of(qtbot, paused)
    qtbot.waitUntil(lambda: bool(dialog.told.text()), timeout=10_000)
    assert dialog.told.text().startswith("a.csv, line 2, is not UTF-8 text.")
    assert not dialog.add.isEnabled()
    dialog.reject()


def test_five_thousand_rows_leave_the_window_answering(
    qtbot: Any, paused: MainWindow, tmp_path: Path
) -> None:
    file = tmp_path / "big.csv"
    file.write_text("prompt,seed\n" + "".join(f"kite number {n},{n}\n" for n in range(5000)))
    desk = paused.findChildren(BatchDesk)[0]
    paused.panels.compose.load("test-pattern", {})
    # The window's own work: what else keeps the cores busy is not its doing.
    beats = [time.thread_time()]
    beat = QTimer(interval=5)
    beat.timeout.connect(lambda: beats.append(time.thread_time()))
    dialog = desk.open([])
    qtbot.wait(300)
    beats[:] = [time.thread_time()]
    beat.start()
    dialog.take([file])
    ready(qtbot, dialog)
    assert dialog.add.text() == "&Add 5,000 jobs"
    dialog.add.click()
    qtbot.waitUntil(
        lambda: len(paused.controller.ledger.ids(Group.WAITING)) == 5000, timeout=20_000
    )  # type: ignore[union-attr]
    qtbot.waitUntil(lambda: paused.menus.undo.isEnabled(), timeout=5_000)
    beat.stop()
    gaps = [later - sooner for sooner, later in pairwise(beats)]
    print(f"worst gap {max(gaps) * 1000:.0f} ms of {(beats[-1] - beats[0]) * 1000:.0f} ms")
    # Checking 5,000 rows alone takes 300 ms of one core; on the window's thread it would show.
    assert max(gaps) < 0.15
    started = time.perf_counter()
    paused.menus.undo.trigger()
    assert time.perf_counter() - started < 0.5
    assert waiting(paused) == []

"""The servers dock under fingers: keys, selection, log, form, empty state, both themes."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QApplication, QLabel, QPushButton, QWidget

from core.errors import invalid
from widgets import theme
from widgets.parts import ElidedLabel
from widgets.servers import ServerRow, ServersPanel
from widgets.servers_form import ArgumentHelp, ServerForm
from widgets.servers_log import MOST_LINES, LogLine, LogView

HERE = ServerRow(
    "http://127.0.0.1:8188",
    "ComfyUI :8188",
    "running 1, 2 waiting",
    "info",
    ("127.0.0.1:8188", "ComfyUI 0.3.64", "NVIDIA GeForce RTX 3090", "21.6 GB of 24.0 GB free"),
    foreign=("Runs “a lighthouse” of another client", "3rd in line: a prompt of another client"),
    can_stop=True,
    can_restart=True,
)
AWAY = ServerRow(
    "http://box:8188",
    "Big card",
    "offline",
    "muted",
    ("box:8188",),
    "It cannot be asked. Start it.",
)
LOCAL = replace(AWAY, base="http://127.0.0.1:8189", title="Second", trouble="", can_start=True)
HELPS = (ArgumentHelp("--lowvram", "Loads models in parts."), ArgumentHelp("--port 1", "Where."))


@pytest.fixture
def panel(qtbot) -> ServersPanel:
    made = ServersPanel()
    qtbot.addWidget(made)
    made.resize(390, 500)
    made.show()
    qtbot.waitExposed(made)
    qtbot.waitUntil(lambda: made._view is not None)
    return made


def heard(panel: ServersPanel) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    for name in ("start", "stop", "restart", "edit", "remove", "rescan"):
        signal = getattr(panel, f"{name}_requested")
        signal.connect(lambda base, name=name: told.append((name, base)))
    panel.add_requested.connect(lambda: told.append(("add", "")))
    panel.attach_requested.connect(lambda: told.append(("attach", "")))
    panel.log_wanted.connect(lambda base: told.append(("log", base)))
    return told


def shown(panel: ServersPanel) -> list[str]:
    return [
        each.text()
        for each in panel.view.list.findChildren(QLabel)
        if each.text() != "●" and each.isVisible()
    ]


def test_nothing_is_made_before_it_is_painted(qtbot) -> None:
    made = ServersPanel()
    qtbot.addWidget(made)
    made.set_rows([HERE])
    assert made._view is None
    made.show()
    qtbot.waitUntil(lambda: made._view is not None)
    assert made.view.list.count() == 1


def test_the_empty_dock_says_what_to_do(panel, qtbot) -> None:
    told = heard(panel)
    texts = [each.text() for each in panel.findChildren(QLabel) if each.isVisible()]
    assert "No ComfyUI server yet" in texts
    assert any("Add the address" in text for text in texts)
    buttons = [b for b in panel.view.findChildren(QPushButton) if b.isVisible() and b.isEnabled()]
    assert {"Add…", "Find running"} <= {b.text() for b in buttons}
    for button in buttons:
        if button.text() in ("Add…", "Find running") and button.parent() is not panel.view.bar:
            qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert told == [("add", ""), ("attach", "")]


def test_rows_tell_all_that_is_known(panel, qtbot) -> None:
    panel.set_rows([HERE, AWAY])
    qtbot.wait(50)
    assert shown(panel) == [
        "ComfyUI :8188", "running 1, 2 waiting", "127.0.0.1:8188 · ComfyUI 0.3.64",
        "NVIDIA GeForce RTX 3090 · 21.6 GB of 24.0 GB free",
        "Runs “a lighthouse” of another client", "3rd in line: a prompt of another client",
        "Big card", "offline", "box:8188", "It cannot be asked. Start it.",
    ]  # fmt: skip
    spoken = panel.view.list.item(0).data(Qt.ItemDataRole.AccessibleTextRole)
    assert spoken.startswith("ComfyUI :8188: running 1, 2 waiting. 127.0.0.1:8188.")
    assert "Of another client: Runs “a lighthouse” of another client." in spoken


def test_no_line_is_cut_at_any_width(panel, qtbot) -> None:
    panel.set_rows([HERE, AWAY, LOCAL, *(replace(LOCAL, base=f"x{n}") for n in range(6))])
    for width in (260, 308, 390, 700):
        panel.resize(width, 420)
        qtbot.wait(30)
        inside = panel.view.list.viewport().rect()
        for index in range(panel.view.list.count()):
            card = panel.view.list.itemWidget(panel.view.list.item(index))
            assert card.width() <= inside.width()
            assert card.height() >= card.layout().sizeHint().height()
            for line in card.findChildren(ElidedLabel):
                assert line.height() >= line.fontMetrics().height()
                assert card.rect().contains(line.geometry()), (width, line.text())


def test_rows_grow_and_shrink_and_keep_the_selection(panel, qtbot) -> None:
    panel.set_rows([HERE, AWAY])
    panel.view.select(AWAY.base)
    tall = panel.view.list.item(0).sizeHint().height()
    panel.set_rows([replace(HERE, foreign=(), facts=()), AWAY])
    assert panel.view.list.item(0).sizeHint().height() < tall
    assert panel.view.selected() == AWAY.base
    panel.set_rows([LOCAL, HERE, AWAY])
    assert panel.view.selected() == AWAY.base
    panel.set_rows([LOCAL, HERE])
    assert panel.view.selected() == LOCAL.base
    panel.set_rows([])
    assert panel.view.selected() == ""


def test_every_request_by_key(panel, qtbot) -> None:
    panel.set_rows([HERE, AWAY, LOCAL])
    told = heard(panel)
    view = panel.view
    panel.activateWindow()
    view.list.setFocus()
    qtbot.waitUntil(view.list.hasFocus)
    for key, modifier in (
        (Qt.Key.Key_Insert, Qt.KeyboardModifier.NoModifier),
        (Qt.Key.Key_R, Qt.KeyboardModifier.ControlModifier),
        (Qt.Key.Key_F2, Qt.KeyboardModifier.NoModifier),
        (Qt.Key.Key_F5, Qt.KeyboardModifier.NoModifier),
        (Qt.Key.Key_Down, Qt.KeyboardModifier.NoModifier),
        (Qt.Key.Key_Down, Qt.KeyboardModifier.NoModifier),
        (Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier),
        (Qt.Key.Key_Delete, Qt.KeyboardModifier.NoModifier),
        (Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier),
    ):
        qtbot.keyClick(view.list, key, modifier)
    assert told == [
        ("add", ""), ("restart", HERE.base), ("edit", HERE.base), ("rescan", HERE.base),
        ("start", LOCAL.base), ("remove", LOCAL.base), ("log", LOCAL.base),
    ]  # fmt: skip
    assert view.log.isVisible()
    qtbot.keyClick(view.log.search, Qt.Key.Key_Escape)
    assert not view.log.isVisible()
    assert told[-1] == ("log", "")


def test_what_cannot_be_done_is_not_offered(panel) -> None:
    panel.set_rows([HERE, AWAY, LOCAL])
    actions = panel.view.actions_by_name

    def offered() -> set[str]:
        names = ("start", "stop", "restart", "edit", "remove", "log")
        return {name for name in names if actions[name].isEnabled()}

    always = {"edit", "remove", "log"}
    for base, more in (
        (HERE.base, {"stop", "restart"}),
        (AWAY.base, set()),
        (LOCAL.base, {"start"}),
    ):
        panel.view.select(base)
        assert offered() == always | more
    panel.set_rows([])
    assert offered() == set()
    for action in actions.values():
        assert action.toolTip() != action.text()


def test_everything_has_a_name_and_takes_the_focus(panel) -> None:
    panel.set_rows([HERE])
    panel.view.show_log(HERE.base)
    for widget in (panel, panel.view.list, panel.view.bar, panel.view.log.search,
                   panel.view.log.text, panel.view.log.troubles):  # fmt: skip
        assert widget.accessibleName(), widget
    assert panel.view.log.text.accessibleName() == "Log of ComfyUI :8188"
    assert not panel.findChildren(QShortcut)
    keys = [a.shortcut() for a in panel.view.actions_by_name.values() if not a.shortcut().isEmpty()]
    assert len({key.toString() for key in keys}) == len(keys)
    assert QKeySequence("Ctrl+R") in keys


def test_words_of_a_server_are_no_markup(panel, qtbot) -> None:
    bad = "<img src='file:///etc/passwd'><h1>huge</h1>" * 4
    panel.set_rows([replace(HERE, title=bad, state=bad, facts=(bad,), trouble=bad, foreign=(bad,))])
    qtbot.wait(50)
    lines = panel.view.list.findChildren(ElidedLabel)
    assert len(lines) == 5
    for line in lines:
        assert line.textFormat() is Qt.TextFormat.PlainText
        assert line.toolTip().startswith("<span>&lt;img src")
        assert "<img" not in line.toolTip()


# -- the log ------------------------------------------------------------------


@pytest.fixture
def log(qtbot) -> LogView:
    made = LogView()
    qtbot.addWidget(made)
    made.resize(380, 260)
    made.begin("ComfyUI :8188")
    made.show()
    qtbot.waitExposed(made)
    return made


LINES = [
    LogLine("got prompt"),
    LogLine("UserWarning: old", "warning", "warning"),
    LogLine("CUDA out of memory", "danger", "out of memory"),
    LogLine("Prompt executed in 3 seconds"),
]


def test_troubles_can_be_shown_alone(log) -> None:
    log.add(LINES)
    assert log.troubles.text() == "1 error, 1 warning"
    log.troubles.setChecked(True)
    assert log.shown() == ["UserWarning: old", "CUDA out of memory"]
    log.add([LogLine("fine"), LogLine("Traceback", "danger", "error")])
    assert log.shown()[-1] == "Traceback"
    assert log.troubles.text() == "2 errors, 1 warning"
    log.troubles.setChecked(False)
    assert len(log.shown()) == 6


def test_troubles_have_the_theme_s_colours(log, qapp: QApplication) -> None:
    for mode in ("dark", "light"):
        theme.apply(qapp, mode)
        log.replace(LINES)
        document = log.text.document()
        for index, line in enumerate(LINES):
            colour = document.findBlockByNumber(index).begin().fragment().charFormat()
            wanted = theme.of(log).tone(line.tone) if line.tone else None
            if wanted:
                assert colour.foreground().color().name() == wanted


def test_the_search_goes_round(log, qtbot) -> None:
    log.add([LogLine(f"line {n} {'needle' if n % 10 == 0 else ''}") for n in range(50)])
    qtbot.keyClicks(log.search, "needle")
    assert log.found.text() == "5 found"

    def at() -> int:
        return log.text.textCursor().blockNumber()

    assert at() == 40
    qtbot.keyClick(log.search, Qt.Key.Key_Return)
    assert at() == 0
    qtbot.keyClick(log.search, Qt.Key.Key_Return)
    assert at() == 10
    qtbot.keyClick(log.search, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClick(log.search, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    assert at() == 40
    log.add([LogLine("one more needle")])
    assert log.found.text() == "6 found"
    log.search.setText("nowhere")
    assert log.found.text() == "0 found"


def test_it_follows_the_end_unless_somebody_reads(log) -> None:
    log.add([LogLine(str(n)) for n in range(200)])
    bar = log.text.verticalScrollBar()
    assert bar.value() == bar.maximum()
    bar.setValue(20)
    log.add([LogLine("new")])
    assert bar.value() == 20


def test_a_long_log_is_bounded_and_quick(log) -> None:
    lines = [LogLine(f"a line of usual length, number {n}") for n in range(2_000)]
    began = perf_counter()
    log.add(lines)
    took = perf_counter() - began
    for _ in range(4):
        log.add(lines)
    assert len(log.lines()) == MOST_LINES
    assert len(log.shown()) == MOST_LINES
    assert took < 0.5


# -- the form -----------------------------------------------------------------


@pytest.fixture
def form(qtbot) -> ServerForm:
    window = QWidget()
    qtbot.addWidget(window)
    window.resize(1100, 700)
    window.show()
    made = ServerForm({}, HELPS, window)
    made.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    made.kept = window  # Else Python lets it go, and the form with it.
    made.open()
    qtbot.waitExposed(made)
    return made


def test_the_form_fits_a_small_window_and_names_its_fields(form) -> None:
    assert form.height() <= 660
    for field in (form.base, form.title, form.folder, form.python, form.arguments, form.shared):
        assert field.accessibleName()
        assert field.focusPolicy() & Qt.FocusPolicy.TabFocus
    assert form.help.accessibleName()


def test_an_argument_of_the_table_is_taken_over_once(form, qtbot) -> None:
    form.help.setCurrentCell(0, 0)
    qtbot.keyClick(form.help, Qt.Key.Key_Return)
    qtbot.keyClick(form.help, Qt.Key.Key_Return)
    form.help.setCurrentCell(1, 0)
    qtbot.keyClick(form.help, Qt.Key.Key_Return)
    assert form.arguments.text() == "--lowvram --port 1"
    assert form.isVisible()


def test_a_problem_stands_at_its_field_until_it_is_changed(form, qtbot) -> None:
    form.show_problem(invalid("python", "No Python.", "Choose one.").problem)
    assert form.error() == "No Python. Choose one."
    assert form.python.property("invalid") is True
    assert form.python.accessibleDescription() == "No Python. Choose one."
    assert form.save.text() == "Add"
    qtbot.keyClicks(form.python, "/x")
    assert form.error() == ""
    assert form.python.property("invalid") is False
    form.show_problem(invalid("base", "It is silent.", "Wait.").problem, anyway=True)
    saved: list[tuple[dict[str, object], bool]] = []
    form.saved.connect(lambda values, anyway: saved.append((values, anyway)))
    assert form.save.text() == "Save anyway"
    form.save.click()
    assert saved[0][1] is True
    assert saved[0][0]["python"] == "/x"


def test_folders_that_were_found_are_offered_and_nothing_typed_is_lost(form, qtbot) -> None:
    asked: list[str] = []
    form.folder_chosen.connect(asked.append)
    form.folder.setEditText("/typed")
    form.offer_folders(["/home/me/ComfyUI", "/opt/ComfyUI"])
    assert form.values()["folder"] == "/typed"
    assert form.folder.count() == 2
    form.folder.setCurrentIndex(1)
    qtbot.waitUntil(lambda: asked[-1:] == ["/opt/ComfyUI"])
    form.offer_python("/opt/ComfyUI/venv/bin/python")
    assert form.python.placeholderText() == "/opt/ComfyUI/venv/bin/python"

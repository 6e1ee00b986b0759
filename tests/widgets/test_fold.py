"""Fields for memory: out of the way until they are wanted or hold something."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from core.engines.local import offload
from core.jobs import Kind, Parameter, Recipe
from widgets.compose import ComposePanel
from widgets.fold import Fold

RECIPE = Recipe(
    id="one", title="One", summary="", engine="local", family="x",
    parameters=(
        Parameter("prompt", Kind.TEXT, "Prompt", "", maximum=100, required=True),
        Parameter("seed", Kind.SEED, "Seed", None, 0, 9, group="method"),
        *offload.parameters(),
    ),
)  # fmt: skip
OTHER = replace(RECIPE, id="two", title="Two", parameters=RECIPE.parameters[:2])


@pytest.fixture
def panel(qtbot: Any) -> ComposePanel:
    made = ComposePanel([RECIPE, OTHER])
    qtbot.addWidget(made)
    made.resize(315, 800)
    made.show()
    made.activateWindow()
    qtbot.waitExposed(made)
    return made


def fold(panel: ComposePanel) -> Fold:
    [found] = panel._body._folds.values()
    return found


def test_it_opens_by_key_and_by_what_is_put_into_it(panel: ComposePanel, qtbot: Any) -> None:
    names = ("decode_chunk", "offload", "tiling", "precision")
    assert not any(panel._fields[name].isVisible() for name in names)
    assert (fold(panel).button.text(), fold(panel).button.accessibleName()) == (
        "Memory ▸", "Memory",
    )  # fmt: skip
    panel._fields["seed"].editor.setFocus()
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    assert QApplication.focusWidget() is fold(panel).button
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Space)
    assert all(panel._fields[name].isVisible() for name in names)
    for name in names:
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        assert QApplication.focusWidget() is panel._fields[name].editor
    fold(panel).button.click()
    assert fold(panel).button.text() == "Memory ▸"
    assert not panel._fields["tiling"].isVisible()
    panel.set_value("tiling", True)
    assert panel._fields["tiling"].isVisible()


@pytest.mark.parametrize(
    ("given", "opens"),
    [({}, False), ({"tiling": False, "decode_chunk": 1, "offload": "auto"}, False),
     ({"offload": "none"}, True),
     ({"tiling": True}, True), ({"decode_chunk": 4}, True), ({"offload": "model"}, True)],
)  # fmt: skip
def test_a_job_with_such_values_shows_them(
    panel: ComposePanel, given: dict[str, object], opens: bool
) -> None:
    panel.load("two", {"prompt": "a fox"})
    panel.load("one", {"prompt": "a fox", **given})
    assert fold(panel).button.isChecked() is opens
    assert panel.values()["offload"] == given.get("offload", "auto")

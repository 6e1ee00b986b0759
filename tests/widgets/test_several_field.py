"""The field of the speed switches: words, and switches by hand."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtWidgets import QCheckBox

from core.engines.local import speed
from widgets.fold import Fold
from widgets.make_field import field_for
from widgets.several_field import BY_HAND, SeveralField


@pytest.fixture
def field(qtbot: Any) -> SeveralField:
    made = field_for(speed.parameter("wan"))
    assert isinstance(made, SeveralField)
    qtbot.addWidget(made)
    made.show()
    return made


def boxes(field: SeveralField) -> dict[str, QCheckBox]:
    return {box.text(): box for box in field.findChildren(QCheckBox)}


def test_it_is_one_calm_box_until_somebody_chooses_by_hand(field: SeveralField) -> None:
    assert field.raw() == "auto"
    assert not any(box.isVisible() for box in boxes(field).values())
    field.set_raw("fast")
    assert field.raw() == "fast"
    field.editor.setCurrentText(BY_HAND)  # type: ignore[attr-defined]
    assert all(box.isVisible() for box in boxes(field).values())
    assert field.raw() == "off"
    assert field.problem() is None


def test_switches_are_ticked_and_read_in_their_order(field: SeveralField) -> None:
    changes: list[int] = []
    field.changed.connect(lambda: changes.append(1))
    field.editor.setCurrentText(BY_HAND)  # type: ignore[attr-defined]
    boxes(field)["Compiled blocks"].click()
    boxes(field)["Fused projections"].click()
    assert field.raw() == "fuse_qkv+compile"
    assert len(changes) == 3
    assert field.problem() is None
    field.set_raw("auto")
    assert field.raw() == "auto"
    assert not any(box.isChecked() or box.isVisible() for box in boxes(field).values())


def test_a_job_of_an_earlier_night_comes_back_as_it_was(field: SeveralField) -> None:
    field.set_raw("fuse_qkv+step_cache")
    assert field.by_hand
    assert field.raw() == "fuse_qkv+step_cache"
    field.set_raw("what nobody knows")
    assert field.raw() == "fuse_qkv+step_cache"


def test_every_switch_says_what_it_does_and_takes_the_keyboard(field: SeveralField) -> None:
    stops = field.stops()
    assert len(stops) == 1 + len(boxes(field))
    for box in boxes(field).values():
        assert box.accessibleDescription() == box.toolTip() != ""
        assert box in stops


def test_the_fold_opens_where_it_is_not_as_it_comes(qtbot: Any) -> None:
    field = field_for(speed.parameter("wan"))
    fold = Fold("Speed", [field], field)
    qtbot.addWidget(fold)
    assert not fold.button.isChecked()
    assert "faster" in fold.button.toolTip()
    field.set_raw("off")
    assert fold.button.isChecked()

"""Workflows dropped, opened and pasted: a form of their own, or the reason why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QMimeData, Qt
from PySide6.QtGui import QColor, QGuiApplication, QImage, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPushButton

from app.opening import _identify
from app.window import MainWindow
from core.errors import ProblemError
from tests.app.comfy_samples import (
    RIG,
    SERVERS,
    compose,
    desk,
    offered,
    ready_words,
    recipes,
    scan,
)
from tests.comfy.editor import Editor
from tests.comfy.samples import graph
from tests.comfy.test_workflows_metadata import chunk, clip, png, webp
from widgets.knob_picker import KnobPicker

WAN = graph("05")


def picker(qtbot: Any) -> KnobPicker:
    """The dialog, once it is there."""

    def shown() -> list[KnobPicker]:
        tops = QApplication.topLevelWidgets()
        return [w for w in tops if isinstance(w, KnobPicker) and w.isVisible()]

    qtbot.waitUntil(lambda: len(shown()) == 1)
    return shown()[0]


def told(window: MainWindow, qtbot: Any, words: str) -> str:
    """Wait for a notice with `words`; return all of it."""
    notice = window.panels.notice
    qtbot.waitUntil(lambda: words in notice.text())
    return str(notice.text())


def stored(window: MainWindow) -> list[str]:
    folder = desk(window).folder
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def own_ids(window: MainWindow) -> list[str]:
    return [key for key in recipes(window) if key.startswith("comfy-own-")]


def write(path: Path, data: object) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def add(window: MainWindow, qtbot: Any, path: Path, title: str = "My WAN") -> str:
    """Open a workflow, take the usual knobs, return the recipe's id."""
    before = set(own_ids(window))
    window.dropped.emit(str(path))
    dialog = picker(qtbot)
    dialog.title.setText(title)
    QTest.mouseClick(dialog.save, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(set(own_ids(window)) - before) == 1)
    (made,) = set(own_ids(window)) - before
    qtbot.waitUntil(lambda: compose(window).recipe_id() == made)
    return made


# ---- what carries a workflow ----------------------------------------------------------


@pytest.mark.parametrize("kind", ["api", "editor", "body", "png", "webp", "mp4"])
def test_every_file_that_carries_a_workflow_becomes_a_recipe(
    served: MainWindow, qtbot: Any, tmp_path: Path, kind: str
) -> None:
    text = json.dumps(WAN)
    match kind:
        case "api":
            path = write(tmp_path / "my_wan.json", WAN)
        case "editor":
            path = write(tmp_path / "my_wan.json", Editor(WAN).data())
        case "body":
            path = write(tmp_path / "my_wan.json", {"prompt": WAN})
        case "png":
            path = tmp_path / "my_wan.png"
            path.write_bytes(png(chunk(b"tEXt", b"prompt\0" + text.encode())))
        case "webp":
            from tests.comfy.test_workflows_metadata import exif

            path = tmp_path / "my_wan.webp"
            path.write_bytes(webp(exif({0x0110: b"prompt:" + text.encode()})))
        case _:
            path = clip(tmp_path / "my_wan.mp4", {"prompt": text})
    served.dropped.emit(str(path))
    dialog = picker(qtbot)
    assert dialog.title.text() == "my wan"
    QTest.mouseClick(dialog.save, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: compose(served).recipe_id() in own_ids(served))
    (made,) = own_ids(served)
    assert stored(served) == [made.removeprefix("comfy-") + ".json"]
    recipe = recipes(served)[made]
    assert (recipe.group, recipe.title) == ("Your workflows", "my wan")
    names = [p.name for p in recipe.parameters]
    assert {"prompt", "negative_prompt", "seed", "width", "frames", "server"} <= set(names)
    assert compose(served).values()["prompt"] == "a fox runs through snow"
    qtbot.waitUntil(lambda: ready_words(served) == "Ready on ComfyUI :8188.")
    assert served.controller is not None
    (job,) = served.controller.add(made, {"prompt": "a gull"})
    assert (job.engine, job.family, job.params["server"]) == ("comfy", made[6:], RIG)
    found = desk(served).workflow(job.family)
    assert found is not None
    assert found.own


def test_picked_knobs_and_names_make_the_form(
    served: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    served.dropped.emit(str(write(tmp_path / "a.json", WAN)))
    dialog = picker(qtbot)
    rows = {dialog.model.index(r, 0).data(): r for r in range(dialog.model.rowCount())}
    QTest.mouseClick(_button(dialog, "N&one"), Qt.MouseButton.LeftButton)
    assert dialog.model.picked() == {}
    dialog.find.setText("steps")
    assert dialog.view.model().rowCount() == 1
    dialog.view.setFocus()
    dialog.view.setCurrentIndex(dialog.view.model().index(0, 0))
    QTest.keyClick(dialog.view, Qt.Key.Key_Space)
    assert list(dialog.model.picked()) == ["steps"]
    dialog.find.clear()
    cell = dialog.model.index(rows["Prompt"], 0)
    assert dialog.model.setData(cell, 2, Qt.ItemDataRole.CheckStateRole)
    assert dialog.model.setData(cell, "  What \n happens ", Qt.ItemDataRole.EditRole)
    assert dialog.count.text().startswith("2 of ")
    dialog.title.setText("   ")
    assert not dialog.save.isEnabled()
    dialog.title.setText("Short form")
    QTest.mouseClick(dialog.save, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(own_ids(served)) == 1)
    shown = recipes(served)[own_ids(served)[0]]
    labels = {p.name: p.label for p in shown.parameters}
    assert labels == {
        "prompt": "What happens",
        "steps": "Steps",
        "server": "Run on",
        "latent_checkpoint": "Checkpoint before the decode",
    }


def _button(dialog: KnobPicker, text: str) -> QPushButton:
    (found,) = (b for b in dialog.findChildren(QPushButton) if b.text() == text)
    return found


def test_a_form_of_thousands_is_not_made(served: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    nodes = {"0": {**_EMPTY, "inputs": {**_EMPTY["inputs"], "color": 0}}}
    size = {"upscale_method": "area", "width": 8, "height": 8, "crop": "disabled"}
    for n in range(1, 60):
        nodes[str(n)] = {"class_type": "ImageScale", "inputs": {"image": [str(n - 1), 0], **size}}
    nodes["60"] = {"class_type": "SaveImage", "inputs": {**_SAVE["inputs"], "images": ["59", 0]}}
    served.dropped.emit(str(write(tmp_path / "a.json", nodes)))
    dialog = picker(qtbot)
    assert len(dialog.model.picked()) == 24, "the usual ones, and not all of them"
    QTest.mouseClick(_button(dialog, "A&ll"), Qt.MouseButton.LeftButton)
    assert len(dialog.model.picked()) == 240
    assert "100 are the most" in dialog.count.text()
    assert not dialog.save.isEnabled()
    dialog.reject()


def test_a_cancelled_dialog_stores_nothing(served: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    served.dropped.emit(str(write(tmp_path / "a.json", WAN)))
    QTest.keyClick(picker(qtbot), Qt.Key.Key_Escape)
    assert (stored(served), own_ids(served)) == ([], [])


# ---- edit, remove, undo ---------------------------------------------------------------


def test_edit_keeps_the_id_and_undo_brings_the_old_form_back(
    served: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    made = add(served, qtbot, write(tmp_path / "a.json", WAN))
    compose(served).set_value("prompt", "typed")
    assert served.controller is not None
    (job,) = served.controller.add(made, {"prompt": "old job"})
    before = [p.name for p in recipes(served)[made].parameters]
    assert served.menus.edit_workflow.isEnabled()
    served.menus.edit_workflow.trigger()
    dialog = picker(qtbot)
    assert list(dialog.model.picked()) == [
        n for n in before if n not in ("server", "latent_checkpoint")
    ]
    more = next(
        r
        for r in range(dialog.model.rowCount())
        if dialog.model.index(r, 0).data(Qt.ItemDataRole.CheckStateRole) == Qt.CheckState.Unchecked
    )
    dialog.model.setData(dialog.model.index(more, 0), 2, Qt.ItemDataRole.CheckStateRole)
    dialog.title.setText("New name")
    QTest.mouseClick(dialog.save, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: recipes(served)[made].title == "New name")
    assert len(recipes(served)[made].parameters) == len(before) + 1
    assert compose(served).values()["prompt"] == "typed"
    # A job that is older than a knob runs with what the graph itself holds.
    from core.engines.comfy.workflows import graph_for

    found = desk(served).workflow(job.family)
    assert found is not None
    assert graph_for(found, job.params, prefix="x", info=scan().info)
    _click_notice(served, "Undo")
    qtbot.waitUntil(lambda: recipes(served)[made].title == "My WAN")
    assert [p.name for p in recipes(served)[made].parameters] == before
    assert len(stored(served)) == 1


def test_a_removed_workflow_comes_back_with_undo(
    served: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    made = add(served, qtbot, write(tmp_path / "a.json", WAN))
    before = (desk(served).folder / stored(served)[0]).read_bytes()
    assert served.controller is not None
    served.controller.add(made, {"prompt": "a fox"}, 2)
    served.menus.remove_workflow.trigger()
    qtbot.waitUntil(lambda: own_ids(served) == [])
    assert stored(served) == []
    told(served, qtbot, "2 waiting jobs need it and will fail without")
    assert compose(served).recipe_id() == "starter"
    qtbot.waitUntil(lambda: not served.menus.remove_workflow.isEnabled())
    _click_notice(served, "Undo")
    qtbot.waitUntil(lambda: compose(served).recipe_id() == made)
    assert (desk(served).folder / stored(served)[0]).read_bytes() == before
    _click_notice(served, "Undo")
    qtbot.waitUntil(lambda: own_ids(served) == [])


def _click_notice(window: MainWindow, text: str) -> None:
    (link,) = (b for b in window.panels.notice.findChildren(QPushButton) if b.text() == text)
    link.click()


def test_the_same_workflow_again_shows_the_one_there_is(
    served: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.json", WAN)
    made = add(served, qtbot, path)
    compose(served).load("starter", {})
    served.dropped.emit(str(path))
    told(served, qtbot, "there already, as My WAN")
    assert compose(served).recipe_id() == made
    assert len(stored(served)) == 1


# ---- broken and hostile ones ------------------------------------------------------------

_EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
_SAVE = {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["1", 0]}}


def _circle() -> Any:
    a = {"class_type": "ImageScale", "inputs": {"image": ["2", 0]}}
    b = {"class_type": "ImageScale", "inputs": {"image": ["1", 0]}}
    return {"1": a, "2": b}


def _chain(count: int) -> Any:
    nodes = {str(n): {"class_type": "ImageInvert", "inputs": {}} for n in range(count)}
    for n in range(1, count):
        nodes[str(n)]["inputs"] = {"image": [str(n - 1), 0]}
    return nodes


BROKEN: dict[str, tuple[object, str]] = {
    "circle": (_circle(), "in a circle"),
    "unknown": (
        {"1": {"class_type": "WanVideoSampler", "inputs": {}}, "2": _SAVE},
        "lacks a node of this workflow: WanVideoSampler",
    ),
    "no link": ({"2": _SAVE}, "which is not there"),
    "no input": ({"2": {**_SAVE, "inputs": {"filename_prefix": "x"}}}, "images"),
    "no end": ({"1": {**_EMPTY, "inputs": {**_EMPTY["inputs"], "color": 0}}}, "saves or shows"),
    "5,000": (_chain(5000), "5,000 nodes"),
    "nan": ({"1": {**_EMPTY, "inputs": {"width": float("nan")}}, "2": _SAVE}, "no number"),
    "deep": ("[" * 100_000, "nested more than"),
    "deep object": ('{"framedeck":' * 50_000, "nested more than"),
    "page": ("<!doctype html><html><body>Sign in</body></html>", "no JSON"),
    "cut": (json.dumps(WAN)[:500], "no JSON"),
    "list": ([1, 2], "no workflow"),
    "nothing": ("", "no JSON"),
    "other": ({"recipe": "what", "params": {}}, "is no object"),
    "zeros": ("\0" * 100, "no JSON"),
    "editor, no nodes": ({"nodes": [], "links": []}, "no node that runs"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_workflow_is_told_and_nothing_is_stored(
    served: MainWindow, qtbot: Any, tmp_path: Path, name: str
) -> None:
    data, words = BROKEN[name]
    served.dropped.emit(str(write(tmp_path / "broken.json", data)))
    text = told(served, qtbot, words)
    assert "unexpected" not in text
    assert (stored(served), own_ids(served)) == ([], [])
    assert compose(served).recipe_id() == "starter"


def test_unknown_nodes_name_their_packs(served: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    data, _ = BROKEN["unknown"]
    served.dropped.emit(str(write(tmp_path / "a.json", data)))
    text = told(served, qtbot, "ComfyUI :8188 lacks a node")
    assert "Install ComfyUI-WanVideoWrapper there" in text


def test_without_a_server_it_is_said_and_how_to_get_one(
    window: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    offered(window, qtbot)
    path = write(tmp_path / "a.json", Editor(WAN).data())
    window.dropped.emit(str(path))
    told(window, qtbot, "needs a ComfyUI server")
    with qtbot.waitSignal(desk(window).server_wanted):
        _click_notice(window, "Add a server…")
    desk(window).set_servers(SERVERS)
    qtbot.waitUntil(lambda: desk(window).server() == RIG)
    window.dropped.emit(str(path))
    told(window, qtbot, "ComfyUI :8188 has not said yet which nodes it has")
    # What is no workflow is told as such, whatever servers there are.
    window.dropped.emit(str(write(tmp_path / "b.json", "<html>")))
    told(window, qtbot, "no JSON")
    assert stored(window) == []


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.binary(max_size=300), suffix=st.sampled_from([".json", ".png", ".webp", ".mp4"]))
def test_any_file_is_for_something_or_a_problem(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(data)

    def make(read: Any, _title: str) -> Any:
        return read({})

    try:
        _identify(path, frozenset(), make)
    except ProblemError as error:
        assert error.problem.hint


def test_a_recipe_of_a_stranger_reaches_no_other_machine(
    served: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    for index, path in enumerate(("\\\\evil\\share\\a.png", "//evil/share/a.png")):
        params = {"image": path, "motion": 40 + index}
        job = {"recipe": "comfy-svd-i2v", "params": params}
        served.dropped.emit(str(write(tmp_path / "a.json", {"framedeck": 1, "job": job})))
        qtbot.waitUntil(lambda i=index: compose(served).values().get("motion") == str(40 + i))
        assert compose(served).values()["image"] == ""


def test_pictures_made_here_bring_their_recipe_back(
    served: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    job = {"recipe": "comfy-sd15-image", "params": {"prompt": "gulls"}}
    write(tmp_path / "a.json", {"framedeck": 1, "job": job})
    for suffix in (".png", ".gif", ".jpeg", ".webp"):
        compose(served).load("starter", {})
        (tmp_path / f"a{suffix}").write_bytes(b"pixels")
        served.dropped.emit(str(tmp_path / f"a{suffix}"))
        qtbot.waitUntil(lambda: compose(served).recipe_id() == "comfy-sd15-image")
        assert compose(served).values()["prompt"] == "gulls"


def test_a_clip_of_a_recipe_that_is_gone_offers_its_graph(
    served: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    job = {"recipe": "comfy-own-gone", "params": {}, "title": "Gulls"}
    data = {"framedeck": 1, "job": job, "graph": WAN}
    served.dropped.emit(str(write(tmp_path / "a.json", data)))
    assert picker(qtbot).title.text() == "Gulls"
    picker(qtbot).reject()
    served.dropped.emit(str(write(tmp_path / "b.json", {**data, "graph": None})))
    told(served, qtbot, "holds neither a recipe")


# ---- pictures and the clipboard ----------------------------------------------------------


def test_a_photo_dropped_anywhere_goes_where_a_picture_is_wanted(
    served: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    image = QImage(32, 16, QImage.Format.Format_RGB32)
    image.fill(QColor("red"))
    for name in ("a.jpg", "a.png"):
        path = tmp_path / name
        assert image.save(str(path))
        compose(served).load("starter", {})
        served.dropped.emit(str(path))
        told(served, qtbot, "holds neither a recipe")
        served.panels.notice.clear()
        compose(served).load("comfy-svd-i2v", {})
        served.dropped.emit(str(path))
        qtbot.waitUntil(lambda p=path: compose(served).values()["image"] == str(p))


def test_paste_takes_workflows_files_and_pictures(
    served: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    assert served.menus.paste.shortcut() == QKeySequence("Ctrl+V")
    clipboard = QGuiApplication.clipboard()
    clipboard.setText(json.dumps(Editor(WAN).data()))
    served.menus.paste.trigger()
    assert picker(qtbot).title.text() == "Pasted workflow"
    picker(qtbot).reject()
    data = QMimeData()
    data.setUrls([(tmp_path / "a.json").as_uri()])
    write(tmp_path / "a.json", "<html>")
    clipboard.setMimeData(data)
    served.menus.paste.trigger()
    told(served, qtbot, "no JSON")
    image = QImage(32, 16, QImage.Format.Format_RGB32)
    image.fill(QColor("blue"))
    clipboard.setImage(image)
    served.menus.paste.trigger()
    told(served, qtbot, "takes no picture")
    compose(served).load("comfy-svd-i2v", {})
    served.menus.paste.trigger()
    qtbot.waitUntil(lambda: "pasted-" in str(compose(served).values()["image"]))
    clipboard.setText("just words")
    served.menus.paste.trigger()
    told(served, qtbot, "neither a workflow nor a picture in the clipboard")


def test_words_are_pasted_into_a_field_that_has_the_keyboard(
    served: MainWindow, qtbot: Any
) -> None:
    served.activateWindow()
    compose(served).load("starter", {})
    QGuiApplication.clipboard().setText('{"a": 1}')
    editor = compose(served)._fields["prompt"].editor
    editor.setFocus()
    QTest.keyClick(editor, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    assert compose(served).values()["prompt"] == '{"a": 1}'
    assert served.panels.notice.isHidden()


def test_a_disk_that_cannot_be_written_is_told(
    served: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    # A file in the place of the folder stops root as well.
    desk(served).folder.write_text("in the way")
    served.dropped.emit(str(write(tmp_path / "a.json", WAN)))
    QTest.mouseClick(picker(qtbot).save, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not served.panels.notice.isHidden())
    assert own_ids(served) == []
    assert desk(served).folder.read_text() == "in the way"

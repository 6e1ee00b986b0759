"""Workflows in the window: recipes, servers to choose from, and what is missing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QComboBox, QPlainTextEdit, QPushButton

from app.window import MainWindow
from core import resources
from core.engines.comfy import workflows_files
from core.engines.comfy.known import KnownServer
from core.errors import ProblemError
from core.jobs import JobState
from core.queue import Group
from tests.app.comfy_samples import (
    GIB,
    OTHER,
    RIG,
    SERVERS,
    compose,
    desk,
    offered,
    parameter,
    ready_words,
    recipes,
    scan,
)

PICTURE = str(resources.path("pictures/window.png"))
BUILT_IN = {one.id: one for one in workflows_files.built_in()}


def prompt(window: MainWindow) -> QPlainTextEdit:
    editor = compose(window)._fields["prompt"].editor
    assert isinstance(editor, QPlainTextEdit)
    return editor


def chip(window: MainWindow, text: str) -> QPushButton:
    found = compose(window).readiness.findChildren(QPushButton)
    (button,) = (b for b in found if b.accessibleName() == text)
    return button


# ---- recipes -----------------------------------------------------------------------


def test_the_starter_stays_first_and_default(window: MainWindow, qtbot: Any) -> None:
    offered(window, qtbot)
    combo = compose(window).findChild(QComboBox)
    assert combo is not None
    ids = [combo.itemData(row) for row in range(combo.count())]
    heading = ids.index(None)
    assert ids[0] == compose(window).recipe_id() == "starter"
    assert combo.itemText(heading) == "COMFYUI"
    assert ids[heading + 1 :] == [f"comfy-{name}" for name in BUILT_IN]
    assert not combo.model().flags(combo.model().index(heading, 0)) & Qt.ItemFlag.ItemIsEnabled
    combo.setCurrentIndex(heading - 1)
    QTest.keyClick(combo, Qt.Key.Key_Down)
    assert combo.currentData() == ids[heading + 1], "a heading is passed over"


def test_without_a_server_they_are_shown_and_refuse_jobs(window: MainWindow, qtbot: Any) -> None:
    offered(window, qtbot)
    compose(window).load("comfy-wan21-t2v", {"prompt": "a fox"})
    qtbot.waitUntil(lambda: "Needs a ComfyUI server" in ready_words(window))
    with qtbot.waitSignal(desk(window).server_wanted):
        chip(window, "Add a server…").click()
    with qtbot.assertNotEmitted(compose(window).add_requested):
        compose(window).submit()
    assert "none is known" in compose(window)._general.text()
    assert window.controller is not None
    with pytest.raises(ProblemError) as caught:
        window.controller.add("comfy-wan21-t2v", {"prompt": "a fox"})
    assert caught.value.problem.field == "server"
    assert not any(window.controller.ledger.counts().values())


def test_jobs_name_the_server_they_run_on(served: MainWindow) -> None:
    assert served.controller is not None
    found = parameter(served, "wan21-t2v", "server")
    assert (found.choices, found.default) == ((RIG, OTHER, ""), RIG)
    for given, base in (({}, RIG), ({"server": OTHER}, OTHER)):
        (job,) = served.controller.add("comfy-wan21-t2v", {"prompt": "a fox", **given})
        assert (job.engine, job.params["server"]) == ("comfy", base)
    with pytest.raises(ProblemError) as caught:
        served.controller.add("comfy-wan21-t2v", {"prompt": "a", "server": "http://gone:1"})
    assert caught.value.problem.field == "server"


def test_servers_are_chosen_by_title_and_jobs_hold_their_address(
    served: MainWindow, qtbot: Any
) -> None:
    form = compose(served)
    form.load("comfy-wan21-t2v", {"prompt": "a fox"})
    box = form._fields["server"].editor
    assert isinstance(box, QComboBox)
    assert [box.itemText(row) for row in range(box.count())] == [
        "ComfyUI :8188", "Rig two", "Any that has what it needs",
    ]  # fmt: skip
    QTest.keyClick(box, Qt.Key.Key_Down)
    assert (box.currentText(), form.values()["server"]) == ("Rig two", OTHER)
    assert f"Rig two ({OTHER})" in box.toolTip()
    with qtbot.waitSignal(form.add_requested) as told:
        form.submit()
    assert told.args[1]["server"] == OTHER
    # Another title is the same server; two of one title are told apart by their addresses.
    form.set_value("server", OTHER)
    desk(served).set_servers([KnownServer(RIG, "Twin"), KnownServer(OTHER, "Twin")])
    qtbot.waitUntil(lambda: "Twin (127.0.0.1:8188)" in box.itemText(0))
    assert (box.currentText(), form.values()["server"]) == ("Twin (10.0.0.5:8188)", OTHER)
    assert f"({OTHER})" in box.toolTip()
    assert form._fields["server"].problem() is None
    desk(served).set_servers([KnownServer(RIG, "Twin")])
    qtbot.waitUntil(lambda: parameter(served, "wan21-t2v", "server").choices == (RIG,))
    assert form.values()["server"] == OTHER, "what was chosen stays, with a complaint"
    assert form._fields["server"].problem() is not None
    assert served.controller is not None
    (job,) = served.controller.add("comfy-wan21-t2v", {"prompt": "a", "server": "Twin"})
    assert job.params["server"] == RIG


def test_models_are_those_of_the_server_chosen(served: MainWindow, qtbot: Any) -> None:
    form = compose(served)
    form.load("comfy-wan21-t2v", {"prompt": "a fox"})
    assert form.values()["model"] == "rig_wan21_t2v_tiny_random.safetensors"
    box = form._fields["model"].editor
    assert isinstance(box, QComboBox)
    assert box.lineEdit().cursorPosition() == 0, "a long name is shown from its begin"
    names = ["a.safetensors", "wan2.1_t2v_14B_fp8_scaled.safetensors"]
    desk(served).set_scan(scan(OTHER, UNETLoader__unet_name=names))
    form.set_value("server", OTHER)
    qtbot.waitUntil(lambda: parameter(served, "wan21-t2v", "model").choices == tuple(names))
    # A default that nobody touched makes room for the best that is there.
    assert form.values()["model"] == names[1]
    form.set_value("model", "my own.safetensors")
    form.set_value("server", RIG)
    qtbot.waitUntil(lambda: len(parameter(served, "wan21-t2v", "model").choices) == 5)
    assert form.values()["model"] == "my own.safetensors", "what was typed stays"
    assert form._fields["model"].problem() is None, "a file may come before the job runs"


def test_new_choices_leave_typing_cursor_and_undo_alone(served: MainWindow, qtbot: Any) -> None:
    form = compose(served)
    form.load("comfy-wan21-t2v", {})
    served.activateWindow()
    field = prompt(served)
    field.setFocus()
    QTest.keyClicks(field, "two foxes")
    for _ in range(3):
        QTest.keyClick(field, Qt.Key.Key_Left)
    at, fields = field.textCursor().position(), dict(form._fields)
    form.set_value("steps", "7")
    names = ["a.safetensors", "wan2.1_t2v_14B_fp8_scaled.safetensors"]
    desk(served).set_scan(scan(UNETLoader__unet_name=names))
    qtbot.waitUntil(lambda: parameter(served, "wan21-t2v", "model").choices == tuple(names))
    assert form._fields == fields, "no field was made anew"
    assert prompt(served) is field
    assert field.hasFocus()
    assert (field.toPlainText(), field.textCursor().position()) == ("two foxes", at)
    assert form.values()["steps"] == "7"
    QTest.keyClicks(field, "X")
    assert field.toPlainText() == "two foXxes"
    field.undo()
    field.undo()
    assert field.toPlainText() != "two foXxes"
    # A server more changes the form itself; still nothing is lost.
    desk(served).set_servers(SERVERS[:1])
    qtbot.waitUntil(lambda: parameter(served, "wan21-t2v", "server").choices == (RIG,))
    assert prompt(served) is field
    assert field.hasFocus()
    assert form.values()["steps"] == "7"


def test_a_waiting_job_being_edited_stays_in_the_form(served: MainWindow, qtbot: Any) -> None:
    form = compose(served)
    form.load("comfy-sd15-image", {"prompt": "before"})
    assert served.controller is not None
    (job,) = served.controller.add("comfy-wan21-t2v", {"prompt": "a fox", "steps": 9})
    form.edit(job.id, job.recipe, dict(job.params))
    form.set_value("steps", "11")
    desk(served).set_scan(scan(UNETLoader__unet_name=["x.safetensors"]))
    qtbot.waitUntil(lambda: "x.safetensors" in parameter(served, "wan21-t2v", "model").choices)
    assert form.editing() == job.id
    assert form.values()["steps"] == "11"
    assert form.values()["model"] == job.params["model"]
    form.cancel_edit()
    assert (form.recipe_id(), form.values()["prompt"]) == ("comfy-sd15-image", "before")


def test_the_recipe_of_the_last_end_comes_back(window: MainWindow, qtbot: Any) -> None:
    state = {"recipe": "comfy-svd-i2v", "values": {"comfy-svd-i2v": {"motion": "33"}}}
    compose(window).restore(state)
    assert compose(window).recipe_id() == "starter"
    desk(window).reload()
    qtbot.waitUntil(lambda: compose(window).recipe_id() == "comfy-svd-i2v")
    assert compose(window).values()["motion"] == "33"


def test_words_and_pictures_go_along_but_models_do_not(served: MainWindow) -> None:
    form = compose(served)
    form.load("comfy-wan21-i2v", {"prompt": "gulls", "image": PICTURE, "model": "mine.gguf"})
    combo = form._combo
    combo.setCurrentIndex(combo.findData("comfy-wan22-5b-i2v"))
    values = form.values()
    assert (values["prompt"], values["image"]) == ("gulls", PICTURE)
    assert values["model"] != "mine.gguf"


@pytest.mark.parametrize(
    ("workflow", "field", "bad", "good", "words"),
    [
        ("animatediff-t2v", "frames", 15, 16, "from 16 to 128"),
        ("animatediff-t2v", "frames", 129, 128, "from 16 to 128"),
        ("animatediff-t2v", "fps", 5, 6, "from 6 to 24"),
        ("animatediff-t2v", "fps", 25, 24, "from 6 to 24"),
        ("wan21-t2v", "frames", 80, 81, "multiple of 4 plus 1"),
        ("wan22-5b-t2v", "frames", 80, 81, "multiple of 4 plus 1"),
        ("wan21-t2v", "width", 840, 832, "multiple of 16"),
        ("svd-xt-i2v", "frames", 24, 25, "from 25 to 25"),
    ],
)
def test_the_form_refuses_what_a_model_cannot_do(
    served: MainWindow, qtbot: Any, workflow: str, field: str, bad: int, good: int, words: str
) -> None:
    form = compose(served)
    given = {"prompt": "a fox", "image": PICTURE, field: bad}
    form.load(f"comfy-{workflow}", given)
    with qtbot.assertNotEmitted(form.add_requested):
        form.submit()
    assert words in form._fields[field].error()
    assert str(bad) in form._fields[field].error()
    assert form._fields[field].editor.property("invalid") is True
    form.set_value(field, good)
    assert form._fields[field].error() == ""
    assert served.controller is not None
    form.submit()
    (key,) = served.controller.ledger.ids(Group.WAITING)
    (row,) = served.controller.ledger.rows([key])
    assert (row.state, row.job.params[field]) == (JobState.WAITING, good)


@pytest.mark.parametrize(
    ("workflow", "field", "typed", "made"),
    [("wan21-t2v", "frames", "80", 81), ("wan22-5b-t2v", "width", "850", 864)],
)
def test_the_form_corrects_where_that_is_wished(
    served: MainWindow, qtbot: Any, workflow: str, field: str, typed: str, made: int
) -> None:
    form = compose(served)
    form.load(f"comfy-{workflow}", {"prompt": "a fox"})
    form.set_rounding(True)
    form.set_value(field, typed)
    assert form._fields[field].error() == ""
    with qtbot.waitSignal(form.add_requested) as asked:
        form.submit()
    assert asked.args[1][field] == made
    assert form.values()[field] == str(made), "what was queued is what is shown"
    for out in ("4000", "-3", "9.5", "x"):
        form.set_value(field, out)
        assert form._fields[field].error(), out
    form.set_rounding(False)
    form.set_value(field, typed)
    assert form._fields[field].error()
    # Recipes of this machine have rules of their own.
    form.set_rounding(True)
    form.load("starter", {"prompt": "a", "width": "129"})
    assert form._fields["width"].error()


# ---- readiness ---------------------------------------------------------------------


def test_what_is_missing_is_told_with_folder_and_near_names(served: MainWindow, qtbot: Any) -> None:
    form = compose(served)
    form.load("comfy-wan22-5b-t2v", {"prompt": "a fox"})
    qtbot.waitUntil(lambda: ready_words(served) == "Ready on ComfyUI :8188.")
    assert form.readiness.property("tone") == "success"
    form.set_value("model", "rig_wan22_ti2v_tiny_randm.safetensors")
    qtbot.waitUntil(lambda: "1 thing is missing" in ready_words(served))
    assert "Put it into diffusion_models" in ready_words(served)
    assert form.readiness.property("tone") == "warning"
    near = "rig_wan22_ti2v_tiny_random.safetensors"
    chip(served, f"Use {near}").click()
    assert form.values()["model"] == near
    qtbot.waitUntil(lambda: ready_words(served) == "Ready on ComfyUI :8188.")


def test_a_job_can_be_queued_although_a_file_is_missing(served: MainWindow, qtbot: Any) -> None:
    form = compose(served)
    form.load("comfy-wan22-5b-t2v", {"prompt": "a fox", "model": "comes_tonight.safetensors"})
    qtbot.waitUntil(lambda: "missing" in ready_words(served))
    with qtbot.waitSignal(form.add_requested):
        form.submit()


def test_a_file_that_comes_or_goes_shows_in_one_rescan(served: MainWindow, qtbot: Any) -> None:
    compose(served).load("comfy-wan21-t2v", {"prompt": "a", "model": "new.safetensors"})
    qtbot.waitUntil(lambda: "new.safetensors is not on the server" in _plain(served))
    desk(served).set_scan(scan(UNETLoader__unet_name=["new.safetensors"]))
    qtbot.waitUntil(lambda: ready_words(served) == "Ready on ComfyUI :8188.")
    desk(served).set_scan(scan(UNETLoader__unet_name=["old.safetensors"]))
    qtbot.waitUntil(lambda: "new.safetensors is not on the server" in _plain(served))


def _plain(window: MainWindow) -> str:
    return ready_words(window).replace("\u200b", "")


def test_missing_nodes_name_their_pack_and_where_it_is(served: MainWindow, qtbot: Any) -> None:
    nodes = tuple(name for name in scan().info if name.startswith("ADE_"))
    desk(served).set_scan(scan(drop=nodes))
    compose(served).load("comfy-animatediff-t2v", {"prompt": "a fox"})
    qtbot.waitUntil(lambda: "has no node #22 ADE_UseEvolved" in ready_words(served))
    assert "Install ComfyUI-AnimateDiff-Evolved" in ready_words(served)
    opened: list[str] = []
    compose(served).readiness.link_opened.disconnect()
    compose(served).readiness.link_opened.connect(opened.append)
    buttons = compose(served).readiness.findChildren(QPushButton)
    next(b for b in buttons if b.text().startswith("Get ")).click()
    assert opened == ["https://github.com/Kosinkadink/ComfyUI-AnimateDiff-Evolved"]


def test_misplaced_files_duplicates_and_memory_are_told(served: MainWindow, qtbot: Any) -> None:
    found = scan(vram_bytes=4 * GIB)
    name = "rig_wan21_t2v_tiny_random.safetensors"
    folders = {**found.folders, "checkpoints": [name], "loras": ["lost.safetensors"]}
    desk(served).set_scan(dataclasses.replace(found, folders=folders))
    form = compose(served)
    form.load("comfy-wan21-t2v", {"prompt": "a fox"})
    qtbot.waitUntil(lambda: f"{name} is there 2 times" in _plain(served))
    assert "GPU memory are advised" in _plain(served)
    form.set_value("vae", "lost.safetensors")
    qtbot.waitUntil(lambda: "It lies in loras; move it to vae" in _plain(served))


def test_other_servers_are_asked_for_what_they_have(served: MainWindow, qtbot: Any) -> None:
    form = compose(served)
    form.load("comfy-sd15-image", {"prompt": "a fox"})
    qtbot.waitUntil(lambda: "ComfyUI :8188" in ready_words(served))
    form.set_value("server", OTHER)
    qtbot.waitUntil(lambda: ready_words(served) == "Waiting for Rig two to say what it has.")
    desk(served).set_scan(scan(OTHER))
    qtbot.waitUntil(lambda: "on Rig two" in ready_words(served))
    form.load("starter", {})
    assert form.readiness.isHidden()


def test_a_server_that_talks_nonsense_breaks_nothing(served: MainWindow, qtbot: Any) -> None:
    form = compose(served)
    form.load("comfy-wan21-t2v", {"prompt": "a fox"})
    odd: dict[str, Any] = {"UNETLoader": {"input": {"required": {"unet_name": [[None, 3, {}]]}}}}
    odd |= {"CLIPLoader": 7, "VAELoader": {"input": []}, "KSampler": {"output": "x"}}
    desk(served).set_scan(dataclasses.replace(scan(), info=odd, folders={"vae": []}))
    qtbot.waitUntil(lambda: "missing" in ready_words(served))
    desk(served).set_scan(scan())
    qtbot.waitUntil(lambda: ready_words(served) == "Ready on ComfyUI :8188.")


def test_servers_may_come_and_go_faster_than_recipes_are_made(
    served: MainWindow, qtbot: Any
) -> None:
    many = [KnownServer(f"http://127.0.0.1:{port}") for port in range(9000, 9020)]
    for count in range(1, 21):
        desk(served).set_servers(many[:count])
    last = (*(server.base for server in many), "")
    qtbot.waitUntil(lambda: parameter(served, "wan21-t2v", "server").choices == last)
    desk(served).set_servers([])
    qtbot.waitUntil(lambda: "server" not in _names(served, "wan21-t2v"))


def _names(window: MainWindow, workflow: str) -> list[str]:
    return [p.name for p in recipes(window)[f"comfy-{workflow}"].parameters]


def test_files_that_are_no_workflows_are_told_and_kept(window: MainWindow, qtbot: Any) -> None:
    offered(window, qtbot)
    folder = desk(window).folder
    workflows_files.save(folder, dataclasses.replace(BUILT_IN["svd-i2v"], id="own-a", own=True))
    (folder / "broken.json").write_text("{")
    desk(window).reload()
    qtbot.waitUntil(lambda: "comfy-own-a" in recipes(window))
    assert "no JSON" in window.panels.notice.text()
    assert sorted(path.name for path in Path(folder).iterdir()) == ["broken.json", "own-a.json"]

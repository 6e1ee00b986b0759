"""Model folders of a person's own, from the menu, a drop and the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication

from app.models import OwnModels
from app.window import MainWindow
from core.engines.local import starter
from core.errors import ProblemError
from core.events import Finished
from core.outputs import read_recipe
from core.settings import load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(starter.folder(), tmp_path / "tiny"))


def models_of(window: MainWindow) -> OwnModels:
    found = window.findChild(OwnModels)
    assert found is not None
    return found


def drop(window: MainWindow, path: Path) -> bool:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    copy, left, none = (
        Qt.DropAction.CopyAction,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    with warnings.catch_warnings():
        # Qt 6.12 wants a QPointF, of which earlier ones know nothing.
        warnings.simplefilter("ignore", DeprecationWarning)
        enter = QDragEnterEvent(QPoint(400, 300), copy, data, left, none)
    enter.ignore()
    QApplication.sendEvent(window, enter)
    if not enter.isAccepted():
        return False
    QApplication.sendEvent(window, QDropEvent(QPointF(400, 300), copy, data, left, none))
    return True


def test_an_added_model_is_offered_now_and_after_a_start(
    qtbot: Any, window: MainWindow, model: Path
) -> None:
    compose = window.panels.compose
    assert not window.menus.forget_model.isEnabled()
    assert drop(window, model)
    qtbot.waitUntil(lambda: compose.recipe_id().startswith("tiny-"))
    assert window.controller is not None
    recipe = window.controller.recipes[compose.recipe_id()]
    assert recipe.resolve({"prompt": "a"})["width"] == 64  # What its own files say.
    settings, bad = load(window.settings_path)
    assert (settings.model_folders, bad) == ([str(model)], [])
    assert window.menus.forget_model.isEnabled()
    models_of(window).forget()
    assert compose.recipe_id() == "starter"
    assert load(window.settings_path)[0].model_folders == []
    assert model.is_dir()


def test_a_folder_that_is_no_model_is_refused_with_its_reason(
    qtbot: Any, window: MainWindow, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ProblemError) as caught:
        models_of(window).add(tmp_path / "nothing")
    assert "nothing" in caught.value.problem.message
    assert drop(window, tmp_path / "nothing")
    qtbot.waitUntil(lambda: not window.panels.notice.isHidden())
    assert load(window.settings_path)[0].model_folders == []


def test_a_clip_or_its_recipe_is_dropped_to_make_it_again(
    qtbot: Any, window: MainWindow, tmp_path: Path
) -> None:
    assert window.controller is not None
    given = {"width": 64, "height": 64, "frames": 8, "steps": 1, "seed": 77}
    with qtbot.waitSignal(window.controller.job_ended, timeout=60_000) as ended:
        window.controller.add("test-pattern", given)
    _, ending = ended.args
    assert isinstance(ending, Finished)
    clip = Path(ending.output.path)
    for path in (clip, clip.with_suffix(".json")):
        window.panels.compose.load("starter", {"prompt": "something else"})
        assert drop(window, path)
        qtbot.waitUntil(lambda: window.panels.compose.recipe_id() == "test-pattern")
        shown = window.panels.compose.values()
        assert {name: int(str(shown[name])) for name in given} == given, path
    assert read_recipe(clip)["job"]["params"]["seed"] == 77
    foreign = tmp_path / "foreign.json"
    foreign.write_text(json.dumps({"recipe": "what", "params": {}}))
    assert drop(window, foreign)
    qtbot.waitUntil(lambda: not window.panels.notice.isHidden())
    text = tmp_path / "notes.md"
    text.write_text("no")
    assert not drop(window, text)


def framedeck(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *args],
        cwd=ROOT,
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_generate_with_a_folder_of_ones_own(home: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.mp4"
    done = framedeck(
        "generate", "--model", str(model), "--prompt", "a ball", "--steps", "2", "--frames", "8",
        "--out", str(out), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recipe"].startswith("tiny-")
    assert read_recipe(out)["job"]["model"] == model.name


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("missing", "is not there"),
        ("empty", "is empty"),
        ("cut", "diffusion_pytorch_model.safetensors"),
        ("pickle", "pickle"),
    ],
)
def test_generate_names_what_is_wrong_with_a_model(
    home: Path, model: Path, tmp_path: Path, damage: str, words: str
) -> None:
    weights = model / "unet/diffusion_pytorch_model.safetensors"
    match damage:
        case "missing" | "empty":
            shutil.rmtree(model)
            if damage == "empty":
                model.mkdir()
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-5])
        case "pickle":
            weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    out = tmp_path / "no.mp4"
    done = framedeck("generate", "--model", str(model), "--prompt", "a ball", "--out", str(out))
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*no*"))

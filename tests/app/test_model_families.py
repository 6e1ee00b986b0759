"""Models of other families than AnimateDiff, from the menu and the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.models import OwnModels
from app.window import MainWindow
from core.events import Finished
from core.outputs import verify_file
from core.settings import load

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ("stable_diffusion", "svd", "wan", "ltx")
_BUILD = """
import sys
from pathlib import Path
from tests.core import tiny_models
for name in sys.argv[2:]:
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    getattr(tiny_models, name)(folder)
from tests.core import single_files
from tests.core.test_lora import make_lora
single_files.wan(Path(sys.argv[1]) / "wan", Path(sys.argv[1]) / "moving.safetensors")
make_lora(Path(sys.argv[1]) / "stable_diffusion", Path(sys.argv[1]) / "style.safetensors")
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of each family; built by another process, since the window has no torch."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run(
        [sys.executable, "-c", _BUILD, str(folder), *FAMILIES],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_a_folder_of_each_family_is_added_and_listed(
    qtbot: Any, window: MainWindow, models: Path
) -> None:
    assert window.controller is not None
    own = window.findChild(OwnModels)
    assert own is not None
    for name in FAMILIES:
        own.add(models / name)
        recipe = window.controller.recipes[window.panels.compose.recipe_id()]
        assert (recipe.family, recipe.model) == (name, str(models / name))
        assert set(window.panels.compose.values()) >= {"width", "height", "steps", "seed"}
    kept = load(window.settings_path)[0].model_folders
    assert kept == [str(models / name) for name in FAMILIES]


def test_a_single_file_is_dropped_and_remembered(
    qtbot: Any, window: MainWindow, models: Path
) -> None:
    assert window.controller is not None
    window.dropped.emit(str(models / "moving.safetensors"))
    compose = window.panels.compose
    qtbot.waitUntil(lambda: compose.recipe_id().startswith("moving-"), timeout=10_000)
    recipe = window.controller.recipes[compose.recipe_id()]
    assert (recipe.family, recipe.model) == ("wan", str(models / "moving.safetensors"))
    assert load(window.settings_path)[0].model_folders == [recipe.model]


def test_a_lora_that_is_dropped_goes_into_the_form(
    qtbot: Any, window: MainWindow, models: Path
) -> None:
    assert window.controller is not None
    own, compose = window.findChild(OwnModels), window.panels.compose
    assert own is not None
    style = str(models / "style.safetensors")
    own.add(models / "svd")
    window.dropped.emit(style)
    notice = window.panels.notice
    qtbot.waitUntil(lambda: "the recipe shown takes none" in notice.text(), timeout=10_000)
    own.add(models / "stable_diffusion")
    window.dropped.emit(style)
    qtbot.waitUntil(lambda: compose.values()["lora"] == style, timeout=10_000)
    own.add(models / "wan")
    assert compose.values()["lora"] == "", "a style of one model is none of another"


def test_models_of_the_cache_are_offered_and_hidden(
    qtbot: Any, window: MainWindow, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert window.controller is not None
    place = tmp_path / "hub" / "models--someone--moving"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0a1b2c")
    shutil.copytree(models / "ltx", place / "snapshots" / "0a1b2c")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    own, recipes = window.findChild(OwnModels), window.controller.recipes
    assert own is not None
    before, shown = dict(recipes), window.panels.compose.recipe_id()
    own.look_into_cache()
    qtbot.waitUntil(lambda: len(recipes) > len(before), timeout=10_000)
    (added,) = set(recipes) - set(before)
    assert recipes[added].group == "Hugging Face cache"
    assert window.panels.compose.recipe_id() == shown, "the form stays as it is"
    window.menus.cached_models.setChecked(False)
    assert recipes == before
    assert not load(window.settings_path)[0].cached_models
    own.look_into_cache()
    assert recipes == before
    window.menus.cached_models.setChecked(True)
    qtbot.waitUntil(lambda: added in recipes, timeout=10_000)


def framedeck(home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *args, "--home", str(home), "--json"],
        cwd=ROOT, env={**os.environ, "FRAMEDECK_NO_SETUP": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def test_a_picture_is_generated_from_a_folder(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "ball.png"
    model = ("--model", str(models / "stable_diffusion"))
    size = ("--width", "64", "--height", "64", "--steps", "2", "--seed", "5")
    done = framedeck(
        tmp_path, "generate", *model, "--prompt", "a ball", *size, "--out", str(out)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"] == str(out)
    assert verify_file(out).ok
    listed = framedeck(tmp_path, "recipes", *model)
    found = json.loads(listed.stdout)
    first = next(one for one in found if one["makes"] == "image")
    assert first["title"] == "stable_diffusion · text → picture"
    wrong = framedeck(
        tmp_path, "generate", *model, "--prompt", "a", "--out", str(tmp_path / "ball.mp4")
    )  # fmt: skip
    assert wrong.returncode != 0
    assert ".png" in wrong.stdout + wrong.stderr


def test_the_window_makes_a_picture_and_shows_it(
    qtbot: Any, window: MainWindow, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    own = window.findChild(OwnModels)
    assert own is not None
    assert window.controller is not None
    own.add(models / "stable_diffusion")
    given = {"prompt": "a ball", "width": 64, "height": 64, "steps": 2, "seed": 5}
    with qtbot.waitSignal(window.controller.job_ended, timeout=60_000) as ended:
        window.controller.add(window.panels.compose.recipe_id(), given)
    _, ending = ended.args
    assert isinstance(ending, Finished), ending
    assert ending.output.path.endswith(".png")
    assert ending.output.frames == 1
    stage = window.panels.stage
    qtbot.waitUntil(lambda: len(stage.clip) == 1)
    shown = stage.clip.frame(0)
    assert (shown.width(), shown.height()) == (64, 64)

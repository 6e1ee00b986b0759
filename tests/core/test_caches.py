"""The Hugging Face cache: where it lies, and what of it can be run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core.engines.local import caches, families, folders
from core.engines.local.quiet import hush
from tests.core import tiny_models


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Path.home() / ".cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/c"}, Path("/c/huggingface/hub")),
        ({"HF_HOME": "/h", "XDG_CACHE_HOME": "/c"}, Path("/h/hub")),
        ({"HUGGINGFACE_HUB_CACHE": "/o", "HF_HOME": "/h"}, Path("/o")),
        ({"HF_HUB_CACHE": "~/models", "HF_HOME": "/h"}, Path.home() / "models"),
    ],
)
def test_it_lies_where_its_own_libraries_find_it(environment: dict[str, str], place: Path) -> None:
    assert caches.hub(environment) == place


def test_what_is_whole_and_known_is_offered(tmp_path: Path) -> None:
    def model(name: str) -> Path:
        place = tmp_path / f"models--{name}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("0a1b2c")
        (place / "snapshots" / "0a1b2c").mkdir(parents=True)
        return place / "snapshots" / "0a1b2c"

    hush()  # A progress bar would leave a thread behind.
    tiny_models.wan(model("Wan-AI--Wan2.1-T2V-1.3B-Diffusers"))
    half = model("someone--half")
    shutil.copytree(tmp_path / "models--Wan-AI--Wan2.1-T2V-1.3B-Diffusers/snapshots/0a1b2c", half,
                    dirs_exist_ok=True)  # fmt: skip
    shutil.rmtree(half / "transformer")
    other = model("someone--other")
    (other / folders.INDEX).write_text(json.dumps({"_class_name": "FluxPipeline"}))
    (model("someone--text") / "config.json").write_text("{}")
    (tmp_path / "version.txt").write_text("1")
    found = families.cached_recipes({"HF_HUB_CACHE": str(tmp_path)})
    assert [one.title for one in found] == ["Wan2.1-T2V-1.3B-Diffusers · text → video"]
    assert found[0].group == caches.GROUP
    assert families.recipe_for_folder(Path(found[0].model)).id == found[0].id
    assert families.cached_recipes({"HF_HUB_CACHE": str(tmp_path / "nowhere")}) == []


def test_one_that_is_broken_or_locked_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def repo(name: str, index: str | None = None) -> Path:
        place = tmp_path / f"models--o--{name}"
        (place / "snapshots" / "abc").mkdir(parents=True)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("abc")
        if index is not None:
            (place / "snapshots" / "abc" / folders.INDEX).write_text(index)
        return place

    repo("deep", "[" * 100_000)
    repo("named", json.dumps({"_class_name": ["x"]}))
    (repo("link") / "snapshots" / "abc" / folders.INDEX).symlink_to("../../blobs/none")
    locked = repo("locked", "{}")
    hush()
    # Fetched by a revision: nothing says which is the main one; the newest is.
    whole = repo("whole")
    (whole / "refs" / "main").unlink()
    tiny_models.wan(whole / "snapshots" / "abc")
    (whole / "snapshots" / "old").mkdir()

    real = Path.is_file

    def guarded(path: Path) -> bool:
        if locked in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "is_file", guarded)
    environment = {"HF_HUB_CACHE": str(tmp_path)}
    assert [one.title for one in families.cached_recipes(environment)] == ["whole · text → video"]
    found, problems = families.own_recipes([*tmp_path.iterdir()])
    assert len(found) >= 1
    told = " ".join(problem.message for problem in problems)
    assert "Permission denied" in told
    assert "nested too deep" in told
    assert "named is a model for an unnamed pipeline" in told

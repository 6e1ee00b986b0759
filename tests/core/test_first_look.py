"""The first look: finds what is there, changes nothing, and ends soon."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.engines.comfy.known import KnownServer
from core.errors import Category, Problem, ProblemError
from core.first_look import look as looking
from core.first_look.found import Found, Looked, Sort
from core.first_look.look import Look, look, model_folders
from core.gpu.llm_servers import LoadedModel
from core.gpu.nvml import Nvml
from core.gpu.simulated import SimulatedDriver
from core.gpu.traces import find, load


class Ollama:
    """A server for language models with one model in memory."""

    program = "Ollama"

    def __init__(self, models: list[LoadedModel] | None) -> None:
        self._models = models

    def loaded(self) -> list[LoadedModel]:
        if self._models is None:
            raise ProblemError(Problem(Category.NETWORK_ERROR, "not there", ""))
        return self._models

    def unload(self, model: LoadedModel) -> None:
        raise AssertionError("a look unloads nothing")


def no_driver() -> Nvml:
    def absent() -> SimulatedDriver:
        raise ImportError("no driver")

    return Nvml(absent)


@pytest.fixture
def full(tmp_path: Path) -> Look:
    """A computer that has everything."""
    home = tmp_path / "home"
    for name in ("ai/ComfyUI", "ComfyUI"):
        (home / name / "comfy").mkdir(parents=True)
        (home / name / "main.py").write_text("raise SystemExit('never run')")
    python = home / "ComfyUI" / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python.mkdir(parents=True)
    (python / ("python.exe" if os.name == "nt" else "python")).write_text("")
    cached = home / "hub" / "models--who--what"
    (cached / "snapshots" / "a").mkdir(parents=True)
    (cached / "snapshots" / "a" / "model_index.json").write_text("{}")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a")
    broken = home / "models" / "broken"
    broken.mkdir(parents=True)
    (broken / "model_index.json").write_text("no JSON")
    (home / "models" / ".hidden").mkdir()
    trace = load(find("wan-i2v-24gb"))
    return Look(
        home=home,
        environment={"HF_HUB_CACHE": str(home / "hub")},
        running=lambda _: [
            KnownServer("http://127.0.0.1:8188", folder=str(home / "ai" / "ComfyUI"))
        ],
        engine=lambda: (False, "not set up"),
        nvml=lambda: Nvml(lambda: SimulatedDriver(trace, lambda: None)),
        llms=(Ollama([LoadedModel("a", "a", 2**30)]), Ollama(None)),
        roots=(),
    )


def tree(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Every file and folder with its size, times and bytes."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        stat = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (stat.st_mode, stat.st_mtime_ns, stat.st_ctime_ns, data)
    return found


def test_all_is_found_and_nothing_is_changed(full: Look) -> None:
    before = tree(full.home)
    found = list(look(full))
    assert tree(full.home) == before
    things = [one for one in found if isinstance(one, Found)]
    assert [one.sort for one in things] == [
        Sort.GPU, Sort.ENGINE, Sort.COMFY, Sort.COMFY, Sort.MODELS, Sort.LLM,
    ]  # fmt: skip
    gpu, engine, runs, lies, cache, llm = things
    assert "24" in gpu.text
    assert not engine.ready
    assert runs.server.base == "http://127.0.0.1:8188"
    assert lies.server.folder == str(full.home / "ComfyUI"), "the one that runs is told once"
    assert lies.server.base == "http://127.0.0.1:8189", "on a port that is free"
    assert f"~{os.sep}ComfyUI" in lies.text, "its end tells it from others"
    assert "1 model" in cache.title
    assert not llm.ticked
    assert [one.sort for one in found if isinstance(one, Looked)] == list(Sort)


def test_what_is_known_already_is_not_offered(full: Look) -> None:
    known = frozenset({"http://127.0.0.1:8188", str(full.home / "ComfyUI")})
    again = replace(full, known=known, running=lambda bases: [] if bases else [None])  # type: ignore[list-item,return-value]
    comfy = [one for one in look(again) if one.sort is Sort.COMFY and isinstance(one, Found)]
    assert [one.key for one in comfy] == [str(full.home / "ai" / "ComfyUI")]


def test_an_empty_computer_is_told_as_such(tmp_path: Path) -> None:
    at = Look(
        home=tmp_path, environment={"HF_HUB_CACHE": str(tmp_path / "none")}, nvml=no_driver,
        llms=(Ollama(None),), roots=(),
    )  # fmt: skip
    found = list(look(at))
    assert [one.sort for one in found if isinstance(one, Found)] == [Sort.ENGINE]
    said = {one.sort: one.text for one in found if isinstance(one, Looked)}
    assert all(said[sort] for sort in Sort if sort is not Sort.ENGINE)


def test_a_look_that_nobody_wants_any_more_ends(full: Look) -> None:
    stop: list[bool] = []

    def endless(_: set[str]) -> Iterator[KnownServer]:
        for port in range(1, 65_000):
            stop.append(True)
            yield KnownServer(f"http://127.0.0.1:{port}")

    found = list(look(replace(full, running=endless, stopped=lambda: bool(stop))))
    assert len(stop) == 1
    assert found[-1].sort is Sort.ENGINE


def test_a_look_that_takes_too_long_ends(full: Look) -> None:
    def slow(_: set[str]) -> Iterator[KnownServer]:
        for port in range(1, 65_000):
            time.sleep(0.02)
            yield KnownServer(f"http://127.0.0.1:{port}")

    began = time.monotonic()
    found = list(look(replace(full, running=slow, seconds=0.1)))
    assert time.monotonic() - began < 1.0
    assert Sort.LLM not in {one.sort for one in found}


def test_folders_are_searched_neither_deep_nor_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    (deep / "model_index.json").write_text("{}")
    near = tmp_path / "a" / "near"
    near.mkdir()
    (near / "model_index.json").write_text("{}")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    assert list(model_folders([tmp_path, tmp_path], lambda: False)) == [near]
    monkeypatch.setattr(looking, "MOST_FOLDERS", 1)
    assert list(model_folders([tmp_path], lambda: False)) == []

"""A server that means ill, and jobs that make no sense: a clear Problem, and nothing elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.engines.comfy import http
from core.engines.comfy.standin.faults import HOSTILE_NAMES
from core.engines.comfy.standin.nodes import SLEEP
from core.engines.comfy.standin.script import Script
from core.errors import Category
from core.events import Event, Failed, Finished, FramesPublished
from tests.comfy.client_bench import drain, engine, job
from tests.comfy.standin import Running, running, trivial
from tests.comfy.test_client_decode import picture

PATHS = ("/system_stats", "/queue", "/prompt", "/history", "/view")
"""What a job asks for."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "server", Script(step_seconds=0.01)) as made:
        yield made


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def try_it(server: Running, folder: Path, what: dict[str, Any] | str) -> list[Event]:
    """Run a job; whatever it comes to, nothing is left half-written, or written elsewhere."""
    before = files(folder.parent)
    comfy = engine(server.url)
    wanted = job(folder, what)
    seen = drain(comfy.run(wanted), 60)
    ending = seen[-1]
    here = folder.parent / "server"
    new = {path for path in files(folder.parent) - before if not path.is_relative_to(here)}
    if isinstance(ending, Finished):
        made = {ending.output.path, ending.output.poster, ending.output.recipe}
        assert {str(path) for path in new} == made
    else:
        assert isinstance(ending, Failed)
        assert new == set()
        assert ending.problem.message
        assert ending.problem.hint
        assert "Traceback" not in ending.problem.message
    assert {path.parent for path in new} <= {Path(wanted.output).parent}
    server.faults.disarm()
    # The engine is as good as before.
    assert isinstance(
        drain(comfy.run(job(folder, trivial(int(time.time() * 99) % 2**24))))[-1], Finished
    )
    comfy.close()
    return seen


def failed(seen: list[Event]) -> str:
    assert isinstance(seen[-1], Failed), seen[-1]
    return seen[-1].problem.message


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("html", "a web page"),
        ("deep_json", "nested too deeply"),
        ("endless_body", "longer than"),
        ("wrong_length", "broke off its answer after"),
        ("redirect", "another host"),
    ],
)
def test_answers_that_are_none(
    server: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    fault: str,
    words: str,
) -> None:
    monkeypatch.setattr(http, "_MOST_UNTOLD_BYTES", 4 * 2**20)
    monkeypatch.setattr(http.Fetcher.read, "__kwdefaults__", {"seconds": 5.0, "most_bytes": 2**20})
    monkeypatch.setattr(http.Fetcher.json, "__kwdefaults__", _small(http.Fetcher.json))
    # Polling must not end before a job does: of the queue's and the history's answers one is bad.
    times = 0 if path in ("/system_stats", "/view") else 1
    server.faults.arm(fault, path=path, times=times)
    began = time.monotonic()
    seen = try_it(server, tmp_path / "here", picture())
    assert time.monotonic() - began < 20
    if isinstance(seen[-1], Failed):
        told = failed(seen)
        deep_file = path == "/view" and fault == "deep_json"
        assert any(word in told for word in words.split("|")) or deep_file, told
    else:
        assert times == 1


def _small(method: Any) -> dict[str, Any]:
    return {**method.__kwdefaults__, "seconds": 5.0, "most_bytes": 2**20}


def test_numbers_that_are_none_are_unknown(server: Running, tmp_path: Path) -> None:
    server.faults.arm("nan", path="/system_stats")
    seen = try_it(server, tmp_path / "here", picture())
    assert isinstance(seen[-1], Finished | Failed)


@pytest.mark.parametrize("number", range(len(HOSTILE_NAMES)))
def test_names_of_files(server: Running, tmp_path: Path, number: int) -> None:
    server.faults.arm("hostile_name", number)
    told = failed(try_it(server, tmp_path / "here", picture()))
    assert "The server" in told
    assert len(told) < 1_000, "a name may be long, and what is told of it is not"


@pytest.mark.parametrize(
    "fault", [("cut_frame", 0), ("cut_frame", 6), ("cut_frame", 11), ("huge_picture", 0)]
)
def test_previews(server: Running, tmp_path: Path, fault: tuple[str, int]) -> None:
    server.faults.arm(*fault)
    seen = try_it(server, tmp_path / "here", picture())
    assert isinstance(seen[-1], Finished)
    assert not [event for event in seen if isinstance(event, FramesPublished)]


def chain(count: int) -> dict[str, Any]:
    graph = trivial()
    graph["2"]["inputs"]["images"] = [str(count), 0]
    for number in range(3, count + 1):
        source = "1" if number == 3 else str(number - 1)
        plain = {"image": [source, 0], "seconds": 0.0, "steps": 0, "tag": 0}
        graph[str(number)] = {"class_type": SLEEP, "inputs": plain}
    return graph


def spoilt(what: str) -> dict[str, Any] | str:
    graph = picture()
    match what:
        case "circle":
            for node, source in (("30", "31"), ("31", "30")):
                scale = {"samples": [source, 0], "upscale_method": "area", "scale_by": 1.5}
                graph[node] = {"class_type": "LatentUpscaleBy", "inputs": scale}
            graph["8"]["inputs"]["samples"] = ["30", 0]
        case "unknown":
            graph["3"]["class_type"] = "Nobody Knows It"
        case "missing link":
            graph["3"]["inputs"]["model"] = ["404", 0]
        case "no output of that number":
            graph["3"]["inputs"]["model"] = ["4", 99]
        case "5,000 nodes":
            return chain(5_000)
        case "5,001 nodes":
            return chain(5_001)
        case "deep":
            return json.dumps(graph)[:-1] + ',"99":' + "[" * 3_000 + "]" * 3_000 + "}"
        case "nan":
            graph["3"]["inputs"]["cfg"] = float("nan")
        case "links of a wrong kind":
            graph["8"]["inputs"]["samples"] = [["3"], {"a": 1}]
        case "editor":
            return {"nodes": [], "links": [], "version": 0.4}
    return graph


WORDS = {
    "circle": "need each other in a circle: #30 LatentUpscaleBy",
    "unknown": "Nobody Knows It",
    "missing link": "is linked to node #404, which is not there",
    "no output of that number": "refused the workflow|failed|500",
    "5,000 nodes": "recursion",
    "5,001 nodes": "5,001 nodes",
    "deep": "API format|nested too deeply",
    "nan": "has NaN in node '3'",
    "links of a wrong kind": "has a link that cannot be read",
    "editor": "API format",
}


def test_what_a_server_adds_beside_inputs_may_be_no_number(server: Running, tmp_path: Path) -> None:
    graph = picture()
    graph["3"]["is_changed"] = [float("nan")]
    assert isinstance(try_it(server, tmp_path / "here", graph)[-1], Finished)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("what", WORDS)
def test_workflows_that_make_no_sense(
    server: Running, tmp_path: Path, what: str, checkpoint: bool
) -> None:
    began = time.monotonic()
    comfy = engine(server.url, checkpoint=checkpoint)
    wanted = job(tmp_path, spoilt(what))
    ending = drain(comfy.run(wanted), 60)[-1]
    comfy.close()
    assert time.monotonic() - began < 20
    if isinstance(ending, Finished):
        assert what == "5,000 nodes"
        return
    assert isinstance(ending, Failed)
    assert ending.problem.hint
    told = ending.problem.message
    assert any(word in told for word in WORDS[what].split("|")), told
    assert ending.problem.category in (
        Category.INVALID_PARAMS,
        Category.NETWORK_ERROR,
        Category.UNKNOWN,
    )
    assert files(tmp_path) == files(tmp_path / "server")

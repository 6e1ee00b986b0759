"""Unloading models over real HTTP, confirmed by what a driver reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import Category, ProblemError
from core.gpu import traces
from core.gpu.llm_servers import (
    LlmServer,
    LmStudio,
    LoadedModel,
    Ollama,
    Unloaded,
    in_words,
    server_of,
    unload_all,
)
from core.gpu.nvml import Nvml
from core.gpu.sampler import Sampler
from core.gpu.simulated import SimulatedDriver
from tests.core import web_servers as bad
from tests.core.web_servers import Answer, Handler, raw, send, serving, tells

GB = 2**30
HELD = round(5.2 * GB)


class Clock:
    """Moves on when someone waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Models:
    """Models in the memory of a server, with the paths of Ollama and of LM Studio."""

    def __init__(self, *names: str, stubborn: bool = False) -> None:
        self.names = list(names)
        self.stubborn = stubborn
        self.unloaded_at: float | None = None
        self.clock: Callable[[], float] = time.monotonic
        self.size: int | None = HELD

    def _drop(self, name: str) -> None:
        self.unloaded_at = self.clock()
        if not self.stubborn:
            self.names.remove(name)

    def ps(self, handler: Handler) -> None:
        models = [{"name": n, "model": n, "size": HELD, "size_vram": self.size}
                  for n in self.names]  # fmt: skip
        send(handler, json.dumps({"models": models}).encode())

    def generate(self, handler: Handler) -> None:
        assert handler.body["keep_alive"] == 0
        assert "prompt" not in handler.body
        self._drop(handler.body["model"])
        send(handler, b'{"done": true, "done_reason": "unload", "response": ""}')

    def listed(self, handler: Handler) -> None:
        models = [{"type": "llm", "key": "qwen/qwen3-8b", "display_name": "Qwen3 8B",
                   "size_bytes": 5_030_000_000,
                   "loaded_instances": [{"id": n, "config": {}} for n in self.names]},
                  {"type": "llm", "key": "other", "loaded_instances": []}]  # fmt: skip
        send(handler, json.dumps({"models": models}).encode())

    def unload(self, handler: Handler) -> None:
        self._drop(handler.body["instance_id"])
        send(handler, json.dumps(handler.body).encode())

    @property
    def answers(self) -> dict[str, Answer]:
        return {
            "/api/ps": self.ps,
            "/api/generate": self.generate,
            "/api/v1/models": self.listed,
            "/api/v1/models/unload": self.unload,
        }


def gpu(tmp_path: Path, models: Models, clock: Clock, falls: float = HELD) -> Callable[[], Any]:
    """Bytes in use by a simulated driver: 1.8 s after unloading `falls` bytes are gone."""
    mb = 2**20
    points = [{"at": 0, "used_mb": HELD / mb + 600},
              {"at": 1.8, "used_mb": (HELD - falls) / mb + 600}]  # fmt: skip
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"gpus": [{"name": "Card", "total_mb": 16376, "points": points}]}))
    models.clock = clock

    def since() -> float:
        return 0.0 if models.unloaded_at is None else clock() - models.unloaded_at

    driver = SimulatedDriver(traces.load(path), clock=since)
    sampler = Sampler(nvml=Nvml(lambda: driver, clock), clock=clock)
    return lambda: sampler.read().devices[0].used_bytes


def run(
    server: LlmServer, used: Callable[[], int | None], clock: Clock, expected: int | None = HELD
) -> Unloaded:
    (found,) = unload_all(server, used, expected, clock=clock, pause=clock.sleep)
    return found


@pytest.mark.parametrize("kind", [Ollama, LmStudio])
def test_models_are_unloaded_and_the_driver_shows_it(tmp_path: Path, kind: Any) -> None:
    models, clock = Models("qwen3:8b", "qwen3:8b-2"), Clock()
    with serving(models.answers) as server:
        run(kind(server.url), gpu(tmp_path, models, clock), clock)
        posts = [(path, body) for command, path, body in server.asked if command == "POST"]
    if kind is Ollama:
        assert {path for path, _ in posts} == {"/api/generate"}
        assert [body["model"] for _, body in posts] == ["qwen3:8b", "qwen3:8b-2"]
        assert [body["keep_alive"] for _, body in posts] == [0, 0]
    else:
        expected = [{"instance_id": "qwen3:8b"}, {"instance_id": "qwen3:8b-2"}]
        assert posts == [("/api/v1/models/unload", body) for body in expected]


@pytest.mark.parametrize("kind", [Ollama, LmStudio])
def test_what_came_back_is_told_in_words(tmp_path: Path, kind: Any) -> None:
    models, clock = Models("qwen3:8b"), Clock()
    with serving(models.answers) as server:
        found = run(kind(server.url), gpu(tmp_path, models, clock), clock)
    assert found.confirmed
    assert found.freed_bytes == pytest.approx(HELD, abs=2**20)
    assert found.seconds == pytest.approx(1.8, abs=0.11)
    assert in_words(found) == f"5.2 GB freed in {found.seconds:.1f} s."
    assert models.names == []


def test_a_context_that_stays_is_no_failure(tmp_path: Path) -> None:
    models, clock = Models("a"), Clock()
    with serving(models.answers) as server:
        found = run(LmStudio(server.url), gpu(tmp_path, models, clock, HELD * 0.85), clock)
    assert found.confirmed
    assert found.freed_bytes == pytest.approx(HELD * 0.85, abs=2**20)


def test_a_model_that_stays_is_named_after_fifteen_seconds(tmp_path: Path) -> None:
    models, clock = Models("big", stubborn=True), Clock()
    with serving(models.answers) as server:
        found = run(Ollama(server.url), gpu(tmp_path, models, clock, 0), clock)
    assert not found.confirmed
    assert found.freed_bytes == 0
    assert 15 <= found.seconds < 15.5
    assert in_words(found) == "Ollama still has big in memory; a request may be running on it."


def test_memory_that_does_not_come_back_is_told(tmp_path: Path) -> None:
    models, clock = Models("a"), Clock()
    with serving(models.answers) as server:
        found = run(LmStudio(server.url), gpu(tmp_path, models, clock, 1.5 * GB), clock)
    assert not found.confirmed
    assert in_words(found).startswith("Only 1.5 GB freed: LM Studio unloaded its models, but")
    assert "of 5.2 GB" in found.why


def test_a_driver_that_tells_nothing_confirms_nothing() -> None:
    models, clock = Models("a"), Clock()
    with serving(models.answers) as server:
        found = run(Ollama(server.url), lambda: None, clock)
    assert (found.freed_bytes, found.confirmed) == (None, False)
    assert "nothing is confirmed" in found.why
    assert models.names == []


def test_a_server_that_dies_after_the_request_is_told() -> None:
    models, clock = Models("a"), Clock()
    with serving(models.answers) as server:
        ollama = Ollama(server.url)
        plain = models.generate

        def last(handler: Handler) -> None:
            # First, or the next question comes before it.
            server.answers["/api/ps"] = bad.hang_up
            plain(handler)

        server.answers["/api/generate"] = last
        found = run(ollama, lambda: 9 * GB, clock)
    assert found.why.startswith("Ollama took the request, and then: Ollama at 127.0.0.1")


def test_giving_up_yields_nothing() -> None:
    models, clock = Models("a"), Clock()
    with serving(models.answers) as server:
        found = list(
            unload_all(Ollama(server.url), lambda: GB, stopped=lambda: True, clock=clock,
                       pause=clock.sleep)
        )  # fmt: skip
    assert found == []


@pytest.mark.parametrize("kind", [Ollama, LmStudio])
def test_no_model_in_memory_is_a_problem_that_helps(kind: Any) -> None:
    with serving(Models().answers) as server, pytest.raises(ProblemError) as caught:
        list(unload_all(kind(server.url), lambda: GB))
    assert "has no model in memory" in caught.value.problem.message
    assert caught.value.problem.hint.startswith("Close ")


@pytest.mark.parametrize("kind", [Ollama, LmStudio])
@pytest.mark.parametrize(
    "answer",
    [
        raw(b"<html>"), raw(b'{"models": [NaN]}'), tells([]), tells({"models": 3}),
        raw(b"", 302, Location="http://127.0.0.1:9/"), raw(b"", 500), bad.endless, bad.drip,
        bad.silent, bad.hang_up, bad.no_http,
    ],
)  # fmt: skip
def test_hostile_answers_are_problems(kind: Any, answer: Answer) -> None:
    with serving({"/api/ps": answer, "/api/v1/models": answer}) as server:
        with pytest.raises(ProblemError) as caught:
            kind(server.url, timeout_seconds=0.4).loaded()
        assert [command for command, *_ in server.asked] == ["GET"]
    assert kind.program in caught.value.problem.message


def test_entries_that_make_no_sense_are_left_out() -> None:
    odd = {"models": [3, {"name": 4}, {"name": "a", "size_vram": -5}, {"model": "b",
           "size_vram": 7}, {"loaded_instances": [{"id": 3}, 4]}, {"loaded_instances": "x"},
           {"key": "k", "loaded_instances": [{"id": "k:2"}]}]}  # fmt: skip
    with serving({"/api/ps": tells(odd), "/api/v1/models": tells(odd)}) as server:
        assert Ollama(server.url).loaded() == [
            LoadedModel("a", "a", None),
            LoadedModel("b", "b", 7),
        ]
        assert LmStudio(server.url).loaded() == [LoadedModel("k:2", "k", None)]


def test_an_older_lm_studio_and_one_with_a_token() -> None:
    with serving({}) as server, pytest.raises(ProblemError) as caught:
        LmStudio(server.url).loaded()
    assert "0.4 or later" in caught.value.problem.hint
    with (
        serving({"/api/v1/models": raw(b"", 401)}) as server,
        pytest.raises(ProblemError) as caught,
    ):
        LmStudio(server.url).loaded()
    assert "token" in caught.value.problem.hint
    assert caught.value.problem.category is Category.NETWORK_ERROR


def test_servers_are_on_this_machine() -> None:
    found = server_of("Ollama", None), server_of("Ollama", 5000), server_of("LM Studio", None)
    assert [server._url for server in found if isinstance(server, Ollama | LmStudio)] == [
        "http://127.0.0.1:11434",
        "http://127.0.0.1:5000",
        "http://127.0.0.1:1234",
    ]
    assert server_of("vllm", 8000) is None

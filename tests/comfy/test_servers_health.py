"""How a server is, and what it has, seen against real and broken ones."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.engines.comfy import scan as scanning
from core.engines.comfy.answers import queue
from core.engines.comfy.health import Doctor, Judge, State, doomed_in
from core.engines.comfy.http import Server
from core.engines.comfy.known import KnownServer
from core.engines.comfy.scan import scan
from core.engines.comfy.standin.script import Script
from core.errors import ProblemError
from tests.comfy.standin import running, trivial


def until(look: Any, state: State, seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while (health := look()).state is not state:
        assert time.monotonic() < deadline, health
        time.sleep(0.05)
    return health


def test_a_server_is_idle_then_runs_then_is_away(tmp_path) -> None:
    with running(tmp_path, Script(node_seconds=1.0)) as server:
        doctor = Doctor(server.url)
        health = doctor.look()
        assert (health.state, health.problem, health.answers) == (State.IDLE, None, True)
        assert health.stats is not None
        assert health.stats.version == "0.3.64"
        assert health.stats.devices[0].vram_free_bytes is not None
        first = server.submit(trivial(), "a browser")
        second = server.submit(trivial(2), "a browser")
        health = until(doctor.look, State.RUNNING)
        assert [entry.id for entry in health.queue.running] == [first]
        assert [entry.id for entry in health.queue.pending] == [second]
    gone = doctor.look()
    assert (gone.state, gone.stats) == (State.OFFLINE, None)
    assert gone.problem is not None
    assert gone.problem.hint


def test_the_end_of_the_worker_is_found_in_the_log(tmp_path) -> None:
    with running(tmp_path) as server:
        now = [0.0]
        doctor = Doctor(server.url, lambda: now[0])
        server.faults.arm("worker_dead", times=1)
        server.submit(trivial(), "a browser")
        until(doctor.look, State.RUNNING)
        now[0] = 19.0
        assert doctor.look().state is State.RUNNING
        now[0] = 25.0
        health = doctor.look()
        assert health.state is State.STUCK
        assert "Restart" in health.problem.hint
        server.restart()
        assert until(doctor.look, State.IDLE).problem is None


def test_a_prompt_that_ends_the_worker_is_known_at_once(tmp_path) -> None:
    with running(tmp_path) as server:
        doctor = Doctor(server.url)

        async def kill() -> None:
            server.server.submit({"prompt": trivial(), "extra_data": None})

        server.call(kill)
        began = time.monotonic()
        health = until(doctor.look, State.STUCK)
        assert time.monotonic() - began < 2
        assert "ended the thread" in health.problem.message


def rows(*names: str) -> list[list[Any]]:
    return [[i, name, {}, {"client_id": "x"}, []] for i, name in enumerate(names)]


def test_prompts_that_wait_while_nothing_runs_are_noticed_after_half_a_minute() -> None:
    judge = Judge()

    def why(at: float, running: list[Any], pending: list[Any]) -> str:
        said = {"queue_running": running, "queue_pending": pending}
        judge.note(doomed_in(said))
        return judge.why_stuck(queue(said), at)

    assert why(0, [], rows("a")) == ""
    assert why(29, [], rows("a")) == ""
    assert why(30, [], rows("a", "b")) != ""
    assert why(31, rows("a"), rows("b")) == ""
    assert why(100, [], rows("b")) == ""
    assert why(131, [], []) == ""
    assert why(160, [], rows("c")) == ""
    assert why(200, rows("c"), []) == ""
    assert why(9_000, rows("c"), []) == ""  # However long one runs, that alone says nothing.


@pytest.mark.parametrize(
    ("fault", "value", "state"),
    [("html", 0, State.OFFLINE), ("status", 500, State.OFFLINE), ("deep_json", 0, State.OFFLINE),
     ("endless_body", 0, State.OFFLINE), ("redirect", 0, State.OFFLINE), ("nan", 0, State.OFFLINE),
     ("latency", 30, State.OFFLINE)],
)  # fmt: skip
def test_bad_answers_end_in_time_and_are_told(tmp_path, fault, value, state) -> None:
    with running(tmp_path) as server:
        server.faults.arm(fault, value)
        began = time.monotonic()
        health = Doctor(server.url).look()
        assert time.monotonic() - began < 2.4
        assert health.state is state, health
        assert health.problem is not None
        assert health.problem.hint
        server.faults.disarm()


def test_a_server_that_is_busy_with_itself_is_not_away_at_once(tmp_path) -> None:
    with running(tmp_path) as server:
        now = [0.0]
        doctor = Doctor(server.url, lambda: now[0])
        assert doctor.look().state is State.IDLE
        server.faults.arm("latency", 30)
        now[0] = 59.0
        health = doctor.look(0.3)
        assert (health.state, health.slow) == (State.IDLE, True)
        now[0] = 61.0
        assert doctor.look(0.3).state is State.OFFLINE
        server.faults.disarm()


def test_a_queue_of_megabytes_is_read_once(tmp_path, monkeypatch) -> None:
    from core.engines.comfy import health as module

    read: list[int] = []
    plain = module.answers.queue

    def counted(said: Any) -> Any:
        read.append(1)
        return plain(said)

    with running(tmp_path, Script(node_seconds=30.0)) as server:
        graph = trivial()
        graph["9"] = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64,
                      "batch_size": 1, "color": 0}, "_meta": {"title": "x" * 200_000}}  # fmt: skip
        for _ in range(20):
            server.submit(graph, "a browser")
        monkeypatch.setattr(module.answers, "queue", counted)
        doctor = Doctor(server.url)
        until(doctor.look, State.RUNNING)
        time.sleep(0.2)
        for _ in range(5):
            assert len(doctor.look().queue.pending) == 19
        assert len(read) <= 2


def test_a_scan_has_all_that_was_asked_for_one_by_one(tmp_path) -> None:
    with running(tmp_path) as server:
        found = scan(KnownServer(server.url))
        plain = Server(server.url)
        assert found.info == plain.object_info()
        assert list(found.info) == list(plain.object_info())
        assert found.folders == {name: plain.models(name) for name in plain.model_folders()}
        assert found.stats.version == "0.3.64"
        assert 0 < found.seconds < 10
        plain.close()


def test_a_scan_of_what_has_not_changed_is_the_same_objects(tmp_path) -> None:
    with running(tmp_path) as server:
        first = scan(KnownServer(server.url))
        again = scan(KnownServer(server.url), first)
        assert again.digest == first.digest
        assert again.info is first.info
        server.server.catalogue.models["vae"] = ["new.safetensors"]
        third = scan(KnownServer(server.url), again)
        assert third.digest != first.digest
        assert third.folders["vae"] == ["new.safetensors"]


def test_a_scan_can_be_stopped(tmp_path) -> None:
    with running(tmp_path) as server:
        server.faults.arm("latency", 30)
        began = time.monotonic()
        with pytest.raises(ProblemError):
            scan(KnownServer(server.url), stopped=lambda: time.monotonic() - began > 0.2)
        assert time.monotonic() - began < 1.0
        server.faults.disarm()


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"null", b"5", b'"x"', b"{", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"a" 1}',
     b'{"a":1}x', b'{1:2}', b"\xff\xfe", b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
     b"<html>", b'{"a":' + b"[" * 200_000],
)  # fmt: skip
def test_a_list_of_nodes_that_is_none_is_told(raw: bytes) -> None:
    with pytest.raises(ProblemError) as told:
        dict(scanning._members(raw, "http://x"))
    assert told.value.problem.hint


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
        max_size=5,
    ),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_members_are_those_of_the_json(values: Any, indent: Any, ascii_only: bool) -> None:
    raw = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    assert dict(scanning._members(raw, "http://x")) == json.loads(raw)

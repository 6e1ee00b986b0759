"""Every fault does what it says, and a stand-in without faults does not."""

from __future__ import annotations

import io
import json
import os
import struct
import time

import av
import pytest
import requests
import websocket

from core.engines.comfy.standin.faults import HOSTILE_NAMES, Fault, Faults, Kind
from core.engines.comfy.standin.memory import driver_of
from core.engines.comfy.standin.nodes import RAISE, SLEEP
from core.engines.comfy.standin.script import MB, Script
from core.gpu.nvml import Nvml
from tests.comfy import recorded
from tests.comfy.standin import Socket, process, running, trivial

SLOW = Script(step_seconds=0.02)


def sampling(steps=10, seed=1):
    """Return a graph with a sampler: SD1.5 at 64 × 64."""
    graph = {
        name: {"class_type": node["class_type"], "inputs": dict(node["inputs"])}
        for name, node in recorded.exchanges("01")[0]["json"]["prompt"].items()
    }
    graph["3"]["inputs"] |= {"steps": steps, "seed": seed}
    return graph


def post(server, graph, client="me", **more):
    data = {"prompt": graph, "client_id": client, **more}
    return requests.post(f"{server.url}/prompt", json=data, timeout=10)


def get(server, path, seconds=10):
    return requests.get(server.url + path, timeout=seconds, allow_redirects=False)


def ended(server, name, seconds=20):
    """Return the history's entry of a prompt, waiting for it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = get(server, f"/history/{name}").json()
        if found:
            return found[name]
        time.sleep(0.01)
    raise AssertionError("the prompt did not end")


def is_step(at):
    return lambda message: (
        isinstance(message, dict)
        and message["type"] == "progress"
        and message["data"]["value"] >= at
    )


# Sockets.


def test_a_drop_at_a_step_breaks_the_socket_without_a_close_frame(tmp_path):
    with running(tmp_path, SLOW) as server:
        server.faults.arm("drop", step=5, times=1)
        socket = Socket(server.url, "me")
        name = post(server, sampling()).json()["prompt_id"]
        with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
            socket.until_end(name)
        steps = [m["data"]["value"] for m in socket.heard if is_step(1)(m)]
        assert steps
        assert max(steps) in (3, 4, 5, 6)
        again = Socket(server.url, "me")
        assert again.until_end(name)
        assert ended(server, name)["status"]["completed"]
        again.close()
        socket.close()


def test_a_deaf_socket_stays_open_and_hears_again_later(tmp_path):
    with running(tmp_path, SLOW) as server:
        server.faults.arm("deaf", 0.5, step=3)
        socket = Socket(server.url, "me")
        name = post(server, sampling(60)).json()["prompt_id"]
        socket.until(is_step(2))
        socket.quiet(0.1)
        assert socket.quiet(0.2) == []
        assert get(server, "/queue").json()["queue_running"][0][1] == name
        socket.until(is_step(30))
        steps = [m["data"]["value"] for m in socket.heard if is_step(1)(m)]
        assert len(steps) < max(steps) - 10, "what was said meanwhile is lost"
        socket.close()


def test_a_silent_proxy_answers_no_request_either_until_it_wakes(tmp_path):
    with running(tmp_path, SLOW) as server:
        server.faults.arm("silent_proxy", 3.0, step=5)
        socket = Socket(server.url, "me")
        name = post(server, sampling(40)).json()["prompt_id"]
        socket.until(is_step(4))
        time.sleep(0.1)
        with pytest.raises(requests.ReadTimeout):
            get(server, "/queue", seconds=0.2)
        assert ended(server, name)["status"]["completed"]
        socket.close()


def test_slow_sockets_delay_messages_and_not_the_work(tmp_path):
    with running(tmp_path) as server:
        socket = Socket(server.url, "me")
        server.faults.arm("slow_socket", 0.1)
        name = post(server, trivial()).json()["prompt_id"]
        began = time.monotonic()
        ended(server, name)
        assert time.monotonic() - began < 0.5
        socket.until_end(name)
        assert time.monotonic() - began > 1.0
        socket.close()


def test_who_does_not_read_holds_up_everybody(tmp_path):
    """As recorded in 46: another client hears nothing while the work goes on."""
    with running(tmp_path, Script(aliases={"RigSleep": SLEEP})) as server:
        lazy = Socket(server.url, "lazy")
        graph = trivial() | {
            "3": {
                "class_type": SLEEP,
                "inputs": {"image": ["1", 0], "seconds": 0.5, "steps": 20_000, "tag": 1},
            }
        }
        graph["2"]["inputs"]["images"] = ["3", 0]
        watcher = Socket(server.url, "watcher")
        first = post(server, graph, "lazy").json()["prompt_id"]
        second = post(server, trivial(5), "watcher").json()["prompt_id"]
        ended(server, first, 60)
        ended(server, second)
        kinds = [message["type"] for message in watcher.quiet(0.3)]
        assert set(kinds) <= {"status"}
        lazy.until_end(first, 60)
        watcher.until_end(second)
        lazy.close()
        watcher.close()


@pytest.mark.parametrize(
    ("kind", "value", "size"), [("cut_frame", 6, 6), ("cut_frame", 0, 0), ("huge_picture", 0, 108)]
)
def test_frames_are_spoiled(kind, value, size, tmp_path):
    with running(tmp_path) as server:
        server.faults.arm(kind, value)
        socket = Socket(server.url, "me")
        name = post(server, sampling(3)).json()["prompt_id"]
        socket.until_end(name)
        found = [message for message in socket.heard if isinstance(message, bytes)]
        assert [len(frame) for frame in found] == [size] * 3
        if kind == "huge_picture":
            assert struct.unpack(">HH", found[0][8 + 7 : 8 + 11]) == (30_000, 30_000)
        socket.close()


# Requests.


def test_answers_are_spoiled(tmp_path):
    with running(tmp_path) as server:
        arm, disarm = server.faults.arm, server.faults.disarm
        arm("html", path="/queue")
        assert get(server, "/queue").text.startswith("<!DOCTYPE html>")
        assert get(server, "/prompt").json() == {"exec_info": {"queue_remaining": 0}}
        disarm()
        arm("nan")
        assert "NaN" in get(server, "/prompt").text
        disarm()
        arm("deep_json")
        with pytest.raises(RecursionError):
            get(server, "/prompt").json()
        disarm()
        arm("redirect", times=1)
        answer = get(server, "/history")
        assert (answer.status_code, answer.headers["Location"][:24]) == (
            302,
            "http://elsewhere.invalid",
        )
        arm("status", 502, times=1)
        assert get(server, "/history").status_code == 502
        arm("wrong_length", times=1)
        with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
            get(server, "/history")
        arm("latency", 0.3, times=1)
        began = time.monotonic()
        assert get(server, "/history").json() == {}
        assert time.monotonic() - began >= 0.3
        assert server.faults.armed() == []


def test_a_body_can_have_no_end(tmp_path):
    with running(tmp_path) as server:
        server.faults.arm("endless_body", times=1)
        with requests.get(f"{server.url}/history", stream=True, timeout=10) as answer:
            size = 0
            for chunk in answer.iter_content(2**16):
                size += len(chunk)
                if size > 5_000_000:
                    break
        assert size > 5_000_000
        assert get(server, "/history").json() == {}


@pytest.mark.parametrize(("kind", "status"), [("lost_reply", None), ("duplicate_500", 500)])
def test_a_prompt_can_be_queued_although_the_answer_is_bad(kind, status, tmp_path):
    with running(tmp_path) as server:
        server.faults.arm(kind, times=1, path="/prompt")
        if status is None:
            with pytest.raises(requests.ConnectionError):
                post(server, trivial(), prompt_id="chosen")
        else:
            assert post(server, trivial(), prompt_id="chosen").status_code == status
        assert ended(server, "chosen")["status"]["completed"]


# Prompts.


@pytest.mark.parametrize(
    ("kind", "exception"), [("out_of_memory", "torch.OutOfMemoryError"), ("error", "RuntimeError")]
)
def test_a_node_fails_where_it_shall(kind, exception, tmp_path):
    with running(tmp_path) as server:
        server.faults.arm(kind, node="VAEDecode", times=1)
        name = post(server, sampling(2)).json()["prompt_id"]
        (what, told) = ended(server, name)["status"]["messages"][-1]
        assert what == "execution_error"
        assert (told["node_type"], told["exception_type"]) == ("VAEDecode", exception)
        again = post(server, sampling(2)).json()["prompt_id"]
        cached = ended(server, again)["status"]["messages"][1][1]["nodes"]
        assert "3" in cached, "the sampler's work is kept"


def test_errors_are_told_as_they_were_recorded(tmp_path):
    """The prompts of recording 33 whose failing is simulated: type, names of all fields."""
    told = {}
    for message in recorded.messages("33"):
        if message["type"] == "execution_error":
            told[message["data"]["prompt_id"]] = message["data"]
    script = Script(aliases={"RigRaise": RAISE})
    compared = []
    with running(tmp_path, script) as server:
        (tmp_path / "input/rig_text.png").write_text("no picture")
        for exchange in recorded.exchanges("33")[:20]:
            graph = (exchange.get("json") or {}).get("prompt")
            kinds = {node["class_type"] for node in (graph or {}).values()}
            if not kinds or not kinds <= {"EmptyImage", "PreviewImage", "RigRaise", "LoadImage"}:
                continue
            theirs = told.get(json.loads(exchange["body"])["prompt_id"])
            if theirs is None:
                continue
            ours = ended(server, post(server, graph).json()["prompt_id"])
            what, mine = ours["status"]["messages"][-1]
            assert what == "execution_error"
            assert mine.keys() == theirs.keys()
            for name in ("node_id", "node_type", "exception_type"):
                assert mine[name] == theirs[name]
            assert set(mine["executed"]) == set(theirs["executed"])
            compared.append(theirs["exception_type"])
    assert {"ValueError", "torch.OutOfMemoryError", "PIL.UnidentifiedImageError"} <= set(compared)


def test_a_hang_ends_when_it_is_disarmed_and_cannot_be_interrupted(tmp_path):
    with running(tmp_path) as server:
        server.faults.arm("hang", node="VAEDecode", times=1)
        name = post(server, sampling(2)).json()["prompt_id"]
        time.sleep(0.2)
        requests.post(f"{server.url}/interrupt", json={"prompt_id": name}, timeout=10)
        time.sleep(0.2)
        assert get(server, "/queue").json()["queue_running"][0][1] == name
        server.faults.disarm("hang")
        assert ended(server, name)["status"]["messages"][-1][0] == "execution_interrupted"


def test_a_dead_worker_answers_and_runs_nothing_until_a_restart(tmp_path):
    with running(tmp_path) as server:
        server.faults.arm("worker_dead", times=1)
        name = post(server, trivial()).json()["prompt_id"]
        time.sleep(0.2)
        later = post(server, trivial(2)).json()["prompt_id"]
        queue = get(server, "/queue").json()
        assert [queue["queue_running"][0][1], queue["queue_pending"][0][1]] == [name, later]
        server.restart()
        assert get(server, "/queue").json() == {"queue_running": [], "queue_pending": []}
        assert ended(server, post(server, trivial()).json()["prompt_id"])


# Files.


@pytest.mark.parametrize("kind", ["tiny", "corrupt", "gone"])
def test_files_are_spoiled(kind, tmp_path):
    with running(tmp_path) as server:
        server.faults.arm(kind, times=1)
        name = post(server, trivial()).json()["prompt_id"]
        (told,) = ended(server, name)["outputs"]["2"]["images"]
        answer = requests.get(f"{server.url}/view", params=told, timeout=10)
        if kind == "gone":
            assert answer.status_code == 404
            return
        assert kind == "corrupt" or len(answer.content) == 48
        with pytest.raises(av.FFmpegError), av.open(io.BytesIO(answer.content)) as container:
            list(container.decode(video=0))


def test_a_file_grows_after_its_prompt_has_ended(tmp_path):
    with running(tmp_path) as server:
        server.faults.arm("growing", 0.4, times=1)
        name = post(server, sampling(1)).json()["prompt_id"]
        (told,) = ended(server, name)["outputs"]["9"]["images"]
        early = requests.get(f"{server.url}/view", params=told, timeout=10).content
        time.sleep(0.6)
        late = requests.get(f"{server.url}/view", params=told, timeout=10).content
        assert late.startswith(early)
        assert len(early) < len(late)
        with av.open(io.BytesIO(late)) as container:
            assert len(list(container.decode(video=0))) == 1


@pytest.mark.parametrize("number", range(len(HOSTILE_NAMES)))
def test_hostile_names_are_told_and_nothing_is_written_elsewhere(number, tmp_path):
    with running(tmp_path / "server") as server:
        server.faults.arm("hostile_name", number)
        name = post(server, trivial()).json()["prompt_id"]
        (told,) = ended(server, name)["outputs"]["2"]["images"]
        assert told["filename"] == HOSTILE_NAMES[number]
    assert [path.name for path in tmp_path.iterdir()] == ["server"]


# Memory.


def test_models_load_and_free_gives_them_back_between_prompts(tmp_path):
    script = Script(step_seconds=0.02, model_bytes_each=3000 * MB)
    with running(tmp_path, script) as server:
        driver = driver_of(lambda: (used(server), False), script.vram_total_bytes, os.getpid)
        nvml = Nvml(lambda: driver)
        assert nvml.connect()
        assert used(server) == script.vram_base_bytes
        ended(server, post(server, sampling(1)).json()["prompt_id"])
        assert used(server) == script.vram_base_bytes + 3000 * MB
        assert nvml.memory(0)[:2] == (script.vram_total_bytes, used(server))
        assert nvml.processes(0) == {os.getpid(): used(server)}
        stats = get(server, "/system_stats").json()["devices"][0]
        assert stats["vram_total"] - stats["vram_free"] == used(server)
        name = post(server, sampling(20, 2)).json()["prompt_id"]
        time.sleep(0.1)
        both = {"unload_models": True, "free_memory": True}
        assert requests.post(f"{server.url}/free", json=both, timeout=10).status_code == 200
        time.sleep(0.1)
        assert used(server) == script.vram_base_bytes + 3000 * MB, "not while one runs"
        ended(server, name)
        time.sleep(0.1)
        assert used(server) == script.vram_base_bytes


def used(server):
    return server.server.memory.usage().used_bytes


def test_a_leak_grows_and_a_pack_holds_and_neither_is_freed(tmp_path):
    with running(tmp_path, Script(model_bytes_each=0)) as server:
        base = used(server)
        both = {"unload_models": True, "free_memory": True}
        server.faults.arm("leak", 50 * MB)
        found = []
        for color in range(3):
            ended(server, post(server, trivial(color)).json()["prompt_id"])
            requests.post(f"{server.url}/free", json=both, timeout=10)
            found.append(used(server) - base)
        assert found == [50 * MB, 100 * MB, 150 * MB]
        server.faults.disarm()
        server.faults.arm("hold", 700 * MB)
        for color in range(3, 6):
            ended(server, post(server, trivial(color)).json()["prompt_id"])
            requests.post(f"{server.url}/free", json=both, timeout=10)
            assert used(server) - base == 850 * MB
        server.restart()
        assert used(server) == base


# The whole.


def test_a_restart_forgets_the_history_and_the_numbers_and_keeps_outputs(tmp_path):
    with running(tmp_path) as server:
        socket = Socket(server.url, "me")
        name = post(server, trivial()).json()["prompt_id"]
        ended(server, name)
        server.faults.arm("restart", 0.2)
        with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
            while True:
                socket.read()
        with pytest.raises(requests.ConnectionError):
            get(server, "/queue")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                assert get(server, "/history").json() == {}
                break
            except requests.ConnectionError:
                time.sleep(0.02)
        assert post(server, trivial(), client="me").json()["number"] == 0
        time.sleep(0.2)
        files = sorted(path.name for path in (tmp_path / "output").iterdir())
        assert files == ["tiny_00001_.png", "tiny_00002_.png"]
        socket.close()


def test_a_process_is_killed_and_comes_back_as_recorded_in_40(tmp_path):
    with process(tmp_path) as server:
        preview = trivial()
        preview["2"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
        name = post(server, preview).json()["prompt_id"]
        (told,) = ended(server, name)["outputs"]["2"]["images"]
        assert told["type"] == "temp"
        server.arm("hang", node="EmptyImage")
        post(server, trivial(2))
        server.kill()
        with pytest.raises(requests.ConnectionError):
            get(server, "/queue")
        server.start()
        assert get(server, "/queue").json() == {"queue_running": [], "queue_pending": []}
        assert get(server, "/history").json() == {}
        assert requests.get(f"{server.url}/view", params=told, timeout=10).status_code == 404
        assert post(server, preview).json()["number"] == 0


def test_the_back_door_opens_with_its_token_only(tmp_path):
    with process(tmp_path) as server:
        fault = Fault(Kind.HTML).to_json()
        for headers in ({}, {"X-Standin-Token": "other"}):
            answer = requests.post(
                f"{server.url}/standin/faults", json=fault, headers=headers, timeout=10
            )
            assert answer.status_code == 403
        server.arm("html")
        assert get(server, "/queue").text.startswith("<!DOCTYPE")
    with running(tmp_path / "another") as server:  # Without a token there is no door.
        answer = requests.get(
            f"{server.url}/standin/faults", headers={"X-Standin-Token": ""}, timeout=10
        )
        assert answer.status_code == 403


def test_two_clients_hear_their_own_prompts_alone(tmp_path):
    with running(tmp_path, SLOW) as server:
        ours, theirs = Socket(server.url, "me"), Socket(server.url, "browser")
        mine = post(server, sampling(5)).json()["prompt_id"]
        foreign = server.submit(trivial(9), "browser")
        ours.until_end(mine)
        theirs.until_end(foreign)
        for socket, own in ((ours, mine), (theirs, foreign)):
            named = [m for m in socket.heard if isinstance(m, dict) and m["type"] != "status"]
            assert {message["data"]["prompt_id"] for message in named} == {own}
        ours.close()
        theirs.close()


def test_faults_are_counted_and_checked():
    faults = Faults()
    faults.arm("html", times=2)
    assert [faults.find(Kind.HTML) is not None for _ in range(3)] == [True, True, False]
    faults.arm("drop", step=5)
    assert faults.find(Kind.DROP, step=4) is None
    assert faults.find(Kind.DROP) is None
    assert faults.find(Kind.DROP, step=5) is not None
    with pytest.raises(ValueError):
        Fault.from_json({"kind": "unheard of"})
    with pytest.raises(ValueError):
        Fault.from_json({"kind": "html", "often": 1})
    assert Fault.from_json(Fault(Kind.LEAK, 5.0).to_json()) == Fault(Kind.LEAK, 5.0)


def test_a_script_names_the_field_at_fault():
    assert Script.from_json({"step_seconds": 1, "models": {"vae": ["a"]}}).models == {"vae": ("a",)}
    for data, word in (
        ({"speed": 1}, "speed"),
        ({"models": 3}, "models"),
        ({"previews": 1}, "previews"),
    ):
        with pytest.raises(ValueError, match=word):
            Script.from_json(data)

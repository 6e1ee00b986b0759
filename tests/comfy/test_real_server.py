"""Our client against a ComfyUI of the reader's own.

    FRAMEDECK_COMFYUI=http://127.0.0.1:8188 python3 -m pytest tests/comfy/test_real_server.py

names a server that runs and has a checkpoint (any one; on a CPU a tiny one is best).
With `--preview-method latent2rgb` it sends previews, which are looked at then.
FRAMEDECK_COMFYUI_COMMAND starts another one, which is killed in the tests: a command
line with `{port}` in it, such as "python /opt/ComfyUI/main.py --cpu --port {port}".
Without these variables the tests are deselected.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from core.engines.comfy.client import ComfyEngine
from core.engines.comfy.http import Server
from core.engines.comfy.latents import whole
from core.engines.comfy.parts import Parts
from core.errors import Category
from core.events import (
    Event,
    Failed,
    Finished,
    FramesPublished,
    NodeStarted,
    Noted,
    Sampled,
    Stopped,
    WorkerStarted,
)
from core.jobs import Job
from core.outputs import verify_file
from tests.comfy.client_bench import drain, engine, free_port, job, run_until
from tests.comfy.conftest import ADDRESS, COMMAND
from tests.comfy.standin import trivial

pytestmark = pytest.mark.comfyui
SEEDS = itertools.count(int(time.time()))


@pytest.fixture(scope="module")
def address() -> str:
    return os.environ[ADDRESS]


@pytest.fixture
def server(address: str) -> Iterator[Server]:
    made = Server(address)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (made.queue().running or made.queue().pending):
        time.sleep(0.2)
    yield made
    made.close()


@pytest.fixture
def comfy(server: Server) -> Iterator[ComfyEngine]:
    made = engine(server.base)
    yield made
    made.close()


def sampling(server: Server, steps: int = 6, size: int = 64, batch: int = 1) -> dict[str, Any]:
    """A graph from words to a picture, unlike any before."""
    names = server.models("checkpoints")
    assert names, "the server has no checkpoint"
    # A tiny one is enough, and quick.
    name = next((name for name in names if "tiny" in name), names[0])
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a red ball"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "4": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": size, "height": size, "batch_size": batch},
        },
        "5": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["3", 0],
                "latent_image": ["4", 0],
                "seed": next(SEEDS),
                "steps": steps,
                "cfg": 4.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {
            "class_type": "SaveImage",
            "inputs": {"images": ["6", 0], "filename_prefix": "framedeck-test"},
        },
    }


def finished(seen: list[Event]) -> Finished:
    assert isinstance(seen[-1], Finished), seen[-1]
    assert verify_file(seen[-1].output.path).ok
    return seen[-1]


def steps_of(seen: list[Event]) -> list[int]:
    return [event.step for event in seen if isinstance(event, Sampled)]


def submit(server: Server, graph: dict[str, Any], client: str = "somebody else") -> str:
    body = {"prompt": graph, "client_id": client}
    answer = requests.post(server.base + "/prompt", json=body, timeout=10)
    answer.raise_for_status()
    return str(answer.json()["prompt_id"])


def ended_well(server: Server, prompt: str, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = server.history(prompt)
        if found is not None:
            return found.end.value == "success"
        time.sleep(0.1)
    return False


# --- what it says of itself


def test_it_says_what_it_is(server: Server) -> None:
    stats = server.stats()
    assert stats.version
    assert stats.torch
    assert stats.ram_total_bytes
    print(f"ComfyUI {stats.version}, torch {stats.torch}, {stats.device}")


def test_all_its_nodes_are_understood(server: Server) -> None:
    from core.engines.comfy import graphs_faults

    info = server.object_info()
    assert {"KSampler", "VAEDecodeTiled", "SaveLatent", "LoadLatent"} <= set(info)
    assert graphs_faults.faults(sampling(server), info) == ()
    assert server.log() is not None
    assert "checkpoints" in server.model_folders()


# --- jobs


def test_a_picture_without_a_model(comfy: ComfyEngine, tmp_path: Path) -> None:
    color = next(SEEDS) % 0xFFFFFF
    ending = finished(drain(comfy.run(job(tmp_path, trivial(color, "framedeck-test")))))
    assert (ending.output.width, ending.output.height, ending.output.frames) == (64, 64, 1)


def test_words_become_a_picture_step_by_step(
    server: Server, comfy: ComfyEngine, tmp_path: Path
) -> None:
    graph = sampling(server, 8)
    seen = drain(comfy.run(job(tmp_path, graph)), 120)
    ending = finished(seen)
    assert isinstance(seen[0], WorkerStarted)
    assert steps_of(seen)[-1] == 8
    assert steps_of(seen) == sorted(set(steps_of(seen)))
    named = [event.title for event in seen if isinstance(event, NodeStarted)]
    kinds = [node["class_type"] for node in graph.values()]
    # Loading and encoding may be taken from its cache; the rest depends on the seed.
    assert [name for name in named if name in kinds[4:]] == kinds[4:]
    previews = [event for event in seen if isinstance(event, FramesPublished)]
    arguments = server.stats().arguments
    if "--preview-method" in arguments:
        assert previews, "the server was started with previews"
        assert previews[-1].width >= 8
    recipe = json.loads(Path(ending.output.recipe).read_text())
    assert recipe["graph"] == graph
    assert recipe["server"]["version"] == server.stats().version


@pytest.mark.parametrize("saver", ["SaveVideo", "SaveWEBM", "SaveAnimatedWEBP", "SaveAnimatedPNG"])
def test_clips_of_its_own_savers(
    server: Server, comfy: ComfyEngine, tmp_path: Path, saver: str
) -> None:
    graph = sampling(server, 1, size=128, batch=9)
    info = server.object_info()
    assert saver in info
    prefix = {"filename_prefix": "framedeck-test"}
    more: dict[str, Any] = {"images": ["6", 0], "fps": 8.0, **prefix}
    if saver == "SaveVideo":
        graph["8"] = {"class_type": "CreateVideo", "inputs": {"images": ["6", 0], "fps": 8.0}}
        more = {"video": ["8", 0], "format": "mp4", "codec": "h264", **prefix}
    elif saver == "SaveWEBM":
        more |= {"codec": "vp9", "crf": 20.0}
    elif saver == "SaveAnimatedWEBP":
        more |= {"lossless": False, "quality": 90, "method": "default"}
    else:
        more |= {"compress_level": 4}
    graph["7"] = {"class_type": saver, "inputs": more}
    ending = finished(drain(comfy.run(job(tmp_path, graph)), 120))
    output = ending.output
    assert (output.width, output.height, output.frames) == (128, 128, 9)
    assert output.fps == pytest.approx(8, rel=0.05)


def test_a_picture_is_uploaded_and_used(server: Server, comfy: ComfyEngine, tmp_path: Path) -> None:
    made = finished(drain(comfy.run(job(tmp_path, trivial(0x336699, "framedeck-test")))))
    name = server.upload("framedeck test.png", Path(made.output.path).read_bytes())
    graph = trivial(1, "framedeck-test")
    graph["1"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    graph["3"] = {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}
    graph["2"]["inputs"]["images"] = ["3", 0]
    # An earlier run of this test would be answered from the cache.
    graph["2"]["inputs"]["filename_prefix"] = f"framedeck-test-{next(SEEDS)}"
    finished(drain(comfy.run(job(tmp_path, graph))))


def test_a_refusal_is_told(server: Server, comfy: ComfyEngine, tmp_path: Path) -> None:
    graph = sampling(server)
    graph["1"]["inputs"]["ckpt_name"] = "not-there.safetensors"
    ending = drain(comfy.run(job(tmp_path, graph)))[-1]
    assert isinstance(ending, Failed)
    assert ending.problem.category is Category.MODEL_NOT_FOUND
    assert "not-there.safetensors" in ending.problem.message
    graph["1"]["class_type"] = "NoSuchNode"
    ending = drain(comfy.run(job(tmp_path, graph)))[-1]
    assert isinstance(ending, Failed)
    assert "NoSuchNode" in ending.problem.message
    assert ending.problem.category is Category.INVALID_PARAMS


def test_a_failing_node_is_told(server: Server, comfy: ComfyEngine, tmp_path: Path) -> None:
    name = server.upload("framedeck broken.png", b"this is no picture")
    graph = trivial(1, "framedeck-test")
    graph["1"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    ending = drain(comfy.run(job(tmp_path, graph)))[-1]
    assert isinstance(ending, Failed)
    assert ending.problem.message.startswith("The server failed in LoadImage: cannot identify")
    assert "Traceback" in ending.problem.details
    assert not list(tmp_path.glob("clips/*"))


# --- control


def test_a_cancel_stops_ours_and_leaves_others(
    server: Server, comfy: ComfyEngine, tmp_path: Path
) -> None:
    wanted = job(tmp_path, sampling(server, 300))
    events = comfy.run(wanted)
    run_until(events, lambda event: isinstance(event, Sampled))
    other = submit(server, trivial(next(SEEDS) % 0xFFFFFF, "framedeck-test"))
    assert [one.id for one in comfy.foreign()] == [other]
    began = time.monotonic()
    comfy.cancel(wanted.id)
    assert isinstance(drain(events)[-1], Stopped)
    assert time.monotonic() - began < 5
    assert ended_well(server, other)
    record = server.history(wanted.id)
    assert record is not None
    assert record.end.value == "interrupted"


def test_one_that_waits_is_deleted(server: Server, comfy: ComfyEngine, tmp_path: Path) -> None:
    other = submit(server, sampling(server, 15))
    wanted = job(tmp_path, trivial(next(SEEDS) % 0xFFFFFF))
    events = comfy.run(wanted)
    run_until(events, lambda event: isinstance(event, Noted) and "before this one" in event.text)
    comfy.cancel(wanted.id)
    assert isinstance(drain(events)[-1], Stopped)
    assert ended_well(server, other)
    assert server.history(wanted.id) is None


def test_memory_is_freed_between_prompts(
    server: Server, comfy: ComfyEngine, tmp_path: Path
) -> None:
    events = comfy.run(job(tmp_path, sampling(server, 12)))
    run_until(events, lambda event: isinstance(event, Sampled))
    told: list[float] = []
    found = []
    thread = threading.Thread(
        target=lambda: found.append(comfy.free(waiting=lambda: told.append(time.monotonic())))
    )
    thread.start()
    finished(drain(events, 120))
    thread.join(60)
    assert len(told) == 1
    assert found[0].waited_seconds > 0
    assert found[0].ram_bytes is not None
    assert found[0].words()
    # Nothing is in its cache any more: all nodes run again.
    seen = drain(comfy.run(job(tmp_path, sampling(server, 2))), 120)
    names = [event.title for event in seen if isinstance(event, NodeStarted)]
    assert "CheckpointLoaderSimple" in names


def as_if_killed(comfy: ComfyEngine, events: Iterator[Event]) -> None:
    """Let an engine go without a word to the server."""
    run = comfy._run
    assert run is not None
    run._hang_up()
    run._sent = False
    events.close()  # type: ignore[attr-defined]


def test_a_later_start_takes_the_job_over(server: Server, tmp_path: Path) -> None:
    first, second = engine(server.base), engine(server.base)
    wanted = job(tmp_path, sampling(server, 30))
    events = first.run(wanted)
    run_until(events, lambda event: isinstance(event, Sampled))
    as_if_killed(first, events)
    first.close()
    began = time.monotonic()
    again = second.resume(wanted)
    seen = run_until(again, lambda event: isinstance(event, Sampled))
    assert time.monotonic() - began < 5
    seen += drain(again, 120)
    assert finished(seen).output.path.startswith(str(tmp_path))
    second.close()


# --- decoding


def test_latents_are_kept_and_decoded_apart(server: Server, tmp_path: Path) -> None:
    comfy = engine(server.base, checkpoint=True)
    graph = sampling(server, 4)
    wanted = job(tmp_path, graph)
    seen = drain(comfy.run(wanted), 120)
    finished(seen)
    parts = Parts(wanted, graph, checkpoint=True)
    assert all(whole(server, remote) for remote in parts.expect())
    assert steps_of(seen)[-1] == 4
    # As after a failed decode and a restart of the server: only its file is left.
    server.forget([wanted.id, *parts.later()])
    seen = drain(comfy.run(wanted), 120)
    finished(seen)
    assert steps_of(seen) == []
    assert any("nothing is sampled again" in e.text for e in seen if isinstance(e, Noted))
    comfy.close()


def test_tiles_give_the_same_size(server: Server, comfy: ComfyEngine, tmp_path: Path) -> None:
    from core.engines.comfy import decode

    graph = decode.tile(sampling(server, 1, size=320), decode.SMALL)
    ending = finished(drain(comfy.run(job(tmp_path, graph)), 120))
    assert (ending.output.width, ending.output.height) == (320, 320)


# --- its death


class Own:
    """A server that is started here, and killed."""

    def __init__(self, command: str, log: Path) -> None:
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self._words = [word.replace("{port}", str(self.port)) for word in shlex.split(command)]
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 120.0) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._words, stdout=log, stderr=log)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(requests.RequestException):
                if requests.get(self.base + "/queue", timeout=2).ok:
                    return
            assert self.process.poll() is None, self._log.read_text()[-2000:]
            time.sleep(0.25)
        raise AssertionError("the server does not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    made = Own(os.environ[COMMAND], tmp_path / "log.txt")
    made.start()
    yield made
    made.kill()


def own_job(server: Server, folder: Path, steps: int) -> Job:
    return job(folder, sampling(server, steps))


@pytest.mark.comfyui(own=True)
@pytest.mark.timeout(600)
def test_a_killed_server_loses_the_job_and_serves_the_next(own: Own, tmp_path: Path) -> None:
    server = Server(own.base)
    comfy = engine(own.base)
    wanted = own_job(server, tmp_path, 500)
    events = comfy.run(wanted)
    run_until(events, lambda event: isinstance(event, Sampled) and event.step >= 2)
    own.kill()
    own.start()
    back = time.monotonic()
    ending = drain(events, 120)[-1]
    assert isinstance(ending, Failed)
    assert ending.lost
    assert time.monotonic() - back < 15
    assert server.queue().running == ()
    assert server.history(wanted.id) is None, "it was not sent again"
    assert isinstance(drain(comfy.run(own_job(server, tmp_path, 2)), 120)[-1], Finished)
    comfy.close()
    server.close()


@pytest.mark.comfyui(own=True)
@pytest.mark.timeout(600)
def test_latents_outlive_the_server(own: Own, tmp_path: Path) -> None:
    server = Server(own.base)
    comfy = engine(own.base, checkpoint=True)
    wanted = own_job(server, tmp_path, 3)
    events = comfy.run(wanted)
    run_until(events, lambda event: isinstance(event, NodeStarted) and event.title == "VAEDecode")
    own.kill()
    own.start()
    drain(events, 120)
    seen = drain(comfy.run(wanted), 120)
    finished(seen)
    assert steps_of(seen) == []
    comfy.close()
    server.close()

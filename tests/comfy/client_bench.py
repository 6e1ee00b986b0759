"""Servers to test the client against, and jobs for them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from core.engines.comfy.client import ComfyEngine, Options, Patience
from core.engines.comfy.outputs import Checks
from core.engines.comfy.reconcile import client_of
from core.events import Ending, Event
from core.jobs import Job

ROOT = Path(__file__).parents[2]
QUICK = Checks(window_seconds=0.05, settle_seconds=0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A server in a process of its own, on a port that stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "server"
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.comfy.small_server", "--port", str(self.port)]
        self.process = subprocess.Popen([*command, "--folder", str(self.folder)], cwd=ROOT)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(requests.RequestException):
                requests.get(self.base + "/queue", timeout=1)
                return
            time.sleep(0.02)
        raise AssertionError("the server does not start")

    @property
    def pid(self) -> int | None:
        alive = self.process is not None and self.process.poll() is None
        return self.process.pid if alive and self.process is not None else None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def fault(self, **given: Any) -> dict[str, Any]:
        """Let it do something wrong; return what it saw so far."""
        return requests.post(self.base + "/test", json=given, timeout=5).json()

    def get(self, path: str) -> Any:
        return requests.get(self.base + path, timeout=5).json()

    def post_as(self, what: Job) -> None:
        """Queue the prompt of a job, as an earlier start of the program did."""
        body = {"prompt": json.loads(str(what.params["graph"])), "prompt_id": what.id}
        body["client_id"] = client_of(what.id)
        requests.post(self.base + "/prompt", json=body, timeout=5).raise_for_status()

    def post_other(self, graph: dict[str, Any], client: str = "browser") -> str:
        """Queue a prompt as another client."""
        body = {"prompt": graph, "client_id": client}
        return str(requests.post(self.base + "/prompt", json=body, timeout=5).json()["prompt_id"])


def engine(base: str, **given: Any) -> ComfyEngine:
    options = {"checks": QUICK, "patience": Patience(grace=2.0, away=20.0), "free_every": 0}
    return ComfyEngine(base, options=Options(**{**options, **given}))


def graph(
    steps: int = 3, step_seconds: float = 0.01, saver: str = "SaveVideo", **more: Any
) -> dict[str, Any]:
    sampler = {"steps": steps, "step_seconds": step_seconds}
    own = ("previews", "raise", "per_tick", "tick_seconds")
    sampler |= {key: more.pop(key) for key in own if key in more}
    wait = more.pop("decode_seconds", 0)
    load = more.pop("load_seconds", 0)
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"seconds": load}},
        "2": {
            "class_type": "KSampler",
            "inputs": {"model": ["1", 0], **sampler},
            "_meta": {"title": "Sampler"},
        },
        "3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0], "seconds": wait}},
        "4": {"class_type": saver, "inputs": {"images": ["3", 0], **more}},
    }


def job(folder: Path, what: dict[str, Any] | str | None = None, **params: Any) -> Job:
    key = str(uuid.uuid4())
    text = what if isinstance(what, str) else json.dumps(what or graph())
    return Job(
        id=key,
        recipe="mine",
        engine="comfy",
        family="mine",
        title="a test",
        params={"graph": text, "seed": 7, "fps": 8, **params},
        model="",
        output=str(folder / "clips" / f"clip-{key[:8]}.mp4"),
        created_at=time.time(),
    )


def drain(events: Iterator[Event], until: float = 60) -> list[Event]:
    """Return all events, having made sure that exactly one ending is last."""
    seen: list[Event] = []
    began = time.monotonic()
    for event in events:
        seen.append(event)
        assert time.monotonic() - began < until, seen[-5:]
    assert [event for event in seen if isinstance(event, Ending)] == seen[-1:]
    return seen


def run_until(events: Iterator[Event], wanted: Callable[[Event], bool]) -> list[Event]:
    seen: list[Event] = []
    for event in events:
        seen.append(event)
        if wanted(event):
            return seen
    raise AssertionError(f"never came: {seen}")

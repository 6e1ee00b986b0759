"""A folder that looks like ComfyUI and starts the stand-in server as a real process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from core.engines.comfy.known import KnownServer
from core.engines.comfy.process import ServerProcess

ROOT = Path(__file__).resolve().parents[2]

MAIN = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
here = Path(__file__).resolve().parent
(here / "seen.json").write_text(json.dumps(
    {"env": dict(os.environ), "argv": sys.argv, "cwd": os.getcwd(), "path": sys.path}))
starts = here / "starts"
starts.write_text((starts.read_text() if starts.exists() else "") + "x")
plan = json.loads((here / "plan.json").read_text())
print("Total VRAM 24576 MB", flush=True)
for line in plan["says"]:
    print(line, flush=True)
if plan["children"]:
    quiet = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, "
             "signal.SIG_IGN); time.sleep(600)"]
    subprocess.Popen(quiet)
    # One that no longer is a child of anybody here.
    subprocess.run(["sh", "-c", 'exec "$@" &', "sh", *quiet])
if plan["deaf"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    while True:
        time.sleep(60)
if plan["stubborn"]:
    # As a process that waits for the driver: only SIGKILL ends it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if plan["burns"]:
    import threading
    def burn():
        while (here / "burns").exists():
            until = time.perf_counter() + 0.03
            while time.perf_counter() < until:
                pass
            time.sleep(0.01)
    threading.Thread(target=burn, daemon=True).start()
if plan["code"] is not None:
    sys.exit(plan["code"])
sys.path.insert(0, %(root)r)
import argparse, asyncio
parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--listen")
parser.add_argument("--lowvram", action="store_true")
parser.add_argument("--cuda-device")
options = parser.parse_args()
from core.engines.comfy.standin.script import Script
from core.engines.comfy.standin.server import StandIn
async def serve():
    script = Script.from_json(plan["script"])
    server = StandIn(here / "data", script, options.port, plan["token"])
    for fault in plan["faults"]:
        server.faults.arm(**fault)
    plain = server.submit
    def submit(said):
        with (here / "posted").open("a") as file:
            file.write(json.dumps({"start": len(starts.read_text()), **said}) + "\\n")
        return plain(said)
    server.submit = submit
    await server.start()
    print(f"To see the GUI go to: http://127.0.0.1:{options.port}", flush=True)
    await asyncio.Event().wait()
asyncio.run(serve())
"""


class FakeInstall:
    """A ComfyUI of its own on a port of its own.

    Attributes:
        server: How it is known.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        python = folder / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        # A link would lose the packages of the environment that runs the tests.
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        (folder / "main.py").write_text(MAIN % {"root": str(ROOT)})
        (folder / "folder_paths.py").touch()
        self.plan()
        self.server = KnownServer(f"http://127.0.0.1:{free_port()}", folder=str(folder))

    def plan(self, **given: Any) -> None:
        """Say what the next start does; what is left out goes well."""
        usual = {"says": [], "children": False, "deaf": False, "code": None, "script": {}}
        usual |= {"faults": [], "stubborn": False, "burns": False}
        path = self.folder / "plan.json"
        if given.get("burns"):
            (self.folder / "burns").touch()
        path.with_suffix(".part").write_text(json.dumps({**usual, "token": "t", **given}))
        path.with_suffix(".part").replace(path)

    def rest(self) -> None:
        """Let it compute no longer."""
        (self.folder / "burns").unlink()

    def known(self, **changed: Any) -> KnownServer:
        return replace(self.server, **changed)

    def seen(self) -> dict[str, Any]:
        """Return what it saw when it was started last."""
        found: dict[str, Any] = json.loads((self.folder / "seen.json").read_text())
        return found

    def posted(self) -> list[dict[str, Any]]:
        """Return what was sent to it, of all its starts; "start" says at which."""
        path = self.folder / "posted"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def starts(self) -> int:
        path = self.folder / "starts"
        return len(path.read_text()) if path.exists() else 0

    def alive(self) -> list[psutil.Process]:
        """Return its processes, also those that nobody is the parent of."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.cwd() == str(self.folder.resolve()):
                    found.append(process)
        return found

    def clean(self) -> None:
        for process in self.alive():
            with contextlib.suppress(psutil.Error):
                process.kill()
        wait(lambda: not self.alive(), 5)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait(done: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Return the first true thing that `done` returns."""
    deadline = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def installed(folder: Path) -> Iterator[tuple[FakeInstall, ServerProcess]]:
    """A fake install and its process, of which nothing is left after the block."""
    fake = FakeInstall(folder / "ComfyUI")
    process = ServerProcess(fake.server.base, folder / "state", folder / "logs")
    try:
        yield fake, process
    finally:
        with contextlib.suppress(Exception):
            process.stop(0.2)
        fake.clean()


def kill(pid: int, number: int) -> None:
    os.kill(pid, number)

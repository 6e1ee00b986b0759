"""No worker outlives its parent, however and whenever the parent dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from core.engines.local.process import CODE_ROOT
from tests.conftest import named_segments
from tests.core import faults

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

GONE_WITHIN_SECONDS = 2.0

PARENT = """
import sys
from pathlib import Path
from core.engines.local import families
from core.engines.local.client import LocalEngine
from core.jobs import new_job
import importlib.util

folder, faults, when, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
spec = importlib.util.spec_from_file_location("faults", faults)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
engine = LocalEngine(log=folder / "engine.log", extra_families=[faults])
if kind == "none":
    recipe = families.load("test_pattern").recipes(folder)[0]
    given = dict(width=1280, height=720, frames=64, steps=3, step_seconds=0.5)
else:
    recipe, given = module.recipes(folder)[0], dict(fault=kind, at=when)
for event in engine.run(new_job(recipe, given, folder / "clips")):
    name = type(event).__name__
    phase = getattr(event, "phase", "") if name == "PhaseStarted" else ""
    print(name, phase, engine.pid, flush=True)
"""


def start(folder: Path, when: str, kind: str) -> tuple[subprocess.Popen[str], int]:
    """Start a parent with a running job; return it and its worker's pid once it is there."""
    arguments = [str(folder), faults.__file__, when, kind]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=CODE_ROOT,
    )
    assert parent.stdout is not None
    wanted = "Noted" if kind in ("hang", "hold_gil") else f"PhaseStarted {when}"
    seen = []
    for line in parent.stdout:
        seen.append(line)
        if line.startswith(wanted):
            return parent, int(line.split()[-1])
    parent.communicate()
    log = folder / "engine.log"
    raise AssertionError(f"{wanted} never came: {seen} {log.read_text() if log.exists() else ''}")


def holders_of_rings() -> set[int]:
    """Return the processes that map a ring, as the kernel lists them."""
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if "framedeck-ring" in maps.read_text():
                found.add(int(maps.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("when", "kind"),
    [
        ("load", "none"),
        ("sample", "none"),
        ("decode", "none"),
        ("encode", "none"),
        ("load", "hold_gil"),
        ("sample", "hold_gil"),
        ("decode", "hold_gil"),
        ("sample", "hang"),
    ],
)
def test_the_worker_dies_with_its_parent(tmp_path: Path, when: str, kind: str) -> None:
    if kind == "hold_gil" and sys.platform != "linux":
        pytest.skip("only Linux' kernel ends a process that holds its own interpreter up")
    names = named_segments()
    parent, worker = start(tmp_path, when, kind)
    process = psutil.Process(worker)
    began = time.monotonic()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(5)
    # It may be a zombie of whoever adopted it: it runs no more and holds nothing.
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() - began < GONE_WITHIN_SECONDS, "an orphan"
        time.sleep(0.005)
    assert named_segments() <= names
    assert not {parent.pid, worker} & holders_of_rings()
    assert parent.stdout is not None
    parent.stdout.close()


def test_the_worker_survives_the_thread_that_started_it(tmp_path: Path) -> None:
    """Only the parent *process* counts, not the thread that happened to start the worker."""
    import threading

    from core.engines.local import families
    from core.engines.local.client import LocalEngine
    from core.events import Finished
    from core.jobs import new_job

    engine = LocalEngine(log=tmp_path / "engine.log")
    thread = threading.Thread(target=engine.warm_up)
    thread.start()
    thread.join()
    pid = engine.pid
    time.sleep(0.3)
    recipe = families.load("test_pattern").recipes(tmp_path)[0]
    given = {"width": 64, "height": 64, "frames": 8, "steps": 1, "step_seconds": 0}
    assert isinstance(list(engine.run(new_job(recipe, given, tmp_path)))[-1], Finished)
    assert engine.pid == pid
    engine.close()

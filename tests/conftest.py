"""What every test gets, and what none may leave behind."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, which processes started by the test use as well."""
    folder = tmp_path / "home"
    monkeypatch.setenv("FRAMEDECK_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves threads, processes or shared memory."""
    before = _held()
    yield
    deadline = time.monotonic() + 3.0
    while True:
        left = {kind: now - before[kind] for kind, now in _held().items()}
        if not any(left.values()):
            return
        if time.monotonic() > deadline:
            break
        gc.collect()
        time.sleep(0.02)
    raise AssertionError(
        f"left behind: { {kind: sorted(found) for kind, found in left.items() if found} }"
    )


def _held() -> dict[str, set[str]]:
    return {
        "threads": {f"{thread.name} {thread.ident}" for thread in threading.enumerate()},
        "native threads": _named_threads(),
        "processes": _children(),
        "shared memory": _segments(),
    }


def _children() -> set[str]:
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            found.add(f"{child.pid} {' '.join(child.cmdline())[:120]}")
        except psutil.Error:
            continue
    return found


def _segments() -> set[str]:
    """Named segments, and anonymous ones that this process holds open."""
    if not sys.platform.startswith("linux"):
        return set()
    found = {str(path) for path in Path("/dev/shm").iterdir()}
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = link.readlink()
        except OSError:
            continue
        if "memfd:" in str(target):
            found.add(f"{link.name} {target}")
    return found


def _named_threads() -> set[str]:
    """QThreads carry their object name in the kernel's list of threads."""
    if not sys.platform.startswith("linux"):
        return set()
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
        except OSError:
            continue
        if name.startswith(("job ", "sampler", "clip", "release", "QThread")):
            found.add(f"{name} {task.name}")
    return found

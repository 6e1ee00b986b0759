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
from hypothesis import HealthCheck, settings

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# No test speaks with the keyring of whoever runs it.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
# Several shares run at once: how long an example takes says nothing of what it shows.
settings.register_profile("shares", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shares")
ROOT = Path(__file__).resolve().parent.parent
# Nor finds it models of whoever runs it.
os.environ["HF_HUB_CACHE"] = str(ROOT / "no-cache")
POOLS = ("pt_", "av:", "cuda", "QDBus", "Thread (pooled)")
"""Threads that libraries start by a name of their own and keep."""
LEAVE_SECONDS = float(os.environ.get("FRAMEDECK_LEAK_SECONDS", "3"))
"""How long what a test left may take to go by itself."""
REHEARSED = "framedeck-rehearsed-"
"""Shared memory that a test of this file leaves on purpose, while other shares of tests run."""
REHEARSAL = "FRAMEDECK_LEAK_REHEARSAL" in os.environ
FAILED = os.environ.pop("FRAMEDECK_FAILED_TESTS", "")
"""File that takes a line for each test that failed; tests that start pytest have none."""


def pytest_collection_finish() -> None:
    """What was imported so far stays: no later look for garbage needs to walk through it."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name what failed to who runs the shares."""
    if report.failed and FAILED:
        with Path(FAILED).open("a", encoding="utf-8") as file:
            file.write(f"{report.nodeid}\n")


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
    deadline = time.monotonic() + LEAVE_SECONDS
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
        "threads": {
            f"{thread.name} {thread.ident}"
            for thread in threading.enumerate()
            # Python 3.11 keeps these for ever, however short the thread that logged lived.
            if not isinstance(thread, threading._DummyThread)
        },
        "native threads": _named_threads(),
        "processes": _children(),
        "shared memory": _segments(),
    }


def _children() -> set[str]:
    if _has_no_child():
        return set()
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            found.add(f"{child.pid} {' '.join(child.cmdline())[:120]}")
        except psutil.Error:
            continue
    return found


def _has_no_child() -> bool:
    """Ask the kernel, which knows at once; to look through all processes costs each test more
    than most tests do. One that ended and was not waited for is still a child.
    """
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _segments() -> set[str]:
    """Named segments, and anonymous ones that this process holds open."""
    if not sys.platform.startswith("linux"):
        return set()
    found = named_segments()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = link.readlink()
        except OSError:
            continue
        if "memfd:" in str(target):
            found.add(f"{link.name} {target}")
    return found


def named_segments() -> set[str]:
    """Return shared memory that has a name.

    It counts unless it is another program's: another user's, or held by a process that this
    one did not start, such as another share of tests. One that nobody holds is a leak.
    """
    folder = Path("/dev/shm")
    names = {path.name for path in folder.iterdir() if _is_ours(path)} if folder.exists() else set()
    return names - _held_by_others(names) if names else set()


def _is_ours(path: Path) -> bool:
    if path.name.startswith(REHEARSED) and not REHEARSAL:
        return False
    try:
        return path.stat().st_uid == os.getuid()
    except OSError:
        return False


def _held_by_others(names: set[str]) -> set[str]:
    """Return those names that a process outside of this one's family maps or has open."""
    family = {os.getpid(), *(p.pid for p in psutil.Process().children(recursive=True))}
    held = set()
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) in family:
            continue
        try:
            maps = (folder / "maps").read_text()
            places = [line.split(maxsplit=5)[-1] for line in maps.splitlines()]
            places += [str(link.readlink()) for link in (folder / "fd").iterdir()]
        except OSError:
            continue
        held |= names & {p.strip()[9:] for p in places if p.startswith("/dev/shm/")}
    return held


def _named_threads() -> set[str]:
    """Return threads of the kernel's list that bear a name: QThreads bear their object's.

    Pools of libraries, which stay for their process' life, have the name of the program.
    """
    if not sys.platform.startswith("linux"):
        return set()
    program = (Path("/proc/self/comm")).read_text().strip()
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
        except OSError:
            continue
        if name != program and not name.startswith(POOLS):
            found.add(f"{name} {task.name}")
    return found

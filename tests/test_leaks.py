"""A test that leaves a thread, a process or shared memory fails; another program's does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REHEARSED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and /dev/shm")
ROOT = Path(__file__).resolve().parent.parent

LEAKS = """
import ctypes, os, subprocess, sys, threading, time
kept = []

def test_thread():
    threading.Thread(target=time.sleep, args=(1,), name="left", daemon=True).start()

def test_qthread(qtbot):
    from app.pump import Pump
    began = threading.Event()
    def source():
        began.set()
        time.sleep(1)
        yield 1
    pump = Pump(source, "some pump")
    kept.append(pump)
    pump.start()
    assert began.wait(10)

def test_process():
    kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"]))

def test_named_memory():
    with open("/dev/shm/framedeck-rehearsed-leak-%d" % os.getpid(), "wb") as file:
        file.write(b"x")

def test_memory_of_a_dead_child():
    name = "/dev/shm/framedeck-rehearsed-child-%d" % os.getpid()
    subprocess.run([sys.executable, "-c", "open(%r, 'wb')" % name], check=True)

def test_anonymous_memory():
    kept.append(os.memfd_create("framedeck-ring"))

def test_warning():
    import warnings
    warnings.warn("taken for an error")

def test_qt_warning(qtbot):
    from PySide6.QtCore import qWarning
    qWarning("taken for an error too")
"""


@pytest.fixture
def foreign() -> Iterator[str]:
    """Shared memory of a program that is none of ours: its parent has gone away."""
    code = (
        "import os, sys, time\n"
        "from multiprocessing import shared_memory\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "m = shared_memory.SharedMemory(create=True, size=64)\n"
        "sys.stdout.write(m.name + ' ' + str(os.getpid()) + '\\n'); sys.stdout.flush()\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    name, pid = process.stdout.readline().split()
    process.wait(10)
    yield name
    os.kill(int(pid), 9)
    process.stdout.close()
    Path("/dev/shm", name).unlink(missing_ok=True)


def test_each_kind_of_leak_fails_its_test(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(LEAKS)
    (tmp_path / "conftest.py").write_text("from tests.conftest import nothing_left_behind\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"),
         "--rootdir", str(tmp_path), str(tmp_path / "test_sample.py")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FRAMEDECK_LEAK_SECONDS": "0.2",
             "FRAMEDECK_LEAK_REHEARSAL": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    for path in Path("/dev/shm").glob(f"{REHEARSED}*"):
        path.unlink()
    assert done.returncode == 1, done.stdout
    summary = [line.split(" - ")[0] for line in done.stdout.splitlines()]
    for name in ("thread", "qthread", "process", "named_memory", "memory_of_a_dead_child",
                 "anonymous_memory"):  # fmt: skip
        found = [line for line in summary if line.endswith(f"::test_{name}")]
        assert [line.split()[0] for line in found] == ["ERROR"], f"{name}\n{done.stdout}"
    for name in ("warning", "qt_warning"):
        found = [line for line in summary if line.endswith(f"::test_{name}")]
        assert [line.split()[0] for line in found] == ["FAILED"], f"{name}\n{done.stdout}"


def test_memory_of_another_program_is_not_counted(foreign: str) -> None:
    from tests.conftest import _segments

    assert Path("/dev/shm", foreign).exists()
    assert foreign not in _segments()
    own = Path("/dev/shm", f"framedeck-own-{os.getpid()}")
    own.write_bytes(b"x")
    assert own.name in _segments()
    own.unlink()

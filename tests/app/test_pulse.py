"""What is read of a process that computes, reads, waits for a child, or does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from app import pulse
from app.pulse import Beat, Pulse, calls_of

BURN = "while True: pass"
REST = "import time; time.sleep(60)"
READ = "import time\nwhile True:\n open({!r}, 'rb').read()\n time.sleep(0.05)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"


@contextmanager
def beats(code: str) -> Iterator[Pulse]:
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        made = Pulse()
        made(process.pid)
        yield made
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for child in family:
            child.kill()


def last(made: Pulse, seconds: float = 0.8) -> Beat:
    """Return the last of some beats."""
    process, found, until = made._process.pid, Beat(), time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.2)
        found = made(process)
    return found


def test_one_that_does_nothing_is_still() -> None:
    with beats(REST) as made:
        first, second = last(made, 1.0), last(made, 0.5)
        assert second.cpu_percent is not None
        assert second.cpu_percent < pulse.IDLE_PERCENT
        assert (second.rss_bytes, second.io_bytes) == (first.rss_bytes, first.io_bytes)
        assert second.calls == 0.0
        assert second.rss_bytes


def test_one_that_only_waits_for_its_child_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler runs in a process of its own."""
    monkeypatch.setattr(pulse, "SEEK_SECONDS", 0.1)
    with beats(PARENT) as made:
        until = time.monotonic() + 10.0
        while (last(made, 0.4).cpu_percent or 0.0) <= pulse.IDLE_PERCENT:
            assert time.monotonic() < until, "the child's work was not seen"


def test_one_that_reads_files_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(2_000_000))
    with beats(READ.format(str(path))) as made:
        first, second = last(made, 0.6), last(made, 0.6)
        assert first.io_bytes is not None
        assert second.io_bytes is not None
        assert second.io_bytes - first.io_bytes > 1e6


def test_nothing_is_said_of_one_that_is_gone() -> None:
    with beats(REST) as made:
        pid = made._process.pid
    assert made(pid) == Beat()
    assert Pulse()(pid) == Beat()


def test_only_calls_to_other_machines_count() -> None:
    def one(status: str, here: int, there: str) -> SimpleNamespace:
        away = SimpleNamespace(ip=there, port=443)
        return SimpleNamespace(status=status, laddr=SimpleNamespace(port=here), raddr=away)

    listens = SimpleNamespace(status=psutil.CONN_LISTEN, laddr=SimpleNamespace(port=8188), raddr=())
    up, gone = psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT
    clients = [one(up, 8188, "192.0.2.7"), one(up, 50000, "127.0.0.1"), one(up, 50001, "::1")]
    clients += [one(up, 50002, "::ffff:127.0.0.1"), one(gone, 50003, "192.0.2.9")]
    assert calls_of([listens, *clients]) == 0
    assert calls_of([listens, *clients, one(up, 50004, "192.0.2.9")]) == 1

"""The worker as an operating system process: its pipes, its surroundings, its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from time import monotonic, sleep
from typing import Any

from core.engines.local.lifeline import Lifeline
from core.engines.local.pipe import LineReader
from core.frozen import clean_environment, worker_source

CODE_ROOT = worker_source()
"""Plain files of ours, which the worker's Python imports whatever this one is."""

_JOIN_SECONDS = 2.5


class Child:
    """One worker process and its pipes.

    Attributes:
        lines: What it says.
        log_mark: Size of the log when it was started.
        vram_bytes: GPU memory it held when it last told, None if it never did.
        fresh: It was started for the job at hand.
    """

    def __init__(self, process: subprocess.Popen[bytes], lifeline: Lifeline, log_mark: int) -> None:
        self.process = process
        self.lifeline = lifeline
        self.log_mark = log_mark
        assert process.stdin is not None
        assert process.stdout is not None
        self.lines = LineReader(process.stdout.fileno())
        self.vram_bytes: int | None = None
        self.fresh = True
        self._writing = threading.Lock()

    def send(self, order: Mapping[str, Any]) -> None:
        """Write an order. Raises OSError when the worker is gone."""
        data = json.dumps(order, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        assert self.process.stdin is not None
        with self._writing:
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def kill(self) -> None:
        """End it for certain and wait for that; bounded, from any thread."""
        self.process.kill()
        self.lifeline.cut()
        # Popen.wait with a limit sleeps up to 50 ms at a time.
        deadline = monotonic() + _JOIN_SECONDS
        while self.process.poll() is None and monotonic() < deadline:
            sleep(0.001)

    def how_it_died(self) -> str:
        """Say in a few words how the process ended."""
        code = self.process.poll()
        if code is None:
            return "closed its pipe"
        if code >= 0:
            return f"ended with code {code}"
        try:
            return f"was killed by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            return f"was killed by signal {-code}"

    def rss_bytes(self) -> int:
        """Return the main memory it holds, 0 when it is gone."""
        import psutil

        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def close_pipes(self) -> None:
        """Close our ends; only whoever reads the lines may do so."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def worker_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the worker's environment: our code, no network, the system's own libraries.

    Args:
        base: Variables to start from; this process' own by default.
    """
    env = clean_environment(os.environ if base is None else base)
    for name in ("PYTHONHOME", "__PYVENV_LAUNCHER__"):  # They lead to another Python's packages.
        env.pop(name, None)
    env["PYTHONPATH"] = str(CODE_ROOT)
    env["PYTHONUTF8"] = "1"
    if sys.platform == "linux":
        # Keep freed blocks in the heap: torch asks for the same sizes every step, and
        # handing pages back each time cost 12 % of a job's CPU time. The worker's end
        # returns them all.
        env.setdefault("MALLOC_TRIM_THRESHOLD_", str(512 * 2**20))
        env.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 * 2**20))
        if not env.get("OMP_WAIT_POLICY"):
            # Threads that share a computation wait for each other awake, by default for
            # milliseconds: with the cores in other hands that is what they mostly did. Beside
            # four busy programs on two cores a starter clip takes 18 s instead of 46, alone
            # 1.08 s instead of 1.03. The pictures are the same to the last bit.
            env.setdefault("GOMP_SPINCOUNT", "10000")
    env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return env


def platform_options(fds: tuple[int, ...]) -> dict[str, Any]:
    """Return what Popen needs here to pass `fds` on and keep the worker apart."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW}
    # A session of its own: Ctrl-C and hang-ups of the terminal are the parent's to handle.
    return {"pass_fds": fds, "start_new_session": True}

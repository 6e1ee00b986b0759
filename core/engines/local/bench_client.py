"""The other side of the measuring process: torch stays in it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.engines.local.lifeline import Lifeline
from core.engines.local.process import CODE_ROOT, platform_options, worker_environment
from core.errors import Category, Problem, ProblemError

_TOLD_BYTES = 4000


class BenchProcess:
    """Measures jobs in a process of its own.

    Args:
        log: File for whatever it prints.
        interpreter: Python that has torch.
    """

    def __init__(self, log: Path, interpreter: str = sys.executable) -> None:
        self._log = log
        self._lifeline = Lifeline()
        command = [interpreter, "-m", "core.engines.local.bench_runs"]
        command += self._lifeline.arguments()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as printed:
            self._process: subprocess.Popen[str] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                cwd=CODE_ROOT,
                env=worker_environment(),
                text=True,
                **platform_options(self._lifeline.pass_fds),
            )
        self._lifeline.hold(self._process)

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to an order.

        Raises:
            ProblemError: What went wrong there, or that the process died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise ProblemError(
                Problem(
                    Category.WORKER_UNAVAILABLE,
                    "The measuring process ended by itself.",
                    f"What it printed is in {self._log}.",
                    self._log.read_text(encoding="utf-8", errors="replace")[-_TOLD_BYTES:],
                )
            )
        answer: dict[str, Any] = json.loads(line)
        if "problem" in answer:
            raise ProblemError(Problem.from_json(answer["problem"]))
        return answer

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._lifeline.cut()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

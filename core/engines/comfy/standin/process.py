"""A stand-in as a process: started, told what shall go wrong, killed, started again."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
from pathlib import Path
from typing import Any

from core.consoles import no_console
from core.engines.comfy.standin.faults import Fault, Kind
from core.frozen import bundle, own_module

_SECONDS = 10.0
_END_SECONDS = 10.0
_HEADER = "X-Standin-Token"


class StandInProcess:
    """Runs `core.engines.comfy.standin` apart; use it as a context manager.

    Args:
        folder: Where the server's output, input and temp lie.
        script: JSON file with fields of a script.

    Attributes:
        port: The same after each start.
    """

    def __init__(self, folder: Path, script: Path | None = None) -> None:
        self.folder = folder
        self.port = 0
        self._script = script
        self._token = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> StandInProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Such as "http://127.0.0.1:8188"."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process' id, None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, on the port that it had before; returns when it answers.

        Raises:
            OSError: It cannot be started, or ends at once.
        """
        self.close()
        words = ["--port", str(self.port), "--folder", str(self.folder), "--token", self._token]
        words += [] if self._script is None else ["--script", str(self._script)]
        self._process = subprocess.Popen(
            own_module("core.engines.comfy.standin", *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=bundle(),
            **no_console(),
        )
        line = self._process.stdout.readline() if self._process.stdout is not None else b""
        if not line:
            self.close()
            raise OSError("the stand-in server ended as soon as it was started")
        self.port = json.loads(line)["port"]

    def kill(self) -> None:
        """End it at once, as the machine would. Does nothing when there is none."""
        if self._process is not None:
            self._process.kill()
        self._gone()

    def close(self) -> None:
        """End it by closing its input; twice is fine."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._gone()

    def _gone(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def arm(self, kind: Kind | str, value: float = 0.0, **more: Any) -> None:
        """Let something go wrong; see `Fault` for the arguments. Raises OSError."""
        self._ask("POST", "faults", json=Fault(Kind(kind), value, **more).to_json())

    def disarm(self, kind: Kind | str = "") -> None:
        """Let nothing of this kind go wrong any more, or nothing at all. Raises OSError."""
        self._ask("DELETE", "faults", params={"kind": str(kind)})

    def memory(self) -> dict[str, Any]:
        """Return who holds how much, bytes by name, and whether a node is at work."""
        found: dict[str, Any] = self._ask("GET", "memory").json()
        return found

    def posted(self) -> dict[str, int]:
        """Return how often each prompt was sent, since the process began."""
        found: dict[str, int] = self._ask("GET", "posted").json()
        return found

    def submit(self, graph: dict[str, Any], client: str) -> str:
        """Queue a prompt as somebody else; returns its id."""
        data = {"prompt": graph, "client_id": client}
        return str(self._ask("POST", "submit", json=data).json()["prompt_id"])

    def set_models(self, **folders: list[str]) -> None:
        """Let folders hold these files from now on."""
        self._ask("PUT", "models", json=folders)

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        import requests  # Late: the window starts without it.

        where = f"{self.url}/standin/{path}"
        headers = {_HEADER: self._token}
        with requests.Session() as session:
            # It is on this machine: nothing that the environment names lies between.
            session.trust_env = False
            answer = session.request(method, where, headers=headers, timeout=_SECONDS, **more)
        answer.raise_for_status()
        return answer

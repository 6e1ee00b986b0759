"""A server on this machine as a process: started, found again, ended with all it started."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from core.engines.comfy import trees
from core.engines.comfy.install import command, environment, install_of
from core.engines.comfy.known import KnownServer
from core.engines.comfy.server_log import LogFile
from core.errors import Category, Problem, ProblemError

STOP_SECONDS = 5.0


class ServerProcess:
    """One local server's process. May be used from any thread.

    It is found again after Framedeck was ended or killed: a small file says which
    process it is and when that was created.

    Args:
        base: The server's address.
        folder: Where that file lies.
        logs: Where its log lies.

    Attributes:
        log: Whatever it prints.
    """

    def __init__(self, base: str, folder: Path, logs: Path) -> None:
        name = _file_name(base)
        self.base = base
        self.log = LogFile(logs / f"{name}.log")
        self._record = folder / f"{name}.json"
        self._lock = threading.RLock()
        self._popen: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._created = 0.0

    @property
    def pid(self) -> int | None:
        """The process, None while there is none that Framedeck started."""
        # Without the lock: a stop that goes on for seconds holds it.
        pid, created, popen = self._pid, self._created, self._popen
        if pid is None or (popen is not None and popen.poll() is not None):
            return None
        return pid if trees.is_same(pid, created) else None

    @property
    def was_started(self) -> bool:
        """Whether it was started and not stopped; it may have ended by itself since."""
        return self._pid is not None

    def adopt(self) -> bool:
        """Find the process that an earlier start of Framedeck started; say whether there is one."""
        with self._lock:
            if self._pid is not None:
                return False
            try:
                said = json.loads(self._record.read_text("utf-8"))
                pid, created = int(said["pid"]), float(said["created"])
                good = said["base"] == self.base and trees.is_same(pid, created)
            except (OSError, ValueError, KeyError, TypeError):
                return False
            if good:
                self._pid, self._created = pid, created
            else:
                self._record.unlink(missing_ok=True)
            return good

    def start(self, server: KnownServer, variables: Mapping[str, str] | None = None) -> int:
        """Start it; returns the process as soon as it exists, long before it answers.

        Args:
            server: What to start.
            variables: Environment to clean; this process' own by default.

        Raises:
            ProblemError: It runs already, its port is taken, or something is not there.
        """
        with self._lock:
            if self.pid is not None:
                raise _refused(f"{server.name} runs already.", "Restart it instead.")
            install = install_of(server)
            who = trees.holder(server.port)
            if who is not None:
                raise _refused(
                    f"Port {server.port} is taken by {who.words()}.",
                    "Use that server as it is, end it, or give this one another port.",
                    field="base",
                )
            words = command(server, install)
            try:
                with self.log.open() as log:
                    now = datetime.now().astimezone().isoformat(" ", "seconds")
                    log.write(f"--- {now} Framedeck starts {' '.join(words)}\n".encode())
                    log.flush()
                    self._popen = subprocess.Popen(
                        words,
                        cwd=install.folder,
                        env=environment(variables),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        **_apart(),
                    )
            except OSError as error:
                raise ProblemError(
                    Problem(
                        Category.WORKER_UNAVAILABLE,
                        f"{server.name} cannot be started: {error.strerror or error}.",
                        "Check that its Python can be run and that the log can be written.",
                        details=f"{' '.join(words)}\n{self.log.path}",
                    )
                ) from error
            pid = self._popen.pid
            self._created = trees.created_at(pid) or datetime.now().timestamp()
            self._pid = pid
            self._remember()
            return pid

    def ended(self) -> str:
        """Return how it ended by itself, in a few words; "" while it runs or was stopped.

        What it started and left behind is ended, and it is forgotten.
        """
        with self._lock:
            if self._pid is None or self.pid is not None:
                return ""
            trees.end(self._pid, self._created, grace_seconds=0.5)
            how = _how(self._popen.poll() if self._popen is not None else None)
            self._forget()
            return how

    def stop(self, grace_seconds: float = STOP_SECONDS) -> None:
        """End it and all it started, bounded by a little more than `grace_seconds`.

        Raises:
            ProblemError: Something of it cannot be ended.
        """
        with self._lock:
            if self._pid is None:
                return
            pid, gone = self._pid, trees.end(self._pid, self._created, grace_seconds)
            if self._popen is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._popen.wait(0.5)
            if not gone:
                raise _stays(pid)
            self._forget()

    def let_go(self) -> None:
        """Leave it running when Framedeck ends; `adopt` finds it again."""
        with self._lock:
            if self._popen is not None and self._popen.poll() is None:
                # It is meant to outlive us; subprocess would complain of that.
                self._popen.returncode = 0
            self._popen = self._pid = None

    def _remember(self) -> None:
        part = self._record.with_suffix(".part")
        said = {"base": self.base, "pid": self._pid, "created": self._created}
        with contextlib.suppress(OSError):  # It then is not found again, and that is all.
            self._record.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(said), encoding="utf-8")
            part.replace(self._record)

    def _forget(self) -> None:
        self._popen = self._pid = None
        with contextlib.suppress(OSError):
            self._record.unlink(missing_ok=True)


def stop_other(server: KnownServer, grace_seconds: float = STOP_SECONDS) -> None:
    """End a server that somebody else started from the folder that is known of it.

    Raises:
        ProblemError: It is not found, or is another program.
    """
    who = next((one for one in trees.running() if one.port == server.port), None)
    if who is None or not server.folder or not _same(who.folder, server.folder):
        raise _refused(
            f"Framedeck did not start {server.name} and does not find its process.",
            "Stop it where it was started, or choose its folder under Edit.",
        )
    created = trees.created_at(who.pid)
    if created is not None and not trees.end(who.pid, created, grace_seconds):
        raise _stays(who.pid)


def _same(one: str, other: str) -> bool:
    try:
        return Path(one).resolve() == Path(other).expanduser().resolve()
    except OSError:
        return False


def _apart() -> dict[str, Any]:
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        return {"creationflags": flags}
    # A session of its own: Ctrl-C and hang-ups of the terminal are ours to handle, and
    # all that it starts can be found by it.
    return {"start_new_session": True}


def _how(code: int | None) -> str:
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was killed by signal {-code}"


def _file_name(base: str) -> str:
    """Return a name for files of a server: readable, safe, and of no other server."""
    parts = urlsplit(base)  # A password of the address has no place in it.
    shown = f"{parts.hostname}-{parts.port or parts.scheme}"
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in shown)
    return f"{safe[-40:].strip('-')}-{sha256(base.encode()).hexdigest()[:8]}"


def _refused(message: str, hint: str, field: str | None = None) -> ProblemError:
    return ProblemError(Problem(Category.WORKER_UNAVAILABLE, message, hint, field=field))


def _stays(pid: int) -> ProblemError:
    return _refused(
        f"Process {pid} or what it started does not end.",
        "The driver may hold it; wait a minute, else restart the machine.",
    )

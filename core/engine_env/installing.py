"""Install an environment: fetch, build beside, prove, then switch.

It may be killed at any moment. What was fetched is checked and used again; an environment
counts only once its stamp is written, which is the last thing before the switch, and a
half one is removed by the next try.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from core import frozen
from core.engine_env import checking, download, locks, planning, problems, pythons, running
from core.engine_env.alone import alone, busy
from core.engine_env.layout import LOCK_COPY, Layout
from core.engine_env.locks import Lock, Picked, Wheel
from core.engine_env.planning import Choice
from core.engine_env.problems import StoppedError
from core.engine_env.steps import (
    FETCH,
    INSTALL,
    PYTHON,
    VERIFY,
    WAIT,
    Cancelled,
    Done,
    Progress,
    Step,
    Told,
)
from core.errors import ProblemError

if TYPE_CHECKING:
    from core.places import Places

BATCH_BYTES = 256 * 1024**2
"""About so much is unpacked by one run of the installing program: progress is told between."""


def install(
    places: Places,
    choice: Choice,
    cancelled: Callable[[], bool] = lambda: False,
    folder: Path | None = None,
    back_off_seconds: float = download.BACK_OFF_SECONDS,
) -> Iterator[Step]:
    """Install what fits, as `core.engine_env.install` says.

    Args:
        places: Where it comes to lie.
        choice: What a person chose.
        cancelled: Asked several times a second; True ends it with `Cancelled`.
        folder: Where lock files lie; None for those that came with the program.
        back_off_seconds: As `download.Fetcher` takes it.
    """
    planning.check(choice)
    picked = planning.pick(choice, folder)
    lock = locks.load(picked.path, picked.tag)
    if not picked.fits:
        yield Told(picked.why)
    layout = Layout.of(places)
    if not choice.again and _repair_begun(layout, lock):
        # It mends what is here; to install would throw that away and fetch all of it again.
        from core.engine_env.repairing import repair

        yield from repair(places, choice, cancelled)
        return
    job = Installation(layout, picked, lock, choice, cancelled)
    job.back_off_seconds = back_off_seconds
    try:
        yield from job.run()
    except StoppedError:
        yield Cancelled(job.layout.kept_bytes())
    except OSError as error:
        raise problems.storage(error, job.layout.root) from error


def _repair_begun(layout: Layout, lock: Lock) -> bool:
    """Say whether a repair of what this very lock made was cut off, and can go on."""
    from core.engine_env.repairing import can_mend

    begun, (name, _) = layout.work(), layout.chosen()
    stamp = begun.get("stamp")
    return (
        begun.get("kind") == "repair"
        and begun.get("name") == name
        and isinstance(stamp, dict)
        and stamp.get("lock") == lock.sha256
        and layout.stamp(name) is None
        and can_mend(layout, name, stamp)
    )


class Installation:
    """One run of it.

    Args:
        layout: Where it comes to lie.
        picked: The lock file, and why this one.
        lock: What it says.
        choice: What a person chose.
        cancelled: Ends it.
        hold: Descriptor of the lock that is held, which children inherit.
    """

    def __init__(
        self,
        layout: Layout,
        picked: Picked,
        lock: Lock,
        choice: Choice,
        cancelled: Callable[[], bool],
        hold: int | None = None,
    ) -> None:
        self.layout, self.lock = layout, lock
        self._picked, self._choice, self._cancelled = picked, choice, cancelled
        self._began = time.monotonic()
        self._hold = hold
        self.back_off_seconds = download.BACK_OFF_SECONDS

    def run(self) -> Iterator[Step]:
        """Do it all. Raises ProblemError, StoppedError, OSError."""
        if busy(self.layout.alone):
            yield Progress(WAIT)
        with alone(self.layout.alone, cancelled=self._cancelled) as hold:
            self._hold = hold
            name = self._there()
            if name:
                self.layout.switch(name)
                self.layout.tidy()
                yield self._done(name)
                return
            base = yield from self._base()
            made = planning.of(self.layout, self._picked, self.lock, base, self._choice)
            for half in self.layout.halves():
                # What a repair had begun on is mended by a new one; all the rest is here yet.
                self.layout.drop(half.name)
            made.check_space()
            self.layout.write_work({"kind": "install", "tag": self.lock.tag, **self._wishes()})
            wheels = self.lock.wheels(base.version)
            files = yield from self.files(wheels)
            name = self.layout.new_name(self.lock.tag, self.lock.sha256)
            target = self.layout.environment(name)
            try:
                yield from self._make(base, target)
                if not checking.runs(self.layout, name):
                    # What is installed now would come to lie in the Python that it was made with.
                    said = f"{self.layout.interpreter(name)} is not of its own folder"
                    raise problems.failed("Making the engine's environment", said)
                yield from self.unpack(wheels, files, target, base)
                yield from self.finish(name, base, wheels)
            except (OSError, ProblemError, StoppedError):
                # A disk that became full stays full with it; what was fetched is kept.
                if self.layout.stamp(name) is None:
                    with suppress(OSError):
                        self.layout.drop(name)
                    shutil.rmtree(self.layout.uv_cache, ignore_errors=True)
                raise

    def _wishes(self) -> dict[str, str]:
        """Return what the next try would have to be told again; a proxy may hold a password."""
        return {"wheels": str(self._choice.wheels or ""), "python": str(self._choice.python or "")}

    def _there(self) -> str:
        """Return the whole environment of this very lock, "" where there is none."""
        if self._choice.again:
            return ""
        for name in self.layout.names():
            stamp = self.layout.stamp(name) or {}
            same = stamp.get("lock") == self.lock.sha256
            if same and checking.runs(self.layout, name):
                return name
        return ""

    def _base(self) -> Generator[Step, None, pythons.Base]:
        yield Progress(PYTHON)
        base = planning.find_base(self.lock, self.layout, self._choice)
        if base is None:
            yield Told(
                "This computer has no Python that the engine can use, so one is fetched first."
            )
            for _ in pythons.fetch(
                self.lock.pythons, self.layout, self._choice.proxy, self._cancelled, self._hold
            ):
                yield Progress(PYTHON, "Python")
            base = pythons.find(self.lock.pythons, self.layout)
            if base is None:
                raise problems.no_python(" or ".join(self.lock.pythons))
        return base

    # -- files ----------------------------------------------------------------------

    def files(self, wheels: Sequence[Wheel]) -> Generator[Step, None, list[Path]]:
        """Bring all wheels here; returns their paths in the same order."""
        total = sum(wheel.size_bytes for wheel in wheels)
        fetcher = download.Fetcher(
            self.layout.wheels, self._choice.proxy, self._cancelled, self.back_off_seconds
        )
        done, paths = 0, []
        try:
            for index, wheel in enumerate(wheels):
                path = planning.offered(wheel, self._choice.wheels)
                if path is not None:
                    phase, source = VERIFY, download.verified(path, wheel, self._cancelled)
                else:
                    phase, source = FETCH, fetcher.fetch(wheel)
                    path = self.layout.wheels / wheel.filename
                for count in source:
                    yield Progress(phase, wheel.name, done + count, total, index, len(wheels))
                done += wheel.size_bytes
                paths.append(path)
                yield Progress(phase, wheel.name, done, total, index + 1, len(wheels))
        finally:
            fetcher.close()
        return paths

    # -- the environment --------------------------------------------------------------

    def _make(self, base: pythons.Base, target: Path) -> Iterator[Step]:
        yield Progress(INSTALL, "Python")
        # uv and a pip of the base work on an environment from outside; else it gets its own.
        without = frozen.uv() is not None or base.pip
        command = [base.path, "-I", "-m", "venv", *(["--without-pip"] if without else []), target]
        try:
            for _ in running.run(
                command, self.layout.log, cancelled=self._cancelled, hold=self._hold
            ):
                yield Progress(INSTALL, "Python")
        except running.FailedError as error:
            raise problems.failed("Making the engine's environment", str(error)) from error

    def unpack(
        self, wheels: Sequence[Wheel], files: Sequence[Path], target: Path, base: pythons.Base
    ) -> Iterator[Step]:
        """Install files, the checksum of each looked at once more by what installs them."""
        total = sum(wheel.unpacked_bytes for wheel in wheels)
        done = count = 0
        for batch in _batches(list(zip(wheels, files, strict=True))):
            names = ", ".join(wheel.name for wheel, _ in batch[:3])
            yield Progress(INSTALL, names, done, total, count, len(wheels))
            listed = self.layout.root / "cache" / "batch.txt"
            listed.parent.mkdir(parents=True, exist_ok=True)
            lines = [
                f"{w.name} @ {p.resolve().as_uri()} --hash=sha256:{w.sha256}" for w, p in batch
            ]
            listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
            try:
                command, more = self._installer(target, listed, base)
                for _ in running.run(
                    command, self.layout.log, cancelled=self._cancelled,
                    environment=more, hold=self._hold,
                ):  # fmt: skip
                    yield Progress(INSTALL, names, done, total, count, len(wheels))
            except running.FailedError as error:
                raise problems.failed(f"Installing {names}", str(error)) from error
            done += sum(wheel.unpacked_bytes for wheel, _ in batch)
            count += len(batch)
            yield Progress(INSTALL, names, done, total, count, len(wheels))

    def _installer(
        self, target: Path, listed: Path, base: pythons.Base
    ) -> tuple[list[object], dict[str, str]]:
        from core.engine_env.layout import interpreter_in

        python = interpreter_in(target)
        same = ["--no-index", "--no-deps", "--require-hashes", "-r", listed]
        uv = frozen.uv()
        if uv is not None:
            command: list[object] = [
                uv, "pip", "install", "--no-config", "--offline", "--no-progress", "--reinstall",
                "--python", python, *same,
            ]  # fmt: skip
            return command, {"UV_CACHE_DIR": str(self.layout.uv_cache)}
        start: list[object] = [base.path, "-I", "-m", "pip", "--python", python] if base.pip else [
            python, "-I", "-m", "pip",
        ]  # fmt: skip
        return [
            *start, "--isolated", "--disable-pip-version-check", "--no-input", "install",
            "--no-compile", "--no-cache-dir", "--force-reinstall", "--no-warn-script-location",
            "--progress-bar", "off", *same,
        ], {}  # fmt: skip

    def finish(self, name: str, base: pythons.Base, wheels: Sequence[Wheel]) -> Iterator[Step]:
        """Prove an environment, mark it as whole and switch to it."""
        facts = yield from checking.prove(
            self.layout, name, self.lock.imports, cancelled=self._cancelled, hold=self._hold
        )
        folder = self.layout.environment(name)
        (folder / LOCK_COPY).write_bytes(self.lock.text)
        stamp = {
            "version": 1,
            "tag": self.lock.tag,
            "lock": self.lock.sha256,
            "python": base.version,
            "base": str(base.path),
            "packages": {wheel.name: wheel.version for wheel in wheels},
            "imports": list(self.lock.imports),
            "bytes": sum(wheel.unpacked_bytes for wheel in wheels),
            "made_at_unix": time.time(),
            "facts": facts,
        }
        self.layout.write_stamp(name, stamp)
        self.layout.switch(name)
        self.layout.tidy()
        yield self._done(name)

    def _done(self, name: str) -> Done:
        seconds = time.monotonic() - self._began
        return Done(name, self.lock.tag, str(self.layout.interpreter(name)), seconds)


def _batches(pairs: list[tuple[Wheel, Path]]) -> Iterator[list[tuple[Wheel, Path]]]:
    batch: list[tuple[Wheel, Path]] = []
    size = 0
    for pair in pairs:
        batch.append(pair)
        size += pair[0].unpacked_bytes
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

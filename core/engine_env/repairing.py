"""Mend an environment, or take it away."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engine_env import checking, installing, locks, planning, problems, pythons, users
from core.engine_env.alone import alone, busy
from core.engine_env.layout import LOCK_COPY, STAMP, Layout, is_stamp
from core.engine_env.locks import Picked
from core.engine_env.planning import Choice
from core.engine_env.problems import StoppedError
from core.engine_env.steps import WAIT, Cancelled, Done, Progress, Step, Told
from core.errors import invalid

if TYPE_CHECKING:
    from core.places import Places

_SHORT_SECONDS = 2.0


def repair(
    places: Places, choice: Choice, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[Step]:
    """Install again what is damaged, as `core.engine_env.repair` says.

    Where its Python is gone or the lock is another one by now, all is made anew beside it. Where
    nothing was ever set up, nothing is fetched.
    """
    planning.check(choice)
    layout = Layout.of(places)
    name, _ = layout.chosen()
    stamp = layout.stamp(name) if name else None
    begun = layout.work()
    if not (name or begun or layout.names()):
        raise problems.none_active()
    if stamp is None and begun.get("kind") == "repair" and begun.get("name") == name:
        stamp = begun.get("stamp")  # A repair was cut off; it goes on.
    if not name and layout.names():
        # Only what says which is in use was lost: a whole one that lies here is taken.
        choice = replace(choice, tag=choice.tag or _newest_tag(layout))
        yield from installing.install(places, choice, cancelled)
        return
    if not isinstance(stamp, dict) or not can_mend(layout, name, stamp):
        yield from installing.install(places, _anew(choice, stamp), cancelled)
        return
    try:
        yield from _mend(layout, name, stamp, choice, cancelled)
    except StoppedError:
        yield Cancelled(layout.kept_bytes())
    except OSError as error:
        raise problems.storage(error, layout.root) from error


def can_mend(layout: Layout, name: str, stamp: dict[str, Any]) -> bool:
    """Say whether an environment still has its Python and the lock that it was made from."""
    if not name or not is_stamp(stamp) or not checking.runs(layout, name):
        return False
    try:
        text = (layout.environment(name) / LOCK_COPY).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(text).hexdigest() == stamp.get("lock")


def _newest_tag(layout: Layout) -> str:
    return str((layout.stamp(layout.names()[0]) or {}).get("tag", ""))


def _anew(choice: Choice, stamp: object) -> Choice:
    """Return the choice to install with: the same build as before, unless another was named."""
    if choice.tag or not isinstance(stamp, dict):
        return replace(choice, again=True)
    return replace(choice, tag=str(stamp.get("tag", "")), again=True)


def _mend(
    layout: Layout,
    name: str,
    stamp: dict[str, Any],
    choice: Choice,
    cancelled: Callable[[], bool],
) -> Iterator[Step]:
    began = time.monotonic()
    if busy(layout.alone):
        yield Progress(WAIT)
    with alone(layout.alone, cancelled=cancelled) as hold:
        path = layout.environment(name) / LOCK_COPY
        lock = locks.load(path, str(stamp["tag"]))
        if lock.sha256 != stamp.get("lock"):
            raise problems.failed("Reading the engine's lock file", f"{path} was changed")
        base = pythons.look_at(layout.interpreter(name))
        if base is None:
            raise problems.no_python(str(stamp.get("python", "")))
        damaged = yield from checking.damages(layout, name, stamp["packages"], cancelled)
        wanted = {one.name for one in damaged}
        wheels = [wheel for wheel in lock.wheels(base.version) if wheel.name in wanted]
        if wanted:
            yield Told(f"Installed again: {', '.join(sorted(wanted))}.")
        picked = Picked(path, lock.tag, "")
        job = installing.Installation(layout, picked, lock, choice, cancelled, hold=hold)
        need = sum(wheel.size_bytes + wheel.unpacked_bytes for wheel in wheels)
        free = planning.free_bytes(layout.root)
        if wheels and free < need + planning.MARGIN_BYTES:
            raise problems.no_space(layout.root, need + planning.MARGIN_BYTES, free)
        files = yield from job.files(wheels)
        if wheels:
            users.wait_for_none(layout, [name], cancelled)
        # From here on it is no whole environment, until it was mended and proven.
        layout.write_work({"kind": "repair", "name": name, "stamp": stamp})
        (layout.environment(name) / STAMP).unlink(missing_ok=True)
        for wheel in wheels:
            for item in checking.remains(layout, name, wheel.name):
                if item.is_dir() and not item.is_symlink():
                    shutil.rmtree(item)
                else:
                    item.unlink(missing_ok=True)
        # Without uv, the pip of the Python that it was made with works on it from outside.
        beneath = pythons.look_at(Path(str(stamp.get("base", "")))) or base
        yield from job.unpack(wheels, files, layout.environment(name), beneath)
        left = yield from checking.damages(layout, name, stamp["packages"], cancelled)
        if left:
            raise problems.failed("The repair", f"still damaged: {left}")
        facts = yield from checking.prove(
            layout, name, lock.imports, cancelled=cancelled, hold=hold
        )
        layout.write_stamp(name, {**stamp, "facts": facts})
        layout.tidy()
        yield Done(name, lock.tag, str(layout.interpreter(name)), time.monotonic() - began)


def remove(places: Places, name: str = "") -> list[str]:
    """Remove one environment or everything, as `core.engine_env.remove` says."""
    layout = Layout.of(places)
    if not layout.root.is_dir():
        return []
    try:
        with alone(layout.alone, patience_seconds=_SHORT_SECONDS):
            return _remove(layout, name)
    except OSError as error:
        raise problems.storage(error, layout.root) from error


def _remove(layout: Layout, name: str) -> list[str]:
    active, previous = layout.chosen()
    if name:
        if not layout.environment(name).is_dir():
            raise invalid(
                "name",
                f"There is no engine environment {name}.",
                "See `framedeck engine status`.",
            )
        gone = [name]
    else:
        gone = [*layout.names(), *(half.name for half in layout.halves())]
    users.wait_for_none(layout, gone)
    if active in gone:
        # First of all: what is taken away is never in use.
        layout.active_file.unlink(missing_ok=True)
        if previous not in gone and layout.usable(previous):
            layout.switch(previous)
    for one in gone:
        layout.drop(one)
    if not name:
        layout.work_file.unlink(missing_ok=True)
        for folder in (layout.root / "cache", layout.pythons):
            shutil.rmtree(folder, ignore_errors=True)
        layout.log.unlink(missing_ok=True)
    return gone

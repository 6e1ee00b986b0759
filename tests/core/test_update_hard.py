"""Updates on bad days: full disks, stale windows, foreign files, folders without locks."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.update_cli import go_back
from core.errors import ProblemError
from core.ledger import older
from core.updates import active, seen
from core.updates.active import Active
from core.updates.check import Found, look
from core.updates.download import download
from core.updates.fetch import Fetcher, StoppedError
from core.updates.install import alone, install, tidy
from core.updates.starting import standing
from tests.core.update_world import World, make_bundle, served

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the bundles of these tests are scripts")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with served(World(tmp_path)) as made:
        yield made


def found(world: World) -> Found:
    return look(world.address, world.trusted, world.program, world.app)


def test_an_old_offer_never_replaces_a_newer_version(world: World) -> None:
    world.publish("0.2.0", 1)
    old = found(world)
    world.publish("0.3.0", 2)
    list(install(found(world), world.app, world.program))
    with pytest.raises(ProblemError, match=r"0\.3\.0 is installed already"):
        list(install(old, world.app, world.program))
    assert world.version() == "0.3.0"


def test_what_another_window_installed_is_not_installed_again(world: World) -> None:
    world.publish("0.2.0", 1)
    offer = found(world)
    list(install(offer, world.app, world.program))
    active.mark_good(world.app, "0.2.0")
    before, asked = (world.app / "0.2.0").stat().st_ino, len(world.manners.asked)
    assert [step.step for step in install(offer, world.app, world.program)] == ["look", "done"]
    assert (world.app / "0.2.0").stat().st_ino == before
    assert len(world.manners.asked) == asked
    # A damaged one is brought anew.
    (world.app / "0.2.0" / "_internal" / "version.txt").unlink()
    assert len(list(install(offer, world.app, world.program))) > 2
    assert world.version() == "0.2.0"


def test_a_full_disk_is_not_left_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish("0.2.0", 1)
    offer = found(world)
    real = os.fsync

    def full(handle: int) -> None:
        if ".new/" in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ProblemError, match="could not be written"):
        list(install(offer, world.app, world.program))
    assert [path.name for path in world.app.iterdir() if path.is_dir()] == ["work"]
    # What was downloaded is kept.
    assert (world.app / "work" / f"{offer.artefact.sha256}.part").is_file()


def test_a_folder_without_locks_is_told_as_such(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish("0.2.0", 1)
    offer = found(world)

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ProblemError, match=os.strerror(errno.ENOLCK)):
        list(install(offer, world.app, world.program))


def test_a_wait_for_the_server_can_be_stopped(world: World) -> None:
    waited: list[float] = []
    coming = download(
        "http://127.0.0.1:9/x", world.root / "x", 10, "test", lambda: len(waited) > 2, waited.append
    )
    with pytest.raises(StoppedError):
        list(coming)
    assert sum(waited) < 0.5


def test_a_length_that_is_none_is_ignored(world: World) -> None:
    class Answer:
        status_code, headers = 200, {"Content-Length": "²"}

    begin, whole, _ = Fetcher("test")._begin(Answer(), 0, "It")  # type: ignore[arg-type]
    assert (begin, whole) == (0, None)


def test_going_back_waits_for_no_half_installation(world: World) -> None:
    make_bundle(world.app / "0.2.0", "0.2.0")
    active.save(world.app, Active("0.2.0", ""))
    with alone(world.app), pytest.raises(ProblemError, match="being installed"):
        go_back(world.app, world.program)
    assert go_back(world.app, world.program) == "0.1.0"
    assert standing(world.app, "0.1.0").version == ""


def test_only_versions_are_tidied_away(world: World) -> None:
    keep = ("notes.old", "mine.new", "backup")
    for name in (*keep, "0.2.0.old", "0.3.0.new"):
        (world.app / name).mkdir(parents=True)
    assert tidy(world.app, world.program) == ["0.2.0.old", "0.3.0.new"]
    assert {path.name for path in world.app.iterdir() if path.is_dir()} == set(keep)


def test_a_version_that_is_a_link_is_taken_away_without_what_it_leads_to(world: World) -> None:
    elsewhere = make_bundle(world.root / "mine", "0.2.0")
    world.app.mkdir(parents=True)
    (world.app / "0.2.0").symlink_to(elsewhere)
    tidy(world.app, world.program)
    assert (elsewhere / "framedeck").is_file()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"sequence": Infinity}', "{}"])
def test_what_was_seen_may_be_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / seen.FILE).write_text(text.replace("}", ', "digest": "", "version": ""}'))
    assert seen.load(tmp_path) == seen.Seen()


def test_numbers_of_processes_that_cannot_be() -> None:
    assert Active("0.2.0", "", False, ((10**30, 5.0),)).dead_starts(6.0) == 1


def test_a_disk_that_fills_up_leaves_no_half_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept = tmp_path / "ledger.sqlite", tmp_path / "kept.sqlite"
    for one in (path, kept):
        with sqlite3.connect(one) as made:
            made.execute("CREATE TABLE jobs (id)")

    def full(_: object, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = path.read_bytes()
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(ProblemError, match="could not be put back"):
        older.put_back(path, older.Copy(kept, 0.0, 0))
    assert {item.name for item in tmp_path.iterdir()} == {path.name, kept.name}
    assert path.read_bytes() == before

"""Which version starts: handed over for real, by bundles that print what they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.updates import active
from core.updates.active import Active, Failure
from core.updates.bundle import LIST, missing
from core.updates.check import look
from core.updates.install import STEPS, install, tidy
from core.updates.program import Program, this_program
from core.updates.starting import choose, standing
from tests.core.update_world import ROOT, World, make_bundle, served

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the bundles of these tests are scripts")
DEAD = 2**22 + 1
"""No process has this number."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def lay(world: World, version: str, *, crashes: bool = False) -> None:
    """Put a version beside, and let it be started next."""
    make_bundle(world.app / version, version, crashes=crashes)
    before = standing(world.app, "0.1.0")
    active.save(world.app, before.switched(version))


def state(world: World) -> Active:
    found = active.load(world.app)
    assert found is not None
    return found


# -- killed anywhere -------------------------------------------------------------


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[World]:
    with served(World(tmp_path)) as made:
        yield made


def test_killed_at_every_step_a_whole_version_starts(serving: World) -> None:
    """From 0.1.0, installed, and 0.1.5 beside it, to 0.2.0."""
    world = serving
    lay(world, "0.1.5")
    active.mark_good(world.app, "0.1.5")
    world.publish("0.2.0", 1)
    homes = world.root / "homes"
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.update_kills", world.home, homes, world.address,
         world.trusted_file],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)
    assert list(dict.fromkeys(steps)) == [*STEPS, ""]
    assert len(steps) > len(STEPS) + 8
    switched, again = steps.index("done"), set[str]()
    for number, step in enumerate(steps):
        world.home = homes / str(number)
        app = world.home / "app"
        expected = "0.2.0" if number >= switched else "0.1.5"
        assert world.version() == expected, step
        # And the next try ends well, whatever the first one left.
        if step and step not in again:
            again.add(step)
            assert look_and_install(world, app) == "done"
            assert choose(app, "0.1.0", DEAD, time.time()) == app / "0.2.0"
            program = Program("0.2.0", "0.1.0", "linux-x86_64", can_install=True)
            tidy(app, program)
            folders = {path.name for path in app.iterdir() if path.is_dir()}
            assert folders == {"0.1.5", "0.2.0", "work"}, step


def look_and_install(world: World, app: Path) -> str:
    program = Program("0.1.5", "0.1.0", "linux-x86_64", can_install=True)
    found = look(world.address, world.trusted, program, app)
    return [step.step for step in install(found, app, program)][-1]


# -- started ---------------------------------------------------------------------


def test_a_version_that_crashes_twice_is_given_up(world: World) -> None:
    lay(world, "0.1.5")
    active.mark_good(world.app, "0.1.5")
    lay(world, "0.2.0", crashes=True)
    assert [world.version()[:7] for _ in range(3)] == ["exit 70", "exit 70", "0.1.5"]
    assert state(world).version == "0.1.5"
    assert active.tell_failures(world.app) == (Failure("0.2.0", "starts"),)
    assert active.tell_failures(world.app) == ()
    assert world.version() == "0.1.5"


def test_a_command_that_ends_proves_a_version(world: World) -> None:
    lay(world, "0.2.0")
    assert not state(world).good
    assert world.start("queue", "list").stdout.startswith("0.2.0")
    assert state(world).good
    assert state(world).starts == ()


@pytest.mark.parametrize(
    "words",
    [(), ("update", "status"), ("--theme", "dark"), ("queue", "exit", "130"), ("-x", "exit", "2")],
)
def test_what_proves_nothing_is_not_counted(world: World, words: tuple[str, ...]) -> None:
    lay(world, "0.2.0")
    for _ in range(2):
        done = world.start(*words)
        assert str(done.returncode) == (words[-1] if "exit" in words else "0")
        assert not state(world).good
        assert state(world).starts == ()


@pytest.mark.parametrize(
    ("words", "good"),
    [(("queue", "exit", "2"), True), (("queue", "exit", "1"), True),
     (("queue", "exit", "3"), False), (("--theme", "exit", "1"), False),
     (("clip.mp4", "exit", "1"), False)],
)  # fmt: skip
def test_how_a_run_ends_counts(world: World, words: tuple[str, ...], good: bool) -> None:
    lay(world, "0.2.0")
    world.start(*words)
    assert state(world).good is good
    assert len(state(world).starts) == (0 if good else 1)


def test_a_restart_goes_through_the_installed_version(world: World) -> None:
    assert world.start("--again", "x").stdout.split() == ["0.1.0", "x"]
    lay(world, "0.2.0")
    assert world.start("--again", "queue").stdout.split() == ["0.2.0", "queue"]
    lay(world, "0.3.0", crashes=True)
    assert [world.start("--again").returncode for _ in range(2)] == [70, 70]
    assert world.start("--again", "x").stdout.split() == ["0.2.0", "x"]


def test_a_start_is_counted_before_it_happens(world: World) -> None:
    lay(world, "0.2.0", crashes=True)
    world.start()
    assert len(state(world).starts) == 1
    assert not state(world).good


def test_starts_that_still_run_are_no_failures(tmp_path: Path) -> None:
    make_bundle(tmp_path / "0.2.0", "0.2.0")
    now = time.time()
    running = ((os.getpid(), now - 5), (os.getpid(), now - 3))
    active.save(tmp_path, Active("0.2.0", "", False, running))
    assert choose(tmp_path, "0.1.0", 1, now) == tmp_path / "0.2.0"
    hung = ((os.getpid(), now - 500), (DEAD, now - 3))
    active.save(tmp_path, Active("0.2.0", "", False, hung))
    assert choose(tmp_path, "0.1.0", 1, now) is None


@pytest.mark.parametrize(
    "name", ["_internal/lib/part.bin", "_internal/version.txt", LIST, "framedeck"]
)
def test_a_version_that_is_not_whole_is_never_started(world: World, name: str) -> None:
    lay(world, "0.2.0")
    active.mark_good(world.app, "0.2.0")
    (world.app / "0.2.0" / name).unlink()
    assert world.version() == "0.1.0"
    (failure,) = active.tell_failures(world.app)
    assert (failure.version, failure.why) == ("0.2.0", "damaged")


def test_half_a_file_is_damage_too(world: World) -> None:
    lay(world, "0.2.0")
    part = world.app / "0.2.0" / "_internal" / "lib" / "part.bin"
    part.write_bytes(part.read_bytes()[:-1])
    assert world.version() == "0.1.0"
    assert "part.bin" in state(world).failed[0].details


def test_what_the_system_will_not_run_is_given_up(world: World) -> None:
    lay(world, "0.2.0")
    program = world.app / "0.2.0" / "framedeck"
    size = program.stat().st_size
    program.write_bytes(b"\x7fELFno".ljust(size))
    assert world.version() == "0.1.0"
    assert state(world).failed[0].why == "refused"


def test_versions_no_newer_than_the_installed_one_are_ignored_and_removed(world: World) -> None:
    for version in ("0.0.9", "0.1.0", "0.2.0", "0.3.0"):
        make_bundle(world.app / version, version)
    (world.app / "0.4.0.new").mkdir()
    (world.app / "mine").mkdir()
    for version in ("0.0.9", "0.1.0"):
        active.save(world.app, Active(version, ""))
        assert world.start().stdout.strip() == "0.1.0"
    active.save(world.app, Active("0.3.0", "0.0.9"))
    program = Program("0.3.0", "0.1.0", "linux-x86_64", can_install=True)
    assert tidy(world.app, program) == ["0.0.9", "0.1.0", "0.2.0", "0.4.0.new"]
    assert {path.name for path in world.app.iterdir() if path.is_dir()} == {"0.3.0", "mine"}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"format": 2}', '{"format": 1, "version": "../../x", "previous": ""}',
     '{"format": 1, "version": 5, "previous": ""}', "\x00", "{}", "[" * 100_000,
     '{"format": 1, "version": "0.2.0", "previous": "", "starts": [[Infinity, 1]]}'],
)  # fmt: skip
def test_a_state_that_is_none_starts_the_installed_one(world: World, text: str) -> None:
    make_bundle(world.app / "0.2.0", "0.2.0")
    (world.app / "active.json").write_text(text)
    assert world.version() == "0.1.0"


def test_a_disk_that_cannot_be_written_starts_what_is_proven(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(world, "0.1.5")
    active.mark_good(world.app, "0.1.5")
    lay(world, "0.2.0")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(active, "write_whole", full)
    assert choose(world.app, "0.1.0", 1, time.time()) == world.app / "0.1.5"


def test_going_back_and_forth(world: World) -> None:
    lay(world, "0.2.0")
    world.start("queue")
    back = standing(world.app, "0.1.0")
    assert (back.version, back.previous) == ("0.2.0", "")
    active.save(world.app, back.switched(""))
    assert world.version() == "0.1.0"
    forth = standing(world.app, "0.1.0")
    assert forth.previous == "0.2.0"
    program = Program("0.1.0", "0.1.0", "linux-x86_64", can_install=True)
    assert tidy(world.app, program) == []
    active.save(world.app, forth.switched("0.2.0"))
    assert world.version() == "0.2.0"
    assert state(world).good


def test_what_is_gone_back_to_did_start(world: World) -> None:
    assert Active("0.2.0", "0.1.5", False).switched("0.3.0") == Active("0.3.0", "0.1.5", False)
    assert Active("0.2.0", "0.1.5", True).switched("0.3.0") == Active("0.3.0", "0.2.0", False)
    assert Active("0.2.0", "0.1.5", False).switched("0.1.5") == Active("0.1.5", "", True)
    again = Active("", "", True, (), (Failure("0.2.0", "starts"),)).switched("0.2.0")
    assert again.given_up("0.2.0") is None


def test_the_installed_one_can_be_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(world, "0.2.0")
    monkeypatch.setenv("FRAMEDECK_INSTALLED", "1")
    assert world.version() == "0.1.0"


def test_the_mark_of_a_hand_over_is_not_inherited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(world, "0.2.0")
    monkeypatch.setenv("FRAMEDECK_HANDED", f"{os.getpid()} 0.1.0 {world.installed}/framedeck")
    assert world.version() == "0.2.0"
    assert world.start(program=world.app / "0.2.0" / "framedeck").stdout.strip() == "0.2.0"


def test_parts_of_a_running_version_are_not_handed_over(world: World) -> None:
    lay(world, "0.2.0")
    assert world.start("--run-module", "x").stdout.startswith("0.1.0")


def test_another_home_has_its_own_versions(world: World, tmp_path: Path) -> None:
    lay(world, "0.2.0")
    assert world.start("--home", str(tmp_path / "other")).stdout.startswith("0.1.0")
    assert world.start(f"--home={world.home}").stdout.startswith("0.2.0")


def test_the_folder_is_that_of_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from app.versions import app_folder
    from core.places import Places

    monkeypatch.delenv("FRAMEDECK_HOME", raising=False)
    for value in (None, str(tmp_path), "", " "):
        if value is None:
            monkeypatch.delenv("XDG_DATA_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_DATA_HOME", value)
        assert Path(app_folder([])) == Places.find().data / "app"
    assert Path(app_folder(["--home", str(tmp_path)])) == Places.find(tmp_path).data / "app"
    monkeypatch.setenv("FRAMEDECK_HOME", "relative")
    assert Path(app_folder([])) == Places.find().data / "app"


def test_a_start_without_updates_is_quick(tmp_path: Path) -> None:
    """The hand-over loads nothing that Python has not loaded by itself."""
    code = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
before = set(sys.modules)
began = time.perf_counter()
from app import versions
assert versions.hand_over([]) is None
took = time.perf_counter() - began
print(sorted(set(sys.modules) - before), took * 1000)
"""
    taken = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-SE", "-c", code], capture_output=True, text=True, timeout=30,
            env={**os.environ, "FRAMEDECK_HOME": str(tmp_path)},
        )  # fmt: skip
        loaded, _, milliseconds = done.stdout.strip().rpartition(" ")
        assert loaded == "['__future__', 'app', 'app.versions']", done.stderr
        taken.append(float(milliseconds))
    assert min(taken) < 2


def test_lists_of_bundles_are_the_same_each_time_and_keep_links_inside(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "one", "0.2.0")
    first = (bundle / LIST).read_bytes()
    shutil.copytree(bundle, tmp_path / "two", symlinks=True)
    done = subprocess.run(
        [sys.executable, ROOT / "packaging" / "file_list.py", tmp_path / "two", "0.2.0"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "two" / LIST).read_bytes() == first
    assert missing(tmp_path / "two", "0.2.0") == ""
    assert missing(tmp_path / "two", "0.3.0")
    (tmp_path / "two" / "_internal" / "out").symlink_to("/etc")
    done = subprocess.run(
        [sys.executable, ROOT / "packaging" / "file_list.py", tmp_path / "two", "0.2.0"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert "_internal/out" in done.stderr


def test_who_else_updates_the_installed_version_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "usr", "0.1.0")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(bundle / "_internal"), raising=False)
    monkeypatch.setattr(sys, "executable", str(bundle / "framedeck"))
    assert this_program(None).can_install
    (bundle / "_internal" / "managed.txt").write_text("apt updates Framedeck.\n")
    found = this_program(None)
    assert (found.can_install, found.managed) == (False, "apt updates Framedeck.")
    beside = this_program((7, "0.0.9", str(tmp_path / "opt" / "framedeck")))
    assert (beside.installed, beside.version, beside.proven_by) == ("0.0.9", "0.1.0", 7)
    assert beside.can_install

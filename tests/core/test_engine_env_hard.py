"""The engine's environment on bad days: another Python, a person's links, no locks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import engine_env
from core.engine_env import (
    checking,
    download,
    installing,
    planning,
    problems,
    repairing,
    running,
    state,
    users,
)
from core.engine_env.checking import Checked
from core.engine_env.layout import LOCK_COPY, STAMP, Layout
from core.engine_env.planning import Choice
from core.engine_env.steps import Done, Progress, Step
from core.engines.local.process import worker_environment
from core.errors import ProblemError
from core.places import Places
from core.proxies import scrubbed
from tests.core.engine_shop import Shop, make_lock, make_wheel

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and signals of POSIX")
THIS = Choice(python=Path(sys.executable))


@pytest.fixture(autouse=True)
def managed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine_env.VARIABLE, "managed")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop") / "wheels"
    folder.mkdir()
    for name, size in {"tinya": 3000, "tinyb": 5_000_000}.items():
        make_wheel(folder, name, size)
    made = Shop(folder)
    make_lock(folder.parent / "locks", sorted(folder.glob("*.whl")), made.base)
    yield made
    made.close()


@pytest.fixture(scope="module")
def first(shop: Shop) -> tuple[Path, list[Step]]:
    """One installation, which each test gets a copy of, and what was told of it."""
    home = shop.folder.parent / "first ü #1 100% $HOME"
    return home, install(Places.find(home).make(), shop)


@pytest.fixture
def places(
    first: tuple[Path, list[Step]], shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Places:
    shutil.copytree(first[0], tmp_path / "home", symlinks=True)
    monkeypatch.setattr("core.frozen.engine_locks", lambda: shop.folder.parent / "locks")
    return Places.find(tmp_path / "home")


def install(places: Places, shop: Shop, cancelled: Callable[[], bool] = bool) -> list[Step]:
    return list(installing.install(places, THIS, cancelled, shop.folder.parent / "locks", 0.01))


def site_of(layout: Layout) -> Path:
    folder = layout.environment(layout.active_name())
    return next(folder.glob("lib/python3*/site-packages"))


def test_bytes_never_go_backwards_and_never_over_all(first: tuple[Path, list[Step]]) -> None:
    told = [step for step in first[1] if isinstance(step, Progress) and step.phase == "fetch"]
    counts = [step.done_bytes for step in told]
    assert counts == sorted(counts)
    assert counts[-1] == told[-1].total_bytes


def test_a_python_that_was_replaced_by_another_is_told_and_repaired(places: Places) -> None:
    """A newer release of a system: the link leads to a Python that finds none of the packages."""
    layout = Layout.of(places)
    name = layout.active_name()
    site = site_of(layout)
    site.parent.rename(site.parent.with_name("python3.10"))
    layout.write_stamp(name, {**(layout.stamp(name) or {}), "python": "3.10.4"})
    assert engine_env.active(places) is None
    assert state.look(places).state == state.BROKEN
    assert not checking.runs(layout, name)
    found = list(engine_env.check(places))[-1]
    assert isinstance(found, Checked)
    assert found.problem is not None
    assert found.problem.field == "python"
    assert isinstance(list(engine_env.repair(places, THIS))[-1], Done)
    assert engine_env.active(places) is not None
    # What cannot be started is nothing to go back to, and takes no room.
    assert layout.chosen() == (layout.active_name(), "")
    assert not layout.environment(name).exists()


def test_an_environment_behind_a_link_is_let_go_and_not_deleted(
    places: Places, tmp_path: Path
) -> None:
    layout = Layout.of(places)
    name, mine = layout.active_name(), tmp_path / "other disk"
    shutil.move(layout.environment(name), mine)
    layout.environment(name).symlink_to(mine)
    assert layout.active_name() == name
    assert engine_env.remove(places) == [name]
    assert not layout.environment(name).is_symlink()
    assert (mine / STAMP).is_file()
    assert engine_env.active(places) is None


def test_a_repair_deletes_nothing_behind_a_link(places: Places, tmp_path: Path) -> None:
    layout, mine = Layout.of(places), tmp_path / "checkout"
    site = site_of(layout)
    shutil.move(site / "tinya", mine)
    (mine / "__init__.py").write_text("NAME = 'mine'\n")
    (site / "tinya").symlink_to(mine)
    assert isinstance(list(engine_env.repair(places, THIS))[-1], Done)
    assert (mine / "__init__.py").read_text() == "NAME = 'mine'\n"
    assert not (site / "tinya").is_symlink()
    assert "tinya" in (site / "tinya" / "__init__.py").read_text()


def test_a_record_that_lies_names_no_folder_to_delete(places: Places) -> None:
    layout = Layout.of(places)
    site = site_of(layout)
    record = next(site.glob("tinya-*.dist-info")) / "RECORD"
    with record.open("a") as file:
        file.write('\n.,,\n../../..,,\n../../../../../outside,,\n"a\0b",sha256=x,1\n')
    taken = checking.remains(layout, layout.active_name(), "tinya")
    assert all(path.is_file() or path.suffix == ".dist-info" for path in taken)
    damaged = [one.name for one in _last(checking.damages(layout, site.parents[2].name, PACKAGES))]
    assert damaged == ["tinya"]


PACKAGES = {"tinya": "1.0", "tinyb": "1.0"}


def _last(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_a_repair_that_was_cut_off_is_gone_on_with_by_install(places: Places, shop: Shop) -> None:
    layout = Layout.of(places)
    name = layout.active_name()
    (site_of(layout) / "tinya" / "weights.bin").unlink()
    for step in engine_env.repair(places, THIS):
        if isinstance(step, Progress) and step.phase == "install":
            break
    asked = len(shop.asked)
    done = list(engine_env.install(places, Choice()))[-1]
    assert isinstance(done, Done)
    assert done.name == name
    # The file is here already, and the other package was never thrown away.
    assert [path for path, _ in shop.asked[asked:] if "tinyb" in path] == []


def test_a_lock_that_was_changed_is_made_anew(places: Places) -> None:
    layout = Layout.of(places)
    name = layout.active_name()
    stamp = layout.stamp(name) or {}
    assert repairing.can_mend(layout, name, stamp)
    (layout.environment(name) / LOCK_COPY).write_text("mine")
    assert not repairing.can_mend(layout, name, stamp)
    # So it begins to install, and does not stop at what cannot be read.
    assert next(iter(engine_env.repair(places, THIS))) == Progress("python")


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", '{"active": ["x"]}', '{"active": "../x"}'])
def test_a_choice_that_is_none_is_an_engine_to_set_up(places: Places, text: str) -> None:
    layout = Layout.of(places)
    layout.active_file.write_text(text)
    assert engine_env.active(places) is None
    assert state.look(places).state == state.NONE


@pytest.mark.parametrize("more", [{"made_at_unix": None}, {"bytes": "x"}, {"bytes": float("inf")}])
def test_a_stamp_that_is_none_makes_no_whole_environment(
    places: Places, more: dict[str, Any]
) -> None:
    layout = Layout.of(places)
    name = layout.active_name()
    path = layout.environment(name) / STAMP
    path.write_text(json.dumps({**(layout.stamp(name) or {}), **more}))
    assert layout.names() == []
    assert state.look(places).state == state.BROKEN


def test_a_folder_that_syncs_no_names_is_good_enough(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def refuse(number: int) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(number)

    monkeypatch.setattr(os, "fsync", refuse)
    layout = Layout.of(places)
    layout.active_file.unlink()
    name = layout.names()[0]
    layout.switch(name)
    assert layout.active_name() == name


def test_a_folder_without_locks_is_told_as_such(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ProblemError) as caught:
        engine_env.remove(places)
    assert os.strerror(errno.ENOLCK) in caught.value.problem.message
    assert engine_env.active(places) is not None


def test_what_failed_leaves_no_half_environment_on_the_disk(
    places: Places, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_env.remove(places)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(installing.Installation, "unpack", full)
    with pytest.raises(ProblemError, match="became full"):
        install(places, shop)
    layout = Layout.of(places)
    assert layout.halves() == []
    assert layout.kept_bytes() == sum(path.stat().st_size for path in shop.folder.iterdir())


def test_variables_and_configuration_of_a_person_lead_nowhere(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's files are read by pip even where it is told to be isolated."""
    conf = tmp_path / "etc" / "pip"
    conf.mkdir(parents=True)
    (conf / "pip.conf").write_text(f"[install]\ntarget = {tmp_path / 'elsewhere'}\n")
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "etc"))
    for name in ("PIP_TARGET", "UV_TARGET", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "pip_user"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    around = running.surroundings()
    assert not around.keys() & {"PIP_TARGET", "UV_TARGET", "PYTHONPATH", "VIRTUAL_ENV", "pip_user"}
    said = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "--isolated", "config", "list"],
        env=around, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "elsewhere" not in said.stdout


def test_nothing_is_installed_into_the_python_that_it_is_made_with(
    tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This variable has a Python take itself for another, and look for packages there."""
    monkeypatch.setenv("__PYVENV_LAUNCHER__", "/nowhere/python")
    places = Places.find(tmp_path / "home").make()
    assert isinstance(install(places, shop)[-1], Done)
    assert (site_of(Layout.of(places)) / "tinya" / "__init__.py").is_file()
    assert "__PYVENV_LAUNCHER__" not in worker_environment()
    # However else it comes about, it is noticed before anything is installed.
    engine_env.remove(places)
    monkeypatch.setattr(checking, "runs", lambda *_: False)
    monkeypatch.setattr(installing.Installation, "unpack", lambda *_: pytest.fail("installed"))
    with pytest.raises(ProblemError) as caught:
        install(places, shop)
    assert "not of its own folder" in caught.value.problem.details
    assert not Layout.of(places).halves()


def test_an_environment_without_its_configuration_is_told_and_repaired(places: Places) -> None:
    layout = Layout.of(places)
    (layout.environment(layout.active_name()) / "pyvenv.cfg").unlink()
    assert engine_env.active(places) is None
    assert state.look(places).state == state.BROKEN
    found = list(engine_env.check(places))[-1]
    assert isinstance(found, Checked)
    assert found.problem is not None
    assert isinstance(list(engine_env.repair(places, THIS))[-1], Done)
    assert engine_env.active(places) is not None


@pytest.fixture
def job(places: Places) -> Iterator[subprocess.Popen[bytes]]:
    """Run something with the environment in use, as a worker does."""
    python = engine_env.active(places)
    assert python is not None
    with subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child
        child.kill()


def test_nothing_is_taken_away_beneath_a_job(
    places: Places, shop: Shop, job: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "PATIENCE_SECONDS", 0.3)
    layout = Layout.of(places)
    name = layout.active_name()
    (site_of(layout) / "tinya" / "__init__.py").unlink()
    for act in (lambda: engine_env.remove(places), lambda: list(engine_env.repair(places, THIS))):
        with pytest.raises(ProblemError) as caught:
            act()
        assert str(job.pid) in caught.value.problem.message
        assert layout.active_name() == name
    # Switched twice meanwhile, it is neither in use nor the one before, and stays all the same.
    again = replace(THIS, again=True)
    for _ in range(2):
        list(installing.install(places, again, bool, shop.folder.parent / "locks", 0.01))
    assert name not in layout.chosen()
    assert layout.stamp(name) is not None
    job.kill()
    job.wait()
    layout.tidy()
    assert layout.stamp(name) is None
    assert engine_env.remove(places)


def test_a_repair_takes_the_whole_one_where_only_the_choice_was_lost(
    places: Places, shop: Shop
) -> None:
    layout = Layout.of(places)
    name = layout.active_name()
    layout.active_file.unlink()
    shop.asked.clear()
    assert isinstance(list(engine_env.repair(places, THIS))[-1], Done)
    assert layout.chosen() == (name, "")
    assert not shop.asked


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "import subprocess, sys; "
        "child = subprocess.Popen(['sleep', '60']); "
        "open(sys.argv[1] + '.part', 'w').write(str(child.pid)); "
        "import os; os.rename(sys.argv[1] + '.part', sys.argv[1]); child.wait()"
    )
    steps = running.run(
        [sys.executable, "-S", "-c", code, told], tmp_path / "log", cancelled=told.exists
    )
    with pytest.raises(problems.StoppedError):
        list(steps)
    pid = int(told.read_text())
    until = time.monotonic() + 5
    while _lives(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _lives(pid)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "proxy",
    ["me:geheim@host:1", "ftp://me:geheim@host", "http://me:ge/heim@", "http://me:ge@heim@ x"],
)
def test_a_password_of_a_proxy_is_never_told(proxy: str) -> None:
    with pytest.raises(ProblemError) as caught:
        planning.check(Choice(proxy=proxy))
    told = str(caught.value.problem.to_json())
    assert "geheim" not in told
    assert "me:ge" not in told
    assert "geheim" not in scrubbed("cannot parse 'http://me:geheim@h' and //a:g/geheim@h")
    assert "heim" not in scrubbed("http://me:ge@heim@host:80/x refused")


def test_a_proxy_that_cannot_be_used_is_told_at_once(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:geheim@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    wheel = shop.folder / "tinya-1.0-py3-none-any.whl"
    named = planning.Wheel(
        "tinya", "1.0", wheel.name, "https://example.invalid/x", 10, "0" * 64, 10
    )
    with pytest.raises(ProblemError) as caught:
        list(download.Fetcher(tmp_path, back_off_seconds=5).fetch(named))
    assert caught.value.problem.field == "proxy"
    assert "ALL_PROXY" in caught.value.problem.hint
    assert "geheim" not in str(caught.value.problem.to_json())

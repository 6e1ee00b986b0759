"""A server that wants name and password: it gets them, and no file and no text has them."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Its pool's threads, which stay, bear the name of the thread that loads it first.
import numpy  # noqa: F401
import pytest
from aiohttp import web
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLineEdit

from app.logs import close_log, open_log
from app.main import main as cli
from core.engines.comfy.health import Doctor, State, printed
from core.engines.comfy.http import Server
from core.engines.comfy.known import KnownServer, vault_name
from core.engines.comfy.scan import scan
from core.engines.comfy.sign_in import headers, joined, read, split, written
from core.engines.comfy.socket import Listener
from core.engines.comfy.standin.server import StandIn
from core.errors import ProblemError
from core.events import Failed, Finished
from core.jobs import JobState
from core.ledger import Ledger
from core.places import Places
from core.queue import Group
from core.vault import SERVICE, Vault
from tests.comfy.desks import RECIPE, SMALL, desks
from tests.comfy.standin import Running, running
from tests.core.keyrings import MemoryKeyring
from widgets.servers_form import ServerForm

NAME, PASSWORD = "mé", "p@ss/s3cret:1"
WHO = written(NAME, PASSWORD)
BASIC = b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
PLANTED = (b"s3cret", BASIC.encode())
"""What no file may hold: a part that is the same in all forms, and what is sent."""


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A stand-in in front of which somebody asks for a name and a password."""
    plain = StandIn._guard
    wanted = f"Basic {BASIC}"

    @web.middleware
    async def guard(self: StandIn, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != wanted:
            return web.Response(status=401)
        return await plain(self, request, handler)

    monkeypatch.setattr(StandIn, "_guard", guard)
    with running(tmp_path / "server") as server:
        yield server


@contextlib.contextmanager
def logged(home: Path) -> Iterator[None]:
    """As the program logs."""
    open_log(Places.find(home).make().log)
    try:
        yield
    finally:
        close_log()


def found_in(folder: Path) -> list[str]:
    """Files that hold what was planted, by their bytes or their names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) >= 3
    return [
        path.name
        for path in files
        if any(one in path.read_bytes() or one in str(path).encode() for one in PLANTED)
    ]


def with_password(url: str) -> str:
    return joined(url, WHO)


# -- the doors ---------------------------------------------------------------------------


def test_an_address_and_its_password_are_told_apart() -> None:
    assert split(f"http://{WHO}@box:80/x") == ("http://box:80/x", WHO)
    assert split("http://[::1]:80") == ("http://[::1]:80", "")
    assert split("http://@box:80") == ("http://box:80", "")
    assert joined("http://[::1]:80/x", WHO) == f"http://{WHO}@[::1]:80/x"
    assert joined("http://box", "") == "http://box"
    assert read(WHO) == (NAME, PASSWORD)
    assert written("", "") == ""
    assert headers("") == {}
    assert headers(WHO) == {"Authorization": f"Basic {BASIC}"}


def test_every_door_signs_in_and_shows_the_address_without(guarded: Running) -> None:
    url = guarded.url
    for server in (Server(with_password(url)), Server(url, sign_in=lambda: WHO)):
        assert server.base == url
        assert server.fork().stats().version
        assert WHO not in server.called
        server.close()
    for doctor in (Doctor(with_password(url)), Doctor(url, sign_in=lambda: WHO)):
        assert doctor.look().state is State.IDLE
        assert doctor.base == url
    found = scan(KnownServer(url), sign_in=lambda: WHO)
    assert (found.base, bool(found.info)) == (url, True)
    assert printed(url, sign_in=lambda: WHO) == printed(with_password(url))
    listener = Listener(url, "me", lambda: WHO)
    assert listener.ready(5)
    listener.close()


def test_without_it_the_hint_says_where_to_enter_it(guarded: Running) -> None:
    server = Server(guarded.url, sign_in=lambda: written("me", "wr0ng"))
    with pytest.raises(ProblemError) as caught:
        server.stats()
    problem = caught.value.problem
    assert "401" in problem.message
    assert "name and password under Edit" in problem.hint
    assert "wr0ng" not in str(problem)
    server.close()


def test_a_known_server_keeps_no_password() -> None:
    made = KnownServer.from_json({"base": f"http://{WHO}@Box:80"})
    assert (made.base, made.signed, made.secret) == ("http://box:80", True, WHO)
    assert "s3cret" not in json.dumps(made.to_json()) + repr(made)
    again = KnownServer.from_json(made.to_json())
    assert (again.signed, again.secret) == (True, "")
    assert again == made


# -- the whole program -------------------------------------------------------------------


def clips(home: Path, state: JobState) -> int:
    ledger = Ledger.open(Places.find(home).ledger)
    try:
        return ledger.counts()[state]
    finally:
        ledger.close()


def test_what_is_entered_runs_jobs_and_stands_in_no_file(
    qtbot: Any, tmp_path: Path, guarded: Running, capsys: Any
) -> None:
    ring, home, url = MemoryKeyring(), tmp_path / "home", guarded.url
    with logged(home), desks(qtbot, tmp_path, vault=Vault(ring)) as case:
        case.window.panels.servers.add_requested.emit()
        form = case.window.findChild(ServerForm)
        assert form is not None
        form.base.setText(url)
        form.user.insert(NAME)
        form.password.insert(PASSWORD)
        assert form.password.echoMode() is QLineEdit.EchoMode.Password
        qtbot.mouseClick(form.save, Qt.MouseButton.LeftButton)
        case.until(case._has_models)
        assert ring.kept == {(SERVICE, vault_name(url)): WHO}
        assert isinstance(case.ending(case.add(url)), Finished)
        ring.kept.clear()
        case.controller.vault.put(vault_name(url), written("me", "wr0ng s3cret"))
        assert isinstance(case.ending(case.add(url)), Failed)
        case.window.remember()
    assert clips(home, JobState.DONE) == 1
    assert clips(home, JobState.FAILED) == 1
    assert cli(["queue", "export", str(home / "jobs.zip"), "--ended", "--home", str(home)]) == 0
    page = str(home / "report.html")
    assert cli(["report", "--last", "--html", page, "--home", str(home)]) == 0
    assert cli(["report", "--last", "--json", "--home", str(home)]) == 0
    assert "s3cret" not in str(capsys.readouterr())
    assert found_in(home) == []
    assert url in (home / "settings.json").read_text("utf-8")


def test_what_an_older_version_wrote_is_cleaned_and_its_jobs_still_run(
    qtbot: Any, tmp_path: Path, guarded: Running
) -> None:
    home, url = tmp_path / "home", guarded.url
    known = KnownServer(url, signed=True)
    vault = Vault(MemoryKeyring())
    vault.know(vault_name(url), WHO)
    with desks(qtbot, tmp_path, known, vault=vault) as case:
        case.until(case._has_models)
        case.controller.set_paused(True)
        case.add(url)
    plant(home, url)
    assert len(found_in(home)) >= 4
    ring = MemoryKeyring()
    older = KnownServer(with_password(url))
    assert "s3cret" in json.dumps(older.to_json())
    with logged(home), desks(qtbot, tmp_path, older, vault=Vault(ring)) as case:
        assert case.controller.engine.servers()[0].base == url
        case.controller.set_paused(False)
        case.until(lambda: case.controller.ledger.counts()[JobState.DONE] == 1)
        job = case.controller.ledger.rows(case.controller.ledger.ids(Group.FINISHED))[0].job
        assert job.params["server"] == url
        case.until(lambda: ring.kept == {(SERVICE, vault_name(url)): WHO})
        case.window.remember()
    assert found_in(home) == []


def plant(home: Path, url: str) -> None:
    """Write what a version wrote that kept the password in the address."""
    places, old = Places.find(home), with_password(url)
    database = sqlite3.connect(places.ledger)
    database.execute("UPDATE jobs SET job = replace(job, ?, ?)", (url, old))
    database.commit()
    database.close()
    for path in (places.logs / "framedeck.log", places.data / "servers" / "x.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'{{"base": "{old}"}}\n' * 3)
    places.settings.write_text(json.dumps({"servers": [{"base": old}]}))


def test_without_a_keyring_it_is_said_and_kept_for_this_run(
    qtbot: Any, tmp_path: Path, guarded: Running
) -> None:
    home, url = tmp_path / "home", guarded.url
    with logged(home), desks(qtbot, tmp_path, KnownServer(with_password(url))) as case:
        case.until(lambda: "until Framedeck ends" in case.notice())
        case.until(case._has_models)
        case.window.remember()
    assert found_in(home) == []
    with desks(qtbot, tmp_path, KnownServer(url, signed=True)) as case:
        health: Callable[[], Any] = lambda: case.wiring.servers.health(url)  # noqa: E731
        case.until(lambda: health() is not None and health().problem is not None)
        assert health().state is State.OFFLINE
        assert "401" in health().problem.message


def test_a_server_taken_off_the_list_is_forgotten_and_brought_back(
    qtbot: Any, tmp_path: Path, guarded: Running
) -> None:
    ring, url = MemoryKeyring(), guarded.url
    ring.kept[SERVICE, vault_name(url)] = WHO
    with desks(qtbot, tmp_path, KnownServer(url, signed=True), vault=Vault(ring)) as case:
        case.until_state(url, State.IDLE)
        case.window.panels.servers.edit_requested.emit(url)
        form = case.window.findChild(ServerForm)
        assert form is not None
        case.until(lambda: form.password.text() == PASSWORD)
        assert (form.user.text(), form.base.text()) == (NAME, url)
        form.reject()
        case.wiring.servers.remove(url)
        case.until(lambda: ring.kept == {})
        button = next(b for b in case.window.panels.notice.findChildren(object) if is_undo(b))
        button.click()
        case.until(lambda: ring.kept == {(SERVICE, vault_name(url)): WHO})
        case.until_state(url, State.IDLE)
        known = case.wiring.servers.servers[0]
        case.wiring.servers.change(url, KnownServer(known.base, known.title))
        case.until(lambda: ring.kept == {})


def is_undo(widget: Any) -> bool:
    return hasattr(widget, "click") and widget.text() == "Undo" and not widget.isHidden()


def test_the_command_line_signs_in_for_one_run(
    tmp_path: Path, guarded: Running, monkeypatch: Any, capsys: Any
) -> None:
    home = tmp_path / "home"
    given = [f"{name}={value}" for name, value in SMALL.items()]
    words = [word for one in given for word in ("--set", one)]
    address = with_password(guarded.url)
    code = cli(["generate", "--recipe", RECIPE, "--server", address, "--home", str(home), *words])
    said = capsys.readouterr()
    assert code == 0, said
    assert "s3cret" not in said.out + said.err
    assert clips(home, JobState.DONE) == 1
    assert found_in(home) == []

"""The servers of a window: real processes, real signals, what is shown and told of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Its pool's threads, which stay, bear the name of the thread that loads it first.
import numpy  # noqa: F401
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPushButton

from app.controller import Controller
from app.models import OwnModels
from app.servers import ServersDesk
from app.window import MainWindow
from app.wiring import Wiring
from core.engines.comfy.answers import End
from core.engines.comfy.health import State
from core.engines.comfy.http import Server
from core.engines.comfy.known import KnownServer
from core.engines.comfy.scan import Scan
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.ledger import Ledger
from core.places import Places
from core.settings import Settings, load
from tests.comfy.fake_install import FakeInstall, free_port, installed
from tests.comfy.standin import running, trivial
from widgets.servers import ServerRow
from widgets.servers_form import ServerForm
from widgets.timeline_bands import Band


@dataclass
class Case:
    """A window with its servers."""

    window: MainWindow
    desk: ServersDesk
    controller: Controller
    qtbot: Any
    close_seconds: float = 6.0

    def row(self, base: str) -> ServerRow:
        return next(row for row in self.window.panels.servers.rows() if row.base == base)

    def until(self, done: Callable[[], Any], seconds: float = 15.0) -> None:
        self.qtbot.waitUntil(lambda: bool(done()), timeout=round(seconds * 1_000))

    def until_state(self, base: str, state: State, seconds: float = 15.0) -> None:
        self.until(lambda: self.desk._watched[base].state is state, seconds)

    def notice(self) -> str:
        return self.window.panels.notice.text()

    def press(self, title: str) -> None:
        def shown() -> dict[str, QPushButton]:
            buttons = self.window.panels.notice.findChildren(QPushButton)
            return {b.text(): b for b in buttons if not b.isHidden()}

        # Qt shows new widgets of a layout in the next turn of the event loop.
        self.until(lambda: title in shown(), 5.0)
        shown()[title].click()


@contextmanager
def opened(qtbot: Any, home: Path, *servers: KnownServer) -> Iterator[Case]:
    places = Places.find(home).make()
    engine = LocalEngine(interpreter=sys.executable, log=places.worker_log, grace_seconds=2.0)
    controller = Controller(
        Ledger.open(places.ledger), engine, recipes(places.models), places.outputs
    )
    settings = Settings(servers=[server.to_json() for server in servers])
    window = MainWindow(settings, places.settings)
    window.fill(controller)
    wiring = Wiring(controller, window, OwnModels(controller, window), places)
    window.confirm = lambda *_: True
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    made = Case(window, wiring.servers, controller, qtbot)
    try:
        yield made
    finally:
        began = time.monotonic()
        wiring.servers.close()
        assert controller.close()
        assert time.monotonic() - began < made.close_seconds


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than in the program, so that the tests need not wait."""
    monkeypatch.setattr("app.server_watch.LOOK_MS", 300)


@pytest.fixture
def case(qtbot: Any, tmp_path: Path) -> Iterator[Case]:
    with opened(qtbot, tmp_path / "home") as made:
        yield made


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeInstall]:
    made = FakeInstall(tmp_path / "ComfyUI")
    yield made
    made.clean()


def test_a_server_is_shown_with_what_is_known_of_it(qtbot: Any, tmp_path: Path) -> None:
    with running(tmp_path / "server") as server:
        known = KnownServer(server.url, "Big card")
        with opened(qtbot, tmp_path / "home", known) as case:
            scans: list[Scan] = []
            case.desk.scanned.connect(scans.append)
            case.until_state(server.url, State.IDLE)
            row = case.row(server.url)
            assert (row.title, row.state, row.tone) == ("Big card", "idle", "success")
            assert row.facts == (
                server.url.removeprefix("http://"),
                "ComfyUI 0.3.64",
                "Simulated GPU",
                "23.6 GB of 24.0 GB free",
            )
            assert (row.can_start, row.can_stop, row.can_restart) == (False, False, False)
            assert case.window.panels.top.chip_label("Big card").text() == "Big card · idle"
            case.until(lambda: scans)
            assert scans[0].base == server.url
            assert "KSampler" in scans[0].info
            case.desk.rescan(server.url)
            qtbot.wait(600)
            assert len(scans) == 1  # Nothing has changed, so nothing is handed on.
            server.server.catalogue.models["vae"] = ["new.safetensors"]
            case.desk.rescan(server.url)
            case.until(lambda: len(scans) == 2)
            assert scans[1].folders["vae"] == ["new.safetensors"]


def test_prompts_of_others_are_shown_with_their_place(qtbot: Any, tmp_path: Path) -> None:
    from core.engines.comfy.standin.script import Script

    with running(tmp_path / "server", Script(node_seconds=30.0)) as server:
        known = KnownServer(server.url)
        with opened(qtbot, tmp_path / "home", known) as case:
            (job,) = case.controller.add("test-pattern", {"prompt": "ours", "steps": 1})
            server.submit(trivial(1), "a browser")
            server.submit(trivial(2), f"framedeck-{job.id}")
            server.submit(trivial(3), "framedeck-of-another-machine")
            case.until(lambda: len(case.row(server.url).foreign) == 2)
            row = case.row(server.url)
            assert row.state == "running 1, 2 waiting"
            assert row.foreign == (
                "Runs a prompt of another client",
                "3rd in line: a prompt of another client",
            )
            assert "Of another client" in row.spoken()


def test_a_prompt_of_another_client_is_a_band_while_it_runs(qtbot: Any, tmp_path: Path) -> None:
    from core.engines.comfy.standin.script import Script

    with running(tmp_path / "server", Script(node_seconds=1.0)) as server:
        known = KnownServer(server.url, "Big card")
        with opened(qtbot, tmp_path / "home", known) as case:
            bands = case.window.panels.timeline._past.bands
            case.until_state(server.url, State.IDLE)
            (job,) = case.controller.add("test-pattern", {"prompt": "ours", "steps": 1})
            began = time.monotonic()
            first = server.submit(trivial(1), "a browser")
            server.submit(trivial(2), f"framedeck-{job.id}")
            second = server.submit(trivial(3), "a browser")

            def mine() -> list[Band]:
                return [band for band in bands._bands if band.whose]

            case.until(lambda: len(mine()) == 2 and mine()[1].end, 30)
            early, late = mine()
            assert [early.job_id, late.job_id] == [first, second], "ours is none of them"
            assert early.whose == late.whose == "another client"
            assert "on Big card" in early.title
            # Two nodes of a second each, seen at every third of a second.
            assert began <= early.start < began + 1.5
            assert early.end is not None
            assert 1.2 < early.end - early.start < 3.5
            assert early.end <= late.start
            for prompt in (first, second):
                record = Server(server.url).history(prompt)
                assert record is not None
                assert record.end is End.SUCCESS
            # One that runs when the server is taken off the list ends there for the timeline.
            server.submit(trivial(4), "a browser")
            case.until(lambda: len(mine()) == 3)
            assert mine()[2].end is None
            case.desk.remove(server.url)
            assert mine()[2].end is not None


def test_a_local_server_is_started_restarted_and_stopped(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    base = fake.server.base
    with opened(qtbot, tmp_path / "home", fake.server) as case:
        case.until(lambda: case.row(base).state == "offline")
        assert case.row(base).can_start
        case.desk.start(base)
        assert case.row(base).state == "starting…"
        case.until_state(base, State.IDLE)
        first = case.desk.pid_of(base)
        assert first in [process.pid for process in fake.alive()]
        row = case.row(base)
        assert (row.can_start, row.can_stop, row.can_restart) == (False, True, True)
        case.desk.restart(base)
        case.until(lambda: fake.starts == 2)
        case.until_state(base, State.IDLE)
        assert case.desk.pid_of(base) not in (None, first)
        case.desk.stop(base)
        case.until_state(base, State.OFFLINE)
        case.until(lambda: not fake.alive())
        qtbot.wait(1_500)
        assert fake.starts == 2
        assert case.notice() == ""


def test_a_crash_is_met_by_a_new_start_after_a_second(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    base = fake.server.base
    with opened(qtbot, tmp_path / "home", fake.server) as case:
        case.desk.start(base)
        case.until_state(base, State.IDLE)
        pid = case.desk.pid_of(base)
        assert pid is not None
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        case.until(lambda: "started again in 1 s" in case.notice())
        assert "was killed by signal 9" in case.notice()
        assert fake.starts == 1
        case.until(lambda: fake.starts == 2)
        case.until_state(base, State.IDLE)
        assert 1.0 < time.monotonic() - began < 8.0
        assert case.desk.pid_of(base) != pid


def test_it_gives_up_after_five_new_starts(
    qtbot: Any, tmp_path: Path, fake: FakeInstall, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.engines.comfy.backoff import Backoff

    base = fake.server.base
    with opened(qtbot, tmp_path / "home", fake.server) as case:
        watched = case.desk._watched[base]
        watched._backoff = Backoff((0.05,) * 5)
        case.desk.start(base)
        case.until_state(base, State.IDLE)
        pid = case.desk.pid_of(base)
        fake.plan(code=7, says=["RuntimeError: no card"])
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        case.until(lambda: "again and again" in case.notice(), 40)
        assert fake.starts == 6
        assert "RuntimeError: no card" in case.notice()
        assert not watched._again.isActive()
        fake.plan()
        case.press("Start")
        case.until_state(base, State.IDLE)


def test_one_that_never_answered_is_not_started_again(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    fake.plan(code=2, says=["main.py: error: unrecognized arguments: --what"])
    base = fake.server.base
    with opened(qtbot, tmp_path / "home", fake.server) as case:
        case.desk.start(base)
        case.until(lambda: "ended with code 2" in case.notice())
        assert "unrecognized arguments: --what" in case.notice()
        assert "Correct its arguments" in case.notice()
        qtbot.wait(1_500)
        assert fake.starts == 1
        case.press("Show log")
        log = case.window.panels.servers.view.log
        case.until(lambda: any("unrecognized" in line for line in log.shown()))
        assert any(line.tone == "danger" for line in log.lines())


def test_a_server_that_answers_and_runs_nothing_is_restarted_by_one_click(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    import requests

    base = fake.server.base
    with opened(qtbot, tmp_path / "home", fake.server) as case:
        case.desk.start(base)
        case.until_state(base, State.IDLE)
        requests.post(f"{base}/prompt", json={"prompt": trivial(), "extra_data": None}, timeout=10)
        case.until_state(base, State.STUCK)
        assert case.row(base).state == "answers, but nothing runs"
        assert case.row(base).tone == "danger"
        assert "nothing runs on it any more" in case.notice()
        case.press("Restart")
        case.until(lambda: fake.starts == 2)
        case.until_state(base, State.IDLE)
        assert case.notice() == ""


def test_what_runs_is_not_stopped_without_a_question(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    import requests

    fake.plan(script={"node_seconds": 60.0})
    base = fake.server.base
    with opened(qtbot, tmp_path / "home", fake.server) as case:
        case.desk.start(base)
        case.until_state(base, State.IDLE)
        requests.post(
            f"{base}/prompt", json={"prompt": trivial(), "client_id": "browser"}, timeout=10
        )
        case.until_state(base, State.RUNNING)
        asked: list[str] = []

        def no(*words: str) -> bool:
            asked.append(" ".join(words))
            return False

        case.window.confirm = no
        case.desk.stop(base)
        case.desk.restart(base)
        assert len(asked) == 2
        assert "1 prompt, 1 of them of other clients, would be lost" in asked[0]
        assert case.desk._watched[base].doing is None
    # The window is closed: prompts of others are not ended with it.
    assert fake.alive()


def test_a_server_ends_with_the_window_unless_it_shall_not(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    base = fake.server.base
    with opened(qtbot, tmp_path / "home", fake.server) as case:
        case.desk.start(base)
        case.until_state(base, State.IDLE)
    assert fake.alive() == []
    stays = fake.known(keep_running=True)
    with opened(qtbot, tmp_path / "home", stays) as case:
        case.desk.start(base)
        case.until_state(base, State.IDLE)
        pid = case.desk.pid_of(base)
    assert [process.pid for process in fake.alive()] == [pid]
    with opened(qtbot, tmp_path / "home", stays) as case:
        case.until(lambda: case.desk.pid_of(base) == pid)
        assert case.row(base).can_stop
        case.desk.stop(base)
        case.until(lambda: not fake.alive())


def test_the_process_of_a_server_that_somebody_else_started_is_known(
    qtbot: Any, tmp_path: Path
) -> None:
    """Else nobody could tell a decode that stands still from one that computes."""
    with installed(tmp_path) as (fake, process), running(tmp_path / "tunnel") as other:
        pid = process.start(fake.server)
        base = fake.server.base
        known = KnownServer(base), KnownServer(other.url)
        with opened(qtbot, tmp_path / "home", *known) as case:
            case.until_state(base, State.IDLE)
            case.until_state(other.url, State.IDLE)
            case.until(lambda: case.desk.pid_of(base) == pid)
            assert case.desk.pid_of(other.url) is None, "who listens there is no ComfyUI"
            assert not case.row(base).can_stop, "it is not ours to end"
            process.stop(0.5)
            case.until(lambda: case.desk.pid_of(base) is None)


def test_a_taken_port_is_told_in_the_notice(qtbot: Any, tmp_path: Path, fake: FakeInstall) -> None:
    import socket

    base = fake.server.base
    with opened(qtbot, tmp_path / "home", fake.server) as case:
        with socket.create_server(("127.0.0.1", fake.server.port)):
            case.desk.start(base)
            case.until(lambda: "is taken by" in case.notice())
        assert f"process {os.getpid()}" in case.notice()
        case.until_state(base, State.OFFLINE)
        case.press("Edit")
        assert case.window.findChild(ServerForm).base.text() == base


def test_adding_by_keyboard_with_a_readable_error_first(case: Case, tmp_path: Path) -> None:
    qtbot, panel = case.qtbot, case.window.panels.servers
    case.window.panels.docks["servers"].raise_()
    qtbot.waitUntil(panel.is_looked_at)
    view = panel.view
    assert view.list.count() == 0
    case.window.activateWindow()
    view.actions_by_name["add"].trigger()
    form = case.window.findChild(ServerForm)
    assert form.isVisible()
    for text, words in (
        ("", "is not the address"),
        ("http://0.0.0.0:8188", "says where a server listens"),
        (f"127.0.0.1:{free_port()}", "cannot be asked"),
    ):
        form.base.clear()
        qtbot.keyClicks(form.base, text)
        qtbot.keyClick(form.base, Qt.Key.Key_Return)
        case.until(lambda words=words: words in form.error())
    assert form.save.text() == "Save anyway"
    assert case.desk.servers == []
    with running(tmp_path / "server") as server:
        form.base.clear()
        qtbot.keyClicks(form.base, server.url.removeprefix("http://"))
        assert form.error() == ""
        assert form.save.text() == "Add"
        qtbot.keyClicks(form.title, "Mine")
        qtbot.keyClick(form.title, Qt.Key.Key_Return)
        case.until(lambda: case.desk.servers)
        case.until_state(server.url, State.IDLE)
        assert view.list.count() == 1
        assert view.selected() == server.url
        case.window.remember()
        kept, _ = load(case.window.settings_path)
        assert kept.servers == [KnownServer(server.url, "Mine").to_json()]
        case.desk.remove(server.url)
        assert case.desk.servers == []
        assert "Mine is off the list. It goes on running." in case.notice()
        case.press("Undo")
        assert [each.title for each in case.desk.servers] == ["Mine"]
        assert case.notice() == ""


def test_editing_changes_it_and_keeps_its_place(case: Case) -> None:
    places = [free_port() for _ in range(3)]
    for port in places:
        case.desk.add(KnownServer(f"http://127.0.0.1:{port}"))
    second = case.desk.servers[1].base
    told: list[list[KnownServer]] = []
    case.desk.servers_changed.connect(told.append)
    case.window.panels.servers.edit_requested.emit(second)
    form = case.window.findChild(ServerForm)
    other = f"http://127.0.0.1:{free_port()}"
    form.base.setText(case.desk.servers[0].base)
    form.save.click()
    assert "on the list already" in form.error()
    form.base.setText(other)
    form.arguments.setText("--lowvram --highvram")
    form.clear_problem()
    form.save.click()
    assert "exclude each other" in form.error()
    form.arguments.setText("--lowvram")
    form.clear_problem()
    form.save.click()
    case.until(lambda: form.save.text() == "Save anyway")
    form.save.click()
    assert [server.base for server in case.desk.servers][1] == other
    assert case.desk.servers[1].arguments == ("--lowvram",)
    assert told[-1] == case.desk.servers


def test_running_servers_are_found_and_taken_in(
    case: Case, tmp_path: Path, fake: FakeInstall
) -> None:
    import subprocess

    words = [sys.executable, str(fake.folder / "main.py"), "--port", str(fake.server.port)]
    with subprocess.Popen([*words, "--lowvram"], stdout=subprocess.DEVNULL) as terminal:
        try:
            from core.engines.comfy.health import Doctor

            doctor = Doctor(fake.server.base)
            case.until(lambda: doctor.look().answers)
            case.window.panels.servers.attach_requested.emit()
            case.until(lambda: fake.server.base in [s.base for s in case.desk.servers])
            found = next(s for s in case.desk.servers if s.base == fake.server.base)
            assert found.folder == str(fake.folder)
            assert found.arguments == ("--lowvram",)
            assert found.keep_running
            assert "Found" in case.notice()
            case.until_state(found.base, State.IDLE)
            assert case.row(found.base).can_restart
            case.desk.restart(found.base)
            case.until(lambda: terminal.poll() is not None)
            case.until(lambda: fake.starts == 2)
            case.until_state(found.base, State.IDLE)
            assert fake.seen()["argv"][1:] == [
                "--lowvram", "--port", str(fake.server.port), "--listen", "127.0.0.1",
            ]  # fmt: skip
        finally:
            terminal.terminate()


def test_a_remote_server_cannot_be_restarted_and_says_why(case: Case) -> None:
    case.desk.add(KnownServer("http://192.0.2.1:8188"))
    case.controller.guard(lambda: case.desk.restart("http://192.0.2.1:8188"))
    assert "does not know how to start ComfyUI 192.0.2.1:8188" in case.notice()
    assert "on its own machine" in case.notice()
    assert not case.desk.can_restart("http://192.0.2.1:8188")


def test_the_window_closes_at_once_while_servers_hang(qtbot: Any, tmp_path: Path) -> None:
    with running(tmp_path / "server") as server:
        # One that takes connections and says nothing, and one that is nowhere.
        server.faults.arm("latency", 30)
        servers = (KnownServer(server.url), KnownServer("http://192.0.2.1:8188"))
        with opened(qtbot, tmp_path / "home", *servers) as case:
            qtbot.wait(300)
            case.close_seconds = 2.0
        server.faults.disarm()


def test_bad_entries_of_the_settings_are_told_and_cost_nothing_else(
    qtbot: Any, tmp_path: Path
) -> None:
    places = Places.find(tmp_path / "home").make()
    good = KnownServer("http://127.0.0.1:9")
    places.settings.write_text("{}")
    with opened(qtbot, tmp_path / "home", KnownServer("no address"), good) as case:
        assert [server.base for server in case.desk.servers] == [good.base]
        assert "no address" in case.notice()


def test_the_dock_stands_behind_the_queue_and_comes_up_by_its_key(case: Case) -> None:
    docks = case.window.panels.docks
    assert docks["servers"] in case.window.tabifiedDockWidgets(docks["queue"])
    servers, queue = case.window.panels.servers, case.window.panels.queue

    def front() -> list[bool]:
        case.qtbot.wait(60)
        return [not panel.visibleRegion().isEmpty() for panel in (queue, servers)]

    assert front() == [True, False]
    assert servers._view is None  # Nothing is made before somebody looks.
    action = docks["servers"].toggleViewAction()
    assert action.shortcut().toString() == "Ctrl+4"
    action.trigger()
    assert front() == [False, True]
    assert servers._view is not None
    action.trigger()
    assert front() == [True, False]
    assert docks["servers"].isHidden()
    action.trigger()
    assert front() == [False, True]
    docks["queue"].toggleViewAction().trigger()
    assert front() == [True, False]


def test_a_layout_of_before_the_dock_is_kept(qtbot: Any, case: Case) -> None:
    from dataclasses import replace

    window = case.window
    window.removeDockWidget(window.panels.docks["servers"])
    window.panels.docks["compose"].hide()
    window.remember()
    window.settings = replace(window.settings)
    again = MainWindow(window.settings, window.settings_path)
    again.fill(case.controller)
    qtbot.addWidget(again)
    again.show()
    qtbot.waitUntil(again.panels.docks["compose"].isHidden, timeout=2_000)
    dock = again.panels.docks["servers"]
    dock.toggleViewAction().trigger()
    qtbot.waitUntil(lambda: not again.panels.servers.visibleRegion().isEmpty(), timeout=2_000)


PROGRAM = """
import sys
import app.gui
from PySide6.QtCore import QTimer
plain = app.gui.Program._begin
def began(program):
    plain(program)
    desk = program._wiring.servers
    def look():
        if desk.pid_of(sys.argv[2]):
            print("found", flush=True)
        else:
            QTimer.singleShot(50, look)
    look()
app.gui.Program._begin = began
from app.main import main
raise SystemExit(main(["--home", sys.argv[1]]))
"""


@pytest.mark.parametrize("stays", [False, True])
def test_the_program_ends_its_servers_when_it_is_told_to_end(
    tmp_path: Path, fake: FakeInstall, stays: bool
) -> None:
    import subprocess

    from core.engines.comfy.process import ServerProcess
    from core.settings import save
    from tests.comfy.fake_install import ROOT

    home = tmp_path / "home"
    places = Places.find(home).make()
    known = fake.known(keep_running=stays)
    save(places.settings, Settings(servers=[known.to_json()]))
    # An earlier start of the program left it running, as after a kill.
    earlier = ServerProcess(known.base, places.data / "servers", places.logs / "servers")
    earlier.start(known)
    earlier.let_go()
    words = [sys.executable, "-c", PROGRAM, str(home), known.base]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "found\n"
        began = time.monotonic()
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 0
        assert time.monotonic() - began < 6
    assert bool(fake.alive()) is stays

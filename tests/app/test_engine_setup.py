"""Setting up the engine: the window's dialog, the jobs that wait for it, the command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import engine_cli, engine_setup_words
from app.engine_setup import EngineDesk
from app.window import MainWindow
from core import engine_env
from core.engine_env import state
from core.engine_env.card import Card, why
from core.engine_env.layout import Layout
from core.engine_env.steps import Progress
from core.events import Finished
from core.places import Places
from core.scheduling.moment import Now
from core.scheduling.reasons import reasons
from core.scheduling.scheduler import Scheduler
from core.scheduling.snapshot import Lane, Snapshot, Waiting
from tests.core.engine_shop import Manners, Shop, make_lock, make_wheel
from widgets.engine_setup import EngineSetupDialog

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A small engine to fetch, as if this were the packaged program."""
    monkeypatch.setenv(engine_env.VARIABLE, "managed")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "wheels"
    folder.mkdir()
    made = Shop(folder)
    make_lock(tmp_path / "locks", [make_wheel(folder, "tinya", 150_000)], made.base)
    monkeypatch.setattr("core.frozen.engine_locks", lambda: tmp_path / "locks")
    yield made
    made.close()


def desk_of(window: MainWindow) -> EngineDesk:
    return window.findChild(EngineDesk)


# -- the window -------------------------------------------------------------------------


@pytest.mark.parametrize("interpreter", ["", "/removed/by/a/command/bin/python"])
def test_jobs_of_this_computer_wait_for_an_engine(
    window: MainWindow, qtbot: Any, interpreter: str
) -> None:
    controller = window.controller
    assert controller is not None
    local = controller.engine.local
    local.use(interpreter)
    (job,) = controller.add("test-pattern", {"prompt": "rain", "frames": 8, "steps": 4})
    ended: list[Any] = []
    controller.job_ended.connect(lambda _, ending: ended.append(ending))
    qtbot.waitUntil(lambda: "not set up" in window.panels.status._queue.text(), timeout=5000)
    qtbot.wait(400)
    assert ended == []
    assert controller.running is None
    local.use(sys.executable)
    controller.go_on()
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    assert isinstance(ended[0], Finished)
    assert controller.row(job.id).state.value == "done"


def test_a_job_for_a_server_begins_without_an_engine() -> None:
    lanes = [Lane("local", "Local engine", missing=engine_env.NOT_SET_UP), Lane("http://a", "A")]
    jobs = [
        Waiting("1", "one", ("local",)),
        Waiting("2", "two", ("http://a",)),
        Waiting("3", "three", ("local", "http://a")),
    ]
    now = Now(1_000_000.0, 10.0)
    snapshot = Snapshot(jobs, lanes)
    decided = Scheduler().decide(snapshot, now)
    assert [(one.job_id, one.place) for one in decided.starts] == [("2", "http://a")]
    assert reasons(now, {}, decided, snapshot)["1"].words == "The engine is not set up yet"
    only = Snapshot([jobs[2]], lanes)
    assert [one.place for one in Scheduler().decide(only, now).starts] == ["http://a"]


def test_sets_the_engine_up(window: MainWindow, shop: Shop, qtbot: Any) -> None:
    controller = window.controller
    assert controller is not None
    controller.engine.local.use("")
    controller.set_paused(True)
    desk = desk_of(window)
    desk.at_start()
    assert "not set up yet" in window.panels.notice.text()
    dialog = desk.open()
    qtbot.waitUntil(lambda: "1 packages" in dialog.fetch.text(), timeout=20_000)
    assert dialog.install.text() == "&Install"
    assert dialog.builds.count() == 2
    shop.manners = Manners(pause=0.05)
    assert dialog.install.isDefault()
    dialog.install.click()
    assert not dialog.install.isEnabled()
    assert dialog.state.text() == "Setting up the engine…"
    qtbot.waitUntil(lambda: dialog.words.text().startswith("Fetching"), timeout=20_000)
    dialog.stop.click()
    qtbot.waitUntil(lambda: dialog.install.text() == "Resu&me", timeout=20_000)
    assert controller.engine.local.interpreter == ""
    shop.manners = Manners()
    dialog.close()
    desk.resume()
    qtbot.waitUntil(lambda: dialog.words.text() == "The engine is ready.", timeout=30_000)
    python = controller.engine.local.interpreter
    assert python == str(engine_env.active(Places.find(window.settings_path.parent)))
    assert dialog.repair.isVisible()
    assert not dialog.install.isDefault()  # Enter does not install all of it once more.
    dialog.check.click()
    assert dialog.state.text().startswith("Checking")
    qtbot.waitUntil(lambda: dialog.words.text().startswith("Every file"), timeout=30_000)


def test_what_a_command_does_is_noticed_by_the_open_window(
    window: MainWindow, shop: Shop, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.engine_setup.LOOK_MS", 50)
    controller = window.controller
    assert controller is not None
    controller.engine.local.use("")
    controller.set_paused(True)
    desk = desk_of(window)
    desk.at_start()
    notice = window.panels.notice
    home = str(window.settings_path.parent)
    assert engine_cli.main(["install", "--home", home, "--tag", "cpu", "--json"]) == 0
    python = str(engine_env.active(Places.find(window.settings_path.parent)))
    qtbot.waitUntil(lambda: controller.engine.local.interpreter == python, timeout=10_000)
    assert notice.text().startswith("The engine was set up outside of this window")
    assert engine_cli.main(["remove", "--home", home, "--json"]) == 0
    qtbot.waitUntil(lambda: controller.engine.local.interpreter == "", timeout=10_000)
    assert notice.text().startswith("The engine was removed.")
    dialog = desk.open()
    assert "not set up" in dialog.state.text()


def test_a_folder_of_wheels_is_judged_before_anything_is_fetched(
    window: MainWindow, shop: Shop, tmp_path: Path, qtbot: Any
) -> None:
    dialog = desk_of(window).open()
    empty = tmp_path / "empty"
    empty.mkdir()
    dialog.folder.setText(str(empty))
    dialog.choice_changed.emit()
    qtbot.waitUntil(lambda: f"{empty} holds none" in dialog.empty.text(), timeout=20_000)
    assert dialog.empty.isVisible()
    dialog.folder.setText(str(shop.folder))
    dialog.choice_changed.emit()
    qtbot.waitUntil(lambda: dialog.fetch.text().startswith("Nothing: all"), timeout=20_000)
    assert not dialog.empty.isVisible()
    dialog.folder.setText("")
    dialog.choice_changed.emit()
    qtbot.waitUntil(lambda: "Nothing" not in dialog.fetch.text(), timeout=20_000)
    assert not dialog.empty.isVisible()


def test_a_wrong_folder_leaves_a_person_at_its_field(
    window: MainWindow, shop: Shop, tmp_path: Path, qtbot: Any
) -> None:
    desk = desk_of(window)
    dialog = desk.open()
    dialog.folder.setText(str(tmp_path / "nowhere"))
    desk.install()
    qtbot.waitUntil(lambda: dialog.wrong.isVisible() and not desk.busy, timeout=20_000)
    assert dialog.focusWidget() is dialog.folder


def test_the_doctor_leads_to_the_repair(shop: Shop, window: MainWindow) -> None:
    from core.doctor.findings import Repair

    desk = desk_of(window)
    desk.open().show_words("The engine is ready.")
    desk.dialog.close()
    desk.mend(Repair("repair"))
    assert desk.dialog.words.text().startswith("Doctor found")
    assert desk.dialog.repair.isDefault()
    desk.dialog.close()
    desk.open()
    assert desk.dialog.words.text() == ""
    assert not desk.dialog.repair.isDefault()


def test_the_doctor_and_the_welcome_open_it(shop: Shop, window: MainWindow, qtbot: Any) -> None:
    from app.doctor import DoctorDesk
    from app.helping import HelpDesk
    from core.doctor.findings import Repair

    desk, doctor = desk_of(window), window.findChild(DoctorDesk)
    assert window.findChild(HelpDesk).set_up_engine == desk.open
    assert doctor.repair is not None
    doctor.repair(Repair("switch", "cpu"))
    assert desk.dialog is not None
    assert desk.dialog.isVisible()
    assert desk.dialog.choice()[0] == "cpu"
    assert not desk.busy
    qtbot.waitUntil(lambda: "1 packages" in desk.dialog.fetch.text(), timeout=20_000)


def test_a_clip_is_not_exported_without_an_engine(window: MainWindow, qtbot: Any) -> None:
    from app.exporting import ExportDesk

    assert window.controller is not None
    window.controller.engine.local.use("")
    folder = window.settings_path.parent
    window.findChild(ExportDesk).save(folder / "a.mp4", folder / "a.gif", "gif")
    qtbot.waitUntil(lambda: "not set up yet" in window.panels.notice.text(), timeout=5000)
    assert not (folder / "a.gif").exists()


def test_what_goes_wrong_stays_in_the_dialog(window: MainWindow, shop: Shop, qtbot: Any) -> None:
    assert window.controller is not None
    window.controller.engine.local.use("")
    desk = desk_of(window)
    dialog = desk.open()
    qtbot.waitUntil(lambda: "1 packages" in dialog.fetch.text(), timeout=20_000)
    shop.manners = Manners(status=404)
    dialog.install.click()
    qtbot.waitUntil(dialog.wrong.isVisible, timeout=20_000)
    assert "does not have" in dialog.message.text()
    qtbot.waitUntil(dialog.install.isEnabled, timeout=20_000)
    qtbot.wait(300)
    assert dialog.wrong.isVisible()
    dialog.proxy.setText("no address")
    dialog.choice_changed.emit()
    qtbot.waitUntil(lambda: "no address of a proxy" in dialog.message.text(), timeout=20_000)
    assert not dialog.install.isEnabled()


def test_a_checkout_has_nothing_to_set_up(window: MainWindow, qtbot: Any) -> None:
    desk = desk_of(window)
    desk.at_start()
    assert window.panels.notice.isHidden()
    dialog = desk.open()
    assert "its own Python" in dialog.state.text()
    assert not dialog.install.isVisible()
    assert not dialog.builds.isVisible()


# -- the command ------------------------------------------------------------------------


def run(home: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = engine_cli.main([*words, "--home", str(home), "--json"])
    out = capsys.readouterr().out.strip()
    return code, json.loads(out) if out else None


def test_the_command_from_nothing_to_nothing(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    code, found = run(home, capsys, "status")
    assert (code, found["state"], found["locked"]) == (1, state.NONE, ["cpu"])
    code, found = run(home, capsys, "plan")
    assert (code, found["tag"], found["packages"], found["enough"]) == (0, "cpu", 1, True)
    code, found = run(home, capsys, "check")
    assert (code, found["problem"]["field"]) == (1, "engine")
    code, found = run(home, capsys, "repair")
    assert (code, found["problem"]["field"]) == (1, "engine")
    assert shop.asked == []
    assert engine_cli.main(["status", "--home", str(home)]) == 1
    assert capsys.readouterr().out.endswith("Next: python3 -m app engine install\n")
    code, found = run(home, capsys, "install", "--tag", "cu128")
    assert (code, found["problem"]["field"]) == (2, "tag")
    code, found = run(home, capsys, "install", "--wheels", str(shop.folder))
    assert (code, found["tag"]) == (0, "cpu")
    name = found["name"]
    assert shop.asked == []
    code, found = run(home, capsys, "check", "--deep")
    assert (code, found["whole"]) == (0, True)
    engine = Layout(home / "engine")
    next(engine.environment(name).glob("lib/python3*/site-packages/tinya/weights.bin")).unlink()
    assert run(home, capsys, "check", "--deep")[0] == 1
    assert run(home, capsys, "repair", "--wheels", str(shop.folder))[0] == 0
    assert run(home, capsys, "check", "--deep")[0] == 0
    code, found = run(home, capsys, "use", name)
    assert (code, found["active"]) == (0, name)
    assert run(home, capsys, "remove") == (0, {"removed": [name]})
    assert run(home, capsys, "status")[0] == 1


def test_the_command_in_a_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status"], ["install"], ["repair"], ["check"]):
        code, found = run(tmp_path, capsys, *words)
        assert (code, found["state"]) == (0, state.OWN)
    assert not (tmp_path / "engine").exists()


def test_a_command_is_handed_over_whatever_folder_a_person_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("app", "core"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit(77)\n")
    monkeypatch.chdir(tmp_path)
    assert engine_cli.hand_over(["export", "--help"]) == 0
    assert "--format" in capfd.readouterr().out


def test_no_engine_is_a_problem_with_a_way_out(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    assert engine_cli.hand_over(["bench", "engine", "--home", str(home), "--json"]) == 1
    assert "framedeck engine install" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "words", "share"),
    [
        (Progress("fetch", "torch", 2**29, 2**30), "Fetching: 512 MB of 1.0 GB", 0.5),
        (Progress("install", "torch", 2**30, 2**31), "Installing: 1.0 GB of 2.0 GB", 0.5),
        (Progress("prove", "imports"), "Trying whether the engine starts", None),
        (Progress("wait"), "Waiting for another set-up to end", None),
    ],
)
def test_words_of_progress(step: Progress, words: str, share: float | None) -> None:
    assert engine_setup_words.phase_words(step) == words
    assert engine_setup_words.share(step) == share


def test_words_of_pace() -> None:
    step = Progress("fetch", "torch", 100 * 2**20, 1000 * 2**20)
    assert engine_setup_words.pace_words(step, 90 * 2**20, 3.0) == " · 30 MB/s · about 30 s left"
    assert engine_setup_words.pace_words(step, 0, 3.0) == ""
    assert engine_setup_words.pace_words(step, 2**20, 0.2) == ""


def test_the_longest_reason_for_a_build_is_shown_whole(qtbot: Any) -> None:
    names = ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "NVIDIA GeForce GTX 1080 Ti")
    more = (((7, 0), "Tesla V100-SXM2-32GB-LS"), ((6, 1), names[1]))
    found = Card((13, 0), (12, 0), names[0], more)
    dialog = EngineSetupDialog()
    qtbot.addWidget(dialog)
    dialog.show()
    why_so = f"{engine_setup_words.build_words('cu130')}. {why(found, 'cu130')}"
    assert names[1] in why_so
    dialog.show_plan(why_so, "2.1 GB", "6.4 GB", "100 GB", enough=True, fits=True)
    qtbot.waitUntil(lambda: dialog.why.height() >= dialog.why.heightForWidth(dialog.why.width()))
    assert dialog.why.visibleRegion().boundingRect().height() == dialog.why.height()
    assert dialog.height() <= 720

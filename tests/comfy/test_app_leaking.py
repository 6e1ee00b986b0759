"""A server that leaks: told with its slope, cleaned, found hopeless, restarted; no job is lost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QObject, Signal

from app.leaking import LeakRestarts, Said
from app.leaks import LeakDesk
from core.engines.comfy.free import Freed
from core.engines.comfy.health import State
from core.engines.comfy.held import Held
from core.engines.comfy.http import Device, Server, Stats
from core.engines.comfy.known import KnownServer
from core.engines.comfy.standin.script import Script
from core.errors import Category, Problem, ProblemError
from core.events import Ending, Finished
from core.jobs import JobState
from core.settings import FREE_WHEN_LEAKING, Settings
from tests.comfy.app_driver import make
from tests.comfy.desks import Desks, desks
from tests.comfy.fake_install import FakeInstall
from tests.comfy.standin import running, trivial

MB = 2**20
JOBS = 8
WHEN_LEAKING = Settings(free_every=FREE_WHEN_LEAKING)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeInstall]:
    made = FakeInstall(tmp_path / "ComfyUI")
    yield made
    made.clean()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server_watch.LOOK_MS", 300)


def all_ended(case: Desks, count: int) -> list[Ending]:
    def ended() -> list[Ending]:
        return [event for event in case.events if isinstance(event, Ending)]

    case.until(lambda: len(ended()) == count and case.controller.running is None, 60)
    return ended()


def notes(case: Desks, job_id: str) -> str:
    """What the record holds of a job."""
    return "\n".join(case.controller.ledger.notes(job_id, 1))


def test_a_leak_is_told_by_the_sixth_job_and_met_by_a_restart(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    """800 MB a job: the slope, a clean-up without effect, a restart between jobs, all done."""
    fake.plan(script={"leak_bytes": 800 * MB})
    base = fake.server.base
    with desks(qtbot, tmp_path, fake.server, settings=WHEN_LEAKING) as case:
        first = case.start(base)
        said: list[str] = []
        plain = case.window.panels.notice.show_text
        case.window.panels.notice.show_text = lambda text, *more, **most: (
            said.append(text) or plain(text, *more, **most)
        )
        case.controller.set_paused(True)
        jobs = [case.add(base) for _ in range(JOBS)]
        case.controller.set_paused(False)
        assert {type(each) for each in all_ended(case, JOBS)} == {Finished}
        assert [case.controller.row(job.id).state for job in jobs] == [JobState.DONE] * JOBS
        # By the sixth job and not before, in its record.
        assert [bool(notes(case, job.id)) for job in jobs] == [False] * 5 + [True, True, False]
        told = notes(case, jobs[5].id)
        slope = re.search(r"GPU memory of the server grows by (\d+) MB with every job", told)
        assert slope, told
        assert int(slope[1]) == pytest.approx(800, rel=0.10)
        assert re.search(r"Memory cleaned up: 2\.\d GB freed in \d\.\d s\.", told), told
        assert "It did not help: 3.9 GB leaked since the server was started." in told
        # Between the jobs: each was sent once, to the one server or to the other.
        posts = fake.posted()
        assert Counter(post["prompt_id"] for post in posts) == dict.fromkeys(
            (job.id for job in jobs), 1
        )
        assert [post["start"] for post in posts] == [1] * 6 + [2] * 2
        assert fake.starts == 2
        assert case.wiring.servers.pid_of(base) not in (None, first)
        after = notes(case, jobs[6].id)
        assert re.search(r"was restarted in \d+ s: 3\.9 GB leaked on", after), after
        assert any("It is restarted before the next job." in text for text in said), said
        assert any("grows by 800 MB with every job" in text for text in said), said
        assert any("was restarted in" in text for text in said), said
        # It begins anew with the new process.
        assert case.controller.engine.server_leaks() == {}


def test_a_server_that_is_not_ours_is_offered_to_be_restarted(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    fake.plan(script={"leak_bytes": 800 * MB})
    base = fake.server.base
    with desks(qtbot, tmp_path, fake.server, settings=WHEN_LEAKING) as case:
        pid = case.start(base)
        # As one that somebody else started, from a folder that is not known.
        case.wiring.servers.change(base, replace(fake.server, folder=""))
        case.until_state(base, State.IDLE)
        jobs = [case.add(base) for _ in range(7)]
        assert {type(each) for each in all_ended(case, 7)} == {Finished}
        assert "It did not help" in notes(case, jobs[5].id)
        assert notes(case, jobs[6].id) == "", "what did not help is not done again and again"
        case.until(lambda: "did not come back by freeing" in case.notice())
        assert "Restart it where it was started" in case.notice()
        assert (fake.starts, case.wiring.servers.pid_of(base)) == (1, pid)
        desk = case.window.findChild(LeakDesk)
        assert desk.health == ("Leak: 800 MB a job", "warning")


class Restarts(QObject):
    """Notes that a restart was asked for."""

    said = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.told: list[Said] = []
        self.refusal: Problem | None = None
        self.said.connect(self.told.append)

    def can_restart(self, base: str) -> bool:
        return True

    def restart(self, base: str, pause: Callable[[float], bool]) -> None:
        self.asked.append(base)
        if self.refusal is not None:
            raise ProblemError(self.refusal)


def test_prompts_of_others_are_waited_for(qtbot: Any, tmp_path: Path) -> None:
    """The restart comes when nothing runs or waits there: none of theirs is lost by it."""
    with running(tmp_path / "s", Script(seconds={"EmptyImage": 1.0})) as server:
        controller = make(tmp_path / "home", [KnownServer(server.url)], free_every=-1)
        restarts = Restarts()
        leaking = LeakRestarts(controller, restarts, restarts)  # type: ignore[arg-type]
        held = controller.engine.comfy()[server.url].held
        try:
            after(held, (14_400 + 800 * number for number in range(6)))
            assert leaking.after_job(server.url, lambda _: False) == ""
            held.cleaned(freed(300, None), None)
            server.submit(trivial(1))
            for _ in range(3):
                assert leaking.after_job(server.url, lambda _: False) == ""
            assert restarts.asked == []
            assert [said.offers for said in restarts.told] == [True], "told once"
            assert "Prompts wait there: it is restarted after them." in restarts.told[0].text
            qtbot.waitUntil(lambda: not Server(server.url).queue().running, timeout=5_000)
            restarts.refusal = Problem(Category.WORKER_UNAVAILABLE, "No Python.", "Install it.")
            assert leaking.after_job(server.url, lambda _: False) == ""
            assert "It was not restarted: No Python. Install it." in restarts.told[-1].text
            assert held.lost_bytes is not None
            restarts.refusal = None
            note = leaking.after_job(server.url, lambda _: False)
            assert re.fullmatch(r".* was restarted in 0 s: 3\.9 GB leaked on .*", note), note
            assert restarts.asked == [server.url] * 2
            assert held.lost_bytes is None
            # By number nobody is restarted.
            controller.engine.set_free_every(10)
            after(held, (14_400 + 800 * number for number in range(6)))
            held.cleaned(freed(300, None), None)
            assert held.lost_bytes is not None
            assert leaking.after_job(server.url, lambda _: False) == ""
            assert len(restarts.asked) == 2
        finally:
            assert controller.close()


# -- what freeing brought, judged -----------------------------------------------------


def stats(used: float, total: float = 24_000) -> Stats:
    """What a server says that uses so many MB."""
    device = Device("cuda:0", "cuda", round(total * MB), round((total - used) * MB), None, None)
    return Stats("0.3.64", "3.12", "2.8", 64_000 * MB, 32_000 * MB, (device,), ())


def after(held: Held, used: Iterable[float]) -> None:
    for one in used:
        held.ended(stats(one))


def freed(came: float, held: float | None) -> Freed:
    return Freed(round(came * MB), None, 1.0, 0.0, None if held is None else round(held * MB), "")


@given(st.integers(100, 2_000), st.integers(0, 14_000))
def test_a_leak_is_due_with_the_sixth_job_alone(slope: int, models: int) -> None:
    held = Held()
    after(held, (400 + models + slope * number for number in range(5)))
    assert held.due == ""
    after(held, [400 + models + slope * 5])
    room = 24_000 - (400 + models + slope * 5)
    assert bool(held.due) == (room // slope <= 50), held.due
    steady = Held()
    after(steady, [400 + models + 5_000] * 12)
    assert (steady.due, steady.leaks) == ("", []), "a pack that holds memory is no leak"


@pytest.mark.parametrize(
    ("came", "torch", "then", "lost"),
    [
        (300, None, None, True),  # Hardly anything came back.
        (2_000, 4_800, None, True),  # The models did, and torch still holds what leaked.
        (14_000, 100, 18_800, True),  # Nobody can tell, until the next job shows it.
        (14_000, 100, 14_900, False),  # And this one shows that it did.
        (14_000, None, 14_400, False),  # Less than ever: begun anew.
    ],
)
def test_what_freeing_brought_is_judged(
    came: float, torch: float | None, then: float | None, lost: bool
) -> None:
    held = Held()
    after(held, (14_400 + 800 * number for number in range(6)))
    assert "grows by 800 MB with every job" in held.due
    held.cleaned(freed(came, torch), None)
    assert held.due == "", "not again at once"
    if then is not None:
        assert held.lost_bytes is None
        after(held, [then])
    assert (held.lost_bytes is not None) == lost
    if held.lost_bytes is not None:
        assert held.lost_bytes >= 4_000 * MB * 0.9
    assert held.due == ""
    held.reset()
    assert (held.lost_bytes, held.leaks) == (None, [])


def test_main_memory_that_leaks_is_met_as_well() -> None:
    held = Held()
    for number in range(6):
        held.ended(stats(5_000), f"{number}", (77, (4_000 + 900 * number) * MB))
        held.ended(stats(9_999), f"{number}", (77, 1))  # Of the same job, and not counted.
    assert held.due.startswith("Main memory of the server grows by 900 MB with every job")
    held.cleaned(freed(4_000, 100), 200 * MB)
    assert held.lost_bytes == pytest.approx(4_500 * MB)
    held.ended(stats(5_000), "6", (78, 4_000 * MB))
    assert (held.lost_bytes, held.due) == (None, ""), "another process holds nothing of that"

"""The owner of state with the real engine, the real ledger and real processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.controller import Controller
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.errors import ProblemError
from core.events import Failed, Finished, PhaseStarted, Sampled, Stopped
from core.jobs import JobState, Phase
from core.ledger import Ledger
from core.queue import Group

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0.01}
SLOW = SMALL | {"steps": 50, "step_seconds": 0.2}


@pytest.fixture
def controller(qtbot: Any, tmp_path: Path) -> Iterator[Controller]:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    engine = LocalEngine(
        interpreter=sys.executable,
        log=tmp_path / "engine.log",
        grace_seconds=2.0,
    )
    made = Controller(ledger, engine, recipes(tmp_path / "models"), tmp_path / "outputs")
    yield made
    assert made.close()


def endings(controller: Controller) -> list[Any]:
    seen: list[Any] = []
    controller.job_ended.connect(lambda _job, ending: seen.append(ending))
    return seen


def on_event(controller: Controller, kind: type, action: Callable[[Any], None]) -> None:
    done = []

    def act(event: Any) -> None:
        if isinstance(event, kind) and not done:
            done.append(event)
            action(event)

    controller.event.connect(act)


def state(controller: Controller, job_id: str) -> JobState:
    return controller.ledger.row(job_id).state


def waiting(controller: Controller) -> list[str]:
    ledger = controller.ledger
    return [row.job.id for row in ledger.rows(list(ledger.ids(Group.WAITING)))]


def test_jobs_run_one_after_the_other(qtbot: Any, controller: Controller) -> None:
    seen = endings(controller)
    jobs = controller.add("test-pattern", SMALL, copies=3)
    qtbot.waitUntil(lambda: len(seen) == 3, timeout=30_000)
    assert [type(ending) for ending in seen] == [Finished] * 3
    assert [ending.job_id for ending in seen] == [job.id for job in jobs]
    assert len({job.params["seed"] for job in jobs}) == 3
    assert all(Path(ending.output.path).exists() for ending in seen)


def test_reject_stops_and_queues_the_same_with_a_new_seed_first(
    qtbot: Any, controller: Controller
) -> None:
    seen = endings(controller)
    (job,) = controller.add("test-pattern", SLOW)
    (later,) = controller.add("test-pattern", SMALL)
    on_event(controller, Sampled, lambda _: controller.reject(job.id))
    qtbot.waitUntil(lambda: len(seen) == 1, timeout=30_000)
    assert isinstance(seen[0], Stopped)
    qtbot.waitUntil(lambda: controller.running not in (None, job), timeout=5_000)
    again = controller.running
    assert again is not None
    assert again.id not in (job.id, later.id)
    assert again.params["seed"] != job.params["seed"]
    assert {k: v for k, v in again.params.items() if k != "seed"} == {
        k: v for k, v in job.params.items() if k != "seed"
    }


def test_pause_holds_the_next_and_survives(qtbot: Any, controller: Controller) -> None:
    controller.set_paused(True)
    (job,) = controller.add("test-pattern", SMALL)
    qtbot.wait(200)
    assert state(controller, job.id) is JobState.WAITING
    assert controller.ledger.paused
    controller.set_paused(False)
    qtbot.waitUntil(lambda: state(controller, job.id) is JobState.DONE, timeout=30_000)


def test_cancel_of_running_and_waiting(qtbot: Any, controller: Controller) -> None:
    seen = endings(controller)
    running, waits = (controller.add("test-pattern", SLOW)[0] for _ in range(2))
    on_event(controller, Sampled, lambda _: controller.cancel([waits.id, running.id]))
    qtbot.waitUntil(lambda: len(seen) == 1, timeout=30_000)
    qtbot.waitUntil(lambda: controller.running is None, timeout=5_000)
    assert state(controller, running.id) is JobState.STOPPED
    assert waiting(controller) == []
    controller.set_paused(True)
    controller.undo()
    assert waiting(controller) == [waits.id]


def test_remove_undo_move_edit_retry(qtbot: Any, controller: Controller) -> None:
    controller.set_paused(True)
    one, two, three = (controller.add("test-pattern", SMALL)[0].id for _ in range(3))
    controller.move([three], one)
    assert waiting(controller) == [three, one, two]
    controller.remove([one, two])
    assert waiting(controller) == [three]
    controller.undo()
    assert waiting(controller) == [three, one, two]
    controller.move_to_top([two])
    assert waiting(controller) == [two, three, one]
    controller.edit(two, "test-pattern", SMALL | {"frames": 16})
    assert controller.ledger.row(two).job.params["frames"] == 16
    controller.cancel([two])
    assert waiting(controller) == [three, one]
    controller.undo()
    assert waiting(controller) == [two, three, one]


def test_a_retry_can_be_taken_back(qtbot: Any, controller: Controller) -> None:
    seen = endings(controller)
    (job,) = controller.add("test-pattern", SLOW)
    on_event(controller, Sampled, lambda _: controller.cancel([job.id]))
    qtbot.waitUntil(lambda: len(seen) == 1, timeout=30_000)
    controller.set_paused(True)
    controller.retry([job.id])
    assert state(controller, job.id) is JobState.WAITING
    assert controller.undos.words == "retrying 1 job"
    controller.undo()
    assert state(controller, job.id) is JobState.STOPPED
    assert waiting(controller) == []
    controller.undo()  # The addition; it began, so it stays.
    assert state(controller, job.id) is JobState.STOPPED
    assert not controller.undos


def test_a_killed_worker_fails_the_job_and_the_next_runs(
    qtbot: Any, controller: Controller
) -> None:
    import os
    import signal

    seen = endings(controller)
    controller.add("test-pattern", SLOW)
    controller.add("test-pattern", SMALL)
    on_event(controller, Sampled, lambda _: os.kill(controller.engine.pid, signal.SIGKILL))
    qtbot.waitUntil(lambda: len(seen) == 2, timeout=30_000)
    assert [type(ending) for ending in seen] == [Failed, Finished]
    assert seen[0].problem.hint


def test_free_gives_memory_back_and_the_next_job_runs(qtbot: Any, controller: Controller) -> None:
    seen = endings(controller)
    controller.add("test-pattern", SMALL)
    qtbot.waitUntil(lambda: len(seen) == 1, timeout=30_000)
    with qtbot.waitSignal(controller.freed, timeout=10_000) as freed:
        controller.free()
    assert freed.args[0].ram_bytes > 1_000_000
    assert controller.engine.pid is None
    controller.add("test-pattern", SMALL)
    qtbot.waitUntil(lambda: len(seen) == 2, timeout=30_000)
    assert isinstance(seen[1], Finished)


def test_bad_values_are_refused_by_name(controller: Controller) -> None:
    with pytest.raises(ProblemError) as caught:
        controller.add("test-pattern", SMALL | {"frames": 7})
    assert caught.value.problem.field == "frames"
    assert controller.ledger.counts().get(JobState.WAITING, 0) == 0


def test_phases_are_in_the_ledger(qtbot: Any, controller: Controller) -> None:
    seen = endings(controller)
    phases: list[Phase] = []
    controller.event.connect(
        lambda e: phases.append(e.phase) if isinstance(e, PhaseStarted) else None
    )
    (job,) = controller.add("test-pattern", SMALL)
    qtbot.waitUntil(lambda: len(seen) == 1, timeout=30_000)
    assert phases == [Phase.LOAD, Phase.SAMPLE, Phase.DECODE, Phase.ENCODE, Phase.VERIFY]
    assert [stretch.phase for stretch in controller.ledger.phases(job.id, 1)] == phases


def test_closing_in_the_middle_is_bounded_and_recorded(
    qtbot: Any, tmp_path: Path, controller: Controller
) -> None:
    import time

    (job,) = controller.add("test-pattern", SLOW)
    (later,) = controller.add("test-pattern", SMALL)
    with qtbot.waitSignal(controller.event, timeout=30_000):
        pass
    began = time.monotonic()
    assert controller.close()
    assert time.monotonic() - began < 6
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    assert ledger.row(job.id).state is JobState.STOPPED
    assert ledger.row(later.id).state is JobState.WAITING
    ledger.close()

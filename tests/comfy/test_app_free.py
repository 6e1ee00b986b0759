"""Memory given back: by one button, between prompts, by itself; and why it did not come."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.controller import Controller
from app.engines import LOCAL, Engines
from app.freeing import FreedAt, Waits
from app.models import OwnModels
from app.window import MainWindow
from app.wiring import Wiring
from core.engines.comfy.known import KnownServer
from core.engines.comfy.standin.script import Script
from core.events import Finished, Noted, Sampled
from core.jobs import JobState
from core.places import Places
from core.settings import FREE_WHEN_LEAKING, Settings, load
from tests.comfy.app_bench import rows
from tests.comfy.app_driver import make
from tests.comfy.app_driver import recipe as drill_recipe
from tests.comfy.app_graphs import graph, script
from tests.comfy.standin import Running, running

GB = 2**30
SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 2, "step_seconds": 0}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "s", Script.from_json(script(step_seconds=0.0))) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def text(steps: int = 1, seed: int | None = None) -> str:
    chosen = random.randrange(2**31) if seed is None else seed
    return json.dumps(graph(steps=steps, seed=chosen))


def freed_at(server: Running) -> list[bool]:
    """For each time that the server freed its models from now on: whether a node was at work."""
    seen: list[bool] = []
    memory, plain = server.server.memory, server.server.memory.free

    def free() -> int:
        seen.append(server.server.executor.busy)
        return plain()

    memory.free = free  # type: ignore[method-assign]
    return seen


def notes(controller: Controller, job_id: str) -> list[str]:
    """What the record holds of a job, ours of freeing."""
    return [text for text in controller.ledger.notes(job_id, 1) if text.startswith("Memory clean")]


@pytest.mark.parametrize(("every", "count"), [(10, 2), (0, 0)])
def test_twenty_five_scenes(
    qtbot: Any, home: Path, server: Running, every: int, count: int
) -> None:
    """With 10: exactly two clean-ups, both between prompts, both in the record."""
    freed = freed_at(server)
    controller = make(home, [KnownServer(server.url)], free_every=every)
    seen: list[Any] = []
    controller.job_ended.connect(lambda _job, ending: seen.append(ending))
    said: list[str] = []
    controller.event.connect(lambda e: said.append(e.text) if isinstance(e, Noted) else None)
    try:
        controller.set_paused(True)
        scenes = [controller.add("drill-image", {"graph": text()})[0] for _ in range(25)]
        controller.set_paused(False)
        qtbot.waitUntil(lambda: len(seen) == 25, timeout=60_000)
        assert {type(ending) for ending in seen} == {Finished}
        assert freed == [False] * count
        marked = [number for number, job in enumerate(scenes, 1) if notes(controller, job.id)]
        assert marked == [10, 20][:count]
        for number in marked:
            (note,) = notes(controller, scenes[number - 1].id)
            assert re.fullmatch(r"Memory cleaned up: 2\.[01] GB freed in \d\.\d s\.", note), note
            assert note in said
    finally:
        assert controller.close()


def test_the_settings_number_counts_for_our_own_engine_too(qtbot: Any, home: Path) -> None:
    controller = make(home, [], free_every=2)
    seen: list[Any] = []
    controller.job_ended.connect(lambda _job, ending: seen.append(ending))
    try:
        jobs = controller.add("test-pattern", SMALL, copies=5)
        qtbot.waitUntil(lambda: len(seen) == 5, timeout=60_000)
        assert {type(ending) for ending in seen} == {Finished}
        marked = [number for number, job in enumerate(jobs, 1) if notes(controller, job.id)]
        assert marked == [2, 4]
        (note,) = notes(controller, jobs[1].id)
        assert re.fullmatch(r"Memory cleaned up: .*\d MB of memory freed in \d\.\d s\.", note), note
        controller.engine.set_free_every(0)
        controller.add("test-pattern", SMALL, copies=2)
        qtbot.waitUntil(lambda: len(seen) == 7, timeout=60_000)
        every = [note for row in rows(home).values() for note in notes(controller, row.job.id)]
        assert len(every) == 2
    finally:
        assert controller.close()


def test_our_own_engine_is_freed_when_it_leaks(qtbot: Any, home: Path) -> None:
    controller = make(home, [], free_every=FREE_WHEN_LEAKING)
    seen: list[Any] = []
    controller.job_ended.connect(lambda _job, ending: seen.append(ending))
    try:
        (clean,) = controller.add("test-pattern", SMALL)
        qtbot.waitUntil(lambda: len(seen) == 1, timeout=60_000)
        controller.engine.leaks = lambda: True
        (leaky,) = controller.add("test-pattern", SMALL)
        qtbot.waitUntil(lambda: len(seen) == 2, timeout=60_000)
        assert {type(ending) for ending in seen} == {Finished}
        assert notes(controller, clean.id) == []
        (note,) = notes(controller, leaky.id)
        assert re.fullmatch(r"Memory cleaned up: .*\d MB of memory freed in \d\.\d s\.", note), note
    finally:
        assert controller.close()


def free_and_wait(qtbot: Any, controller: Controller, place: str) -> FreedAt:
    found: list[Any] = []
    controller.freeing.connect(found.append)
    controller.free(place)
    qtbot.waitUntil(lambda: any(isinstance(item, FreedAt) for item in found), timeout=30_000)
    controller.freeing.disconnect(found.append)
    return next(item for item in found if isinstance(item, FreedAt))


@pytest.mark.parametrize("fault", ["leak", "hold"])
def test_a_leak_and_a_pack_that_holds_memory_are_told_apart(
    qtbot: Any, home: Path, server: Running, fault: str
) -> None:
    """Both hold 2.5 GB after ten jobs, and freeing brings back only the model's 2 GB."""
    server.faults.arm(fault, GB / 4 if fault == "leak" else 2.5 * GB)
    controller = make(home, [KnownServer(server.url)])
    seen: list[Any] = []
    controller.job_ended.connect(lambda _job, ending: seen.append(ending))
    try:
        for _ in range(10):
            controller.add("drill-image", {"graph": text()})
        qtbot.waitUntil(lambda: len(seen) == 10, timeout=60_000)
        qtbot.waitUntil(lambda: controller.running is None, timeout=5_000)
        found = free_and_wait(qtbot, controller, server.url)
        assert found.held
        assert abs((found.released.vram_bytes or 0) - 2 * GB) < GB / 8
        leaks = "a node leaks about 256 MB with every job" in found.text
        holds = "held by a node pack" in found.text
        assert (leaks, holds) == ((True, False) if fault == "leak" else (False, True)), found.text
        assert "restarting the server frees them" in found.text
    finally:
        assert controller.close()


# -- in the window ---------------------------------------------------------------


@pytest.fixture
def window(qtbot: Any, tmp_path: Path, server: Running) -> Iterator[tuple[MainWindow, Wiring]]:
    places = Places.find(tmp_path / "home").make()
    gone = KnownServer("http://127.0.0.1:9", title="Away")
    controller = make(tmp_path / "home", [KnownServer(server.url), gone])
    assert isinstance(controller.engine, Engines)
    made = MainWindow(Settings(interpreter=sys.executable), places.settings)
    made.fill(controller)
    wiring = Wiring(controller, made, OwnModels(controller, made), places)
    made.confirm = lambda *_: False
    qtbot.addWidget(made)
    made.show()
    qtbot.waitExposed(made)
    controller.start()
    yield made, wiring
    assert controller.close()


def add(controller: Controller, server: Running, steps: int = 1) -> None:
    """Queue a job, whatever recipes of ComfyUI the window has put in place meanwhile."""
    controller.recipes["drill-image"] = drill_recipe([server.url])
    controller.add("drill-image", {"graph": text(steps=steps)})


def test_one_button_frees_all_and_waits_for_the_gap(
    qtbot: Any, window: tuple[MainWindow, Wiring], server: Running
) -> None:
    made, _ = window
    controller = made.controller
    assert controller is not None
    notice, top = made.panels.notice, made.panels.top
    items: list[Any] = []
    controller.freeing.connect(items.append)
    freed = freed_at(server)
    ended: list[Any] = []
    controller.job_ended.connect(lambda _job, ending: ended.append(ending))
    controller.add("test-pattern", SMALL)
    object.__setattr__(server.server.script, "step_seconds", 0.15)
    add(controller, server, steps=12)
    with qtbot.waitSignal(
        controller.event,
        timeout=30_000,
        check_params_cb=lambda e: isinstance(e, Sampled) and e.steps == 12 and e.step >= 2,
    ):
        pass
    # Ctrl+Shift+F; a job of a server is not stopped, so nothing is asked.
    made.menus.free.trigger()
    name = KnownServer(server.url).name
    qtbot.waitUntil(lambda: f"{name}: a job runs there" in notice.text(), timeout=10_000)
    assert "its memory is freed when that has ended" in notice.text()
    assert "Local engine: " in notice.text()
    assert not top.free_button.isEnabled()
    assert freed == []
    qtbot.waitUntil(lambda: len(ended) == 2, timeout=30_000)
    qtbot.waitUntil(top.free_button.isEnabled, timeout=15_000)
    assert [type(ending) for ending in ended] == [Finished, Finished]
    assert freed == [False]
    said = notice.text()
    assert re.search(rf"{re.escape(name)}: 2\.\d GB freed in \d\.\d s", said), said
    assert re.search(r"Local engine: .*MB of memory freed in \d\.\d s", said), said
    assert "Away" not in said, "who frees all is not troubled with those that are away"
    assert [item.place for item in items if isinstance(item, Waits)] == [server.url]
    assert {item.place for item in items if isinstance(item, FreedAt)} == {
        LOCAL,
        server.url,
        "http://127.0.0.1:9",
    }
    assert [row.state for row in rows(controller.outputs.parent).values()] == [JobState.DONE] * 2


def test_each_place_can_be_freed_alone(
    qtbot: Any, window: tuple[MainWindow, Wiring], server: Running
) -> None:
    made, wiring = window
    controller = made.controller
    assert controller is not None
    name = KnownServer(server.url).name
    actions = {action.text(): action for action in made.menus.free_at.actions()}
    assert list(actions) == ["Local engine", name, "Away"]
    freed = freed_at(server)
    actions["Away"].trigger()
    qtbot.waitUntil(lambda: "cannot be reached" in made.panels.notice.text(), timeout=15_000)
    assert freed == []
    # What a pack holds is told, and the way out is offered.
    asked: list[str] = []
    wiring.freeing.restart, wiring.freeing.can_restart = asked.append, lambda _: True
    server.faults.arm("hold", 5 * GB)
    ended: list[Any] = []
    controller.job_ended.connect(lambda _job, ending: ended.append(ending))
    add(controller, server)
    qtbot.waitUntil(lambda: len(ended) == 1 and controller.running is None, timeout=20_000)
    actions[name].trigger()
    notice = made.panels.notice
    qtbot.waitUntil(lambda: "held by a node pack" in notice.text(), timeout=15_000)
    buttons = [b for b in notice._buttons if b.text() == f"Restart {name}"]
    assert len(buttons) == 1
    buttons[0].click()
    assert asked == [server.url]
    # With one place there is nothing to choose from.
    assert made.panels.top._free_one.isVisible()
    controller.set_servers([])
    assert not made.panels.top._free_one.isVisible()
    assert list(made.panels.top._chips) == ["Local engine"]


def test_what_it_does_by_itself_is_chosen_and_kept(
    qtbot: Any, window: tuple[MainWindow, Wiring], server: Running, tmp_path: Path
) -> None:
    made, wiring = window
    controller = made.controller
    assert controller is not None
    path = Places.find(tmp_path / "home").settings
    assert [e.clean_ups.every for e in controller.engine.comfy().values()] == [10, 10]
    asked: list[int] = []

    def answer(number: int | None) -> None:
        wiring.habits.ask_number = lambda every: asked.append(every) or number
        made.menus.clean_ups.trigger()

    answer(None)
    answer(1)
    assert asked == [10, 10]
    assert [e.clean_ups.every for e in controller.engine.comfy().values()] == [1, 1]
    made.menus.correct.trigger()
    assert controller.correct
    made.remember()
    kept, bad = load(path)
    assert (kept.free_every, kept.correct_values, bad) == (1, True, [])
    freed = freed_at(server)
    add(controller, server)
    qtbot.waitUntil(lambda: len(freed) == 1, timeout=20_000)
    qtbot.waitUntil(lambda: controller.running is None, timeout=20_000)
    path.write_text(path.read_text().replace('"free_every": 1', '"free_every": -2'))
    assert load(path)[1] == ["free_every"]


def test_a_running_job_of_ours_is_asked_for(qtbot: Any, window: tuple[MainWindow, Wiring]) -> None:
    made, _ = window
    controller = made.controller
    assert controller is not None
    asked: list[str] = []
    made.confirm = lambda *words: bool(asked.append(" ".join(words)))
    slow = {**SMALL, "steps": 40, "step_seconds": 0.1}
    controller.add("test-pattern", slow)
    with qtbot.waitSignal(
        controller.event, timeout=30_000, check_params_cb=lambda e: isinstance(e, Sampled)
    ):
        pass
    made.menus.free.trigger()
    assert "stops the running job" in asked[0]
    assert controller.running is not None
    made.close()
    assert "Quitting stops it" in asked[1]


def test_closing_says_that_a_servers_job_goes_on(
    qtbot: Any, window: tuple[MainWindow, Wiring], server: Running
) -> None:
    made, _ = window
    controller = made.controller
    assert controller is not None
    asked: list[str] = []
    made.confirm = lambda *words: bool(asked.append(" ".join(words)))
    object.__setattr__(server.server.script, "step_seconds", 0.2)
    add(controller, server, steps=20)
    with qtbot.waitSignal(
        controller.event, timeout=30_000, check_params_cb=lambda e: isinstance(e, Sampled)
    ):
        pass
    assert not made.close()
    assert f"goes on at {KnownServer(server.url).name} without Framedeck" in asked[0]
    assert "it follows the job and fetches what it made" in asked[0]
    assert "stops it" not in asked[0]

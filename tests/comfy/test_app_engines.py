"""All engines behind one door, through the controller: who runs what, and what comes of it."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from app.comfy_engines import ComfyEngines
from app.controller import Controller
from app.engines import Engines
from app.exporting import save_filter
from core.engines.comfy import making as making_module
from core.engines.comfy.http import Server
from core.engines.comfy.known import KnownServer
from core.engines.comfy.making import Making, stored
from core.engines.comfy.standin.media import Picture, frames, png
from core.engines.comfy.standin.process import StandInProcess
from core.engines.comfy.workflows import Workflow
from core.engines.comfy.workflows_files import built_in, save
from core.engines.local.client import LocalEngine
from core.errors import Category, ProblemError
from core.events import Event, Failed, Finished, FramesPublished, Sampled, Stopped, WorkerStarted
from core.jobs import Job, JobState, Kind, Parameter, Recipe, new_job
from core.ledger import Ledger
from core.outputs.publish import part_path, remove_leftovers
from core.outputs.published import published
from tests.comfy.app_bench import rows, standin
from tests.comfy.app_driver import make
from tests.comfy.app_graphs import graph

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0.01}


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[StandInProcess, StandInProcess]]:
    with standin(tmp_path / "a") as one, standin(tmp_path / "b") as other:
        yield one, other


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandInProcess]:
    with standin(tmp_path / "a") as one:
        yield one


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def known(*servers: StandInProcess) -> list[KnownServer]:
    return [KnownServer(server.url) for server in servers]


def text(**more: Any) -> str:
    return json.dumps(graph(seed=random.randrange(2**31), **more))


def endings(controller: Controller) -> list[Any]:
    seen: list[Any] = []
    controller.job_ended.connect(lambda _job, ending: seen.append(ending))
    return seen


def when(controller: Controller, kind: type, action: Any) -> None:
    """Do something at the first event of a kind."""
    done: list[Any] = []

    def look(event: Any) -> None:
        if isinstance(event, kind) and not done:
            done.append(event)
            action(event)

    controller.event.connect(look)


def test_each_job_runs_where_it_names(
    qtbot: Any, home: Path, two: tuple[StandInProcess, StandInProcess]
) -> None:
    one, other = two
    pids = {one.url: one.pid, other.url: other.pid}
    controller = make(home, known(one, other))
    controller.engine.comfy_for = None  # Whatever is made later, these two stay.
    for base, engine in controller.engine.comfy().items():
        object.__setattr__(engine.options, "process", lambda base=base: pids[base])
    seen = endings(controller)
    states: list[tuple[str, ...]] = []
    controller.engine_state.connect(lambda *words: states.append(words))
    at: dict[str, tuple[int | None, object]] = {}

    def note(event: Event) -> None:
        if isinstance(event, FramesPublished):
            at[event.job_id] = controller.engine.pid, controller.engine.ring

    controller.event.connect(note)
    try:
        controller.start()
        names = [KnownServer(url).name for url in (one.url, other.url)]
        given = {"graph": text()}
        first = controller.add("drill-image", given)[0]
        second = controller.add("drill-image", {"graph": text(), "server": other.url})[0]
        ours = controller.add("test-pattern", SMALL)[0]
        last = controller.add("drill-image", {"graph": text(), "server": one.url})[0]
        qtbot.waitUntil(lambda: len(seen) == 4, timeout=40_000)
        qtbot.waitUntil(lambda: controller.running is None, timeout=5_000)
        assert [type(ending) for ending in seen] == [Finished] * 4, seen
        assert set(one.posted()) == {first.id, last.id}
        assert set(other.posted()) == {second.id}
        assert at[first.id][0] == at[last.id][0] == one.pid
        assert at[second.id][0] == other.pid
        assert len({at[job.id] for job in (first, second, ours)}) == 3, "a ring and process each"
        busy = list(dict.fromkeys(name for name, _, tone in states if tone == "busy"))
        assert busy == [names[0], names[1], "Local engine"]
    finally:
        assert controller.close()


def test_servers_come_and_go_while_jobs_run(
    qtbot: Any, home: Path, two: tuple[StandInProcess, StandInProcess]
) -> None:
    one, other = two
    controller = make(home, known(one))
    seen = endings(controller)
    changed: list[list[str]] = []
    controller.places_changed.connect(lambda: changed.append(controller.engine.places()))
    try:
        here = controller.add("drill-image", {"graph": text()})[0]
        when(controller, Sampled, lambda _: controller.set_servers(known(other)))
        qtbot.waitUntil(lambda: len(seen) == 1, timeout=20_000)
        assert isinstance(seen[0], Finished), "the job that ran there came to its end"
        assert changed[0] == ["local", other.url]
        assert controller.engine.title_of(here) == KnownServer(one.url).name
        late = Job.from_json({**here.to_json(), "id": here.id[:-4] + "0000"})
        controller.ledger.enqueue([late])
        controller.set_paused(False)
        qtbot.waitUntil(lambda: len(seen) == 2, timeout=20_000)
        assert isinstance(seen[1], Failed)
        problem = seen[1].problem
        assert problem.category is Category.WORKER_UNAVAILABLE
        assert problem.field == "server"
        assert one.url in problem.message
        assert not seen[1].lost
        # A job without a server goes to the first one.
        params = {key: value for key, value in here.params.items() if key != "server"}
        plain = {**here.to_json(), "id": here.id[:-4] + "0001", "params": params}
        controller.ledger.enqueue([Job.from_json(plain)])
        controller.set_paused(False)
        qtbot.waitUntil(lambda: len(seen) == 3, timeout=20_000)
        assert isinstance(seen[2], Finished)
        assert set(other.posted()) == {plain["id"]}
        controller.set_servers([])
        controller.retry([late.id])
        qtbot.waitUntil(lambda: len(seen) == 4, timeout=20_000)
        assert isinstance(seen[3], Failed)
        assert controller.engine.comfy() == {}
    finally:
        assert controller.close()


def test_cancelling_here_leaves_anothers_job_alone(
    qtbot: Any, home: Path, server: StandInProcess
) -> None:
    controller = make(home, known(server))
    seen = endings(controller)
    try:
        theirs = server.submit(graph(seed=1), "a browser")
        ours = controller.add("drill-image", {"graph": text()})[0]
        behind = server.submit(graph(seed=2), "a browser")
        when(controller, Sampled, lambda _: controller.cancel([ours.id]))
        qtbot.waitUntil(lambda: len(seen) == 1, timeout=20_000)
        assert isinstance(seen[0], Stopped)

        def ended(prompt: str) -> str:
            answer = requests.get(f"{server.url}/history/{prompt}", timeout=5).json()
            return str(answer.get(prompt, {}).get("status", {}).get("status_str", ""))

        qtbot.waitUntil(lambda: ended(behind) == "success", timeout=20_000)
        assert ended(theirs) == "success"
        assert ended(ours.id) == "error", "ours was interrupted"
        # Cancelled while theirs runs and ours waits: ours is only taken out of the queue.
        theirs = server.submit(graph(seed=3), "a browser")
        later = controller.add("drill-image", {"graph": text()})[0]
        when(controller, WorkerStarted, lambda _: qtbot.wait(50))
        qtbot.waitUntil(lambda: later.id in server.posted(), timeout=10_000)
        controller.cancel([later.id])
        qtbot.waitUntil(lambda: len(seen) == 2, timeout=20_000)
        assert isinstance(seen[1], Stopped)
        qtbot.waitUntil(lambda: ended(theirs) == "success", timeout=20_000)
    finally:
        assert controller.close()


def test_a_picture_and_a_clip_get_their_endings(
    qtbot: Any, home: Path, server: StandInProcess
) -> None:
    controller = make(home, known(server))
    seen = endings(controller)
    shown: list[Any] = []
    controller.clip_frame.connect(shown.append)
    try:
        picture = controller.add("drill-image", {"graph": text()})[0]
        clip = controller.add("drill-video", {"graph": text(makes="video")})[0]
        assert Path(picture.output).suffix == ".png"
        assert Path(clip.output).suffix == ".mp4"
        qtbot.waitUntil(lambda: len(seen) == 2, timeout=30_000)
        for job, ending, count in ((picture, seen[0], 1), (clip, seen[1], 8)):
            assert isinstance(ending, Finished), ending
            assert ending.output.path == job.output
            assert ending.output.frames == count
            assert Path(ending.output.poster).read_bytes().startswith(b"\xff\xd8")
            shown.clear()
            controller.read_clip(ending.output.path, 1 << 24)
            qtbot.waitUntil(lambda count=count: len(shown) == count, timeout=5_000)
            assert (shown[0].width, shown[0].height) == (128, 128)
        assert save_filter(Path(picture.output)) == "PNG picture (*.png)"
        assert save_filter(Path(clip.output)) == "MP4 video (*.mp4)"
        assert rows(home)[picture.id].state is JobState.DONE
    finally:
        assert controller.close()


# -- workflows -----------------------------------------------------------------


@pytest.fixture
def workflows() -> dict[str, Workflow]:
    return {workflow.id: workflow for workflow in built_in()}


def over(home: Path, server: StandInProcess, workflows: list[Workflow]) -> Controller:
    """A controller for which these are the person's own workflows."""
    home.mkdir()
    for workflow in workflows:
        save(home / "own", workflow)
    made = ComfyEngines(home / "own", home / "nodes")
    local = LocalEngine(log=home / "engine.log", grace_seconds=2.0)
    engines = Engines(local, made, known(server))
    offered = [workflow.recipe() for workflow in workflows]
    return Controller(Ledger.open(home / "ledger.sqlite"), engines, offered, home / "clips")


def test_a_workflow_uploads_its_picture_and_has_its_own_time(
    qtbot: Any, home: Path, tmp_path: Path, workflows: dict[str, Workflow]
) -> None:
    picture = tmp_path / "my picture.png"
    picture.write_bytes(png(next(iter(frames(Picture(512, 512, seed=3))))))
    with standin(tmp_path / "a", models={"checkpoints": ["svd.safetensors"]}) as server:
        controller = over(home, server, [workflows["svd-i2v"]])
        seen = endings(controller)
        try:
            given = {"image": str(picture), "steps": 3, "width": 256, "height": 256}
            (job,) = controller.add("comfy-svd-i2v", given)
            qtbot.waitUntil(lambda: len(seen) == 1, timeout=30_000)
            assert isinstance(seen[0], Finished), seen[0]
            assert (seen[0].output.frames, seen[0].output.width) == (14, 256)
            there = list((tmp_path / "a" / "server" / "input").glob("framedeck-*"))
            assert [path.name for path in there] == [f"framedeck-{job.id}-image.png"]
            assert there[0].read_bytes() == picture.read_bytes()
            made = list((tmp_path / "a" / "server" / "output" / "framedeck").glob(f"{job.id}*.mp4"))
            assert len(made) == 1
            # A picture that is gone is named, and nothing is sent.
            controller.set_paused(True)
            (gone,) = controller.add("comfy-svd-i2v", given)
            picture.unlink()
            controller.set_paused(False)
            qtbot.waitUntil(lambda: len(seen) == 2, timeout=30_000)
            assert isinstance(seen[1], Failed)
            assert seen[1].problem.field == "image"
            assert gone.id not in server.posted()
        finally:
            assert controller.close()


def test_the_time_of_a_recipe_counts(
    qtbot: Any, home: Path, tmp_path: Path, workflows: dict[str, Workflow]
) -> None:
    quick = dataclasses.replace(workflows["wan21-t2v"], id="mine", timeout_seconds=0.6, own=True)
    models = {
        "diffusion_models": ["wan2.1_t2v_14B_fp8_scaled.safetensors"],
        "text_encoders": ["umt5_xxl_fp8_e4m3fn_scaled.safetensors"],
        "vae": ["wan_2.1_vae.safetensors"],
    }
    with standin(tmp_path / "a", models=models, step_seconds=0.2) as server:
        controller = over(home, server, [quick])
        seen = endings(controller)
        told: list[str] = []
        controller.told.connect(told.append)
        try:
            given = {"prompt": "a drill", "width": 128, "height": 128, "frames": 80}
            with pytest.raises(Exception) as refused:
                controller.add("comfy-mine", given)
            assert refused.value.problem.field == "frames"
            controller.correct = True
            (job,) = controller.add("comfy-mine", given)
            assert job.params["frames"] == 81
            assert told == [
                "Frames 80 became 81. Use a whole number from 5 to 161 that is a multiple of 4 "
                "plus 1, such as 5 or 9."
            ]
            qtbot.waitUntil(lambda: len(seen) == 1, timeout=20_000)
            assert isinstance(seen[0], Failed)
            assert seen[0].problem.category is Category.TIMEOUT
            queue = requests.get(f"{server.url}/queue", timeout=5).json()
            assert queue["queue_pending"] == []
        finally:
            assert controller.close()


def test_a_recipe_says_what_it_makes(tmp_path: Path, workflows: dict[str, Workflow]) -> None:
    for workflow in workflows.values():
        recipe = workflow.recipe()
        assert recipe.makes == workflow.makes
    plain = Recipe("r", "R", "", "comfy", "f", (Parameter("seed", Kind.SEED, "Seed", None),))
    assert new_job(plain, {}, tmp_path).output.endswith(".mp4")


def test_a_servers_nodes_are_asked_for_once(
    tmp_path: Path, server: StandInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    plain = Server.object_info

    def counted(self: Server, *given: Any) -> Any:
        asked.append(self.base)
        return plain(self, *given)

    monkeypatch.setattr(Server, "object_info", counted)
    making = Making(stored(tmp_path), tmp_path / "nodes")
    there = Server(server.url)
    assert making.info(there) is making.info(there)
    assert asked == [server.url]
    making.learn("http://other:8188", {"KSampler": {}})
    assert making.info(Server("http://other:8188")) == {"KSampler": {}}
    assert asked == [server.url]
    monkeypatch.setattr(making_module, "FRESH_SECONDS", -1.0)
    making.info(there)
    assert len(asked) == 2
    there.close()
    job = Job("j", "r", "comfy", "sd15-image", "t", {}, "", "/tmp/x.png", 0.0)
    assert making.seconds(job) == 600.0
    nobody = Job.from_json({**job.to_json(), "family": "gone"})
    assert making.seconds(nobody) is None
    with pytest.raises(ProblemError) as refused:
        making(nobody, there)
    assert refused.value.problem.field == "recipe"


# -- what was published ---------------------------------------------------------


def half_of(job: Job, folder: Path) -> Path:
    """Leave a half file of a job, as one does that died while it fetched another."""
    part = part_path(Path(job.output), job.id, "clip")
    part.write_bytes(b"half")
    return part


def test_leftovers_never_take_a_finished_file_of_another_ending(
    qtbot: Any, home: Path, server: StandInProcess
) -> None:
    """A job for a clip whose server made a picture: a whole and a half file lie there."""
    controller = make(home, known(server))
    seen = endings(controller)
    try:
        # A recipe for clips, and a graph that makes a picture.
        job = controller.add("drill-video", {"graph": text(makes="image")})[0]
        qtbot.waitUntil(lambda: len(seen) == 1, timeout=20_000)
        assert isinstance(seen[0], Finished)
        output = seen[0].output
        assert job.output.endswith(".mp4")
        assert output.path == job.output.replace(".mp4", ".png")
        part = half_of(job, home)
        remove_leftovers(job.output)
        assert not part.exists()
        assert all(Path(path).exists() for path in (output.path, output.poster, output.recipe))
        told = json.loads(Path(output.recipe).read_text("utf-8"))
        assert published(job, told["file"]) == dataclasses.replace(
            output, encode_seconds=0.0, verify_seconds=0.0
        )
        assert published(job, {**told["file"], "filename": "other.png"}) is None
        other = Job.from_json({**job.to_json(), "id": "00000000-0000-4000-8000-000000000000"})
        assert published(other) is None
        # Changed since: it is not what was verified.
        with Path(output.path).open("ab") as file:
            file.write(b"!")
        assert published(job) is None
    finally:
        assert controller.close()

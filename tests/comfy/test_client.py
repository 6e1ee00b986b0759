"""Jobs on a server of its own process, over real HTTP and a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import websocket

from core.engines.comfy.client import ComfyEngine, Patience
from core.engines.comfy.reconcile import client_of
from core.errors import Category
from core.events import (
    Event,
    Failed,
    Finished,
    FramesPublished,
    NodeStarted,
    Noted,
    PhaseStarted,
    Sampled,
    Stopped,
    WorkerStarted,
)
from core.jobs import Job, Phase
from core.outputs import verify_file
from tests.comfy.client_bench import Process, drain, engine, graph, job, run_until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("server"))
    yield process
    process.kill()


@pytest.fixture
def server(shared: Process) -> Process:
    """A server that does nothing wrong and has nothing to do."""
    shared.fault(silent=False, no_socket=False, dead_worker=False, post=None, post_seconds=0)
    assert shared.get("/queue") == {"queue_running": [], "queue_pending": []}
    return shared


@pytest.fixture
def comfy(server: Process) -> Iterator[ComfyEngine]:
    made = engine(server.base)
    yield made
    made.close()


def finished(events: Iterator[Event], until: float = 60) -> Finished:
    ending = drain(events, until)[-1]
    assert isinstance(ending, Finished), ending
    return ending


def failed(events: Iterator[Event], until: float = 60) -> Failed:
    ending = drain(events, until)[-1]
    assert isinstance(ending, Failed), ending
    assert ending.problem.message
    assert ending.problem.hint
    return ending


def sampled(event: Event) -> bool:
    return isinstance(event, Sampled)


def in_folder(what: Job) -> list[str]:
    folder = Path(what.output).parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_job_is_one_prompt_and_ends_with_its_clip(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    wanted = job(tmp_path, graph(steps=3, step_seconds=0.1))
    seen = drain(comfy.run(wanted))
    ending = seen[-1]
    assert isinstance(ending, Finished)
    assert server.fault()["posts"].count(wanted.id) == 1
    assert wanted.id in server.get("/history")
    assert isinstance(seen[0], WorkerStarted)
    assert (seen[0].pid, seen[0].device, seen[0].cold) == (None, "cuda:0", True)
    phases = [event.phase for event in seen if isinstance(event, PhaseStarted)]
    assert phases == [Phase.LOAD, Phase.SAMPLE, Phase.DECODE, Phase.ENCODE, Phase.VERIFY]
    nodes = [(event.node, event.title) for event in seen if isinstance(event, NodeStarted)]
    assert nodes == [
        ("1", "CheckpointLoaderSimple"),
        ("2", "Sampler"),
        ("3", "VAEDecode"),
        ("4", "SaveVideo"),
        ("", ""),
    ]
    assert [(event.step, event.steps) for event in seen if sampled(event)] == [
        (1, 3),
        (2, 3),
        (3, 3),
    ]
    previews = [event for event in seen if isinstance(event, FramesPublished)]
    assert len(previews) >= 2
    ring = comfy.ring
    assert ring is not None
    pixels = ring.pin(previews[-1].slot, previews[-1].sequence)
    assert pixels is not None
    assert (previews[-1].width, previews[-1].height) == (64, 64)
    assert abs(pixels[0] - 200) < 12
    assert pixels[3] == 255
    assert abs(pixels[64 * 63 * 4] - 90) < 12
    pixels.release()
    ring.unpin()
    output = ending.output
    assert output.path == wanted.output
    assert (output.width, output.height, output.frames, output.fps) == (64, 64, 8, 8)
    assert ending.seed == 7
    assert ending.peak_rss_bytes is None
    assert verify_file(output.path).ok
    recipe = json.loads(Path(output.recipe).read_text())
    assert recipe["graph"] == json.loads(str(wanted.params["graph"]))
    assert recipe["job"] == wanted.to_json()
    assert len(in_folder(wanted)) == 3


def test_two_experts_count_as_one_run(comfy: ComfyEngine, tmp_path: Path) -> None:
    what = graph(steps=3)
    first = {"steps": 3, "step_seconds": 0.02, "start_at_step": 0, "end_at_step": 3}
    second = {"steps": 5, "step_seconds": 0.02, "start_at_step": 3, "end_at_step": 10_000}
    what["2"] = {"class_type": "KSamplerAdvanced", "inputs": first}
    # The plan is 5 steps in all, of which the second expert makes 2.
    late = {"class_type": "KSamplerAdvanced", "inputs": {**second, "samples": ["2", 0]}}
    what = {"1": what["1"], "2": what["2"], "5": late, "3": what["3"], "4": what["4"]}
    seen = drain(comfy.run(job(tmp_path, what)))
    steps = [(event.step, event.steps) for event in seen if isinstance(event, Sampled)]
    assert steps[:3] == [(1, 5), (2, 5), (3, 5)]
    # Here the node makes all its 5: what it says counts more than what was planned.
    assert steps[3] == (4, 8)
    assert steps[-1] == (8, 8)


def test_pictures_get_their_own_suffix(comfy: ComfyEngine, tmp_path: Path) -> None:
    for saver in ("SaveImage", "PreviewImage"):
        ending = finished(comfy.run(job(tmp_path, graph(saver=saver))))
        assert ending.output.path.endswith(".png")
        assert ending.output.frames == 1
        assert Path(ending.output.poster).read_bytes()[:3] == b"\xff\xd8\xff"
        assert verify_file(ending.output.path).ok


# --- what the server says may be wrong or missing


@pytest.mark.parametrize("fault", ["no_socket", "silent"])
def test_polling_alone_brings_the_clip(
    server: Process, comfy: ComfyEngine, tmp_path: Path, fault: str
) -> None:
    server.fault(**{fault: True})
    wanted = job(tmp_path, graph(steps=10, step_seconds=0.1))
    ending = finished(comfy.run(wanted))
    entry = Path(ending.output.path).stat().st_mtime
    made = next((server.folder / "output").glob(f"{wanted.id[:8]}*")).stat().st_mtime
    assert entry - made < 3


def test_a_socket_that_went_deaf_is_opened_anew(server: Process, tmp_path: Path) -> None:
    comfy = engine(server.base, patience=Patience(deaf=1.0))
    wanted = job(tmp_path, graph(steps=60, step_seconds=0.1))
    events = comfy.run(wanted)
    run_until(events, lambda event: sampled(event) and event.step >= 3)  # type: ignore[attr-defined]
    # Another connection with the same id, and then its end: the server forgets both.
    other = websocket.create_connection(
        f"ws://127.0.0.1:{server.port}/ws?clientId={client_of(wanted.id)}", suppress_origin=True
    )
    other.recv()
    other.close()
    time.sleep(0.1)
    assert client_of(wanted.id) not in server.fault()["sockets"]
    began = time.monotonic()
    run_until(events, sampled)  # Some were on their way.
    again = run_until(events, lambda event: sampled(event) and event.step > 20)  # type: ignore[attr-defined]
    assert time.monotonic() - began < 10
    assert again
    assert client_of(wanted.id) in server.fault()["sockets"]
    assert isinstance(drain(events)[-1], Finished)
    comfy.close()


def test_a_refusal_says_what_is_missing(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    server.fault(post="refuse")
    ending = failed(comfy.run(job(tmp_path)))
    assert ending.problem.category is Category.MODEL_NOT_FOUND
    assert "a.safetensors" in ending.problem.message
    assert not ending.lost


def test_a_prompt_taken_with_a_500_is_followed_and_not_sent_again(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    server.fault(post="taken_500")
    wanted = job(tmp_path)
    finished(comfy.run(wanted))
    assert server.fault()["posts"].count(wanted.id) == 1


def test_a_post_that_breaks_off_fails_after_looking(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    server.fault(post="vanish")
    wanted = job(tmp_path)
    ending = failed(comfy.run(wanted))
    assert ending.problem.category is Category.NETWORK_ERROR
    assert server.fault(post=None)["posts"].count(wanted.id) == 1
    finished(comfy.run(wanted))
    assert server.fault()["posts"].count(wanted.id) == 2, "sent again only when asked to"


def test_memory_that_ran_out_is_told_as_such(comfy: ComfyEngine, tmp_path: Path) -> None:
    ending = failed(comfy.run(job(tmp_path, graph(**{"raise": "CUDA out of memory"}))))
    assert ending.problem.category is Category.INSUFFICIENT_VRAM
    assert "Sampler" in ending.problem.message
    other = failed(comfy.run(job(tmp_path, graph(**{"raise": "shapes do not fit"}))))
    assert other.problem.category is Category.UNKNOWN
    assert "shapes do not fit" in other.problem.message


def test_a_job_that_takes_too_long_is_stopped(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    wanted = job(tmp_path, graph(steps=100, step_seconds=0.1), timeout_seconds=1.0)
    began = time.monotonic()
    ending = failed(comfy.run(wanted))
    assert ending.problem.category is Category.TIMEOUT
    assert 1 < time.monotonic() - began < 3
    assert server.fault()["interrupts"][-1] == wanted.id
    wait_idle(server)


def test_without_a_time_of_its_own_only_silence_ends_a_job(server: Process, tmp_path: Path) -> None:
    """A slow job is never stopped: nobody said how long it may run."""
    comfy = engine(server.base, patience=Patience(image=1.0, video=1.0))
    slow = job(tmp_path, graph(steps=25, step_seconds=0.1))
    assert isinstance(drain(comfy.run(slow))[-1], Finished)
    silent = job(tmp_path, graph(steps=2, step_seconds=4.0))
    ending = failed(comfy.run(silent))
    assert ending.problem.category is Category.TIMEOUT
    assert "For 1 s nothing was heard of the job" in ending.problem.message
    comfy.close()
    wait_idle(server)


def test_waiting_behind_others_is_not_running(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    server.post_other(graph(steps=20, step_seconds=0.1))
    wanted = job(tmp_path, timeout_seconds=1.0)
    seen = drain(comfy.run(wanted))
    assert isinstance(seen[-1], Finished)
    notes = {event.text: event.passing for event in seen if isinstance(event, Noted)}
    assert notes["1 prompt is before this one on the server."]
    kinds = [type(event) for event in seen]
    assert kinds.index(PhaseStarted) > kinds.index(Noted), "in line it loads nothing"


def test_a_server_that_runs_nothing_is_told_of(server: Process, tmp_path: Path) -> None:
    server.fault(dead_worker=True)
    comfy = engine(server.base, patience=Patience(stuck=1.0))
    wanted = job(tmp_path)
    ending = failed(comfy.run(wanted))
    assert ending.problem.category is Category.WORKER_UNAVAILABLE
    assert "runs nothing" in ending.problem.message
    assert server.get("/queue")["queue_pending"] == [], "it is taken out again"
    comfy.close()


def wait_idle(server: Process) -> None:
    deadline = time.monotonic() + 10
    while server.get("/queue") != {"queue_running": [], "queue_pending": []}:
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- other clients


def test_a_cancel_leaves_another_clients_prompt_alone(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    wanted = job(tmp_path, graph(steps=100, step_seconds=0.05))
    events = comfy.run(wanted)
    run_until(events, sampled)
    theirs = server.post_other(graph(steps=10, step_seconds=0.05))
    comfy.cancel(wanted.id)
    began = time.monotonic()
    assert isinstance(drain(events)[-1], Stopped)
    assert time.monotonic() - began < 0.05 + 0.3
    assert in_folder(wanted) == []
    wait_idle(server)
    assert server.get("/history")[theirs]["status"]["status_str"] == "success"
    assert theirs not in server.fault()["interrupts"]


def test_a_waiting_prompt_is_deleted_and_the_running_one_goes_on(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    interrupts = len(server.fault()["interrupts"])
    theirs = server.post_other(graph(steps=20, step_seconds=0.05))
    wanted = job(tmp_path)
    events = comfy.run(wanted)
    run_until(events, lambda event: isinstance(event, Noted))
    assert [(one.id, one.place) for one in comfy.foreign()] == [(theirs, None)]
    comfy.cancel(wanted.id)
    began = time.monotonic()
    assert isinstance(drain(events)[-1], Stopped)
    assert time.monotonic() - began < 0.5
    wait_idle(server)
    history = server.get("/history")
    assert history[theirs]["status"]["status_str"] == "success"
    assert wanted.id not in history
    assert len(server.fault()["interrupts"]) == interrupts


def test_foreign_prompts_have_their_places(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    first = server.post_other(graph(steps=10, step_seconds=0.05))
    wanted = job(tmp_path)
    events = comfy.run(wanted)
    run_until(events, lambda event: isinstance(event, Noted))
    last = server.post_other(graph())
    assert [(one.id, one.place) for one in comfy.foreign()] == [(first, None), (last, 2)]
    assert isinstance(drain(events)[-1], Finished)
    wait_idle(server)


def test_the_wait_in_the_line_of_a_server_is_no_time_of_the_job(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    alone = drain(comfy.run(job(tmp_path, graph(steps=4, step_seconds=0.05))))[-1]
    assert isinstance(alone, Finished)
    server.post_other(graph(steps=30, step_seconds=0.05))
    began = time.monotonic()
    events = drain(comfy.run(job(tmp_path, graph(steps=5, step_seconds=0.05))))
    whole, ending = time.monotonic() - began, events[-1]
    assert isinstance(ending, Finished)
    first = next(event for event in events if isinstance(event, PhaseStarted))
    assert first.phase is Phase.LOAD
    assert first.at_seconds - began > 1.0, "behind the other one it loads nothing"
    assert ending.seconds < whole - 1.0
    assert abs(ending.seconds - (ending.at_seconds - first.at_seconds)) < 0.2


def test_an_interruption_by_somebody_else_is_told(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    wanted = job(tmp_path, graph(steps=100, step_seconds=0.05))
    events = comfy.run(wanted)
    run_until(events, sampled)
    requests.post(server.base + "/interrupt", json={"prompt_id": wanted.id}, timeout=5)
    ending = failed(events)
    assert "interrupted" in ending.problem.message


# --- both sides may go


def test_a_later_start_takes_the_running_prompt_over(server: Process, tmp_path: Path) -> None:
    wanted = job(tmp_path, graph(steps=40, step_seconds=0.1))
    first = engine(server.base)
    events = first.run(wanted)
    run_until(events, lambda event: sampled(event) and event.step >= 3)  # type: ignore[attr-defined]
    # As when the process is killed: nobody says anything to the server.
    run = first._run
    assert run is not None
    run._hang_up()
    run._sent = False
    events.close()  # type: ignore[attr-defined]
    first.close()

    second = engine(server.base)
    again = second.resume(wanted)
    began = time.monotonic()
    seen = run_until(again, sampled)
    assert time.monotonic() - began < 5
    seen += run_until(again, lambda event: isinstance(event, FramesPublished))
    assert time.monotonic() - began < 5
    ending = finished(again)
    assert ending.output.path == wanted.output
    assert server.fault()["posts"].count(wanted.id) == 1
    second.close()


def test_a_later_start_fetches_what_was_finished_meanwhile(server: Process, tmp_path: Path) -> None:
    wanted = job(tmp_path)
    body = {"prompt": json.loads(str(wanted.params["graph"])), "prompt_id": wanted.id}
    requests.post(server.base + "/prompt", json=body, timeout=5)
    wait_idle(server)
    comfy = engine(server.base)
    ending = finished(comfy.resume(wanted))
    assert ending.output.path == wanted.output
    assert server.fault()["posts"].count(wanted.id) == 1
    comfy.close()


def test_what_was_never_sent_is_lost_and_not_sent(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    wanted = job(tmp_path)
    ending = failed(comfy.resume(wanted))
    assert ending.lost
    assert wanted.id not in server.fault()["posts"]


def test_a_retry_takes_over_what_still_runs(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    wanted = job(tmp_path, graph(steps=20, step_seconds=0.05))
    body = {"prompt": json.loads(str(wanted.params["graph"])), "prompt_id": wanted.id}
    requests.post(server.base + "/prompt", json=body, timeout=5)
    finished(comfy.run(wanted))
    assert server.fault()["posts"].count(wanted.id) == 1


def test_a_retry_after_a_failure_is_a_new_try(
    server: Process, comfy: ComfyEngine, tmp_path: Path
) -> None:
    wanted = job(tmp_path, graph(**{"raise": "a bad day"}))
    failed(comfy.run(wanted))
    failed(comfy.run(wanted))
    assert server.fault()["posts"].count(wanted.id) == 2


@pytest.mark.parametrize("known", [True, False])
def test_a_killed_server_makes_the_job_lost(tmp_path: Path, known: bool) -> None:
    server = Process(tmp_path)
    wanted = job(tmp_path, graph(steps=40, step_seconds=0.1))
    comfy = engine(server.base, process=lambda: server.pid if known else None)
    try:
        events = comfy.run(wanted)
        run_until(events, sampled)
        server.kill()
        if not known:
            timer = threading.Timer(2.0, server.start)
            timer.start()
        began = time.monotonic()
        ending = failed(events)
        assert time.monotonic() - began < 15
        assert ending.lost
        assert ending.problem.category is Category.WORKER_UNAVAILABLE
        if not known:
            timer.join()
            assert server.fault()["posts"] == [], "nothing is sent again by itself"
            finished(comfy.run(wanted))
            assert server.fault()["posts"] == [wanted.id]
        assert len(in_folder(wanted)) in (0, 3)
    finally:
        comfy.close()
        server.kill()


def test_a_server_that_is_not_there_fails_at_once(tmp_path: Path) -> None:
    comfy = engine("http://127.0.0.1:9")
    began = time.monotonic()
    ending = failed(comfy.run(job(tmp_path)))
    assert ending.problem.category is Category.NETWORK_ERROR
    assert time.monotonic() - began < 5
    comfy.close()


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "not json", "[" * 100_000, '{"1": {"class_type": "X"}}', '{"1": 3}'],
)
def test_a_graph_that_is_none_is_refused(comfy: ComfyEngine, tmp_path: Path, text: str) -> None:
    wanted = Job.from_json({**job(tmp_path).to_json(), "params": {"graph": text, "seed": 1}})
    ending = failed(comfy.run(wanted))
    assert ending.problem.category is Category.INVALID_PARAMS


def test_too_many_nodes_are_refused(comfy: ComfyEngine, tmp_path: Path) -> None:
    what = {str(i): {"class_type": "EmptyImage", "inputs": {}} for i in range(5_001)}
    ending = failed(comfy.run(job(tmp_path, what)))
    assert "5,001" in ending.problem.message
    assert ending.problem.field == "graph"

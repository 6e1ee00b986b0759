"""What every engine promises, tried on each of them with real processes and signals.

A further engine adds one `Bench` to BENCHES and inherits all of it. What is
promised only by those that own the process doing the work, and may kill it, is
tried on WORKERS.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from app.engines import Engines
from core.engines.base import Engine
from core.engines.comfy.client import ComfyEngine, Options, Patience
from core.engines.comfy.http import Graph, Server
from core.engines.comfy.known import KnownServer
from core.engines.local import families
from core.engines.local.client import LocalEngine
from core.errors import Category, invalid
from core.events import (
    Ending,
    Event,
    Failed,
    Finished,
    FramesPublished,
    MemoryRead,
    Noted,
    PhaseStarted,
    Sampled,
    Stopped,
    WorkerStarted,
)
from core.jobs import Job, Phase, new_job
from tests.comfy import client_bench
from tests.core import faults

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

GRACE_SECONDS = 0.5


@dataclass(frozen=True)
class Bench:
    """An engine under test, and how to make jobs for it.

    Attributes:
        engine: The engine.
        job: Makes a good job; keyword arguments are its parameters.
        fault: Makes a job in which a fault happens in a phase.
        owned: The engine owns the process that does the work.
    """

    engine: Engine
    job: Callable[..., Job]
    fault: Callable[[str, str], Job]
    owned: bool = True


Makes = Callable[[Path, client_bench.Process], Bench]


def local(folder: Path, _: client_bench.Process) -> Bench:
    engine = LocalEngine(
        log=folder / "logs" / "engine.log",
        grace_seconds=GRACE_SECONDS,
        extra_families=[Path(faults.__file__)],
    )
    return with_jobs(engine, folder)


def with_jobs(engine: Engine, folder: Path) -> Bench:
    """Return a bench for an engine of our own, with clips in `folder`."""
    pattern = families.load("test_pattern").recipes(folder)[0]
    broken = faults.recipes(folder)[0]
    small = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0, "seed": 7}

    def job(**given: object) -> Job:
        return new_job(pattern, {**small, **given}, folder / "clips")

    def fault(kind: str, at: str = "sample") -> Job:
        return new_job(broken, {"fault": kind, "at": at}, folder / "clips")

    return Bench(engine, job, fault)


def comfy(folder: Path, server: client_bench.Process) -> Bench:
    def graph(job: Job, server: Server) -> Graph:
        if job.family != "test":
            raise invalid("recipe", "This workflow is not known.", "Choose another one.")
        given = dict(job.params)
        kind, at = given.pop("fault", ""), given.pop("at", "")
        told = {"exception": "a bad day", "memory": "CUDA out of memory"}
        return client_bench.graph(
            steps=int(given["steps"]),
            step_seconds=float(given["step_seconds"]),
            load_seconds=0.3 if given["frames"] > 8 else 0,
            decode_seconds=0.3 if given["frames"] > 8 else 0,
            frames=given["frames"],
            size=min(given["width"], 256),
            **({"raise": told[str(kind)]} if at else {}),
        )

    small = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0, "seed": 7}

    def job(**given: object) -> Job:
        params = {**small, **given, "fps": 8}
        made = client_bench.job(folder).to_json()
        return Job.from_json({**made, "family": "test", "params": params})

    engine = ComfyEngine(
        server.base,
        graph,
        Options(
            process=lambda: server.pid,
            checks=client_bench.QUICK,
            patience=Patience(grace=GRACE_SECONDS),
        ),
    )
    return Bench(engine, job, lambda kind, at: job(fault=kind, at=at), owned=False)


def behind_one_door(folder: Path, server: client_bench.Process) -> Bench:
    """A server's engine behind the door that the window uses."""
    inner = comfy(folder, server)
    assert isinstance(inner.engine, ComfyEngine)
    engine = inner.engine
    server = KnownServer(engine.server.base)
    mine = LocalEngine(log=folder / "logs" / "engine.log")
    return replace(inner, engine=Engines(mine, lambda _: engine, [server]))


WORKERS: dict[str, Makes] = {"local": local}
BENCHES: dict[str, Makes] = {**WORKERS, "comfy": comfy, "one door": behind_one_door}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[client_bench.Process]:
    made = client_bench.Process(tmp_path_factory.mktemp("server"))
    yield made
    made.kill()


@pytest.fixture
def server(running: client_bench.Process) -> client_bench.Process:
    """A server that holds a model and has nothing to do."""
    running.fault(holds_bytes=8_000_000_000)
    deadline = time.monotonic() + 2
    while running.get("/queue") != {"queue_running": [], "queue_pending": []}:
        assert time.monotonic() < deadline, "an earlier job goes on"
        time.sleep(0.01)
    return running


@pytest.fixture(scope="module")
def kept(
    running: client_bench.Process, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Bench]]:
    """Engines of our own whose workers are up, by name."""
    folder = tmp_path_factory.mktemp("kept")
    made = {name: make(folder / name, running) for name, make in WORKERS.items()}
    for one in made.values():
        works(one)
    yield made
    for one in made.values():
        closed(one)


def closed(made: Bench) -> None:
    pid = made.engine.pid
    began = time.monotonic()
    made.engine.close()
    assert time.monotonic() - began < 3
    # What an engine does not own goes on.
    assert pid is None or psutil.pid_exists(pid) == (not made.owned)


def lasting(made: Bench, folder: Path) -> Iterator[Bench]:
    """Lend a bench to a test that may not cost the worker."""
    pid = made.engine.pid
    yield with_jobs(made.engine, folder)
    assert made.engine.pid == pid
    assert pid is not None
    assert psutil.pid_exists(pid)


@pytest.fixture(params=BENCHES)
def bench(request, tmp_path: Path, server: client_bench.Process) -> Iterator[Bench]:
    made = BENCHES[request.param](tmp_path, server)
    yield made
    closed(made)


@pytest.fixture(params=BENCHES)
def warm(
    request, tmp_path: Path, server: client_bench.Process, kept: dict[str, Bench]
) -> Iterator[Bench]:
    """As `bench`, but a worker is up already and has to stay."""
    if request.param in kept:
        yield from lasting(kept[request.param], tmp_path)
        return
    made = BENCHES[request.param](tmp_path, server)
    yield made
    closed(made)


@pytest.fixture(params=WORKERS)
def worker(request, tmp_path: Path, server: client_bench.Process) -> Iterator[Bench]:
    made = WORKERS[request.param](tmp_path, server)
    yield made
    closed(made)


@pytest.fixture(params=WORKERS)
def warm_worker(request, tmp_path: Path, kept: dict[str, Bench]) -> Iterator[Bench]:
    yield from lasting(kept[request.param], tmp_path)


def drain(events: Iterator[Event], until: float = 60) -> list[Event]:
    """Return all events, having made sure that exactly one ending is last."""
    seen: list[Event] = []
    began = time.monotonic()
    for event in events:
        seen.append(event)
        assert time.monotonic() - began < until
    endings = [event for event in seen if isinstance(event, Ending)]
    assert len(endings) == 1
    assert seen[-1] is endings[0]
    assert len({event.job_id for event in seen}) == 1
    return seen


def run_until(events: Iterator[Event], wanted: Callable[[Event], bool]) -> list[Event]:
    seen: list[Event] = []
    for event in events:
        seen.append(event)
        if wanted(event):
            return seen
    raise AssertionError(f"never came: {seen}")


def leftovers(job: Job) -> list[Path]:
    folder = Path(job.output).parent
    return list(folder.iterdir()) if folder.exists() else []


def begins(phase: Phase) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, PhaseStarted) and event.phase is phase


def works(bench: Bench) -> None:
    """The engine makes another clip."""
    job = bench.job()
    assert isinstance(drain(bench.engine.run(job))[-1], Finished)
    assert Path(job.output).stat().st_size > 0


def test_success_ends_in_finished_with_a_clip(bench: Bench) -> None:
    job = bench.job()
    seen = drain(bench.engine.run(job))
    ending = seen[-1]
    assert isinstance(ending, Finished)
    assert Path(ending.output.path) == Path(job.output)
    assert ending.output.frames == 8
    assert ending.seed == 7
    assert ending.peak_rss_bytes > 1_000_000
    assert isinstance(seen[0], WorkerStarted)
    assert seen[0].pid == bench.engine.pid
    assert seen[0].cold
    phases = [event.phase for event in seen if isinstance(event, PhaseStarted)]
    assert phases == [Phase.LOAD, Phase.SAMPLE, Phase.DECODE, Phase.ENCODE, Phase.VERIFY]
    assert [event.step for event in seen if isinstance(event, Sampled)] == [1, 2, 3]
    assert any(isinstance(event, MemoryRead) for event in seen)
    previews = [event for event in seen if isinstance(event, FramesPublished) and event.preview]
    assert previews
    assert all((event.first, event.count) == (0, event.total) for event in previews)


def test_a_warm_engine_stays(bench: Bench) -> None:
    first = drain(bench.engine.run(bench.job()))[0]
    second = drain(bench.engine.run(bench.job()))[0]
    assert isinstance(first, WorkerStarted)
    assert isinstance(second, WorkerStarted)
    assert first.pid == second.pid
    assert not second.cold


def test_cancel_in_mid_run_ends_in_stopped(warm: Bench) -> None:
    job = warm.job(steps=50, step_seconds=0.1)
    events = warm.engine.run(job)
    run_until(events, lambda event: isinstance(event, Sampled))
    warm.engine.cancel(job.id)
    began = time.monotonic()
    seen = drain(events)
    assert isinstance(seen[-1], Stopped)
    assert time.monotonic() - began < 0.1 + 0.3, "within one step"
    assert leftovers(job) == []
    pid = warm.engine.pid
    works(warm)
    assert warm.engine.pid == pid, "a polite stop needs no new worker"


@pytest.mark.parametrize("phase", [Phase.LOAD, Phase.DECODE, Phase.ENCODE])
def test_cancel_in_each_phase(warm: Bench, phase: Phase) -> None:
    job = warm.job(width=512, height=512, frames=32)
    events = warm.engine.run(job)
    run_until(events, begins(phase))
    warm.engine.cancel(job.id)
    # The worker may have passed its last look: then the clip stands, else nothing does.
    ending = drain(events)[-1]
    assert isinstance(ending, Stopped | Finished)
    assert bool(leftovers(job)) == isinstance(ending, Finished)
    if phase is not Phase.ENCODE:
        assert isinstance(ending, Stopped)
    works(warm)


def test_a_cancel_before_the_worker_is_up_counts(bench: Bench) -> None:
    job = bench.job(steps=50, step_seconds=0.2)
    events = bench.engine.run(job)
    timer = threading.Timer(0.02, bench.engine.cancel, [job.id])
    timer.start()
    assert isinstance(drain(events, until=10)[-1], Stopped)
    timer.join()


def test_a_late_cancel_hits_nothing(warm: Bench) -> None:
    job = warm.job()
    events = warm.engine.run(job)
    ending = run_until(events, lambda event: isinstance(event, Ending))[-1]
    warm.engine.cancel(job.id)
    assert isinstance(ending, Finished)
    assert list(events) == []
    warm.engine.cancel(job.id)
    works(warm)


def test_a_cancel_of_another_job_hits_nothing(warm: Bench) -> None:
    job = warm.job()
    events = warm.engine.run(job)
    run_until(events, begins(Phase.LOAD))
    warm.engine.cancel(warm.job().id)
    warm.engine.cancel("")
    assert isinstance(drain(events)[-1], Finished)


def test_an_unknown_family_fails_with_a_hint(warm: Bench) -> None:
    good = warm.job()
    bad = Job.from_json({**good.to_json(), "family": "no-such-family"})
    ending = drain(warm.engine.run(bad))[-1]
    assert isinstance(ending, Failed)
    assert ending.problem.category is Category.INVALID_PARAMS
    assert ending.problem.hint
    works(warm)


def test_an_unwritable_folder_fails_early(warm: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    good = warm.job()
    bad = Job.from_json({**good.to_json(), "output": str(tmp_path / "file" / "clip.mp4")})
    seen = drain(warm.engine.run(bad))
    assert isinstance(seen[-1], Failed)
    assert seen[-1].problem.category is Category.STORAGE
    assert not any(isinstance(event, Sampled) for event in seen)


@pytest.mark.parametrize("at", ["load", "sample", "decode"])
@pytest.mark.parametrize(
    ("kind", "category"),
    [
        ("exception", Category.UNKNOWN),
        ("memory", Category.INSUFFICIENT_VRAM),
        ("exit", Category.UNKNOWN),
        ("nan", Category.BAD_OUTPUT),
        ("shape", Category.BAD_OUTPUT),
    ],
)
def test_an_exception_ends_in_failed(warm_worker: Bench, kind: str, category: str, at: str) -> None:
    job = warm_worker.fault(kind, at)
    ending = drain(warm_worker.engine.run(job))[-1]
    assert isinstance(ending, Failed)
    assert ending.problem.category is category
    assert ending.problem.message
    assert ending.problem.hint
    assert "Traceback" in ending.problem.details
    assert leftovers(job) == []
    pid = warm_worker.engine.pid
    works(warm_worker)
    assert warm_worker.engine.pid == pid, "a failed job does not cost the worker"


@pytest.mark.parametrize(("kind", "word"), [("segv", "SIGSEGV"), ("abort", "SIGABRT")])
def test_a_crash_ends_in_failed(worker: Bench, kind: str, word: str) -> None:
    """The worker that shows that it goes on is the one that crashes next."""
    for at in ("load", "sample", "decode"):
        job = worker.fault(kind, at)
        ending = drain(worker.engine.run(job))[-1]
        assert isinstance(ending, Failed), at
        assert ending.problem.category is Category.WORKER_UNAVAILABLE, at
        assert word in ending.problem.message, at
        assert "faults.py" in ending.problem.details, f"the log says where: {at}"
        assert leftovers(job) == [], at
        works(worker)
        made_away_with(worker)


def made_away_with(bench: Bench) -> None:
    """Remove the clips that were made, so that what the next job leaves is seen."""
    for path in (Path(bench.job().output).parent).iterdir():
        path.unlink()


def test_a_killed_worker_is_failed_and_the_next_job_runs(worker: Bench) -> None:
    for phase in (Phase.LOAD, Phase.SAMPLE, Phase.DECODE, Phase.ENCODE):
        job = worker.job(width=512, height=512, frames=32, step_seconds=0.05)
        events = worker.engine.run(job)
        started = run_until(events, begins(phase))[0]
        assert isinstance(started, WorkerStarted), phase
        os.kill(started.pid, signal.SIGSTOP)  # It gets no further while we look.
        os.kill(started.pid, signal.SIGKILL)
        ending = drain(events)[-1]
        if isinstance(ending, Finished):  # Encoding can be over before its news are read.
            assert phase is Phase.ENCODE
            assert Path(job.output).exists()
        else:
            assert isinstance(ending, Failed), phase
            assert ending.problem.category is Category.WORKER_UNAVAILABLE, phase
            assert "SIGKILL" in ending.problem.message, phase
            assert "starts again" in ending.problem.hint, phase
            assert leftovers(job) == [], phase
        assert not psutil.pid_exists(started.pid), phase
        works(worker)
        made_away_with(worker)


def test_a_worker_killed_between_jobs_is_replaced(worker: Bench) -> None:
    works(worker)
    pid = worker.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    started = drain(worker.engine.run(worker.job()))
    assert isinstance(started[0], WorkerStarted)
    assert isinstance(started[-1], Finished)
    assert started[0].pid != pid
    assert started[0].cold


@pytest.mark.parametrize("kind", ["hang", "hold_gil"])
def test_a_cancel_that_is_ignored_becomes_a_kill(worker: Bench, kind: str) -> None:
    job = worker.fault(kind)
    events = worker.engine.run(job)
    started = run_until(events, lambda event: isinstance(event, Noted))[0]
    assert isinstance(started, WorkerStarted)
    began = time.monotonic()
    worker.engine.cancel(job.id)
    assert isinstance(drain(events)[-1], Stopped)
    assert GRACE_SECONDS <= time.monotonic() - began < GRACE_SECONDS + 1
    assert not psutil.pid_exists(started.pid)
    assert leftovers(job) == []
    works(worker)


def in_thread(events: Iterator[Event]) -> tuple[threading.Thread, list[Event]]:
    """Drain `events` as the window does: in a thread of its own."""
    seen: list[Event] = []
    thread = threading.Thread(target=lambda: seen.extend(events))
    thread.start()
    return thread, seen


@pytest.mark.parametrize("how", ["stopped", "hold_gil", "hang", "busy"])
def test_close_is_bounded_whatever_the_worker_does(worker: Bench, how: str) -> None:
    if how in ("stopped", "busy"):
        job = worker.job(steps=50, step_seconds=1)
        wanted = begins(Phase.SAMPLE)
    else:
        job, wanted = worker.fault(how), lambda event: isinstance(event, Noted)
    events = worker.engine.run(job)
    run_until(events, wanted)
    pid = worker.engine.pid
    assert pid is not None
    if how == "stopped":
        os.kill(pid, signal.SIGSTOP)
    thread, seen = in_thread(events)
    began = time.monotonic()
    worker.engine.close()
    assert time.monotonic() - began < 3
    thread.join(3)
    assert not thread.is_alive()
    assert isinstance(seen[-1], Stopped)
    assert not psutil.pid_exists(pid)
    assert leftovers(job) == []


def test_release_gives_memory_back_and_the_next_job_runs(worker: Bench) -> None:
    works(worker)
    pid = worker.engine.pid
    assert pid is not None
    held = psutil.Process(pid).memory_info().rss
    released = worker.engine.release()
    assert released.ram_bytes == pytest.approx(held, rel=0.2)
    assert released.seconds < 1
    assert not psutil.pid_exists(pid)
    assert worker.engine.pid is None
    assert worker.engine.release().ram_bytes == 0
    works(worker)


def test_a_running_job_is_spared_where_that_is_asked_for(worker: Bench) -> None:
    job = worker.job(steps=6, step_seconds=0.05)
    ended = []
    for event in worker.engine.run(job):
        ended.append(event)
        if isinstance(event, Sampled):
            assert worker.engine.release(spare=True).ram_bytes == 0
    assert isinstance(ended[-1], Finished)
    assert worker.engine.release(spare=True).ram_bytes > 1_000_000


def test_release_stops_a_running_job(bench: Bench) -> None:
    job = bench.job(steps=50, step_seconds=0.5)
    events = bench.engine.run(job)
    run_until(events, begins(Phase.SAMPLE))
    thread, seen = in_thread(events)
    released = bench.engine.release()
    assert released.ram_bytes > 0 or (released.vram_bytes or 0) > 0
    thread.join(3)
    assert not thread.is_alive()
    assert isinstance(seen[-1], Stopped)
    works(bench)


@pytest.mark.parametrize(
    ("kind", "category"),
    [("exception", Category.UNKNOWN), ("memory", Category.INSUFFICIENT_VRAM)],
)
def test_a_failure_inside_ends_in_failed(warm: Bench, kind: str, category: str) -> None:
    job = warm.fault(kind, "sample")
    ending = drain(warm.engine.run(job))[-1]
    assert isinstance(ending, Failed)
    assert ending.problem.category is category
    assert ending.problem.hint
    assert "Traceback" in ending.problem.details
    assert leftovers(job) == []
    works(warm)


def test_close_ends_a_running_job_soon(bench: Bench) -> None:
    job = bench.job(steps=50, step_seconds=0.5)
    events = bench.engine.run(job)
    run_until(events, begins(Phase.SAMPLE))
    thread, seen = in_thread(events)
    began = time.monotonic()
    bench.engine.close()
    thread.join(3)
    assert not thread.is_alive()
    assert time.monotonic() - began < 3
    assert isinstance(seen[-1], Stopped)
    assert leftovers(job) == []


def test_walking_away_leaves_nothing_running(bench: Bench) -> None:
    job = bench.job(steps=50, step_seconds=0.5)
    events = bench.engine.run(job)
    run_until(events, begins(Phase.SAMPLE))
    events.close()  # type: ignore[attr-defined]
    assert leftovers(job) == []
    began = time.monotonic()
    works(bench)
    assert time.monotonic() - began < 15, "the job was not waited for"


def test_one_job_at_a_time(warm: Bench) -> None:
    events = warm.engine.run(warm.job())
    next(events)
    with pytest.raises(RuntimeError):
        next(warm.engine.run(warm.job()))
    assert isinstance(drain(events)[-1], Finished)


def test_walking_away_ends_the_job(worker: Bench) -> None:
    job = worker.job(steps=50, step_seconds=0.5)
    events = worker.engine.run(job)
    started = run_until(events, begins(Phase.SAMPLE))[0]
    assert isinstance(started, WorkerStarted)
    events.close()  # type: ignore[attr-defined]
    assert not psutil.pid_exists(started.pid)
    assert leftovers(job) == []
    works(worker)

"""`framedeck fire-drill`: lets everything go wrong with a server that is none, and reports.

A drill is one job on a stand-in for ComfyUI in a process of its own, with
something to go wrong. It is survived when the job ends once, as it should,
within its time; when its file, if it made one, is whole; when nothing was
written elsewhere and the server got the job once at most. Nothing of the
user's is touched: all of it happens in a folder that is deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.drills import DRILLS, Drill, chosen
from core.engines.base import Engine
from core.engines.comfy.standin.process import StandInProcess
from core.events import Ending, Event, Failed, Finished, Sampled
from core.jobs import Job

BUDGET_SECONDS = 60.0
FOREIGN = "a browser"
_SCRIPT = {"step_seconds": 0.1, "model_bytes_each": 2**28}
_AFTER_LIMIT_SECONDS = 3.0
_LEAST_BYTES = 1024

Connect = Callable[[str, Callable[[], int | None]], Engine]
"""Makes the engine that is drilled: from a server's address and what tells its process id."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a drill went.

    Attributes:
        survived: Whether all was as it should be.
        reasons: What was not.
        ending: Name of the job's ending, "" without one.
        words: What the job's problem said, if it had one.
    """

    name: str
    title: str
    survived: bool
    reasons: tuple[str, ...]
    ending: str
    words: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """All drills of one run.

    Attributes:
        left_out: Drills for which there was no time.
    """

    verdicts: tuple[Verdict, ...]
    left_out: tuple[str, ...]
    seconds: float

    @property
    def survived(self) -> bool:
        """Whether every drill was run and survived."""
        return bool(self.verdicts) and all(each.survived for each in self.verdicts)

    def text(self) -> str:
        """Return the report as a person reads it."""
        lines = []
        for each in self.verdicts:
            mark = "survived" if each.survived else "NOT SURVIVED"
            lines.append(f"{mark:<13}{each.seconds:5.1f} s  {each.title}")
            lines += [f"{'':22}{reason}" for reason in each.reasons]
            lines += [f"{'':22}said: {each.words}"] if each.words else []
        good = sum(each.survived for each in self.verdicts)
        lines.append(f"{good} of {len(self.verdicts)} survived in {self.seconds:.0f} s.")
        if self.left_out:
            lines.append(f"No time was left for: {', '.join(self.left_out)}.")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "survived": self.survived}


def own_engine(url: str, pid: Callable[[], int | None]) -> Engine:
    """Return Framedeck's own engine, with less patience than it has in earnest."""
    from core.engines.comfy.client import ComfyEngine, Options, Patience
    from core.engines.comfy.outputs import Checks

    patience = Patience(video=30.0, image=30.0, away=5.0, stuck=3.0, deaf=3.0)
    checks = Checks(window_seconds=0.2)
    return ComfyEngine(url, options=Options(process=pid, patience=patience, checks=checks))


def run(
    connect: Connect,
    drills: Sequence[Drill] = DRILLS,
    *,
    budget_seconds: float = BUDGET_SECONDS,
    tell: Callable[[str], object] = str,
) -> Report:
    """Run drills, each with a server and an engine of its own.

    Args:
        connect: Makes the engine.
        drills: Which.
        budget_seconds: When this has passed no further drill is begun.
        tell: Told the title of each drill before it begins.
    """
    began = time.monotonic()
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="framedeck-drill-") as place:
        for number, drill in enumerate(drills):
            if time.monotonic() - began > budget_seconds:
                break
            tell(drill.title)
            verdicts.append(_Trial(drill, Path(place) / str(number), connect).run())
    left_out = tuple(drill.name for drill in drills[len(verdicts) :])
    return Report(tuple(verdicts), left_out, time.monotonic() - began)


def graph(steps: int = 8) -> dict[str, Any]:
    """Return what is asked for in a drill: a small picture, sampled step by step."""

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    sampling = {"seed": 1, "steps": steps, "cfg": 7.0, "denoise": 1.0}
    names = {"sampler_name": "euler", "scheduler": "normal"}
    links = {
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["6", 0],
        "latent_image": ["5", 0],
    }
    return {
        "3": node("KSampler", **sampling, **names, **links),
        "4": node("CheckpointLoaderSimple", ckpt_name="drill.safetensors"),
        "5": node("EmptyLatentImage", width=128, height=128, batch_size=1),
        "6": node("CLIPTextEncode", text="a fire drill", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="drill", images=["8", 0]),
    }


def job_of(folder: Path) -> Job:
    """Return the job of a drill; its clip goes into `folder`."""
    return Job(
        id=str(uuid.uuid4()),
        recipe="fire-drill",
        engine="comfy",
        family="fire-drill",
        title="Fire drill",
        params={"graph": json.dumps(graph()), "seed": 1},
        model="",
        output=str(folder / "drill.mp4"),
        created_at=time.time(),
    )


@dataclass
class _Trial:
    """One drill while it runs."""

    drill: Drill
    place: Path
    connect: Connect
    events: list[Event] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    killed: bool = False

    def run(self) -> Verdict:
        out = self.place / "out"
        out.mkdir(parents=True)
        script = self.place / "script.json"
        words: Mapping[str, Any] = {
            **_SCRIPT,
            "models": {"checkpoints": ["drill.safetensors"]},
        }
        script.write_text(json.dumps(words), encoding="utf-8")
        before = set(self.place.iterdir()) | {self.place / "server"}
        began = time.monotonic()
        job = job_of(out)
        with StandInProcess(self.place / "server", script) as server:
            foreign = self._prepare(server)
            engine = self.connect(server.url, lambda: server.pid)
            try:
                self._drain(engine, job, server)
            finally:
                engine.close()
            seconds = time.monotonic() - began
            self._check_server(server, job, foreign)
        self._check_ending(out)
        strays = set(self.place.iterdir()) - before
        if strays:
            self.reasons.append(f"Written elsewhere: {', '.join(map(str, sorted(strays)))}.")
        return self._verdict(seconds)

    def _prepare(self, server: StandInProcess) -> str | None:
        foreign = None
        if self.drill.foreign:
            foreign = server.submit(graph(4), FOREIGN)
        for fault in self.drill.faults:
            values = {name: getattr(fault, name) for name in ("times", "path", "node", "step")}
            server.arm(fault.kind, fault.value, **values)
        return foreign

    def _drain(self, engine: Engine, job: Job, server: StandInProcess) -> None:
        """Let the engine run the job; makes an end of it when it takes too long."""
        late = threading.Event()

        def make_an_end() -> None:
            late.set()
            engine.cancel(job.id)

        # Its own process: the window's rule on threads is not meant.
        limit = threading.Timer(self.drill.limit_seconds, make_an_end)
        last = threading.Timer(self.drill.limit_seconds + _AFTER_LIMIT_SECONDS, server.kill)
        limit.start()
        last.start()
        try:
            for event in engine.run(job):
                self.events.append(event)
                self._kill_in_time(event, server)
        except Exception as error:  # noqa: BLE001 - the very thing that is looked for
            self.reasons.append(f"The engine raised {type(error).__name__}: {error}.")
        finally:
            for timer in (limit, last):
                timer.cancel()
                timer.join()
        if late.is_set():
            self.reasons.append(f"It took longer than {self.drill.limit_seconds:g} s.")

    def _kill_in_time(self, event: Event, server: StandInProcess) -> None:
        if not self.drill.kills_at or self.killed or not isinstance(event, Sampled):
            return
        if event.step >= self.drill.kills_at:
            self.killed = True
            server.kill()
            if self.drill.returns:
                server.start()

    def _check_server(self, server: StandInProcess, job: Job, foreign: str | None) -> None:
        if server.pid is None:
            return
        if self.killed:
            if server.posted().get(job.id, 0):
                self.reasons.append("The job was sent again after the server's death.")
            return
        sent = server.posted().get(job.id, 0)
        if sent > 1:
            self.reasons.append(f"The job was sent {sent} times.")
        if foreign is not None and not _ended_well(server.url, foreign):
            self.reasons.append("The other client's job did not finish.")

    def _check_ending(self, out: Path) -> None:
        endings = [event for event in self.events if isinstance(event, Ending)]
        if len(endings) != 1 or self.events[-1:] != endings:
            self.reasons.append(f"The job ended {len(endings)} times instead of once, at the end.")
            return
        ending, finishes = endings[0], self.drill.finishes
        if finishes is not None and isinstance(ending, Finished) != finishes:
            wanted = "finished" if finishes else "failed with a reason"
            name = type(ending).__name__.lower()
            self.reasons.append(f"The job should have {wanted}, and it {name}.")
        elif not isinstance(ending, Finished | Failed):
            self.reasons.append("The job was stopped, and nobody had asked for that.")
        if isinstance(ending, Finished):
            self._check_file(Path(ending.output.path), out)

    def _check_file(self, path: Path, out: Path) -> None:
        if not path.resolve().is_relative_to(out.resolve()):
            self.reasons.append(f"Its file is outside the folder: {path}.")
        elif not path.is_file() or path.stat().st_size < _LEAST_BYTES:
            self.reasons.append("Its file is missing or nearly empty.")
        elif not _decodes(path):
            self.reasons.append("Its file cannot be decoded.")

    def _verdict(self, seconds: float) -> Verdict:
        ending = next((each for each in self.events if isinstance(each, Ending)), None)
        words = ending.problem.message if isinstance(ending, Failed) else ""
        name = "" if ending is None else type(ending).__name__
        reasons = tuple(self.reasons)
        return Verdict(
            self.drill.name, self.drill.title, not reasons, reasons, name, words, seconds
        )


def _ended_well(url: str, prompt: str) -> bool:
    import requests

    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with suppress(requests.RequestException, ValueError), requests.Session() as session:
            session.trust_env = False  # It is on this machine.
            found = session.get(f"{url}/history/{prompt}", timeout=2).json()
            if prompt in found:
                return bool(found[prompt]["status"]["completed"])
        time.sleep(0.05)
    return False


def _decodes(path: Path) -> bool:
    import av

    from core.outputs.container import open_to_read

    try:
        with open_to_read(path) as container:
            return any(True for _ in container.decode(video=0))
    except (av.FFmpegError, ValueError, IndexError):
        return False


def main(argv: Sequence[str], connect: Connect = own_engine) -> int:
    """Run the command; returns 0 when all was survived, 1 when not, 2 for bad arguments."""
    parser = argparse.ArgumentParser(
        prog="framedeck fire-drill",
        description="Lets servers fail in twenty ways, for a minute, and says what was survived. "
        "It uses a server of its own and touches nothing of yours.",
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="see --list")
    parser.add_argument("--list", action="store_true", help="list the drills")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON line")
    options = parser.parse_args(argv)
    try:
        drills = chosen(options.only)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.list:
        sys.stdout.writelines(f"{drill.name:<12}{drill.title}\n" for drill in drills)
        return 0
    quiet = options.json or not sys.stderr.isatty()
    report = run(
        connect, drills, tell=str if quiet else lambda words: sys.stderr.write(words + "\n")
    )
    sys.stdout.write((json.dumps(report.to_json()) if options.json else report.text()) + "\n")
    return 0 if report.survived else 1

"""The command line: the same engine and ledger, no Qt."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from app import bench, cli_recipes
from app.comfy_engines import ComfyEngines
from app.engines import Engines
from core.engine_env import engine_python
from core.engines.local.client import LocalEngine
from core.errors import Category, Problem, ProblemError, invalid, problem_from
from core.events import (
    Event,
    Failed,
    Finished,
    Noted,
    PhaseStarted,
    Progressed,
    Sampled,
    Stopped,
)
from core.formats import suffix_of
from core.gpu.sampler import Sampler
from core.jobs import Job, Recipe, new_job
from core.ledger import Ledger, wishes
from core.outputs.segments import kept
from core.places import Places
from core.recorder.keep import Limits
from core.recorder.recorder import Recorder
from core.settings import Settings
from core.settings import load as load_settings
from core.stream.endless import streams

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130
_log = logging.getLogger(__name__)
RECORDER_STOP_SECONDS = 0.5
"""How long each thread that records may take to end; it is left behind after that."""
GRACE_SECONDS = 2.0
"""Ctrl-C ends within three seconds; this leaves one for the rest."""


def main(argv: list[str]) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad arguments, 130 interrupted.
    """
    options = _parser().parse_args(argv)
    if options.command == "bench":
        return _bench(options)
    places = Places.find(options.home)
    try:
        if options.command == "recipes":
            return _list(places, options)
        return _generate(options, places)
    except ProblemError as error:
        return _complain(error.problem, options.json)
    except OSError as error:
        return _complain(problem_from(error), options.json)


def _bench(options: argparse.Namespace) -> int:
    try:
        return bench.run(options)
    except ProblemError as error:
        return _complain(error.problem, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="framedeck")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("recipes", help="list recipes and their parameters with ranges")
    make = commands.add_parser(
        "generate",
        help="make one clip",
        description="Makes one clip with the same engines as the window: on this machine, or "
        "with a ComfyUI workflow on a server. Exit codes: 0 done, 1 failed, 2 bad arguments, "
        "130 interrupted.",
    )
    make.add_argument("--prompt", help="what the clip shows")
    make.add_argument("--negative-prompt", help="what it must not show")
    make.add_argument("--recipe", help="see `framedeck recipes`; the first one by default")
    make.add_argument(
        "--out", type=Path, help="path of the clip, ending in .mp4; of a picture, in .png"
    )
    make.add_argument(
        "--server",
        metavar="URL",
        help="the ComfyUI server for a workflow, by address or by its title in the window; "
        "the first of the known servers by default",
    )
    for name, words in _NUMBERS.items():
        make.add_argument(f"--{name}", help=words)
    make.add_argument("--seed", help='a whole number, or "random"')
    make.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any parameter of the recipe; may be repeated",
    )
    measure = commands.add_parser("bench", help="measure this installation")
    bench.add_arguments(measure)
    for command in (listing, make, measure):
        command.add_argument(
            "--model",
            type=Path,
            metavar="MODEL",
            help="a model folder in the format of diffusers, or a single .safetensors file",
        )
        command.add_argument("--json", action="store_true", help="print one JSON line on stdout")
        command.add_argument("--home", type=Path, help="keep everything below this folder")
    return parser


_NUMBERS = {
    "width": "pixels",
    "height": "pixels",
    "frames": "number of frames",
    "fps": "frames per second",
    "steps": "sampling steps",
    "minutes": "length of a dream; 0: until Ctrl-C, which lets it end well",
}


def _given(options: argparse.Namespace) -> dict[str, object]:
    """Collect parameter values from the options."""
    names = ("prompt", "negative_prompt", "seed", *_NUMBERS)
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    for item in options.set:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise ProblemError(
                Problem(
                    Category.INVALID_PARAMS,
                    f"--set {item!r} is not NAME=VALUE.",
                    "Write for example --set steps=8.",
                    field="set",
                )
            )
        given[name.strip()] = value
    return given


def _list(places: Places, options: argparse.Namespace) -> int:
    workflows = cli_recipes.workflows(places)
    for problem in workflows.problems:
        _complain(problem, as_json=False)
    recipes = (*cli_recipes.here(places, options.model), *workflows.recipes())
    cli_recipes.tell(recipes, as_json=options.json)
    return DONE


def _generate(options: argparse.Namespace, places: Places) -> int:
    job, engine = _asked(options, places)
    places.make()
    ledger = Ledger.open(places.ledger)
    if ledger.opened_with is not None:
        _complain(ledger.opened_with, as_json=False)
    interrupted, enough = _cancel_on_signals(engine, job)
    bar = _Bar(sys.stderr)
    ending: Finished | Stopped | Failed | None = None
    try:
        settings = load_settings(places.settings)[0]
        with _recording(ledger, places, settings, lambda: engine.pid) as set_busy:
            # The row stands before the work starts, as for the window's jobs.
            ledger.take_on(job)
            set_busy(True)
            for event in engine.run(job):
                if isinstance(event, Finished | Stopped | Failed):
                    ending = event
                    ledger.end(job.id, event)
                    set_busy(False)
                else:
                    ledger.record(job.id, event)
                    bar.show(event)
                    if interrupted.is_set() or _unwanted(ledger, job):
                        # It may have come before the engine knew the job; again is harmless.
                        engine.cancel(job.id)
                    elif enough.is_set():
                        engine.enough(job.id)
    finally:
        bar.close()
        engine.close()
        ledger.close()
    if ending is None:
        raise RuntimeError("the engine ended without an ending")
    return _tell(job, ending, options.json, interrupted.is_set())


def _unwanted(ledger: Ledger, job: Job) -> bool:
    """Say whether `framedeck queue cancel` named the job."""
    store = ledger.store
    return store.changed_elsewhere() and bool(wishes.take_cancels(store, [job.id]))


@contextmanager
def _recording(
    ledger: Ledger, places: Places, settings: Settings, worker_pid: Callable[[], int | None]
) -> Iterator[Callable[[bool], None]]:
    """Record memory while the body runs.

    Yields:
        What to call with True when a job begins, with False when it has ended.
    """
    sampler = Sampler(worker_pid=worker_pid)
    recorder = Recorder(
        ledger.store.path,
        boot=ledger.boot,
        logs=places.runs,
        limits=Limits(settings.readings_days, settings.readings_gigabytes),
    )
    threads = [
        threading.Thread(target=_drain, args=(source,), name=name, daemon=True)
        for name, source in (
            ("sampler", lambda: recorder.tap(sampler.readings())),
            ("recorder", recorder.records),
        )
    ]

    def set_busy(busy: bool) -> None:
        sampler.set_busy(busy)
        recorder.set_busy(busy)

    for thread in threads:
        thread.start()
    try:
        yield set_busy
    finally:
        sampler.stop()
        threads[0].join(RECORDER_STOP_SECONDS)
        recorder.stop()
        threads[1].join(RECORDER_STOP_SECONDS)


def _drain(source: Callable[[], Iterable[object]]) -> None:
    """Take what comes; a clip must not fail because memory could not be recorded."""
    try:
        for item in source():
            if isinstance(item, Problem):
                _log.warning("%s %s", item.message, item.hint)
    except Exception as error:  # noqa: BLE001 - the clip goes on
        _log.error("memory is not recorded any more", exc_info=error)


def _asked(options: argparse.Namespace, places: Places) -> tuple[Job, Engines]:
    """Return the job that is asked for, and what runs it.

    Raises:
        ProblemError: There is no such recipe, a value cannot be used, or the server of a
            workflow does not answer or lacks something.
    """
    local = LocalEngine(
        interpreter=engine_python(places, load_settings(places.settings)[0].interpreter),
        log=places.worker_log,
        grace_seconds=GRACE_SECONDS,
        speeds=places.speeds,
    )
    recipes = {recipe.id: recipe for recipe in cli_recipes.here(places, options.model)}
    wanted = options.recipe or next(iter(recipes))
    if wanted in recipes:
        if options.server is not None:
            raise invalid(
                "server",
                f"The recipe {wanted} runs on this machine, not on a server.",
                "Leave --server out, or choose a workflow: see `framedeck recipes`.",
            )
        return _job(options, recipes[wanted], places, {}), Engines(local)
    from app.signing_in import signed_by
    from core.engines.comfy.scan import scan
    from core.vault import Vault

    found = cli_recipes.workflows(places)
    workflow = found.by_recipe().get(wanted)
    if workflow is None:
        raise invalid(
            "recipe",
            f"The recipe {wanted!r} is not known.",
            "Choose one of: " + ", ".join([*recipes, *found.by_recipe()]) + ".",
        )
    server = cli_recipes.server_for(found, options.server or _given(options).get("server"))
    at: dict[str, object] = {"server": server.base}
    # What can be refused without the server is.
    _job(options, workflow.recipe(None, {server.base: server.name}), places, at)
    vault = Vault()
    seen = scan(server, sign_in=signed_by(vault, server))
    recipe = workflow.recipe(seen.info, {server.base: server.name})
    job = _job(options, recipe, places, at)
    cli_recipes.check_ready(workflow, server, seen, job.params)
    comfy = ComfyEngines(places.workflows, places.data / "nodes")
    comfy.sign_in_of = partial(signed_by, vault)
    comfy.making.learn(server.base, seen.info)
    return job, Engines(local, comfy, [server])


def _job(
    options: argparse.Namespace, recipe: Recipe, places: Places, at: Mapping[str, object]
) -> Job:
    suffix = suffix_of(recipe.makes, _given(options))
    if options.out is not None and options.out.suffix.lower() != suffix:
        raise invalid(
            "out",
            f"--out {options.out} does not end in {suffix}.",
            f"Name it something{suffix}: the recipe {recipe.id} makes a "
            f"{_THINGS.get(suffix, suffix[1:].upper())}.",
        )
    return new_job(recipe, {**_given(options), **at}, places.outputs, output=options.out)


_THINGS = {".mp4": "clip", ".png": "picture", ".frames": "folder of pictures"}


def _cancel_on_signals(engine: Engines, job: Job) -> tuple[threading.Event, threading.Event]:
    """Let Ctrl-C and SIGTERM cancel the job; the first Ctrl-C lets a dream come to a good end.

    Returns:
        What says that it is cancelled, and what says that it shall end well.
    """
    interrupted, enough = threading.Event(), threading.Event()

    def end_well() -> None:
        sys.stderr.write("\nComes to its end; Ctrl-C again stops it at once.\n")
        engine.enough(job.id)

    def stop(number: int, _: object) -> None:
        # A thread, because the handler may interrupt code that holds the engine's lock.
        if number == signal.SIGINT and streams(job) and not enough.is_set():
            enough.set()
            threading.Thread(target=end_well, daemon=True).start()
        elif not interrupted.is_set():
            interrupted.set()
            threading.Thread(target=engine.cancel, args=(job.id,), daemon=True).start()

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    return interrupted, enough


def _tell(job: Job, ending: Finished | Stopped | Failed, as_json: bool, interrupted: bool) -> int:
    match ending:
        case Finished(output=output):
            facts: dict[str, Any] = {
                "path": output.path,
                "recipe": job.recipe,
                "engine": job.engine,
                "seed": ending.seed,
                "seconds": round(ending.seconds, 3),
                "frames": output.frames,
                "width": output.width,
                "height": output.height,
                "fps": output.fps,
                "peak_rss_bytes": ending.peak_rss_bytes,
                "peak_vram_bytes": ending.peak_vram_bytes,
                "verified": True,
            }
            if as_json:
                sys.stdout.write(json.dumps(facts) + "\n")
            else:
                length = f"{output.frames} frames, " if output.frames > 1 else ""
                sys.stderr.write(
                    f"Done in {ending.seconds:.1f} s, decoded again and found whole "
                    f"({length}seed {ending.seed}).\n"
                )
                sys.stdout.write(output.path + "\n")
            return DONE
        case Stopped():
            _complain(Problem(Category.UNKNOWN, _left(job), ""), as_json)
            return INTERRUPTED if interrupted else FAILED
        case Failed(problem=problem):
            _complain(problem, as_json)
            return INTERRUPTED if interrupted else FAILED


def _left(job: Job) -> str:
    """Return what is said of a job that was stopped."""
    there = kept(job) if streams(job) else None
    if there is None:
        return "Stopped; no clip was written."
    where = there.playlist or there.folder
    return f"Stopped; what was finished is kept: {there.words()}, see {where}."


def _complain(problem: Problem, as_json: bool) -> int:
    sys.stderr.write(f"{problem.message} {problem.hint}".strip() + "\n")
    if as_json:
        sys.stdout.write(json.dumps({"problem": problem.to_json()}) + "\n")
    return BAD_ARGUMENTS if problem.category is Category.INVALID_PARAMS else FAILED


class _Bar:
    """One line of progress on a terminal, one line a phase elsewhere."""

    WIDTH = 24

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._live = bool(stream.isatty())
        self._open = False

    def show(self, event: Event) -> None:
        """Draw what `event` changed."""
        match event:
            case PhaseStarted(phase=phase) if not self._live:
                self._stream.write(f"{phase.value}\n")
            case PhaseStarted(phase=phase):
                self._draw(0.0, phase.value)
            case Progressed(phase=phase, done=done, total=total, text=text):
                self._draw(done / max(total, 1), f"{phase.value} {text}".strip())
            case Sampled(step=step, steps=steps):
                words = f"sample {step}/{steps} · {event.seconds_per_step:.2f} s/step"
                self._draw(step / steps, f"{words} · {event.seconds_left:.0f} s left")
            case Noted(text=text):
                self.close()
                self._stream.write(f"Note: {text}\n")
        self._stream.flush()

    def _draw(self, share: float, words: str) -> None:
        if not self._live:
            return
        full = round(share * self.WIDTH)
        self._stream.write(f"\r\033[K[{'█' * full}{'·' * (self.WIDTH - full)}] {words}")
        self._open = True

    def close(self) -> None:
        """End the line."""
        if self._open:
            self._stream.write("\n")
            self._open = False

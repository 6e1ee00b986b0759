"""The program without its window, in a process of its own that can be killed anywhere.

`python -m tests.comfy.app_driver HOME SERVER... [--add N] [--kill POINT] [--stay]`: begins as
the window does, adds jobs, and ends when nothing runs or waits any more. Each line on its
standard output is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Its pool's threads, which stay, bear the name of the thread that loads it first.
import numpy  # noqa: F401
from PySide6.QtCore import QCoreApplication, QTimer

from app.controller import Controller
from app.engines import Engines
from core.engines.comfy.client import ComfyEngine, Options, Patience
from core.engines.comfy.known import KnownServer
from core.engines.comfy.outputs import Checks
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.events import Event, FramesPublished, NodeStarted, PhaseStarted, Sampled
from core.jobs import Job, Kind, Parameter, Phase, Recipe
from core.ledger import Ledger
from tests.comfy.app_graphs import graph

POST = "with the post on its way"
"""Needs a server that is slow to answer a POST."""
QUICK = Checks(window_seconds=0.05, settle_seconds=0.05)


def recipe(servers: list[str], makes: str = "image") -> Recipe:
    """A recipe whose graph is written out, as a dropped workflow's is."""
    return Recipe(
        id=f"drill-{makes}",
        title="Drill",
        summary="Makes a small one.",
        engine="comfy",
        family="drill",
        parameters=(
            Parameter("graph", Kind.TEXT, "Graph", json.dumps(graph(makes)), maximum=1e6),
            Parameter("server", Kind.CHOICE, "Run on", servers[0], choices=tuple(servers)),
            Parameter("seed", Kind.SEED, "Seed", None),
            Parameter("fps", Kind.INTEGER, "Rate", 8, minimum=1, maximum=60),
        ),
        makes=makes,
    )


def make(
    home: Path, servers: list[KnownServer], away: float = 20.0, free_every: int = 0, **more: Any
) -> Controller:
    """The controller over a ledger in `home`."""
    home.mkdir(parents=True, exist_ok=True)

    def comfy_for(server: KnownServer) -> ComfyEngine:
        patience = Patience(grace=2.0, away=away)
        return ComfyEngine(server.base, options=Options(checks=QUICK, patience=patience, **more))

    local = LocalEngine(log=home / "engine.log", grace_seconds=2.0)
    engines = Engines(local, comfy_for, servers, free_every)
    bases = [server.base for server in servers] or ["http://127.0.0.1:9"]
    offered = [*recipes(home / "models"), recipe(bases), recipe(bases, "video")]
    return Controller(Ledger.open(home / "ledger.sqlite"), engines, offered, home / "clips")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: Any, name: str) -> None:
    plain = getattr(owner, name)

    def dying(*given: Any, **more: Any) -> Any:
        die()
        return plain(*given, **more)

    setattr(owner, name, dying)


def _after(owner: Any, name: str) -> None:
    plain = getattr(owner, name)

    def dying(*given: Any, **more: Any) -> Any:
        plain(*given, **more)
        die()

    setattr(owner, name, dying)


def _in_the_middle_of_a_download() -> None:
    from core.engines.comfy.fetch import Fetcher

    def dying(self: Fetcher, path: str, target: Any, **more: Any) -> int:
        with self.stream("GET", path) as answer:
            target.write(next(iter(self.chunks(answer, 5.0, 1 << 30)))[:100])
            target.flush()
        die()
        raise AssertionError

    Fetcher.download = dying  # type: ignore[method-assign]


def _between_the_names() -> None:
    from core.outputs import publish

    plain = publish.place

    def dying(source: Path, target: Path) -> None:
        plain(source, target)
        if target.suffix == ".jpg":
            die()

    publish.place = dying


def _with_the_post_on_its_way() -> None:
    """Die a moment after it was sent, while the answer is awaited: the server is slow."""
    from core.engines.comfy.http import Server

    plain = Server.submit

    def dying(self: Server, *given: Any, **more: Any) -> Any:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        return plain(self, *given, **more)

    signal.signal(signal.SIGALRM, lambda *_: die())
    Server.submit = dying  # type: ignore[method-assign]


def _when(matches: Callable[[Event], bool]) -> Callable[[Controller], None]:
    def watch(controller: Controller) -> None:
        controller.event.connect(lambda event: die() if matches(event) else None)

    return watch


def _classes() -> dict[str, Callable[[], None]]:
    from core.engines.comfy import http
    from core.engines.comfy import outputs as fetching
    from core.ledger import ledger

    return {
        "after it began": lambda: _after(ledger.Ledger, "begin"),
        "before the post": lambda: _before(http.Server, "submit"),
        POST: _with_the_post_on_its_way,
        "after the post": lambda: _after(http.Server, "submit"),
        "in a download": _in_the_middle_of_a_download,
        "between the names": _between_the_names,
        "after publishing": lambda: _after(fetching, "publish"),
        "before its end is written": lambda: _before(ledger.Ledger, "end"),
    }


EVENTS: dict[str, Callable[[Event], bool]] = {
    "at its first step": lambda e: isinstance(e, Sampled) and e.step >= 1,
    "at its fourth step": lambda e: isinstance(e, Sampled) and e.step >= 4,
    "at the decode": lambda e: isinstance(e, NodeStarted) and e.title == "VAEDecode",
    "at the check": lambda e: isinstance(e, PhaseStarted) and e.phase is Phase.VERIFY,
}
POINTS = (*_classes(), *EVENTS)


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("servers", nargs="+")
    parser.add_argument("--add", type=int, default=0)
    parser.add_argument("--makes", default="image")
    parser.add_argument("--away", type=float, default=20.0)
    parser.add_argument("--kill", choices=POINTS, default=None)
    parser.add_argument("--stay", action="store_true")
    options = parser.parse_args()
    app = QCoreApplication(sys.argv[:1])
    controller = make(options.home, [KnownServer(base) for base in options.servers], options.away)
    if options.kill in _classes():
        _classes()[options.kill]()
    elif options.kill:
        _when(EVENTS[options.kill])(controller)

    def told(event: Event) -> None:
        name = type(event).__name__
        if isinstance(event, Sampled | FramesPublished | NodeStarted):
            say(event=name, job=event.job_id, step=getattr(event, "step", None))

    def ended(job: Job, ending: Event) -> None:
        say(ended=type(ending).__name__, job=job.id)

    controller.event.connect(told)
    controller.job_ended.connect(ended)
    say(lost=[row.job.id for row in controller.start()])
    for number in range(options.add):
        bases = options.servers
        # Each with a seed of its own: a server makes nothing that it made before.
        text = json.dumps(graph(options.makes, seed=random.randrange(2**31)))
        given = {"server": bases[number % len(bases)], "graph": text}
        say(added=[job.id for job in controller.add(f"drill-{options.makes}", given)])

    def look() -> None:
        idle = controller.running is None and controller.ledger.next_waiting() is None
        if idle and not options.stay:
            app.quit()

    timer = QTimer(interval=20)
    timer.timeout.connect(look)
    timer.start()
    signal.signal(signal.SIGTERM, lambda *_: app.quit())
    app.exec()
    good = controller.close()
    say(closed=good)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Where known servers meet the engines that run jobs on them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Signal

from app.comfy_engines import ComfyEngines
from core.errors import Category, Problem, ProblemError

if TYPE_CHECKING:
    from app.controller import Controller
    from app.foreign import ForeignBands
    from app.freeing import FreeDesk
    from app.leaking import LeakRestarts, Said
    from app.panels import Panels
    from app.servers import ServersDesk
    from app.watching import StateDesk
    from core.engines.comfy.health import Health
    from core.engines.comfy.known import KnownServer
    from core.engines.comfy.rescue import Restart, Watch
    from core.engines.comfy.scan import Scan
    from core.engines.comfy.sign_in import SignIn
    from core.jobs import Job
    from core.statistics.classify import Far, Sign
    from core.vault import Vault
    from widgets.timeline import TimelinePanel

HEARD_SECONDS = 10.0
"""How long the window may take to begin a restart that a job asks for."""
BACK_SECONDS = 180.0
"""How long a restarted server may take until it answers: it loads its node packs."""
_LOOK_SECONDS = 0.5


@dataclass(slots=True)
class _Wish:
    """A restart that a job's thread asks the window for."""

    base: str
    begun: threading.Event = field(default_factory=threading.Event)
    problem: Problem | None = None


class Restarts(QObject):
    """Lets a job's own thread have its server restarted, which the window's thread does.

    Signals:
        said: An app.leaking.Said, worth telling.
    """

    said = Signal(object)
    _wished = Signal(object)

    def __init__(self, servers: ServersDesk, vault: Vault, parent: QObject) -> None:
        super().__init__(parent)
        self._servers, self._vault = servers, vault
        self._wished.connect(self._on_wished, Qt.ConnectionType.QueuedConnection)

    def _sign_in(self, base: str) -> SignIn:
        known = next((one for one in self._servers.servers if one.base == base), None)
        return _signed_by(self._vault, known) if known is not None else lambda: ""

    def _on_wished(self, wish: _Wish) -> None:
        try:
            self._servers.restart_unasked(wish.base)
        except ProblemError as error:
            wish.problem = error.problem
        finally:
            wish.begun.set()

    def restart(self, base: str, pause: Callable[[float], bool]) -> None:
        """Restart the server and return when it answers; from any thread but the window's.

        Args:
            base: The server's address.
            pause: Waits so many seconds; what it raises ends the waiting, not the restart.

        Raises:
            ProblemError: It is not ours to restart, or does not come back.
        """
        before = self._servers.pid_of(base)
        wish = _Wish(base)
        self._wished.emit(wish)
        until = monotonic() + HEARD_SECONDS
        while not wish.begun.wait(_LOOK_SECONDS / 5):
            pause(0.0)  # A window that closes does not take it up any more.
            if monotonic() > until:
                raise ProblemError(
                    _gone(self._servers.title_of(base), "The window does not answer.")
                )
        if wish.problem is not None:
            raise ProblemError(wish.problem)
        until = monotonic() + BACK_SECONDS
        while monotonic() < until:
            if self._servers.pid_of(base) not in (None, before) and _answers(
                base, self._sign_in(base)
            ):
                return
            why = self._servers.why_given_up(base)
            if why is not None:
                raise ProblemError(_gone(self._servers.title_of(base), why))
            pause(_LOOK_SECONDS)
        late = f"It did not answer within {BACK_SECONDS:.0f} s."
        raise ProblemError(_gone(self._servers.title_of(base), late))


def join(
    controller: Controller,
    panels: Panels,
    servers: ServersDesk,
    freeing: FreeDesk,
    state: StateDesk,
) -> None:
    """Let jobs run on the servers that are known, with what was found out of them."""
    _draw_others(servers, panels.timeline)
    comfy = controller.engine.comfy_for
    restarts = Restarts(servers, controller.vault, servers)

    def known(job: Job) -> KnownServer | None:
        base = controller.engine.server_of(job)
        return next((server for server in servers.servers if server.base == base), None)

    def far(job: Job) -> Far | None:
        server = known(job)
        if server is None or server.is_local:
            return None
        return _far_of(servers.health(server.base))

    def watch_of(server: KnownServer) -> Watch:
        from core.engines.comfy.rescue import Watch

        def signs() -> tuple[Sign, ...]:
            # Behind an address of this machine may be another one's server, through a tunnel.
            return state.signs(server.base) if servers.pid_of(server.base) is not None else ()

        # What is read here tells nothing of another machine's card.
        if not server.is_local:
            return Watch()
        return Watch(signs=signs, usual_seconds=state.usual_decode_seconds)

    def restart_of(base: str) -> Restart:
        return partial(restarts.restart, base)

    def scanned(scan: Scan) -> None:
        if isinstance(comfy, ComfyEngines):
            comfy.making.learn(scan.base, scan.info)

    if isinstance(comfy, ComfyEngines):
        comfy.process_of = servers.pid_of
        comfy.sign_in_of = partial(_signed_by, controller.vault)
        comfy.restart_of, comfy.watch_of = restart_of, watch_of

    _join_leaks(controller, panels, servers, restarts)
    state.far = far
    servers.servers_changed.connect(controller.set_servers)
    servers.scanned.connect(scanned)
    freeing.can_restart = servers.can_restart
    freeing.restart = lambda base: controller.guard(lambda: servers.restart(base))
    if servers.servers:
        controller.set_servers(servers.servers)


def _far_of(health: Health | None) -> Far:
    """Return what the last look at a server says of the job that runs there."""
    from core.engines.comfy.health import State
    from core.statistics.classify import Far

    why = "" if health is None or health.problem is None else health.problem.message
    if health is None or (health.state is State.OFFLINE and not why):
        return Far()  # It was not looked at yet.
    if health.state is State.STUCK:
        return Far(stuck=why)
    if health.state is State.OFFLINE:
        # Who does not answer may be on the way; who refuses is not there.
        late = health.problem is not None and health.problem.category is Category.TIMEOUT
        return Far(slow=why) if late else Far(gone=why)
    return Far(slow="Its server takes long to answer.") if health.slow else Far()


def _join_leaks(
    controller: Controller, panels: Panels, servers: ServersDesk, restarts: Restarts
) -> None:
    """Let servers that leak be restarted between jobs, and tell of it."""
    made: list[LeakRestarts] = []

    def tell(said: Said) -> None:
        actions = []
        if said.offers and servers.can_restart(said.base):
            title = f"Restart {controller.engine.title_at(said.base)}"
            actions = [(title, lambda: controller.guard(lambda: servers.restart(said.base)))]
        panels.notice.show_text(said.text, actions, said.kind, f"leaked {said.base}")

    def after_job(base: str, pause: Callable[[float], bool]) -> str:
        if not made:
            from app.leaking import LeakRestarts

            made.append(LeakRestarts(controller, servers, restarts))
        return made[0].after_job(base, pause)

    restarts.said.connect(tell, Qt.ConnectionType.QueuedConnection)
    controller.engine.between_jobs = after_job


def _draw_others(servers: ServersDesk, timeline: TimelinePanel) -> None:
    """Show on the timeline when prompts of other clients run."""
    made: list[ForeignBands] = []

    def looked(base: str) -> None:
        if not made:
            from app.foreign import ForeignBands

            made.append(ForeignBands(timeline, servers.foreign))
        for server in servers.servers:
            if server.base == base:
                made[0].look(server)

    servers.health_changed.connect(lambda base, _: looked(base))
    servers.servers_changed.connect(lambda known: [each.forget(known) for each in made])


def _signed_by(vault: Vault, server: KnownServer) -> SignIn:
    from app.signing_in import signed_by

    return signed_by(vault, server)


def _answers(base: str, sign_in: SignIn) -> bool:
    from core.engines.comfy.http import Server

    server = Server(base, sign_in=sign_in)
    try:
        server.stats()
    except ProblemError:
        return False
    finally:
        server.close()
    return True


def _gone(server: str, why: str) -> Problem:
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"{server} was not restarted. {why}",
        "Look at its log in Servers (Ctrl+4), start it there, then retry the job.",
    )

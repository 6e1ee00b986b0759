"""The servers a person knows: how each is, what it has, and what is done with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal

from app.server_logs import LogDesk
from app.signing_in import Signatures
from core.errors import Category, Problem, ProblemError
from core.places import Places
from widgets.servers import ServersPanel

# What asks servers is loaded with the first server: most starts know none.
if TYPE_CHECKING:
    from app.controller import Controller
    from app.server_watch import Watched
    from app.window import MainWindow
    from core.engines.comfy.answers import Queue
    from core.engines.comfy.health import Health, State
    from core.engines.comfy.known import KnownServer
    from core.engines.comfy.reconcile import Foreign
    from core.engines.comfy.scan import Scan

_CLIENT = "framedeck-"


class ServersDesk(QObject):
    """Owns the list of known servers and everything that is done with them.

    Args:
        controller: Runs what takes time.
        window: Holds the settings, the notices and the dock.
        places: Where logs and marks of processes lie.

    Attributes:
        signatures: What keeps names and passwords of servers.
        servers_changed: The known servers, a list of KnownServer, the first of which is
            the default.
        health_changed: Address of a server, and its Health.
        scanned: A Scan; only when nodes or files of a server are others than before.
    """

    servers_changed = Signal(list)
    health_changed = Signal(str, object)
    scanned = Signal(object)

    def __init__(self, controller: Controller, window: MainWindow, places: Places) -> None:
        super().__init__(window)
        self._controller, self._window, self._places = controller, window, places
        self._panel: ServersPanel = window.panels.servers
        self._notice = window.panels.notice
        self._top = window.panels.top
        self._watched: dict[str, Watched] = {}
        self._healths: dict[str, tuple[Health, State | None]] = {}
        self._chips: dict[str, str] = {}
        self._stuck: set[str] = set()
        self.jobs_words: Callable[[str], str] = lambda _: ""
        """Says why a server gets no jobs; "" when it does."""
        self.signatures = Signatures(controller, self._notice)
        self._logs = LogDesk(self._panel, controller, lambda base: self._watched.get(base), self)
        self._connect()
        if window.settings.servers:
            self._load(window.settings.servers)

    def _load(self, rows: list[dict[str, Any]]) -> None:
        from core.engines.comfy.known import load

        found, problems = load(rows)
        for server in self.signatures.clean(found, self._places, self._window.keep):
            self._watch(server)
        for problem in problems:
            self._notice.show_problem(problem, key=f"server {problem.message}")
        self.show_rows()
        # Later: the local engine's chip stands first.
        QTimer.singleShot(0, self, self._show)

    def _connect(self) -> None:
        guard, panel = self._controller.guard, self._panel
        panel.add_requested.connect(self._on_add)
        panel.edit_requested.connect(self._on_edit)
        panel.attach_requested.connect(self._on_attach)
        panel.remove_requested.connect(lambda base: guard(lambda: self.remove(base)))
        panel.start_requested.connect(lambda base: guard(lambda: self.start(base)))
        panel.stop_requested.connect(lambda base: guard(lambda: self.stop(base)))
        panel.restart_requested.connect(lambda base: guard(lambda: self.restart(base)))
        panel.rescan_requested.connect(lambda base: guard(lambda: self.rescan(base)))
        panel.log_wanted.connect(self._logs.show)

    # -- the list -------------------------------------------------------------

    @property
    def servers(self) -> list[KnownServer]:
        """The known servers; the first is the default."""
        return [watched.known for watched in self._watched.values()]

    def health(self, base: str) -> Health | None:
        """Return how a server was when it was looked at last; None when it is not known."""
        watched = self._watched.get(base)
        return None if watched is None else watched.health

    def scan_of(self, base: str) -> Scan | None:
        """Return what a server has, None before that was found out."""
        watched = self._watched.get(base)
        return None if watched is None else watched.scan

    def pid_of(self, base: str) -> int | None:
        """Return the process of a server of this machine, where it is known; from any thread."""
        watched = self._watched.get(base)
        return None if watched is None else watched.health.pid

    def why_given_up(self, base: str) -> str | None:
        """Say why a server is not being started any more; None while it is; from any thread."""
        watched = self._watched.get(base)
        if watched is None:
            return "It is not among the known servers any more."
        if not watched.given_up:
            return None
        return watched.trouble.message if watched.trouble is not None else "It was stopped."

    def is_back(self, base: str) -> bool | None:
        """Say whether a server answers; None while it is being started or ended."""
        watched = self._watched.get(base)
        if watched is None:
            return False
        return None if watched.doing is not None else watched.health.answers

    def title_of(self, base: str) -> str:
        """Return what a person calls a server; from any thread."""
        watched = self._watched.get(base)
        return f"The server {base}" if watched is None else watched.known.name

    def watched(self, base: str) -> Watched | None:
        """Return what watches a server; None when it is not known."""
        return self._watched.get(base)

    def add(self, server: KnownServer, place: int | None = None) -> None:
        """Know one more server.

        Raises:
            ProblemError: It is known already.
        """
        if server.base in self._watched:
            name = self._watched[server.base].known.name
            raise _invalid(f"{server.base} is known already, as {name}.", "Edit that one.")
        self._watch(self.signatures.keep(server))
        if place is not None:
            items = [item for item in self._watched.items() if item[0] != server.base]
            items.insert(place, (server.base, self._watched[server.base]))
            self._watched = dict(items)
        self._keep()

    def change(self, base: str, server: KnownServer) -> None:
        """Replace what is known of a server; its process goes on. Raises ProblemError."""
        watched = self._of(base)
        if server.base == base:
            server = self.signatures.keep(server, watched.known)
            before, watched.known = watched.known, server
            watched.look_soon()
            self._tell_of_new_words(before, watched)
        else:
            if server.base in self._watched:
                raise _invalid(f"{server.base} is known already.", "Edit that one.")
            place = list(self._watched).index(base)
            self.signatures.forget(watched.known)
            self._drop(base)
            self.add(server, place)
        self._keep()

    def _tell_of_new_words(self, before: KnownServer, watched: Watched) -> None:
        now = watched.known
        words = (before.folder, before.python, before.arguments)
        if words == (now.folder, now.python, now.arguments) or not watched.can_restart:
            return
        again = ("Restart", lambda: self._controller.guard(lambda: self.restart(now.base)))
        self._notice.show_text(
            f"{now.name} takes its new settings up when it is restarted.", (again,), key="changed"
        )

    def remove(self, base: str) -> None:
        """Know a server no longer; it goes on running. The notice offers to undo it."""
        watched = self._of(base)
        place = list(self._watched).index(base)
        self._drop(base)
        self._keep()
        server = watched.known
        self.signatures.forget(server)

        def undo() -> None:
            self.signatures.again(server)
            self._controller.guard(lambda: self.add(server, place))
            self._notice.clear("server removed")

        goes_on = " It goes on running." if watched.health.answers else ""
        self._notice.show_text(
            f"{server.name} is off the list.{goes_on}", (("Undo", undo),), key="server removed"
        )

    def _watch(self, server: KnownServer) -> None:
        from app.server_watch import Watched
        from core.engines.comfy.process import ServerProcess

        process = ServerProcess(
            server.base, self._places.data / "servers", self._places.logs / "servers"
        )
        watched = Watched(server, process, self._controller, self)
        base = server.base
        watched.changed.connect(lambda: self._on_changed(base))
        watched.scanned.connect(self.scanned)
        watched.crashed.connect(lambda problem, wait: self._on_crashed(base, problem, wait))
        watched.failed.connect(lambda problem: self._on_failed(base, problem))
        self._watched[base] = watched
        # Not in the midst of the start: the first look is in no hurry.
        QTimer.singleShot(0, watched, watched.begin)

    def _drop(self, base: str) -> None:
        watched = self._watched.pop(base)
        watched.forget()
        watched.process.let_go()
        watched.deleteLater()
        self._healths.pop(base, None)
        self._stuck.discard(base)
        self._notice.clear(f"stuck {base}")
        chip = self._chips.pop(base, None)
        if chip is not None:
            self._top.remove_engine(chip)

    def _keep(self) -> None:
        self._window.keep(servers=[server.to_json() for server in self.servers])
        self._show()
        self.servers_changed.emit(self.servers)

    def _of(self, base: str) -> Watched:
        watched = self._watched.get(base)
        if watched is None:
            raise _invalid(f"The server {base} is not known any more.", "Add it again.")
        return watched

    # -- what is done with them -------------------------------------------------

    def start(self, base: str) -> None:
        """Start a server of this machine. Raises ProblemError when its folder is not known."""
        watched = self._of(base)
        self._need_folder(watched)
        if watched.can_start:
            self._notice.clear(f"crash {base}")
            watched.start()

    def stop(self, base: str) -> None:
        """Stop a server, after a question when prompts run on it. Raises ProblemError."""
        watched = self._of(base)
        if watched.can_stop and self._sure(watched, "Stop it"):
            watched.stop()

    def restart(self, base: str) -> None:
        """Restart a server, after a question when prompts run on it.

        Raises:
            ProblemError: Framedeck cannot restart it; the problem says why.
        """
        watched = self._of(base)
        self._need_folder(watched)
        if watched.doing is None and self._sure(watched, "Restart it"):
            self._notice.clear(f"stuck {base}")
            self._notice.clear("changed")
            if watched.health.answers or watched.health.pid is not None:
                watched.restart()
            else:
                watched.start()

    def restart_unasked(self, base: str) -> None:
        """Restart a server for a job that hangs on it; whoever asks has looked at its queue.

        Raises:
            ProblemError: Framedeck cannot restart it, something is being done with it, or
                it is silent and had prompts of others when it was heard last.
        """
        watched = self._of(base)
        self._need_folder(watched)
        others = 0
        if not watched.health.answers or watched.health.slow:
            # One that hangs may not tell its queue any more; what it told last counts.
            others = len(self._foreign_in(watched.queue))
        if others:
            from core.engines.comfy.words import others_wait

            raise ProblemError(others_wait(base, others))
        if watched.doing is not None:
            raise _invalid(f"{watched.known.name} is being started or ended already.", "Wait.")
        watched.restart()

    def rescan(self, base: str) -> None:
        """Ask a server again what it has. Raises ProblemError."""
        self._of(base).rescan()

    def can_restart(self, base: str) -> bool:
        """Whether `restart` has a chance: its folder on this machine is known."""
        watched = self._watched.get(base)
        return watched is not None and bool(watched.known.folder)

    def _need_folder(self, watched: Watched) -> None:
        from app.server_words import no_folder

        if not watched.known.folder:
            raise ProblemError(no_folder(watched.known))

    def _sure(self, watched: Watched, action: str) -> bool:
        queue = watched.health.queue
        count = len(queue.running) + len(queue.pending)
        if not watched.is_running or not count:
            return True
        others = len(self.foreign(watched.known.base))
        whose = f", {others} of them of other clients," if others else ""
        return self._window.confirm(
            f"{watched.known.name} is at work",
            f"{count} prompt{'s' * (count != 1)}{whose} would be lost.",
            action,
        )

    # -- facts ------------------------------------------------------------------

    def foreign(self, base: str) -> list[Foreign]:
        """Return the prompts of other clients on a server, with their places."""
        watched = self._watched.get(base)
        if watched is None or not watched.health.answers:
            return []
        return self._foreign_in(watched.health.queue)

    def _foreign_in(self, queue: Queue) -> list[Foreign]:
        from core.engines.comfy.reconcile import foreign

        ledger = self._controller.ledger
        # An id alone proves nothing: another Framedeck may have its jobs there as well.
        named = {
            entry.client.removeprefix(_CLIENT)
            for entry in (*queue.running, *queue.pending)
            if entry.client is not None and entry.client.startswith(_CLIENT)
        }
        ours = [job_id for job_id in named if ledger.row(job_id) is not None]
        return foreign(queue, ours)

    def _on_changed(self, base: str) -> None:
        watched = self._watched.get(base)
        if watched is None:
            return
        now = (watched.health, watched.doing)
        before = self._healths.get(base)
        self._healths[base] = now
        self._show()
        if before != now:
            self._tell_stuck(watched)
            self.health_changed.emit(base, watched.health)

    def _tell_stuck(self, watched: Watched) -> None:
        base, problem = watched.known.base, watched.health.problem
        if watched.is_stuck == (base in self._stuck):
            return
        if not watched.is_stuck or problem is None:
            self._stuck.discard(base)
            self._notice.clear(f"stuck {base}")
            return
        self._stuck.add(base)
        actions = []
        if watched.can_restart:
            actions = [("Restart", lambda: self._controller.guard(lambda: self.restart(base)))]
        self._notice.show_problem(problem, actions, key=f"stuck {base}")

    def _on_crashed(self, base: str, problem: Problem, wait: float | None) -> None:
        watched = self._watched.get(base)
        if watched is None:
            return
        log = ("Show log", lambda: self.show_log(base))
        if wait is not None:
            text = f"{problem.message} It is started again in {wait:g} s."
            self._notice.show_text(text, (log,), "warning", key=f"crash {base}")
        else:
            start = ("Start", lambda: self._controller.guard(lambda: self.start(base)))
            self._notice.show_problem(problem, (start, log), key=f"crash {base}")

    def _on_failed(self, base: str, problem: Problem) -> None:
        actions = [("Edit", lambda: self._on_edit(base))] if problem.field else []
        self._notice.show_problem(problem, actions, key=f"crash {base}")

    def _show(self) -> None:
        self.show_rows()
        self._show_chips()

    def show_rows(self) -> None:
        """Show the servers as they are known now."""
        from app.server_words import row_of

        self._panel.set_rows(
            [row_of(w, self.foreign(b), self.jobs_words(b)) for b, w in self._watched.items()]
        )

    def _show_chips(self) -> None:
        from app.server_words import state_words, tone_of

        for base, watched in self._watched.items():
            name = watched.known.name
            if self._chips.get(base, name) != name:
                self._top.remove_engine(self._chips[base])
            self._chips[base] = name
            jobs = self._controller.running_jobs
            if base not in map(self._controller.engine.server_of, jobs):
                self._top.set_engine(name, state_words(watched), tone_of(watched))

    # -- adding and editing -------------------------------------------------------

    def _on_add(self) -> None:
        self._open_form(None)

    def _on_edit(self, base: str) -> None:
        if base in self._watched:
            self._open_form(self._watched[base].known)

    def _open_form(self, server: KnownServer | None) -> None:
        from app.server_add import FormDesk

        FormDesk(self, self._window, self._controller, server)

    def _on_attach(self) -> None:
        from app.server_add import attach

        attach(self, self._notice, self._controller)

    def show_log(self, base: str) -> None:
        """Bring the dock up with a server's log."""
        dock = self._window.panels.docks["servers"]
        dock.show()
        dock.raise_()
        self._panel.view.show_log(base)

    # -- end --------------------------------------------------------------------

    def close(self) -> None:
        """Watch no server any longer, and end those that shall not outlive the window.

        One on which prompts of other clients run or wait goes on: they are not ours to end.
        """
        self._logs.close()
        for base, watched in self._watched.items():
            watched.close(keep=bool(self.foreign(base)))


def _invalid(message: str, hint: str) -> ProblemError:
    return ProblemError(Problem(Category.INVALID_PARAMS, message, hint, field="base"))

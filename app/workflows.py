"""ComfyUI workflows in the form: recipes made of them, and what servers lack for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices

from app.controller import Controller
from core.errors import Problem, problem_from
from core.jobs import Recipe, Value
from widgets.compose import ComposePanel
from widgets.notice import NoticeBar

# What knows workflows is loaded beside the window, with the first of them.
if TYPE_CHECKING:
    from app.servers import ServersDesk
    from core.engines.comfy.health import Health
    from core.engines.comfy.known import KnownServer
    from core.engines.comfy.models import Known
    from core.engines.comfy.scan import Scan
    from core.engines.comfy.workflows import Workflow

ENGINE, SERVER = "comfy", "server"
"""The engine of these recipes, and the parameter that names the server."""

SETTLE_MS = 120
"""How long the form must rest before what it needs is looked up."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What the files hold: the workflows, what is wrong with other files, and what ships."""

    known: Known
    built_in: tuple[Workflow, ...]
    own: tuple[Workflow, ...]
    bad: tuple[tuple[Path, Problem], ...]


class WorkflowDesk(QObject):
    """Offers every workflow as a recipe, for the server that is chosen in the form.

    Files are read, recipes made and servers compared with workflows beside the window;
    here only what came of it is shown.

    Signals:
        server_wanted: A person wants to add a server.
        servers_shown: A person wants to see the servers.
        offered: The recipes shown now are those of the workflows and servers known.
    """

    server_wanted = Signal()
    servers_shown = Signal()
    offered = Signal()

    def __init__(
        self,
        controller: Controller,
        compose: ComposePanel,
        notice: NoticeBar,
        folder: Path,
        parent: QObject,
    ) -> None:
        """Read what ships and what lies in `folder`, and offer it, a moment after the start."""
        super().__init__(parent)
        self._controller, self._compose, self._notice = controller, compose, notice
        self.folder = folder
        self._known: Known | None = None
        self._workflows: dict[str, Workflow] = {}
        self._read = False
        self._servers: tuple[str, ...] = ()
        self._names: dict[str, str] = {}
        self._scans: dict[str, Scan] = {}
        self._healths: dict[str, Health] = {}
        self._old: list[Scan | None] = []
        self._making = self._again = False
        self._made_for = ""
        self._looking = self._look_again = False
        self._rest = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._rest.timeout.connect(self._look)
        compose.edited.connect(self._on_edited)
        compose.recipe_chosen.connect(self._on_recipe)
        compose.readiness.link_opened.connect(lambda url: QDesktopServices.openUrl(QUrl(url)))
        # A thread that loads modules holds up the one that builds the window.
        QTimer.singleShot(SETTLE_MS, self, self.reload)

    # -- what others tell and ask ---------------------------------------------

    def follow(self, servers: ServersDesk) -> None:
        """Offer the servers of `servers`, and what each of them has, from now on."""
        servers.servers_changed.connect(self.set_servers)
        servers.scanned.connect(self.set_scan)
        servers.health_changed.connect(self.set_health)
        self.set_servers(servers.servers)
        for server in servers.servers:
            scan, health = servers.scan_of(server.base), servers.health(server.base)
            if scan is not None:
                self.set_scan(scan)
            if health is not None:
                self.set_health(server.base, health)

    def set_health(self, base: str, health: Health) -> None:
        """Take how a server is: whether it answers, and what memory it has free."""
        before = self._healths.get(base)
        self._healths[base] = health
        if before is None or before.answers != health.answers:
            self._rest.start(0)

    def set_servers(self, servers: Sequence[KnownServer]) -> None:
        """Offer these servers, the first by default."""
        self._servers = tuple(server.base for server in servers)
        self._names = {server.base: server.name for server in servers}
        self._scans = {b: s for b, s in self._scans.items() if b in self._servers}
        self._healths = {b: h for b, h in self._healths.items() if b in self._servers}
        self._make()

    def set_scan(self, scan: Scan) -> None:
        """Take what a server has now."""
        old = [self._scans.pop(scan.base, None)]
        new = old[0] is None or old[0].info is not scan.info
        self._scans[scan.base] = scan
        self._old += old
        del old
        if new and scan.base == self.server():
            self._make()
        self._rest.start(0)

    @property
    def known(self) -> Known | None:
        """What ships about packs and model folders; None before the files were read."""
        return self._known

    def workflow(self, family: str) -> Workflow | None:
        """Return a workflow by the family that its recipe and jobs name."""
        return self._workflows.get(family)

    def own(self) -> tuple[Workflow, ...]:
        """Return the person's own workflows."""
        return tuple(one for one in self._workflows.values() if one.own)

    def shown(self) -> Workflow | None:
        """Return the workflow that the form is for, None for another recipe."""
        recipe = self._controller.recipes.get(self._compose.recipe_id())
        return self.workflow(recipe.family) if recipe and recipe.engine == ENGINE else None

    def server(self) -> str:
        """Return the server that the form names, else the first one; "" without any."""
        named = str(self._compose.value(SERVER) or "")
        if named in self._servers:
            return named
        return self._servers[0] if self._servers else ""

    def scan(self) -> Scan | None:
        """Return what is known of that server; None before it has answered."""
        return self._scans.get(self.server())

    def busy(self) -> bool:
        """Say whether recipes are being made, or what is missing is being looked up."""
        return self._making or self._looking or self._rest.isActive()

    def server_title(self, base: str) -> str:
        """Return what a person calls a server."""
        return self._names.get(base, base)

    def reload(self, choose: str = "") -> None:
        """Read all workflow files again, then show the recipe of workflow `choose`."""

        def read() -> Iterator[object]:
            from core.engines.comfy import workflows_files
            from core.engines.comfy.models import Known

            own, bad = workflows_files.saved(self.folder)
            yield _Read(Known.load(), workflows_files.built_in(), own, bad)

        self._controller.run_aside(read, "workflows", lambda found: self._take(found, choose))

    def _take(self, found: object, choose: str) -> None:
        assert isinstance(found, _Read)
        self._known = found.known
        self._workflows = {one.id: one for one in (*found.own, *found.built_in)}
        self._read = True
        for path, problem in found.bad:
            self._notice.show_problem(problem, key=f"workflow {path.name}")
        self._make(f"{ENGINE}-{choose}" if choose else "")

    # -- recipes ----------------------------------------------------------------

    def _make(self, choose: str = "") -> None:
        """Make the recipes anew, beside the window, and offer them."""
        if not self._read:
            return
        if self._making and not choose:
            self._again = True
            return
        self._making, self._again = True, False
        base, servers = self.server(), dict(self._names)
        scan, found = self._scans.get(base), tuple(self._workflows.values())
        # Tens of thousands of values take milliseconds to forget: not in this thread.
        old, self._old = self._old, []

        def make() -> object:
            old.clear()
            info = scan.info if scan is not None else None
            return tuple(one.recipe(info, servers) for one in found)

        def offer(recipes: object) -> None:
            self._making, self._made_for = False, base
            if isinstance(recipes, Problem):
                self._notice.show_problem(recipes, key="recipes")
                return
            assert isinstance(recipes, tuple)
            self._offer(recipes, choose)
            if self._again:
                self._make()

        self._controller.run_aside(lambda: _or_problem(make), "recipes", offer)

    def _offer(self, recipes: Sequence[Recipe], choose: str) -> None:
        held = self._controller.recipes
        rest = {key: one for key, one in held.items() if one.engine != ENGINE}
        now = rest | {one.id: one for one in recipes}
        if choose or now != held or self._servers_changed(now, held):
            held.clear()
            held.update(now)
            self._compose.set_recipes(list(held.values()), choose)
        self._on_recipe(self._compose.recipe_id())
        self.offered.emit()

    @staticmethod
    def _servers_changed(now: Mapping[str, Recipe], held: Mapping[str, Recipe]) -> bool:
        """Say whether a rule came or went, which equality leaves out."""
        return any((one.check is None) != (held[key].check is None) for key, one in now.items())

    # -- readiness --------------------------------------------------------------

    def _on_recipe(self, _: str) -> None:
        if self.shown() is None:
            self._compose.readiness.show_readiness("")
        self._on_edited()

    def _on_edited(self) -> None:
        if self.shown() is None:
            return
        if self.server() != self._made_for:
            self._make()
        self._rest.start(SETTLE_MS)

    def _look(self) -> None:
        """Compare the form's workflow with its server, beside the window."""
        workflow, base, scan, known = self.shown(), self.server(), self.scan(), self._known
        box = self._compose.readiness
        if workflow is None:
            box.show_readiness("")
            return
        if not base:
            box.show_readiness(
                "Needs a ComfyUI server, and none is known.",
                "warning",
                (),
                (("Add a server…", self.server_wanted.emit),),
            )
            return
        health, title = self._healths.get(base), self.server_title(base)
        away = health is not None and not health.answers
        if away and not (health is not None and health.state == "starting"):
            # What it had may be another thing when it is back.
            box.show_readiness(
                f"{title} does not answer now.",
                "warning",
                (),
                (("Show servers", self.servers_shown.emit),),
            )
            return
        if scan is None or known is None or away:
            box.show_readiness(f"Waiting for {title} to say what it has.")
            return
        if self._looking:
            self._look_again = True
            return
        self._looking, self._look_again = True, False
        values = self._values(workflow)

        stats = (health.stats if health is not None else None) or scan.stats

        def look() -> object:
            from core.engines.comfy.ready import readiness

            device = stats.devices[0] if stats.devices and stats.has_gpu else None
            return readiness(
                workflow,
                scan.info,
                scan.folders,
                known=known,
                params=values,
                vram_free_bytes=device.vram_free_bytes if device else None,
                vram_total_bytes=device.vram_total_bytes if device else None,
            )

        def show(found: object) -> None:
            self._looking = False
            if self._look_again or self.shown() is not workflow or self.scan() is not scan:
                self._rest.start(0)
            elif isinstance(found, Problem):
                box.show_readiness(f"{found.message} {found.hint}", "warning")
            else:
                from app.readiness_words import lines_of

                box.show_readiness(*lines_of(workflow, found, values, title))  # type: ignore[arg-type]

        self._controller.run_aside(lambda: _or_problem(look), "readiness", show)

    def _values(self, workflow: Workflow) -> dict[str, Value]:
        recipe = self._controller.recipes[self._compose.recipe_id()]
        held = self._compose.values()
        values: dict[str, Value] = {}
        for parameter in recipe.parameters:
            given = held.get(parameter.name)
            # A field that was emptied is the form's matter.
            value = given if given not in (None, "") else parameter.default
            if value is not None:
                values[parameter.name] = value  # type: ignore[assignment]
        for knob in workflow.knobs:
            values.setdefault(knob.parameter.name, "")
        return values


def _or_problem(work: Callable[[], object]) -> Iterator[object]:
    """Yield what `work` returns, or the Problem of what it raised."""
    try:
        yield work()
    except Exception as error:  # noqa: BLE001 - what a server tells may hold anything
        yield problem_from(error)

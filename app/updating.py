"""Updates in the window: looked for when asked or daily, installed beside, started when wanted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import shiboken6
from PySide6.QtCore import QObject, QTimer

from app.controller import Controller
from app.versions import handed_by
from app.window import MainWindow
from core.errors import Category, Problem, problem_from
from core.places import Places
from core.units import memory

if TYPE_CHECKING:
    from core.updates.check import Found
    from core.updates.program import Program
    from widgets.updates import UpdatesDialog

KEY = "updates"
LOOK_AFTER_MS = 30_000
ASK_AFTER_MS = 60_000
HOUR_MS = 3_600_000
TOLD_SECONDS = 0.05
"""Progress comes no more often than that."""
_log = logging.getLogger(__name__)


class UpdateDesk(QObject):
    """Knows what is installed, and does what the dialog and the notice bar ask for.

    Args:
        controller: Runs what takes a while.
        window: Holds the settings and the notice bar.
        places: Where the versions lie.
        parent: Owner.
        program: What runs here; None: found out.
        trusted: Public keys by id; None: those that ship.

    Attributes:
        restart_wanted: The window closed in order to start again.
    """

    def __init__(
        self,
        controller: Controller,
        window: MainWindow,
        places: Places,
        parent: QObject,
        program: Program | None = None,
        trusted: Mapping[str, bytes] | None = None,
    ) -> None:
        super().__init__(parent)
        from core.updates.program import this_program

        self._controller, self._window, self._notice = controller, window, window.panels.notice
        self._folder, self._trusted = places.data / "app", trusted
        self.program = program or this_program(handed_by())
        self.restart_wanted = False
        self._dialog: UpdatesDialog | None = None
        self._found: Found | None = None
        self._installed = ""
        self._busy = self._stop = self._gone = False
        controller.closing.connect(self._on_quit)

    # -- after a start ----------------------------------------------------------

    def settle(self) -> None:
        """Do what follows once the window has answered for some seconds."""
        self._controller.run_aside(self._settling, "versions", self._on_settled)
        QTimer.singleShot(LOOK_AFTER_MS, self, self.look_if_due)
        hourly = QTimer(self, interval=HOUR_MS)
        hourly.timeout.connect(self.look_if_due)
        hourly.start()
        QTimer.singleShot(ASK_AFTER_MS, self, self.ask)

    def _settling(self) -> Iterator[object]:
        """Prove this version, hear what failed, and remove what nobody goes back to."""
        from core.updates import active
        from core.updates.install import tidy
        from core.updates.words import failure

        if not self._folder.is_dir():
            return
        try:
            if self.program.proven_by is not None:
                active.mark_good(self._folder, self.program.version)
            for one in active.tell_failures(self._folder):
                yield failure(one, self.program.version)
            tidy(self._folder, self.program)
        except OSError as error:
            _log.warning("the versions in %s cannot be kept in order: %s", self._folder, error)

    def _on_settled(self, text: Any) -> None:
        _log.warning("%s", text)
        hint = "It is not offered again by itself."
        self._notice.show_text(f"{text} {hint}", (("Updates…", self.open),), "warning", "rollback")

    def ask(self) -> None:
        """Ask once whether to look for updates; until then nobody does."""
        if self._window.settings.updates != "ask" or not self.program.can_install:
            return
        if not self._address():
            return
        self._notice.show_text(
            "Look for a newer Framedeck once a day? Whoever is asked learns the version and the "
            "system, and nothing else.",
            (("Once a day", lambda: self._choose("daily")), ("No", lambda: self._choose("off"))),
            key=KEY, under=True,
        )  # fmt: skip

    def _choose(self, often: str) -> None:
        self._window.keep(updates=often)
        self._notice.clear(KEY)
        if often == "daily":
            self.look_if_due()

    def look_if_due(self) -> None:
        """Look where that was chosen and a day has gone by."""
        from core.updates import seen

        chosen = self._window.settings.updates == "daily"
        if chosen and not self._busy and seen.is_due(seen.load(self._folder), time.time()):
            self._look(self._on_daily)

    def _on_daily(self, found: Any) -> None:
        from core.updates.check import Verdict
        from core.updates.words import verdict

        self._busy = False
        if found is None:
            return
        if isinstance(found, Problem):
            _log.info("no update could be looked up: %s %s", found.message, found.details)
            if found.category is Category.BAD_OUTPUT:
                self._notice.show_problem(found, (("Updates…", self.open),), KEY)
            return
        self._found = found
        if found.manifest.version == self._installed:
            return  # It is here, and waits for a restart.
        if found.verdict is not Verdict.NEWEST and not found.failed_here:
            text = verdict(found, self.program)
            self._notice.show_text(text, (("What is new", self.open),), key=KEY, under=True)

    # -- the dialog ---------------------------------------------------------------

    def open(self) -> UpdatesDialog:
        """Open the dialog, or bring up the one that is open; it does not block."""
        from core.updates.keys import built_in_address
        from widgets.updates import UpdatesDialog

        if self._shown() is not None:
            self._dialog.raise_()  # type: ignore[union-attr]
            self._dialog.activateWindow()  # type: ignore[union-attr]
            return self._dialog  # type: ignore[return-value]
        settings = self._window.settings
        dialog = UpdatesDialog(
            settings.updates, settings.update_address, built_in_address(), self._window
        )
        self._dialog = dialog
        dialog.often_chosen.connect(lambda often: self._window.keep(updates=often))
        dialog.address_chosen.connect(self._on_address)
        dialog.look_requested.connect(self.look)
        dialog.install_requested.connect(self.install)
        dialog.stop_requested.connect(self.stop)
        dialog.restart_requested.connect(self.restart)
        dialog.back_requested.connect(self.go_back)
        dialog.show_idle(f"Framedeck {self.program.version}", self._about())
        self._show_other()
        if self._installed:
            self._show_installed()
        elif self._found is not None:
            self._show_found(self._found)
        # Beside the window: fetching takes minutes, and the queue goes on.
        dialog.show()
        return dialog

    def _shown(self) -> UpdatesDialog | None:
        dialog = self._dialog
        return dialog if dialog is not None and shiboken6.isValid(dialog) else None

    def _about(self) -> str:
        program = self.program
        if program.managed:
            return program.managed
        if not program.can_install:
            return "This is a checkout: it is told of newer versions, and updated with git pull."
        if program.version != program.installed:
            return (
                f"It lies beside the installed {program.installed}, for you alone, and runs until "
                "a newer one is installed."
            )
        return (
            "A newer version is put beside this one, for you alone. This one stays, and runs "
            "again if the new one does not start."
        )

    def _on_address(self, address: str) -> None:
        from core.errors import ProblemError
        from core.updates.fetch import check_address

        try:
            if address:
                check_address(address)
        except ProblemError as error:
            if (dialog := self._shown()) is not None:
                dialog.show_problem(error.problem, "Look now")
            return
        self._window.keep(update_address=address)

    def _address(self) -> str:
        from core.updates.keys import built_in_address

        return self._window.settings.update_address or built_in_address()

    # -- looking --------------------------------------------------------------------

    def look(self) -> None:
        """Look now, and show what is found in the dialog."""
        if not self._busy and (dialog := self._shown()) is not None:
            dialog.show_looking()
            self._look(self._on_found)

    def _look(self, receive: Callable[[object], None]) -> None:
        self._busy, self._stop = True, False
        settings, folder, program = self._window.settings, self._folder, self.program

        def source() -> Iterator[object]:
            from app.update_cli import address_of
            from core.updates.check import look
            from core.updates.keys import load_keys

            trusted = self._trusted if self._trusted is not None else load_keys()
            yield look(address_of(settings), trusted, program, folder, stopped=lambda: self._stop)

        self._aside(source, receive)

    def _aside(
        self, source: Callable[[], Iterator[object]], receive: Callable[[object], None]
    ) -> None:
        """Run it; a Problem comes as an item, None when it was stopped."""

        def guarded() -> Iterator[object]:
            from core.updates.fetch import StoppedError

            try:
                yield from source()
            except StoppedError:
                yield None
            except Exception as error:  # noqa: BLE001 - every error is told where it was asked
                yield problem_from(error)

        self._controller.run_aside(guarded, "updates", receive)

    def _on_found(self, found: Any) -> None:
        self._busy = False
        dialog = self._shown()
        if isinstance(found, Problem):
            _log.info("no update could be looked up: %s %s", found.message, found.details)
            if dialog is not None:
                dialog.show_problem(found, "Look now")
            return
        self._found = found
        self._notice.clear(KEY)
        if found is not None and dialog is not None:
            self._show_found(found)

    def _show_found(self, found: Found) -> None:
        from core.updates.check import Verdict
        from core.updates.words import verdict

        dialog = self._shown()
        if dialog is None:
            return
        manifest, offer = found.manifest, found.verdict is Verdict.OFFER
        if found.verdict is Verdict.NEWEST:
            dialog.show_found(verdict(found, self.program), self._about(), "", "", can=False)
            return
        released = time.strftime("%d %B %Y", time.localtime(manifest.released_unix)).lstrip("0")
        about = f"You have {self.program.version} · released {released}"
        if found.artefact is not None:
            room = memory(found.artefact.unpacked_bytes)
            about += f" · {memory(found.artefact.size_bytes)} to download, {room} on the disk"
        warnings = [] if offer else [verdict(found, self.program)]
        if found.failed_here:
            warnings.append("It was installed before and did not start here.")
        if found.needs_engine:
            warnings.append("It needs a newer engine, which is set up after it is started.")
        head = f"Framedeck {manifest.version} is available"
        dialog.show_found(head, about, manifest.notes, " ".join(warnings), can=offer)

    # -- installing -------------------------------------------------------------------

    def install(self) -> None:
        """Fetch what was found and put it beside."""
        found = self._found
        if self._busy or found is None:
            return
        self._busy, self._stop = True, False
        folder, program = self._folder, self.program

        def source() -> Iterator[object]:
            from core.updates.install import install

            told, last = float("-inf"), ""
            for step in install(found, folder, program, stopped=lambda: self._stop):
                now = time.monotonic()
                if step.step != last or now - told >= TOLD_SECONDS:
                    told, last = now, step.step
                    yield step

        self._aside(source, self._on_step)

    def stop(self) -> None:
        """Stop fetching; what came so far is kept."""
        self._stop = True

    def _on_step(self, step: Any) -> None:
        from core.updates.words import STEPS

        dialog = self._shown()
        if isinstance(step, Problem):
            self._busy = False
            _log.warning("the update failed: %s %s", step.message, step.details)
            if dialog is not None:
                dialog.show_problem(step, "Install")
            else:
                self._notice.show_problem(step, (("Updates…", self.open),), KEY)
        elif step is None:
            self._busy = False
            if self._found is not None:
                self._show_found(self._found)
        elif step.step == "done":
            self._busy = False
            self._on_installed()
        elif dialog is not None:
            words = STEPS.get(step.step, "Putting it in its place")
            if step.total_bytes:
                words += f" · {memory(step.done_bytes)} of {memory(step.total_bytes)}"
            dialog.show_progress(words, step.done_bytes, step.total_bytes)

    def _on_installed(self) -> None:
        assert self._found is not None
        self._installed = self._found.manifest.version
        _log.info("Framedeck %s is installed", self._installed)
        if self._shown() is not None:
            self._show_installed()
        else:
            self._tell_installed()

    def _show_installed(self) -> None:
        dialog = self._shown()
        if dialog is None:
            return
        engine = self._found is not None and self._found.needs_engine
        dialog.show_installed(
            f"Framedeck {self._installed} is ready",
            "It runs from the next start on. Before a restart you are asked about jobs that run.",
            "The engine needs an update then: choose Set up engine." if engine else "",
        )
        dialog.rejected.connect(self._tell_installed)
        self._show_other()

    def _tell_installed(self) -> None:
        if not self._gone and not self.restart_wanted:
            text = f"Framedeck {self._installed} is ready, and runs from the next start on."
            self._notice.show_text(text, (("Restart now", self.restart),), "success", KEY)

    # -- another version ----------------------------------------------------------------

    def restart(self) -> None:
        """Close the window, asking about jobs that run, and start the newest version."""
        self.restart_wanted = True
        if (dialog := self._shown()) is not None:
            dialog.done(0)
        self._window.quit()
        if not self._window.gone:
            self.restart_wanted = False
            self._tell_installed()

    def go_back(self) -> None:
        """Let the next start use the other version."""
        from app.update_cli import go_back

        def back() -> None:
            self._installed = go_back(self._folder, self.program)
            self._found = None

        if self._busy or not self._controller.guard(back):
            return
        if self._installed != self.program.version:
            self._show_installed()
        elif (dialog := self._shown()) is not None:
            self._installed = ""
            self._notice.clear(KEY)
            dialog.show_idle(f"Framedeck {self.program.version} stays", self._about())
            self._show_other()

    def _show_other(self) -> None:
        from core.updates.numbers import is_newer
        from core.updates.starting import standing

        dialog = self._shown()
        if dialog is None:
            return
        state = standing(self._folder, self.program.installed)
        other = (state.previous or self.program.installed) if state.version else state.previous
        dialog.show_other(other, is_newer(other, state.version or self.program.installed))

    def _on_quit(self) -> None:
        self._stop = self._gone = True

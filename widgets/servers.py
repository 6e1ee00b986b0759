"""The servers dock: what is known of each ComfyUI server, and what to do with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QPaintEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from widgets.servers_view import ServersView


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One server as it is shown.

    Attributes:
        base: Its address, the key of every request.
        title: What it is called.
        state: What it does, in a few words.
        tone: Colour of its dot: "success", "info", "warning", "danger" or "muted".
        facts: Address, version, device, free memory; what is not known is left out.
        trouble: What is wrong and what to do, "" when all is well.
        foreign: Prompts of other clients, a line each, the running one first; few of many.
        can_start: Framedeck can start it now.
        can_stop: Framedeck can stop it now.
        can_restart: Framedeck can restart it now.
    """

    base: str
    title: str
    state: str
    tone: str
    facts: tuple[str, ...] = ()
    trouble: str = ""
    foreign: tuple[str, ...] = ()
    can_start: bool = False
    can_stop: bool = False
    can_restart: bool = False

    def spoken(self) -> str:
        """Say all of it in one line."""
        parts = [f"{self.title}: {self.state}", *self.facts, self.trouble]
        parts += [f"Of another client: {line}" for line in self.foreign]
        return ". ".join(part.rstrip(".") for part in parts if part) + "."


class ServersPanel(QWidget):
    """Shows servers; everything a person wants leaves as a signal with a server's address.

    What stands in it is made when it is looked at for the first time.
    """

    add_requested = Signal()
    attach_requested = Signal()
    start_requested = Signal(str)
    stop_requested = Signal(str)
    restart_requested = Signal(str)
    edit_requested = Signal(str)
    remove_requested = Signal(str)
    rescan_requested = Signal(str)
    mode_requested = Signal(str, str)
    """Address, and what is ordered: "paused", "draining", or "" to take jobs again."""
    log_wanted = Signal(str)
    """Address of the server whose log is looked at, "" for none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Servers")
        self.setProperty("role", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._rows: tuple[ServerRow, ...] = ()
        self._view: ServersView | None = None

    @property
    def view(self) -> ServersView:
        """What stands in it."""
        if self._view is None:
            from widgets.servers_view import ServersView

            self._view = ServersView(self)
            column = QVBoxLayout(self)
            column.setContentsMargins(10, 8, 10, 8)
            column.addWidget(self._view)
            self._view.set_rows(self._rows)
        return self._view

    def set_rows(self, rows: Sequence[ServerRow]) -> None:
        """Show these servers; what is selected stays so."""
        if tuple(rows) != self._rows:
            self._rows = tuple(rows)
            if self._view is not None:
                self._view.set_rows(self._rows)

    def rows(self) -> tuple[ServerRow, ...]:
        """Return the servers shown."""
        return self._rows

    def is_looked_at(self) -> bool:
        """Say whether it can be seen; behind another tab it cannot."""
        return self.isVisible() and not self.visibleRegion().isEmpty()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Make what stands in it; behind another tab nothing is painted."""
        super().paintEvent(event)
        if self._view is None:
            QTimer.singleShot(0, self, self._prepare)

    def _prepare(self) -> None:
        """Load in one turn of the loop what is made in the next: both take a while."""
        import widgets.servers_view  # noqa: F401

        QTimer.singleShot(0, self, lambda: self.view)

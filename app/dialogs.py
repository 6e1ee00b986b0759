"""The guide and the words about the program."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import shiboken6
from PySide6 import __version__ as pyside_version
from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QTextBlock, QTextCursor
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QMessageBox,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from core import frozen, resources
from core.stream.endless import streams

if TYPE_CHECKING:
    from app.controller import Controller
    from app.window import MainWindow
    from core.jobs import Job
    from core.recorder.keep import Limits
    from widgets.readings import ReadingsDialog


class Guide(QDialog):
    """The guide beside the window; it does not block."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Framedeck guide")
        self.text = QTextBrowser()
        self.text.setAccessibleName("Guide")
        pages = ("guide.md", "failures.md")
        texts = [resources.path(page).read_text(encoding="utf-8") for page in pages]
        self.text.setMarkdown("\n".join(texts))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.close)
        column = QVBoxLayout(self)
        column.addWidget(self.text)
        column.addWidget(buttons)
        self.resize(720, 640)
        self._wanted = ""
        # A long text is laid out in several goes, and the bar grows with it.
        self.text.verticalScrollBar().rangeChanged.connect(self._on_longer)

    def headings(self) -> list[str]:
        """Return the headings, in their order."""
        return [block.text() for block in self._headings()]

    def go_to(self, heading: str) -> bool:
        """Bring a heading to the top; say whether there is one of these words."""
        found = next((block for block in self._headings() if block.text() == heading), None)
        if found is None:
            return False
        cursor = QTextCursor(found)
        self.text.setTextCursor(cursor)
        layout = self.text.document().documentLayout()
        top, bar = int(layout.blockBoundingRect(found).top()), self.text.verticalScrollBar()
        bar.setValue(top)
        self._wanted = heading if bar.value() < top else ""
        return True

    def _on_longer(self) -> None:
        if self._wanted:
            self.go_to(self._wanted)

    def _headings(self) -> Iterator[QTextBlock]:
        block = self.text.document().begin()
        while block.isValid():
            if block.blockFormat().headingLevel() > 0:
                yield block
            block = block.next()


def show_guide(parent: QWidget, heading: str = "") -> Guide:
    """Open the guide, or bring up the one that is open, at a heading if one is named."""
    open_one = next((one for one in parent.findChildren(Guide) if one.isVisible()), None)
    guide = open_one or Guide(parent)
    guide.show()
    if open_one is not None:
        guide.raise_()
        guide.activateWindow()
    if heading:
        # Where a heading stands is known once the text is laid out to its width.
        QTimer.singleShot(0, guide, lambda: guide.go_to(heading))
    return guide


def show_readings(
    window: MainWindow, controller: Controller, apply: Callable[[Limits], None]
) -> ReadingsDialog:
    """Ask how long readings are kept, and how much of the disk they may take."""
    from core.recorder.keep import Limits, kept
    from widgets.readings import ReadingsDialog

    settings, ledger = window.settings, controller.ledger.store.path
    dialog = ReadingsDialog(settings.readings_days, settings.readings_gigabytes, window)

    def take(days: float, gigabytes: float) -> None:
        window.keep(readings_days=days, readings_gigabytes=gigabytes)
        apply(Limits(days, gigabytes))

    def look() -> Iterator[object]:
        yield kept(ledger)

    def show(found: Any) -> None:
        if shiboken6.isValid(dialog):
            dialog.show_kept(*found)

    dialog.chosen.connect(take)
    dialog.open()
    controller.run_aside(look, "kept", show)
    return dialog


def closing_words(controller: Controller, jobs: Sequence[Job]) -> tuple[str, str, str]:
    """Return what to ask before the program ends while `jobs` run: title, text, action."""
    stopped = [job for job in jobs if not controller.goes_on(job)]
    title = "A job is running" if len(jobs) == 1 else f"{len(jobs)} jobs are running"
    if not stopped:
        places = sorted({controller.engine.title_of(job) for job in jobs})
        goes, it = ("goes", "the job") if len(jobs) == 1 else ("go", "them")
        made = "it" if len(jobs) == 1 else "they"
        return (
            title,
            f"{_names(jobs)} {goes} on at {_and(places)} without Framedeck. When Framedeck is "
            f"opened again, it follows {it} and fetches what {made} made. "
            "Waiting jobs stay in the queue.",
            "Quit",
        )
    is_, it = ("is", "it") if len(stopped) == 1 else ("are", "them")
    rest = " What runs on servers goes on there." if len(stopped) < len(jobs) else ""
    if any(streams(job) for job in stopped):
        rest += " What is recorded of a dream is kept."
    return (
        title,
        f"{_names(stopped)} {is_} not finished. Quitting stops {it}; retry later.{rest} "
        "Waiting jobs stay in the queue.",
        f"Stop {it} and quit",
    )


def _names(jobs: Sequence[Job]) -> str:
    return _and([f"“{job.title}”" for job in jobs])


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def version() -> str:
    """Return Framedeck's version, with a word where this is a checkout."""
    checkout = not frozen.is_frozen() and (frozen.bundle() / "pyproject.toml").is_file()
    return frozen.version() + (" (checkout)" if checkout else "")


def show_about(parent: QWidget) -> None:
    """Say what this is, its versions and its licence."""
    QMessageBox.about(
        parent,
        "About Framedeck",
        f"<b>Framedeck {version()}</b><p>A control panel for local AI video generation, with "
        "job-aware memory monitoring.</p>"
        f"<p>Python {platform.python_version()} · Qt for Python {pyside_version}</p>"
        "<p>Licence: GPL-3.0-or-later. It carries x264 through PyAV.</p>",
    )

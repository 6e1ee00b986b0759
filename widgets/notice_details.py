"""What stands behind a notice's Details: what helps, and the words to copy into a report."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontDatabase, QShowEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QPlainTextEdit,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from core.errors import Problem
from widgets.parts import Button

if TYPE_CHECKING:
    from core.failures.recovery import Action
    from widgets.steps import StepList

_MOST_WIDE = 720
"""Of a step's line, so that its button stands near it."""
_LEAST = 72
_GAP = 8
"""Between it and the notice's line, at most."""
_SHARE = 0.4
"""Most of the window's height that it takes."""


class NoticeDetails(QScrollArea):
    """Steps, a way into the guide, and a text; scrolls where the window is low.

    Signals:
        chosen: The Action of the step's button that was pressed.
        help_wanted: Heading in the guide that says more.
    """

    chosen = Signal(object)
    help_wanted = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.steps: StepList | None = None
        self._page = ""
        self._room = _LEAST
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._help = Button("Help", "link", tip="Open the guide where it says more")
        self._help.clicked.connect(lambda: self.help_wanted.emit(self._page))
        self._text = QPlainTextEdit()
        self._text.setReadOnly(True)
        self._text.setTabChangesFocus(True)
        self._text.setFixedHeight(112)
        self._text.setAccessibleName("Details")
        self._text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        inside = QWidget()
        inside.setProperty("role", "form")
        self._row = QHBoxLayout()
        self._row.addStretch(1)
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(0, 0, 4, 4)
        self._column.setSpacing(5)
        self._column.addLayout(self._row)
        self._column.addWidget(self._help, 0, Qt.AlignmentFlag.AlignLeft)
        self._column.addWidget(self._text)
        self._column.addStretch(1)
        self.setWidget(inside)
        self.hide()

    def fill(
        self,
        problem: Problem | None,
        text: str,
        can: Callable[[Action], bool],
        *,
        of_job: bool,
        has_retry: bool,
    ) -> None:
        """Show what helps against `problem`, and `text`.

        Args:
            problem: What went wrong; None for other news.
            text: Traceback, paths, the end of a log; "" for none.
            can: Says whether the window can do an action now.
            of_job: Whether it is about a job; where there is none, none can be run again.
            has_retry: Whether a button beside the notice retries already.
        """
        self._text.setPlainText(text)
        self._text.setVisible(bool(text))
        self._help.setVisible(problem is not None)
        if self.steps is not None:
            self.steps.setVisible(problem is not None)
        if problem is not None:
            self._fill_steps(problem, can, of_job=of_job, has_retry=has_retry)
        self.verticalScrollBar().setValue(0)
        if self.isHidden():
            window = self.window()
            # What the window can give without growing: it may be as high as the screen.
            spare = window.height() - window.minimumSizeHint().height()
            spare -= _GAP
            self._room = max(_LEAST, min(spare, round(window.height() * _SHARE)))
        # Before it is shown: a window that grew for a moment stays grown.
        self.fit()
        self.show()

    def _fill_steps(
        self, problem: Problem, can: Callable[[Action], bool], *, of_job: bool, has_retry: bool
    ) -> None:
        # Read when somebody wants to know more, and not before.
        from core.failures.recovery import Action, recovery
        from widgets.steps import StepList

        if self.steps is None:
            self.steps = StepList()
            self.steps.setMaximumWidth(_MOST_WIDE)
            self.steps.chosen.connect(self.chosen)
            self._row.insertWidget(0, self.steps, 100)
        found = recovery(problem)
        self._page = found.page
        steps = [step for step in found.steps if of_job or step.action is not Action.RETRY]
        elsewhere = {Action.COPY_DETAILS} | ({Action.RETRY} if has_retry else set())
        self.steps.show_steps(steps, can, elsewhere)
        self.steps.show()

    def chain(self, before: QWidget) -> None:
        """Let the Tab key come here from `before`, and through it from above to below."""
        buttons = self.steps.buttons if self.steps is not None else []
        for first, second in pairwise([before, *buttons, self._help, self._text]):
            QWidget.setTabOrder(first, second)

    def fit(self) -> None:
        """Take the height that all of it needs, and less where the window is low."""
        self._column.invalidate()
        holder = self.parentWidget()
        width = holder.width() - 20 if self.isHidden() and holder is not None else self.width()
        needed = self._column.totalHeightForWidth(max(width - 12, 100))
        self.widget().setMinimumHeight(needed)
        self.setFixedHeight(min(needed, self._room))

    def showEvent(self, event: QShowEvent) -> None:
        """Fit again once the width is known."""
        super().showEvent(event)
        self.fit()

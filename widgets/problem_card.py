"""A failed job's problem, over the picture."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from core.errors import Problem
from widgets import theme
from widgets.parts import Button, Card, FittingScroll, label

if TYPE_CHECKING:
    from core.failures.recovery import Action
    from widgets.steps import StepList

MOST_WIDE = 600


class ProblemCard(Card):
    """A failed job's problem, with what can be done about it.

    Attributes:
        can: Says whether the window can do an action for this job now.

    Signals:
        chosen: The core.failures.recovery.Action that a person wants done; `retry` aside.
        help_wanted: Heading in the guide that says more.
    """

    chosen = Signal(object)
    help_wanted = Signal(str)

    def __init__(self) -> None:
        super().__init__("danger", (16, 12, 16, 12))
        self.can: Callable[[Action], bool] = lambda _: False
        self.steps: StepList | None = None
        self._problem: Problem | None = None
        self._page = ""
        self.column.setSpacing(10)
        self.message = label("", "title", wrap=True)
        self.hint = label("", "", wrap=True)
        self.retry = Button("Retry", "primary")
        self.copy = Button("Copy details", icon="copy")
        self.copy.clicked.connect(self._on_copy)
        self.help = Button("Help", "link", tip="Open the guide where it says more")
        self.help.clicked.connect(lambda: self.help_wanted.emit(self._page))
        inside = QWidget()
        inside.setProperty("role", "form")
        self._body = QVBoxLayout(inside)
        self._body.setContentsMargins(0, 0, 0, 0)
        self._body.setSpacing(8)
        self._body.addWidget(self.message)
        self._body.addWidget(self.hint)
        self._scroll = FittingScroll(inside)
        self._foot = QHBoxLayout()
        self._foot.setSpacing(8)
        for button in (self.retry, self.copy):
            self._foot.addWidget(button)
        self._foot.addStretch(1)
        self._foot.addWidget(self.help)
        self.column.addWidget(self._scroll)
        self.column.addLayout(self._foot)

    def show_problem(self, problem: Problem) -> None:
        """Fill in the words, and what helps."""
        # Read when something failed, and not before: it is all about words.
        from core.failures.recovery import Action, recovery
        from widgets.steps import StepList

        self._problem = problem
        self.message.setText(problem.message)
        self.hint.setText(problem.hint)
        self.hint.setVisible(bool(problem.hint))
        self.copy.setText("Copy details")
        found = recovery(problem)
        self._page = found.page
        if self.steps is None:
            self.steps = StepList()
            self.steps.chosen.connect(self.chosen)
            self._body.addWidget(self.steps)
        foot = {Action.RETRY, Action.COPY_DETAILS}
        self.steps.show_steps(found.steps, lambda action: self._can(action), foot)
        # What fails again the same way is not what the Enter key should do first.
        self.retry.setProperty("kind", "primary" if found.retryable else "")
        theme.restyle(self.retry)
        self._foot.invalidate()
        chain = [*self.steps.buttons, self.retry, self.copy, self.help]
        for first, second in pairwise(chain):
            QWidget.setTabOrder(first, second)
        self._body.invalidate()
        self.setAccessibleName(f"{problem.message} {problem.hint}")
        self._scroll.verticalScrollBar().setValue(0)

    def fit(self, width: int, most: int) -> int:
        """Return the height to take at a width, at most `most`; what is more scrolls."""
        margins = self.column.contentsMargins()
        frame = 2 * self.frameWidth()
        inner = width - margins.left() - margins.right() - frame
        height = self._body.totalHeightForWidth(inner)
        height += self.column.spacing() + self._foot.sizeHint().height()
        height += margins.top() + margins.bottom() + frame
        # A bar that is there for a moment narrows the text, which then needs the bar.
        policy = Qt.ScrollBarPolicy
        bar = policy.ScrollBarAlwaysOff if height <= most else policy.ScrollBarAsNeeded
        self._scroll.setVerticalScrollBarPolicy(bar)
        return min(height, most)

    def _can(self, action: Action) -> bool:
        from core.failures.recovery import Action as Known

        return action in (Known.RETRY, Known.COPY_DETAILS) or self.can(action)

    def _on_copy(self) -> None:
        if self._problem is not None:
            p = self._problem
            QGuiApplication.clipboard().setText(f"{p.message}\n{p.hint}\n\n{p.details}".strip())
            self.copy.setText("Copied")

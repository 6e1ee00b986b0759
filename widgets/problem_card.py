"""A failed job's problem, over the picture."""

from __future__ import annotations

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QHBoxLayout

from core.errors import Problem
from widgets.parts import Button, Card, label


class ProblemCard(Card):
    """A failed job's problem, with what can be done about it."""

    def __init__(self) -> None:
        super().__init__("danger", (16, 12, 16, 12))
        self._problem: Problem | None = None
        self.column.setSpacing(8)
        self.message = label("", "title", wrap=True)
        self.hint = label("", "", wrap=True)
        self.copy = Button("Copy details", icon="copy")
        self.copy.clicked.connect(self._on_copy)
        self.retry = Button("Retry", "primary")
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self.retry)
        row.addWidget(self.copy)
        row.addStretch(1)
        self.column.addWidget(self.message)
        self.column.addWidget(self.hint)
        self.column.addLayout(row)

    def show_problem(self, problem: Problem) -> None:
        """Fill in the words."""
        self._problem = problem
        self.message.setText(problem.message)
        self.hint.setText(problem.hint)
        self.copy.setText("Copy details")
        self.setAccessibleName(f"{problem.message} {problem.hint}")

    def _on_copy(self) -> None:
        if self._problem is not None:
            p = self._problem
            QGuiApplication.clipboard().setText(f"{p.message}\n{p.hint}\n\n{p.details}".strip())
            self.copy.setText("Copied")

"""What helps against a failure: numbered steps, with buttons for what the window can do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QSizePolicy, QWidget

from core.failures.recovery import ONLY_BY_BUTTON, Action, Step
from widgets.parts import Button, label

NAMES: Mapping[Action, str] = MappingProxyType(
    {
        Action.RETRY: "Retry",
        Action.FREE_MEMORY: "Free memory",
        Action.EDIT_JOB: "Edit a copy",
        Action.OPEN_SERVERS: "Servers",
        Action.OPEN_LOG: "Open log",
        Action.OPEN_OUTPUTS: "Clips folder",
        Action.UNLOAD_MODEL: "Unload model",
        Action.TILED_DECODE: "Decode in tiles",
        Action.RESTART_ENGINE: "Restart engine",
        Action.COPY_DETAILS: "Copy details",
    }
)
"""What the buttons are called."""


class StepList(QWidget):
    """A numbered list of steps.

    Signals:
        chosen: The Action of the button that was pressed.
    """

    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "form")
        self.setAccessibleName("What helps")
        self.buttons: list[Button] = []
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(5)
        self._grid.setColumnStretch(1, 1)

    def show_steps(
        self,
        steps: Sequence[Step],
        can: Callable[[Action], bool],
        elsewhere: Collection[Action] = (),
    ) -> None:
        """Show `steps` in place of those before.

        Args:
            steps: The likeliest first.
            can: Says whether the window can do an action here and now.
            elsewhere: Actions whose button stands beside the list.
        """
        self._clear()
        offered = [(step, self._offers(step, can)) for step in steps]
        shown = [
            (step, offers)
            for step, offers in offered
            if offers or step.action not in ONLY_BY_BUTTON
        ]
        for row, (step, offers) in enumerate(shown):
            number = label(f"{row + 1}.", "small")
            text = label(step.text, "", wrap=True)
            button = offers and step.action not in elsewhere
            place = Qt.AlignmentFlag.AlignVCenter if button else Qt.AlignmentFlag.AlignTop
            self._grid.addWidget(number, row, 0, Qt.AlignmentFlag.AlignRight | place)
            self._grid.addWidget(text, row, 1, 1, 1 if button else 2, place)
            if button:
                self._grid.addWidget(self._button(step, row), row, 2)
        for child in self.findChildren(QWidget):
            # Its height is asked for at once: of what is hidden or has no style it is wrong.
            child.show()
            child.ensurePolished()
        self.setAccessibleDescription(
            " ".join(f"{row + 1}. {step.text}" for row, (step, _) in enumerate(shown))
        )

    def texts(self) -> list[str]:
        """Return the steps that are shown."""
        items = (self._grid.itemAtPosition(row, 1) for row in range(self._grid.rowCount()))
        widgets = [item.widget() for item in items if item is not None]
        return [widget.property("text") for widget in widgets]

    def _offers(self, step: Step, can: Callable[[Action], bool]) -> bool:
        return step.action is not None and can(step.action)

    def _button(self, step: Step, row: int) -> Button:
        action = step.action
        assert action is not None
        button = Button(NAMES[action])
        button.setAccessibleName(f"Step {row + 1}: {NAMES[action]}")
        button.setAccessibleDescription(step.text)
        button.clicked.connect(lambda: self.chosen.emit(action))
        self.buttons.append(button)
        return button

    def _clear(self) -> None:
        self.buttons = []
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.setParent(None)
                widget.deleteLater()

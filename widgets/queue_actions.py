"""The actions of the queue dock, with their keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu

from widgets.overflow_bar import Spec

SPECS = (
    Spec("pause", "Pause", "pause", "", "Hold the waiting jobs; the running one goes on"),
    Spec("top", "Top", "top", "Ctrl+Home", "Make the selected jobs the next ones"),
    Spec("edit", "Edit", "edit", "F2", "Change the waiting job, or all that are selected"),
    Spec("cancel", "Cancel", "cancel", "", "Stop the running job"),
    Spec("retry", "Retry", "retry", "Ctrl+R", "Queue the failed, stopped or lost jobs again"),
    Spec("duplicate", "Duplicate", "duplicate", "Ctrl+D", "Make a new job like this one"),
    Spec("remove", "Remove", "trash", "Del", "Take the selected jobs off the list"),
    Spec("undo", "Undo", "undo", "Ctrl+Z", "Take back what was done last"),
    Spec("open", "Open in stage", "play", "", "Show the job in the stage (Enter)", bar=False),
    Spec("up", "Move up", "", "Ctrl+Up", "Begin the selected jobs sooner", bar=False),
    Spec("down", "Move down", "", "Ctrl+Down", "Begin the selected jobs later", bar=False),
    Spec("reveal", "Show in folder", "folder", "", "Open the clip's folder", bar=False),
    Spec("trace", "Open trace", "", "Ctrl+T", "Show what the job did to memory", bar=False),
    Spec("report", "Save report…", "", "Ctrl+Shift+T", "Save that as one page", bar=False),
    Spec("anyway", "Start anyway", "", "Alt+S", "Begin it whatever is known of memory", bar=False),
    Spec("take", "Take the clip", "", "Alt+T", "Fetch what its server finished", bar=False),
    Spec("high", "High", "", "Alt+1", "Begin before all of normal priority", bar=False),
    Spec("normal", "Normal", "", "Alt+2", "Begin in the usual order", bar=False),
    Spec("low", "Low", "", "Alt+3", "Begin when nothing else waits", bar=False),
    Spec("find", "Find…", "search", "Ctrl+F", "Look for jobs by words, state or place", bar=False),
    Spec("calendar", "Calendar of the night", "", "Ctrl+Shift+K", "When what runs", bar=False),
    Spec("night", "Ready by…", "", "Ctrl+Shift+B", "When what waits is done", bar=False),
)
FOUND = "It was lost, and its clip is finished all the same: take the clip or run it again."
PRIORITIES = {"high": 1, "normal": 0, "low": -1}
"""The actions that change what begins sooner, as the ledger keeps it."""
ALWAYS = ("find", "calendar", "night")
"""What stands in the bar's menu at all times: it is about the whole queue."""
RARE = ("Start anyway", "Take the clip")
"""What is in the menu of jobs only where it can be done."""


def priority_menu(parent: QMenu, actions: Mapping[str, QAction], there: Collection[int]) -> QMenu:
    """Return the menu that sets the priority.

    Args:
        parent: The menu it stands in.
        actions: By name.
        there: What the waiting jobs among the selected ones have; nothing: there are none.
    """
    levels = QMenu("Priority", parent)
    levels.setToolTipsVisible(True)
    levels.menuAction().setEnabled(bool(there))
    for name, level in PRIORITIES.items():
        action = actions[name]
        action.setCheckable(True)
        action.setChecked(set(there) == {level})
        levels.addAction(action)
    return levels

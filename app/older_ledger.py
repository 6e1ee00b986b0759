"""The list of jobs is of a newer version: what is asked before the window fills."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from core.ledger import Ledger
from core.ledger.older import Copy, kept_copy, put_back
from core.ledger.store import NewerError

_log = logging.getLogger(__name__)


def open_older(
    path: Path, error: NewerError, ask: Callable[[str, str], bool] | None = None
) -> Ledger:
    """Open the list from before the update where there is one and a person wants it.

    Args:
        path: Of the ledger.
        error: What opening it came to.
        ask: Given a sentence and what follows from it, says whether to go on.

    Raises:
        ProblemError: There is no such list, or nobody wants it: `error` itself; or it cannot be
            put back.
    """
    copy = kept_copy(path)
    if copy is None or not (ask or _ask)(error.problem.message, words(copy)):
        raise error
    aside = put_back(path, copy)
    _log.warning("the list of jobs is that of before the update; the newer one is %s", aside)
    return Ledger.open(path)


def words(copy: Copy) -> str:
    """Say what the list is, and what becomes of the newer one."""
    day = time.strftime("%d %B %Y, %H:%M", time.localtime(copy.made_unix)).lstrip("0")
    count = "" if copy.jobs is None else f" with {copy.jobs:,} jobs"
    return (
        f"This version cannot read it. The list from before the update, of {day}{count}, was kept. "
        "Framedeck can go on with that one. The newer list is kept beside it, and no clip is "
        "touched."
    )


def _ask(message: str, text: str) -> bool:
    from PySide6.QtWidgets import QApplication, QMessageBox

    if QApplication.platformName() == "offscreen":
        return False
    box = QMessageBox(QMessageBox.Icon.Question, "Framedeck", message)
    box.setInformativeText(text)
    go = box.addButton("Use the list from before", QMessageBox.ButtonRole.AcceptRole)
    stay = box.addButton("Quit", QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(go)
    box.setEscapeButton(stay)
    box.exec()
    return box.clickedButton() is go

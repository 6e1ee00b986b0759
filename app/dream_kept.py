"""What is kept of a dream that ended, told where a person would look for it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices

from app.controller import Controller
from core.events import Failed, Finished, Stopped
from core.jobs import Job
from core.outputs.segments import Kept, kept
from widgets.notice import NoticeBar


def tell_kept(
    controller: Controller, notice: NoticeBar, job: Job, ending: Finished | Stopped | Failed
) -> None:
    """Say which segments of a dream lie on the disk, however it ended; looked up beside the window.

    Args:
        controller: Runs the look-up.
        notice: Where it is told.
        job: The dream.
        ending: How it ended.
    """

    def look() -> Iterator[object]:
        try:
            yield kept(job)
        except OSError:
            yield None  # Its folder goes just now: there is nothing to tell.

    def tell(found: object) -> None:
        if not isinstance(found, Kept) or (found.files == 1 and isinstance(ending, Finished)):
            return  # The one file is what the stage shows.
        text = f"“{job.title}”: {found.words()} are kept in {found.folder.name}."
        target = found.playlist or found.folder
        actions = [("Show in folder", partial(_open, str(found.folder)))]
        if found.playlist is not None:
            actions.insert(0, ("Play all", partial(_open, str(target))))
        under = isinstance(ending, Failed)
        # It goes when the job is tried again: then there is soon more.
        notice.show_text(text, actions, key=f"kept {job.id}", under=under, jobs=[job.id])

    controller.run_aside(look, f"kept {job.id[:8]}", tell)


def _open(path: str) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(path))

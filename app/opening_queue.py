"""A queue file that is opened: its jobs go behind all that wait, and undo takes them back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import Problem, ProblemError, problem_from

if TYPE_CHECKING:
    from app.window import MainWindow

SUFFIX = ".zip"


@dataclass(frozen=True, slots=True)
class _Queued:
    """What undoes it, and how many jobs there are."""

    token: str
    count: int


class QueueFiles:
    """Takes the jobs of a queue file in, all of them or none."""

    def __init__(self, window: MainWindow) -> None:
        assert window.controller is not None
        self._window, self._controller = window, window.controller

    def takes(self, path: Path) -> bool:
        """Say whether a file may be a queue file, by its name."""
        return path.suffix.lower() == SUFFIX

    def open(self, path: Path) -> None:
        """Read and check the file beside the window; problems go to the notice bar."""
        controller = self._controller
        store, recipes, outputs = (
            controller.ledger.store.path, dict(controller.recipes), controller.outputs,
        )  # fmt: skip

        def read() -> Iterator[object]:
            from app.queue_zip import INPUTS
            from core.ledger import Ledger
            from core.ledger.store import join_store
            from core.queue_files import read_queue

            ledger = Ledger(join_store(store))
            try:
                found = read_queue(
                    path, recipes, outputs, Path(store).parent / INPUTS, taken=ledger.taken
                )
                try:
                    yield _Queued(str(ledger.enqueue(found.jobs)), len(found.jobs))
                except BaseException:
                    found.discard()
                    raise
            except (ProblemError, OSError) as error:
                yield problem_from(error)
            finally:
                ledger.close()

        controller.run_aside(read, "import", self._done)

    def _done(self, found: object) -> None:
        if isinstance(found, Problem):
            self._controller.problem.emit(found, "import")
        elif isinstance(found, _Queued):
            self._controller.guard(lambda: self._controller.added(found.token))
            count = "1 job" if found.count == 1 else f"{found.count:,} jobs"
            undo = ("Undo", lambda: self._controller.guard(self._controller.undo))
            self._window.panels.notice.show_text(f"Queued {count}.", (undo,), key="import")

"""What one process wants of another one that has the same ledger open.

Only the process that runs a job can stop it. The ledger is where they meet: one writes
down what it wants, the other looks when `Store.changed_elsewhere` tells it to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from core.jobs import JobState
from core.ledger import owner
from core.ledger.store import Store

_CANCEL, _PANEL = "wish to cancel ", "panel"
_RUNS = """SELECT a.owner, a.number FROM jobs j JOIN attempts a
    ON a.job = j.key AND a.number = j.attempt
    WHERE j.id = ? AND j.state = 'running' AND j.removal IS NULL"""
_STALE = """DELETE FROM meta WHERE name >= ? AND name < ? AND NOT EXISTS (
    SELECT 1 FROM jobs j WHERE j.state = 'running' AND name = ? || j.id || ' ' || j.attempt)"""


@dataclass(frozen=True, slots=True)
class Runner:
    """The process that runs a job.

    Attributes:
        pid: Its process id.
        alive: Whether it still runs; a later process with its id is not it.
    """

    pid: int
    alive: bool


def runner_of(store: Store, job_id: str) -> Runner | None:
    """Return which process runs a job; None when none does. Raises ProblemError."""
    found = store.read(_RUNS, (job_id,))
    return _runner(found[0][0]) if found else None


def ask_to_cancel(store: Store, job_id: str) -> Runner | None:
    """Ask the process that runs a job to stop it. Durable.

    The wish is for this attempt alone: a later one is not hit by it.

    Returns:
        Who was asked. Nothing is written when it is gone, or when the job does not run
        (then None).
    """
    with store.write() as database:
        found = database.execute(_RUNS, (job_id,)).fetchone()
        if found is None:
            return None
        runner = _runner(found[0])
        if runner.alive:
            database.execute(_STALE, (*_all(_CANCEL), _CANCEL))
            database.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, '1')", (f"{_CANCEL}{job_id} {found[1]}",)
            )
    return runner


def take_cancels(store: Store, running: Iterable[str]) -> list[str]:
    """Return those of the jobs that this process runs which another one wants stopped.

    Each wish is returned once. Raises ProblemError.
    """
    if not store.read("SELECT 1 FROM meta WHERE name >= ? AND name < ?", _all(_CANCEL)):
        return []
    taken = []
    with store.write() as database:
        for job_id in running:
            now = database.execute(
                "SELECT attempt FROM jobs WHERE id = ? AND state = ?", (job_id, JobState.RUNNING)
            ).fetchone()
            name = f"{_CANCEL}{job_id} {now[0] if now else 0}"
            if database.execute("DELETE FROM meta WHERE name = ?", (name,)).rowcount:
                taken.append(job_id)
    return taken


def announce(store: Store) -> None:
    """Write down that this process runs what waits in the ledger. Durable."""
    with store.write() as database:
        database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_PANEL, owner.mark()))


def panel(store: Store) -> Runner | None:
    """Return the living process that runs what waits; None when there is none."""
    found = store.read("SELECT value FROM meta WHERE name = ?", (_PANEL,))
    runner = _runner(found[0][0]) if found else None
    return runner if runner is not None and runner.alive else None


def _runner(mark: str) -> Runner:
    pid = mark.partition(" ")[0]
    return Runner(int(pid) if pid.isdigit() else 0, owner.alive(mark))


def _all(prefix: str) -> tuple[str, str]:
    return prefix, prefix + "\U0010ffff"

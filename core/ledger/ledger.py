"""What the program asks of the ledger, each call one transaction or one query.

Durable calls are on the disk when they return (about 0.2 ms on an SSD); the
others say so. All raise ProblemError when the file cannot be used.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from core.errors import Category, Problem
from core.events import (
    Ending,
    Event,
    Failed,
    Finished,
    MemoryRead,
    NodeStarted,
    Noted,
    PhaseStarted,
    Stopped,
)
from core.jobs import Job, JobState
from core.ledger import order, owner, steps
from core.ledger.read import FIRST_ID, LedgerReader
from core.ledger.steps import refused
from core.ledger.store import Store, open_store
from core.queue import Action, JobRow


class Ledger(LedgerReader):
    """The job ledger. One object belongs to the thread that opened it.

    Several processes may have the same file open; each call is atomic between
    them. A job removed is hidden from every call until it is restored.

    Attributes:
        opened_with: A problem to show: the file that was there could not be
            read and was kept under another name. None when all was well.
        boot: A mark of this run of the machine: monotonic clocks of one mark agree.
    """

    def __init__(self, store: Store, opened_with: Problem | None = None) -> None:
        super().__init__(store)
        self.opened_with = opened_with
        self._owner, self.boot = owner.mark(), owner.boot()

    @staticmethod
    def open(path: Path) -> Ledger:
        """Open the ledger at `path`, making it if there is none.

        Takes a few milliseconds, whatever the number of jobs. Removals older
        than seven days are forgotten for good here.

        Raises:
            ProblemError: It is of a newer version (and left untouched byte for
                byte), or the folder cannot be written.
        """
        store, told = open_store(path)
        try:
            steps.forget_removed(store)
        except BaseException:
            store.close()
            raise
        return Ledger(store, told)

    @property
    def store(self) -> Store:
        """The file, for reading what is beside the jobs."""
        return self._store

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._store.close()

    # Pausing.

    @property
    def paused(self) -> bool:
        """Whether the queue stands still; kept over restarts. Setting it is durable."""
        return self._store.read("SELECT value FROM meta WHERE name = 'paused'") == [("1",)]

    @paused.setter
    def paused(self, value: bool) -> None:
        with self._store.write() as database:
            database.execute(
                "INSERT OR REPLACE INTO meta VALUES ('paused', ?)", ("1" if value else "0",)
            )

    # The life of a job.

    def enqueue(self, jobs: Iterable[Job], before: str | None = None, priority: int = 0) -> str:
        """Put new jobs into the queue, in their order. Durable; all or none.

        Args:
            jobs: Jobs with ids that the ledger has never seen.
            before: Id of the job they shall stand before; None: the end of their
                priority. If that one began meanwhile, they go to the top.
            priority: As `JobRow.priority`; before another job they get that one's.

        Returns:
            A token that `restore` takes to take those of them out again that still wait;
            "" for no jobs.

        Raises:
            ProblemError: A job is in the ledger already, or `before` is unknown.
        """
        new = list(jobs)
        if not new:
            return ""
        with self._store.write() as database:
            _insert(database, new, before, priority)
            return steps.remember(database, "remove", [job.id for job in new])

    def take_on(self, job: Job) -> int:
        """Put a new job into the queue as one that this process runs already. Durable.

        One step: no other process sees it waiting, and takes it away. Returns the attempt's
        number; raises ProblemError as `enqueue`.
        """
        with self._store.write() as database:
            _insert(database, [job])
            return self._begin(database, job.id, time.monotonic())

    def begin(self, job_id: str, at_seconds: float | None = None) -> int:
        """Mark a waiting job as running by this process; return the attempt's number.

        Durable, and atomic between processes: a job begins once. Call it
        before anything is sent to an engine.

        Args:
            job_id: The job.
            at_seconds: When it begins, by the clock of its events; None: now.

        Raises:
            ProblemError: The job is unknown or not waiting.
        """
        began = time.monotonic() if at_seconds is None else at_seconds
        with self._store.write() as database:
            return self._begin(database, job_id, began)

    def _begin(self, database: sqlite3.Connection, job_id: str, began_seconds: float) -> int:
        key, attempt = steps.step(database, job_id, Action.BEGIN)
        database.execute("UPDATE jobs SET attempt = ? WHERE key = ?", (attempt + 1, key))
        database.execute(
            """INSERT INTO attempts (job, number, owner, started_at, boot, began_seconds)
                VALUES (?, ?, ?, ?, ?, ?)""",
            (key, attempt + 1, self._owner, time.time(), self.boot, began_seconds),
        )
        return attempt + 1

    def record(self, job_id: str, event: Event) -> bool:
        """Keep a phase, a node, a note or a new memory peak of the running attempt.

        Not durable against a power cut (about 0.02 ms); other events, and those
        of a job that does not run, are left out at no cost worth naming.

        Returns:
            Whether anything was kept.
        """
        if not isinstance(event, PhaseStarted | NodeStarted | Noted | MemoryRead):
            return False
        sql = """SELECT a.key, a.peak_rss_bytes, a.peak_vram_bytes FROM jobs j
            JOIN attempts a ON a.job = j.key AND a.number = j.attempt
            WHERE j.id = ? AND j.state = 'running'"""
        found = self._store.read(sql, (job_id,))
        if not found:
            return False
        key, rss, vram = found[0]
        if isinstance(event, MemoryRead):
            peaks = (steps.most(rss, event.rss_bytes), steps.most(vram, event.vram_bytes))
            if peaks == (rss, vram):
                return False
            with self._store.write(durable=False) as database:
                database.execute(
                    "UPDATE attempts SET peak_rss_bytes = ?, peak_vram_bytes = ? WHERE key = ?",
                    (*peaks, key),
                )
            return True
        unix = time.time() - (time.monotonic() - event.at_seconds)
        with self._store.write(durable=False) as database:
            steps.note(database, key, event, unix)
        return True

    def end(self, job_id: str, ending: Ending) -> None:
        """Write down how the running attempt ended, with its clip. Durable.

        Raises:
            ProblemError: The job is unknown or not running.
            ValueError: The ending is of another job.
        """
        if ending.job_id != job_id:
            raise ValueError(f"the ending of {ending.job_id} does not end {job_id}")
        match ending:
            case Finished():
                action, problem = Action.FINISH, None
            case Stopped():
                action, problem = Action.STOP, None
            case Failed():
                action = Action.LOSE if ending.lost else Action.FAIL
                problem = ending.problem
        with self._store.write() as database:
            key, attempt = steps.step(database, job_id, action)
            run = steps.close_attempt(database, key, attempt, problem, ending)
            if isinstance(ending, Finished):
                steps.keep_clip(database, run, ending)

    def accept(self, job_id: str, found: Finished) -> None:
        """Take a clip of a lost job that turned out to be finished all the same. Durable.

        Raises:
            ProblemError: The job is unknown or not lost; one that waits again, runs
                again or is done keeps what it has, so nothing is taken twice.
            ValueError: The ending is of another job.
        """
        if found.job_id != job_id:
            raise ValueError(f"the ending of {found.job_id} does not end {job_id}")
        with self._store.write() as database:
            key, attempt = steps.step(database, job_id, Action.ACCEPT)
            run = steps.close_attempt(database, key, attempt, None, found)
            steps.keep_clip(database, run, found)

    def recover(self, elsewhere: Collection[str] = ()) -> list[JobRow]:
        """Mark as lost every running job whose process is gone. Durable.

        Call it at start. Jobs that another living process runs are left alone.

        Args:
            elsewhere: Engines whose work goes on without this program: their jobs
                are not lost before `adopt` took them and their server was asked.

        Returns:
            The jobs lost now, to be offered for another try.
        """
        sql = """SELECT j.id, a.owner, j.engine FROM jobs j JOIN attempts a
            ON a.job = j.key AND a.number = j.attempt WHERE j.state = 'running'"""
        gone = [
            job_id
            for job_id, who, engine in self._store.read(sql)
            if engine not in elsewhere and not owner.alive(who)
        ]
        lost: list[str] = []
        for job_id in gone:
            problem = Problem(
                Category.WORKER_UNAVAILABLE,
                "Framedeck ended while this job was running.",
                "Retry the job; it begins anew with the same seed.",
            )
            with self._store.write() as database:
                # Another process may have been quicker.
                if steps.state(database, job_id) is JobState.RUNNING:
                    key, attempt = steps.step(database, job_id, Action.LOSE)
                    steps.close_attempt(database, key, attempt, problem, None)
                    lost.append(job_id)
        return [row for row in map(self.row, lost) if row is not None]

    def adopt(self, engine: str) -> list[Job]:
        """Make this process the owner of an engine's running jobs whose process is gone.

        Durable, and atomic between processes: each is adopted once. Attempt and
        start stay; resume them, and write their endings down with `end`.
        """
        sql = """SELECT a.key, a.owner, j.job FROM jobs j JOIN attempts a
            ON a.job = j.key AND a.number = j.attempt
            WHERE j.state = 'running' AND j.engine = ? ORDER BY a.started_at"""
        adopted = []
        with self._store.write() as database:
            for key, who, text in database.execute(sql, (engine,)).fetchall():
                if not owner.alive(who):
                    database.execute(
                        "UPDATE attempts SET owner = ? WHERE key = ?", (self._owner, key)
                    )
                    adopted.append(Job.from_json(json.loads(text)))
        return adopted

    def edit(self, job_id: str, job: Job) -> None:
        """Replace what a waiting job asks for; id, age and place stay. Durable.

        Raises:
            ProblemError: The job is unknown or not waiting.
        """
        with self._store.write() as database:
            key, _ = steps.step(database, job_id, Action.EDIT)
            text = database.execute("SELECT job FROM jobs WHERE key = ?", (key,)).fetchone()[0]
            kept = {"id": job_id, "created_at": json.loads(text)["created_at"]}
            edited = Job.from_json({**job.to_json(), **kept})
            database.execute(
                "UPDATE jobs SET job = ?, engine = ? WHERE key = ?",
                (edited.dumps(), edited.engine, key),
            )

    def retry(self, ids: Iterable[str], *, top: bool = False) -> str:
        """Put failed, stopped or lost jobs back to wait, with the same ids. Durable.

        They stand at the end of their priority, or at the top, in the order given;
        the earlier attempts are kept. All or none.

        Returns:
            A token that `restore` takes to let those end again as they had that have not
            begun since; "" for no jobs.

        Raises:
            ProblemError: A job is unknown, or in a state that has no retry.
        """
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return ""
        with self._store.write() as database:
            anchor = order.first(database) if top else None
            ended = steps.ended_as(database, wanted)
            keys = [steps.step(database, job_id, Action.RETRY)[0] for job_id in wanted]
            for key, place in zip(keys, steps.again(database, keys, anchor), strict=True):
                database.execute(
                    "UPDATE jobs SET priority = ?, position = ?, ended_at = NULL WHERE key = ?",
                    (*place, key),
                )
            return steps.remember(database, "move", {"ended": ended})

    # Order, removal, and their undoing.

    def move(self, ids: Iterable[str], before: str | None) -> str:
        """Move waiting jobs together to stand before another. Durable; all or none.

        They keep their order among themselves. One row moved is one row
        written, but for rare moments when some neighbours must give way.

        Args:
            ids: Jobs to move.
            before: Id of the job they shall stand before; None: the end. One of
                `ids` itself means the first job after it that is not moved. If
                that job began meanwhile, they go to the top.

        Returns:
            A token that `restore` takes to undo the move.

        Raises:
            ProblemError: A job is unknown or not waiting.
        """
        with self._store.write() as database:
            moved = steps.in_order(database, ids)
            keys = {key for key, _ in moved}
            anchor = steps.anchor(database, before)
            while anchor in keys:
                after = order.next_to(database, anchor)
                anchor = after[1] if after else None
            token = steps.remember(database, "move", steps.runs(database, moved))
            steps.put(database, [key for key, _ in moved], anchor)
        return token

    def move_to_top(self, ids: Iterable[str]) -> str:
        """Move waiting jobs to the top; else as `move`."""
        first = self._store.read(FIRST_ID)
        return self.move(ids, first[0][0] if first else None)

    def remove(self, ids: Iterable[str]) -> str:
        """Take jobs that do not run out of the queue. Durable; all or none.

        Clips on the disk are left alone.

        Returns:
            A token that `restore` takes to undo it, good for seven days.

        Raises:
            ProblemError: A job is unknown or running.
        """
        with self._store.write() as database:
            token = steps.remember(database, "remove", None)
            for job_id in dict.fromkeys(ids):
                key, _ = steps.step(database, job_id, Action.REMOVE)
                database.execute("UPDATE jobs SET removal = ? WHERE key = ?", (token, key))
        return token

    def restore(self, token: str) -> None:
        """Undo a removal, a move, an addition or a retry, once. Durable.

        Removed jobs come back in their state and to their place. Moved jobs go
        back to stand before the job they stood before; those that no longer
        wait are left as they are. Added jobs leave the queue unless they began, and jobs that
        wait again end again as they had.

        Raises:
            ProblemError: It was undone already or is too old.
        """
        with self._store.write() as database:
            found = database.execute(
                "SELECT kind, payload FROM undos WHERE token = ?", (token,)
            ).fetchone()
            if found is None:
                raise refused("This cannot be undone any more.", "Look at the queue as it is.")
            kind, payload = found
            if kind == "remove" and (added := json.loads(payload)):
                steps.take_out(database, added)
            elif kind == "remove":
                database.execute("UPDATE jobs SET removal = NULL WHERE removal = ?", (token,))
            else:
                steps.undo_move(database, json.loads(payload))
            database.execute("DELETE FROM undos WHERE token = ?", (token,))


def _insert(
    database: sqlite3.Connection,
    new: Sequence[Job],
    before: str | None = None,
    priority: int = 0,
) -> None:
    room = order.places(database, steps.anchor(database, before), len(new), priority)
    try:
        database.executemany(
            """INSERT INTO jobs (id, engine, state, priority, position, job)
                VALUES (?, ?, 'waiting', ?, ?, ?)""",
            [
                (job.id, job.engine, *place, job.dumps())
                for job, place in zip(new, room, strict=True)
            ],
        )
    except sqlite3.IntegrityError as error:
        raise refused(
            "A job is in the queue already.", "Duplicate it to make it once more."
        ) from error

"""The ledger's file: opened with care, never half written, never thrown away."""

from __future__ import annotations

import sqlite3
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from core.errors import Category, Problem, ProblemError
from core.ledger.migrate import OLDEST, migrate
from core.ledger.schema import APPLICATION_ID, STATEMENTS, TABLES, TABLES_1, VERSION

_MAGIC = b"SQLite format 3\x00"
_BUSY_SECONDS = 5.0
_SMALL_BYTES = 4 * 2**20
"""Files up to this size are checked page by page at every start (a few ms)."""
_COUNT = """INSERT INTO meta VALUES ('changes', '1')
    ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1"""
_COUNTED = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'changes'"
_CORRUPT_CODES = (11, 26)  # SQLITE_CORRUPT, SQLITE_NOTADB


class DamagedError(Exception):
    """The file is not a ledger that can be read; the text says why."""


class NewerError(ProblemError):
    """The file is of a newer version; it was left untouched."""


class Store:
    """One connection to the ledger file, used by the thread that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._synchronous = ""
        self._version, self._counted, self._others = -1, -1, True

    def read(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query.

        Raises:
            ProblemError: The file cannot be read.
        """
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._problem(error) from error

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Run the body as one transaction, all of it or nothing.

        Args:
            durable: True: on the disk when this returns (one fsync, about
                0.2 ms), whatever happens to the machine. False: survives the
                death of the program, and a power cut once the next durable
                write is through (about 0.02 ms).

        Raises:
            ProblemError: The file cannot be written.
        """
        wanted = "FULL" if durable else "NORMAL"
        database = self._connection
        try:
            if self._synchronous != wanted:
                database.execute(f"PRAGMA synchronous = {wanted}")
                self._synchronous = wanted
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                if durable:
                    self._count(database)
                database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._problem(error) from error

    def changed_elsewhere(self) -> bool:
        """Say whether others made durable changes since the last call; the first says True.

        Others are all connections but this one, of this process and of any other one.
        Takes about 2 µs while the file rests, and reads no row of a job: call it as often
        as once or twice a second.

        Raises:
            ProblemError: The file cannot be read.
        """
        version = self.read("PRAGMA data_version")[0][0]
        if version != self._version:
            # Readings of memory and notes change the file all the time, and no state.
            found = self.read(_COUNTED)
            now = found[0][0] if found else 0
            self._others = self._others or now != self._counted
            self._version, self._counted = version, now
        told, self._others = self._others, False
        return told

    def _count(self, database: sqlite3.Connection) -> None:
        """Count one more durable change, and notice those of others in between."""
        database.execute(_COUNT)
        now = database.execute(_COUNTED).fetchone()[0]
        self._others = self._others or now != self._counted + 1
        self._counted = now

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._connection.close()

    def _problem(self, error: sqlite3.Error) -> ProblemError:
        if not _means_damage(error):
            return _storage_problem(self.path, error)
        # The next start looks at every page, and keeps the file aside if it must.
        with suppress(OSError):
            _marker(self.path).touch()
        return ProblemError(
            Problem(
                Category.STORAGE,
                "The list of jobs on the disk is damaged.",
                "Close Framedeck and start it again: it keeps the damaged file "
                "and begins a new list.",
                f"{self.path}: {error}",
            )
        )


def open_store(path: Path) -> tuple[Store, Problem | None]:
    """Open the ledger file at `path`, making it if there is none.

    Returns:
        The store, and a problem to show when the file that was there could not
        be read, was kept under another name, and a new one was begun.

    Raises:
        NewerError: The file is of a newer version.
        ProblemError: Nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_newer(path)
        try:
            return _connect(path), None
        except DamagedError:
            # Another process may just be making it: look once more.
            time.sleep(0.05)
        try:
            return _connect(path), None
        except DamagedError as damage:
            told = _move_aside(path, str(damage))
            return _connect(path), told
    except (OSError, sqlite3.Error, DamagedError) as error:
        raise _storage_problem(path, error) from error


def join_store(path: Path) -> Store:
    """Open a ledger once more, for another thread or only to read.

    The file is neither made, checked nor changed: whoever opened it with
    `open_store` did that. Takes about 0.2 ms.

    Raises:
        ProblemError: There is none, or it is not of this version.
    """
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS,
            isolation_level=None,
        )  # fmt: skip
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                raise DamagedError(f"the file is of version {version}, not {VERSION}")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, DamagedError) as error:
        raise _storage_problem(path, error) from error
    return Store(path, connection)


def _connect(path: Path) -> Store:
    """Open and check the file. Raises DamagedError, OSError or sqlite3.Error."""
    _check_header(path)
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        _prepare(connection)
        version = _check_content(connection, path)
        if version < VERSION:
            migrate(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error) and _means_damage(error):
            raise DamagedError(str(error)) from error
        raise
    return Store(path, connection)


def _prepare(connection: sqlite3.Connection) -> None:
    # Before anything is changed: another program's file is none of ours.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID and (tables or application):
        raise DamagedError("the file is not a job ledger")
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            # Two processes making the file at once: SQLite does not wait here.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA foreign_keys = ON")
    if not tables:
        _make(connection)


def _make(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    # Somebody else may have made it while we waited for our turn.
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        for statement in STATEMENTS:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _check_header(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb") as file:
        header = file.read(100)
    log = path.with_name(path.name + "-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if not header:
        if has_log:
            raise DamagedError("the file is empty though its log is not")
        return
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise DamagedError("the file does not begin like a database")
    page_size, pages = struct.unpack(">H", header[16:18])[0], struct.unpack(">I", header[28:32])[0]
    expected = (65536 if page_size == 1 else page_size) * pages
    if not has_log and path.stat().st_size < expected:
        raise DamagedError(f"the file has {path.stat().st_size} of {expected} bytes")


def _check_content(connection: sqlite3.Connection, path: Path) -> int:
    """Look at what can be looked at in a few milliseconds; return the version."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if not OLDEST <= version <= VERSION:
        raise DamagedError("the file has no version")
    tables = TABLES_1 if version == 1 else TABLES
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not found >= tables:
        raise DamagedError("tables are missing: " + ", ".join(sorted(tables - found)))
    for table in sorted(tables):
        connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()  # noqa: S608
    marker = _marker(path)
    if marker.exists() or path.stat().st_size <= _SMALL_BYTES:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise DamagedError(str(verdict))
        marker.unlink(missing_ok=True)
    return version


def _refuse_newer(path: Path) -> None:
    """Raise when the file is of a newer version, without changing a byte of it."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    if len(header) < 100 or not header.startswith(_MAGIC):
        return
    version, application = (
        struct.unpack(">i", header[60:64])[0],
        struct.unpack(">I", header[68:72])[0],
    )
    log = path.with_name(path.name + "-wal")
    if version <= VERSION and log.exists() and log.stat().st_size > 0:
        # The log may hold a later header; a read-only look folds nothing back.
        with suppress(sqlite3.Error):
            peek = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            try:
                version = peek.execute("PRAGMA user_version").fetchone()[0]
                application = peek.execute("PRAGMA application_id").fetchone()[0]
            finally:
                peek.close()
    if version > VERSION and application == APPLICATION_ID:
        from core.ledger.older import kept_copy

        kept = kept_copy(path) is not None
        more = "open Framedeck's window and take the list from before the update, " if kept else ""
        raise NewerError(
            Problem(
                Category.STORAGE,
                "The list of jobs was written by a newer Framedeck.",
                f"Start the newer Framedeck, {more}or choose another data folder with "
                "FRAMEDECK_HOME; nothing was changed.",
                f"{path} is of version {version}; this program reads version {VERSION}.",
            )
        )


def _move_aside(path: Path, why: str) -> Problem:
    """Rename the file with its log and index; return what to tell."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for count in range(1000):
        extra = f"-{count}" if count else ""
        aside = path.with_name(f"{path.stem}.corrupt-{stamp}{extra}{path.suffix}")
        if not aside.exists():
            break
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    _marker(path).unlink(missing_ok=True)
    return Problem(
        Category.STORAGE,
        "The list of jobs could not be read, so a new one was started.",
        f"The old list was kept as {aside.name}; finished clips are still in their folder, "
        "each with its recipe beside it.",
        f"{aside}: {why}",
    )


def _marker(path: Path) -> Path:
    return path.with_name(path.name + ".damaged")


def _means_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in _CORRUPT_CODES or (code == 0 and type(error) is sqlite3.DatabaseError)


def _storage_problem(path: Path, error: Exception) -> ProblemError:
    return ProblemError(
        Problem(
            Category.STORAGE,
            f"The list of jobs cannot be used: {error}",
            f"Check that {path.parent} exists, is writable and has space left, then try again.",
            f"{path}: {type(error).__name__}: {error}",
        )
    )

"""Finds out of an exception, or of words, what happened: types first, words second."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from enum import StrEnum

from core.errors import Category, Problem, ProblemError
from core.failures import signs
from core.failures.causes import Cause, category_of, cause_for

PRINTED = "--- printed meanwhile ---"
"""Parts the details of a problem from what an engine printed beside it."""
_END = 20_000
"""Letters that are read at either end of a text."""
_DEEPEST = 8


class Source(StrEnum):
    """Where an error comes from: what it most likely is when nothing else tells.

    ENGINE and SERVER are whole programs at work, of which nothing can be guessed.
    """

    ANY = "any"
    ENGINE = "engine"
    SERVER = "server"
    NETWORK = "network"
    """While a server was asked."""
    REFUSAL = "refusal"
    """What a server said to what it was sent."""
    PROCESS = "process"
    """The last words of a process that ended."""
    FILES = "files"
    OUTPUT = "output"
    """While what was made was checked."""


_GUESS = {
    Source.NETWORK: Cause.NETWORK,
    Source.REFUSAL: Cause.VALUE,
    Source.PROCESS: Cause.DIED,
    Source.FILES: Cause.STORAGE,
    Source.OUTPUT: Cause.OUTPUT,
}


def classify(error: BaseException | str, source: Source = Source.ANY) -> Category:
    """Return the category of an exception or of a text, such as a server's words.

    Args:
        error: The exception with those it came from; or a message, a traceback, a log's end.
        source: What it comes from; decides only what nothing else tells.
    """
    if isinstance(error, ProblemError):
        return category_of(cause_of(error.problem))
    return category_of(diagnose(error, source))


def diagnose(error: BaseException | str, source: Source = Source.ANY) -> Cause:
    """Return what happened, as `classify` finer."""
    if isinstance(error, str):
        found = _by_text(error)
    elif isinstance(error, ProblemError):
        return cause_of(error.problem)
    else:
        found = _by_chain(error)
    return found or _GUESS.get(source, Cause.UNKNOWN)


def cause_of(problem: Problem) -> Cause:
    """Return what happened by a problem's category and words.

    A category that was given is kept; words only tell which of its causes it is.
    UNKNOWN stands for none given.
    """
    own = problem.details.partition(PRINTED)[0]
    texts = [problem.message, own]
    if problem.category is Category.UNKNOWN:
        texts.reverse()  # There stands the type.
    for text in texts:
        found = _by_text(text) if text else None
        if found is None:
            continue
        if problem.category in (Category.UNKNOWN, category_of(found)):
            return found
    return cause_for(problem.category)


def refined(problem: Problem) -> Problem:
    """Return `problem` with the category that its words tell where it had none."""
    category = category_of(cause_of(problem))
    if category is problem.category:
        return problem
    return Problem(category, problem.message, problem.hint, problem.details, problem.field)


def is_poison(text: str) -> bool:
    """Say whether a text tells that its process can never use the GPU again."""
    return any(
        sign.search(_ends(text))
        for cause, sign in signs.WORDS
        if cause in (Cause.GPU_BROKEN, Cause.GPU_LOST)
    )


# -- exceptions ----------------------------------------------------------------


def _by_chain(error: BaseException) -> Cause | None:
    vague: Cause | None = None
    for one in _chain(error):
        if isinstance(one, ProblemError):
            return cause_of(one.problem)
        sure, guess = _by_one(one)
        if sure is not None:
            return sure
        vague = vague or guess
    return vague


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it came from."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen and len(seen) < _DEEPEST:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _by_one(error: BaseException) -> tuple[Cause | None, Cause | None]:
    """Return what one exception says for sure, and what it may be."""
    text = _ends(str(error))
    kind = next((c for c in map(_of_type, type(error).__mro__) if c is not None), None)
    if kind in signs.CERTAIN:
        return kind, None
    number = _by_number(error)
    if isinstance(error, FileNotFoundError) and re.search(
        signs.MODEL_FILE, f"{error.filename or text}"
    ):
        return Cause.MODEL_MISSING, None
    status = _status(error)
    told = signs.by_words(text)
    if kind is not None and kind not in (Cause.NETWORK, Cause.STORAGE, Cause.FILE_MISSING):
        return _sharper(kind, told), None
    # A generic type of a library: its words or numbers know more than its name.
    sure = number or told or status or _ended(error)
    rest = kind
    if rest is None and isinstance(error, OSError):
        rest = Cause.STORAGE
    return sure, rest


def _of_type(kind: type) -> Cause | None:
    # SQLite's and the system's errors bear names that others use as well.
    if kind.__name__ in ("DatabaseError", "OperationalError") and kind.__module__ != "sqlite3":
        return None
    return signs.TYPES.get(kind.__name__)


def _by_number(error: BaseException) -> Cause | None:
    if not isinstance(error, OSError):
        return None
    windows = signs.WINDOWS.get(getattr(error, "winerror", None) or 0)
    return windows or signs.NUMBERS.get(error.errno or 0)


def _status(error: BaseException) -> Cause | None:
    """Return what the HTTP answer says that an exception carries."""
    for holder in (getattr(error, "response", None), error):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and status in signs.STATUSES:
                return signs.STATUSES[status]
    return None


def _ended(error: BaseException) -> Cause | None:
    ended = isinstance(error, subprocess.CalledProcessError) and error.returncode != 0
    return Cause.DIED if ended else None


_SHARPER: dict[Cause, frozenset[Cause]] = {
    Cause.HOST_MEMORY: frozenset({Cause.GPU_MEMORY}),
    Cause.MODEL_DAMAGED: frozenset(
        {Cause.MODEL_OTHER, Cause.MODEL_MISSING, Cause.HOST_MEMORY, Cause.DISK_FULL}
    ),
    Cause.MODEL_MISSING: frozenset({Cause.MODEL_LOCKED}),
    Cause.REFUSED: frozenset({Cause.TIMED_OUT, Cause.UNREACHABLE, Cause.BROKEN_OFF}),
    Cause.BROKEN_OFF: frozenset({Cause.TIMED_OUT, Cause.REFUSED, Cause.UNREACHABLE}),
    Cause.CERTIFICATE: frozenset({Cause.TIMED_OUT}),
    Cause.PERMISSION: frozenset({Cause.PORT_TAKEN, Cause.DISK_FULL}),
    Cause.PACKAGE: frozenset({Cause.NO_GPU, Cause.HOST_MEMORY}),
}
"""What words may say against a type; all else that they say is by chance."""


def _sharper(kind: Cause, told: Cause | None) -> Cause:
    return told if told is not None and told in _SHARPER.get(kind, frozenset()) else kind


# -- texts -----------------------------------------------------------------------

_HEAD = re.compile(
    r"^\s*(?:E\s+)?(?:[A-Za-z_]\w*\.)*(?P<kind>[A-Za-z_]\w*(?:Error|Exception|Timeout|Expired|"
    r"Interrupt|gaierror|Disconnected|IncompleteRead|BrokenProcessPool))"
    r"(?::\s*(?P<words>.*)| in .{1,200}|)$",
    re.MULTILINE,
)
_FRAME = re.compile(r'^\s*File ".*", line \d+.*(?:\n(?:    |\t).*)*$', re.MULTILINE)
_MARKS = re.compile(r"^[\s^~]+$|^Traceback \(most recent call last\):.*$", re.MULTILINE)
_OS_NUMBER = re.compile(r"\(os error (\d{1,5})\)|\[WinError (\d{1,5})\]", re.IGNORECASE)
_STATUS = re.compile(
    r"\b(\d{3}) (?:Client|Server) Error\b|\brefuses \((\d{3})\)|\bHTTP(?: Error)? (\d{3})\b"
)


def _by_text(text: str) -> Cause | None:
    """Return what a text tells: its last exception's type, then its words."""
    # Of a frame of a traceback nothing is believed: it is source code.
    said = _MARKS.sub("", _FRAME.sub("", _ends(text)))
    heads = list(_HEAD.finditer(said))
    vague: Cause | None = None
    for place, head in reversed(list(enumerate(heads))):
        end = heads[place + 1].start() if place + 1 < len(heads) else len(said)
        kind = signs.TYPES.get(head["kind"])
        own = said[head.start() : end]
        if kind in signs.CERTAIN:
            return kind
        told = _told(own)
        if kind is not None and kind not in (Cause.NETWORK, Cause.STORAGE, Cause.FILE_MISSING):
            return _sharper(kind, told)
        if told is not None:
            return told
        vague = vague or kind
    return _told(said) or vague


def _ends(text: str) -> str:
    """Return a long text without its middle: types stand first or last."""
    return text if len(text) <= 2 * _END else f"{text[:_END]}\n{text[-_END:]}"


def _told(text: str) -> Cause | None:
    for found in _OS_NUMBER.finditer(text):
        # Small numbers of Rust's mean other things on other systems; their words tell.
        number = int(found[2] or (found[1] if len(found[1]) > 3 else 0))
        if number in signs.WINDOWS:
            return signs.WINDOWS[number]
    told = signs.by_words(text)
    if told is not None and told is not Cause.NETWORK:
        return told
    for found in _STATUS.finditer(text):
        cause = signs.STATUSES.get(int(found[1] or found[2] or found[3]))
        if cause is not None:
            return cause
    return told

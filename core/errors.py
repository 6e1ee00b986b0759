"""Problems: the only form in which an error reaches a person."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Category(StrEnum):
    """What kind of thing went wrong; decides icons, retries and help pages."""

    INVALID_PARAMS = "invalid_params"
    MODEL_NOT_FOUND = "model_not_found"
    INSUFFICIENT_VRAM = "insufficient_vram"
    TIMEOUT = "timeout"
    NETWORK_ERROR = "network_error"
    WORKER_UNAVAILABLE = "worker_unavailable"
    STORAGE = "storage"
    BAD_OUTPUT = "bad_output"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Problem:
    """One failure as a person meets it.

    Attributes:
        category: The kind of failure.
        message: One sentence saying what happened.
        hint: The next step to take.
        details: Text to copy into a report: traceback, paths, log tail.
        field: The parameter at fault, when there is one.
    """

    category: Category
    message: str
    hint: str
    details: str = ""
    field: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the ledger and the wire."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Problem:
        """Rebuild a Problem from `to_json`; an unknown category becomes UNKNOWN."""
        try:
            category = Category(data.get("category", ""))
        except ValueError:
            category = Category.UNKNOWN
        return Problem(
            category,
            str(data.get("message", "")),
            str(data.get("hint", "")),
            str(data.get("details", "")),
            data.get("field"),
        )


class ProblemError(Exception):
    """Carries a `Problem` to whoever shows it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def invalid(field: str, message: str, hint: str) -> ProblemError:
    """Return the error for a parameter `field` that cannot be used."""
    return ProblemError(Problem(Category.INVALID_PARAMS, message, hint, field=field))


def other_kind(field: str, name: str, endings: tuple[str, ...]) -> ProblemError:
    """Return the error for a file `name` that ends in none of `endings`."""
    words = f"{name} is no {' or '.join(endings)} file"
    if ".safetensors" in endings:
        words += ", and other kinds can run any program hidden in them"
    return invalid(field, f"{words}.", f"Choose a {endings[0]} file.")


def problem_from(error: BaseException) -> Problem:
    """Turn any exception into a `Problem`, keeping one that carries its own."""
    details = "".join(traceback.format_exception(error))
    if isinstance(error, ProblemError):
        problem = error.problem
        if problem.details:
            return problem
        return Problem(problem.category, problem.message, problem.hint, details, problem.field)
    # Nothing fails before the window stands that would need its many words.
    from core.failures.words import problem_of

    return problem_of(error, details)

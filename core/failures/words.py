"""An unexpected exception in a person's words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from core.errors import Category, Problem
from core.failures.causes import Cause, category_of
from core.failures.classify import Source, diagnose

_LONGEST = 300
_BY_CAUSE: Mapping[Cause, tuple[str, str]] = MappingProxyType(
    {
        Cause.GPU_MEMORY: (
            "There was not enough GPU memory for this job.",
            "Use fewer frames or a smaller size, or free memory and retry.",
        ),
        Cause.HOST_MEMORY: (
            "There was not enough main memory for this job.",
            "Close other programs, or use fewer frames or a smaller size.",
        ),
        Cause.GPU_BROKEN: (
            "The GPU refused to go on in this process: {text}",
            "Restart the engine, then retry the job.",
        ),
        Cause.DISK_FULL: (
            "A disk is full: {text}",
            "Make room on it, then retry.",
        ),
    }
)
_BY_CATEGORY: Mapping[Category, tuple[str, str]] = MappingProxyType(
    {
        Category.MODEL_NOT_FOUND: (
            "A model could not be used: {text}",
            "Choose a model that is there, or get its file again.",
        ),
        Category.INSUFFICIENT_VRAM: _BY_CAUSE[Cause.GPU_MEMORY],
        Category.TIMEOUT: (
            "Something took too long: {text}",
            "Look whether the server still works, then retry.",
        ),
        Category.NETWORK_ERROR: (
            "A server could not be reached: {text}",
            "Check that it runs and that its address is right, then retry.",
        ),
        Category.WORKER_UNAVAILABLE: (
            "What runs the job is not there: {text}",
            "Retry the job; if that fails again, read the log.",
        ),
        Category.INVALID_PARAMS: (
            "Something in the job cannot be used: {text}",
            "Change the value that is named.",
        ),
        Category.STORAGE: (
            "A file or device could not be used: {text}",
            "Check that the folder exists, is writable and has space left, then retry.",
        ),
        Category.BAD_OUTPUT: (
            "What was made is not right: {text}",
            "Retry with another seed or scheduler.",
        ),
        Category.UNKNOWN: (
            "Something unexpected happened: {text}",
            "Retry the job; if it fails again, copy the details into a report.",
        ),
    }
)


def problem_of(error: BaseException, details: str, source: Source = Source.ANY) -> Problem:
    """Return an exception that carries no Problem as one.

    Args:
        error: What was raised.
        details: Its traceback.
        source: What it comes from.
    """
    cause = diagnose(error, source)
    category = category_of(cause)
    message, hint = _BY_CAUSE.get(cause) or _BY_CATEGORY[category]
    text = str(error).strip().split("\n")[0][:_LONGEST] or type(error).__name__
    return Problem(category, message.replace("{text}", text), hint, details)

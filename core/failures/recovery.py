"""What helps after a failure: whether again, what instead, and step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from core.errors import Category, Problem
from core.failures.causes import Cause, category_of
from core.failures.classify import cause_of, is_poison


class Action(StrEnum):
    """What a step's button does; one that cannot be done here is not offered."""

    RETRY = "retry"
    FREE_MEMORY = "free_memory"
    EDIT_JOB = "edit_job"
    OPEN_SERVERS = "open_servers"
    OPEN_LOG = "open_log"
    OPEN_OUTPUTS = "open_outputs"
    UNLOAD_MODEL = "unload_model"
    """A language model's, of another program."""
    TILED_DECODE = "tiled_decode"
    RESTART_ENGINE = "restart_engine"
    COPY_DETAILS = "copy_details"


ONLY_BY_BUTTON = frozenset({Action.UNLOAD_MODEL, Action.TILED_DECODE, Action.OPEN_SERVERS})
"""Steps with these say nothing of use where their button cannot be offered: there is no
such program, switch or server."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, in a sentence; `action` where the window can do it."""

    text: str
    action: Action | None = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """What can be done about one failure.

    Attributes:
        cause: What happened, finer than the category.
        retryable: Whether the very same job may succeed when it is run again by itself.
        fallback: What may succeed instead, in a few words; None when nothing is known.
        poisoned: The worker or server must be restarted before it runs another job.
        steps: What a person can do, at least two, the likeliest first.
        page: Heading in the guide that says more.
    """

    cause: Cause
    retryable: bool
    fallback: str | None
    poisoned: bool
    steps: tuple[Step, ...]
    page: str


PAGES: Mapping[Category, str] = MappingProxyType(
    {
        Category.MODEL_NOT_FOUND: "A model is missing or damaged",
        Category.INSUFFICIENT_VRAM: "Memory ran out",
        Category.TIMEOUT: "It took too long",
        Category.NETWORK_ERROR: "A server cannot be reached",
        Category.WORKER_UNAVAILABLE: "The engine or the server is gone",
        Category.INVALID_PARAMS: "A value cannot be used",
        Category.STORAGE: "The disk or a folder",
        Category.BAD_OUTPUT: "The clip is not right",
        Category.UNKNOWN: "Something unexpected",
    }
)
"""The heading in the guide for each category."""


def recovery(problem: Problem) -> Recovery:
    """Return what can be done about a problem. Its words are read again, so that a
    category alone, or none, is enough.
    """
    cause = cause_of(problem)
    what = _WHAT[cause]
    poisoned = cause in (Cause.GPU_BROKEN, Cause.GPU_LOST) or is_poison(problem.details)
    steps = what.steps
    if poisoned and _RESTART not in steps:
        steps = (_RESTART, *steps)
    page = PAGES[category_of(cause)]
    return Recovery(cause, what.retryable, what.fallback, poisoned, steps, page)


@dataclass(frozen=True, slots=True)
class _What:
    retryable: bool
    fallback: str | None
    steps: tuple[Step, ...]


_AGAIN = Step("Run the same job again.", Action.RETRY)
_LOG = Step("Read in the log what came before it.", Action.OPEN_LOG)
_REPORT = Step("If it comes again, put the details into a report.", Action.COPY_DETAILS)
_FREE = Step("Free the memory that idle models hold, then retry.", Action.FREE_MEMORY)
_UNLOAD = Step("Let a language model go that holds GPU memory.", Action.UNLOAD_MODEL)
_TILES = Step("Decode in tiles: the same clip, with less memory.", Action.TILED_DECODE)
_SMALLER = Step("Make the job smaller: fewer frames first, then the size.", Action.EDIT_JOB)
_RESTART = Step(
    "Restart the engine: its process cannot use the GPU any more.", Action.RESTART_ENGINE
)
_SERVERS = Step("See whether the server runs, and start it there.", Action.OPEN_SERVERS)
_ADDRESS = Step("Compare its address with the one the server tells.", Action.OPEN_SERVERS)
_OTHER_MODEL = Step("Choose a model that is there.", Action.EDIT_JOB)
_RESCAN = Step("Look what the server has; F5 makes it look again.", Action.OPEN_SERVERS)
_FOLDER = Step("Look at the clips' folder and make room or give the right.", Action.OPEN_OUTPUTS)
_INSTALL = Step("Look in the log for the package that is missing.", Action.OPEN_LOG)

_WHAT: Mapping[Cause, _What] = MappingProxyType(
    {
        Cause.MODEL_MISSING: _What(
            False,
            "another model that is there",
            (
                _OTHER_MODEL,
                _RESCAN,
                Step("Or put the file where the message says it is looked for, then retry."),
            ),
        ),
        Cause.MODEL_DAMAGED: _What(
            False,
            "another model that is there",
            (
                Step("Get the file again and compare its size: a download was cut short."),
                Step("Until then, choose another model.", Action.EDIT_JOB),
                _LOG,
            ),
        ),
        Cause.MODEL_OTHER: _What(
            False,
            "the model that the recipe asks for",
            (
                Step("Choose the kind of model that this recipe asks for.", Action.EDIT_JOB),
                Step("Look in the log which file does not fit.", Action.OPEN_LOG),
            ),
        ),
        Cause.MODEL_LOCKED: _What(
            False,
            "another model that is there",
            (
                Step("Accept the licence on the model's page and sign in on that machine."),
                _OTHER_MODEL,
            ),
        ),
        Cause.GPU_MEMORY: _What(True, "decode in tiles", (_FREE, _UNLOAD, _TILES, _SMALLER)),
        Cause.HOST_MEMORY: _What(
            True,
            "fewer frames or a smaller size",
            (
                Step("Free the main memory that idle models hold.", Action.FREE_MEMORY),
                _SMALLER,
                Step("Close other programs, or give the system more swap or paging file."),
            ),
        ),
        Cause.TIMED_OUT: _What(
            True,
            "fewer steps, fewer frames or a smaller size",
            (
                Step("Look whether the server still works.", Action.OPEN_SERVERS),
                _AGAIN,
                Step("Ask for less: fewer steps, fewer frames.", Action.EDIT_JOB),
            ),
        ),
        Cause.REFUSED: _What(
            True,
            "another server",
            (_SERVERS, _AGAIN, Step("Compare its address with the one its log tells.")),
        ),
        Cause.BROKEN_OFF: _What(
            True,
            "another server",
            (
                _AGAIN,
                Step("See whether the server was restarted.", Action.OPEN_SERVERS),
                _LOG,
            ),
        ),
        Cause.UNREACHABLE: _What(
            True,
            "another server",
            (
                _ADDRESS,
                Step("Check the cable, the Wi-Fi or the VPN to that machine."),
                _AGAIN,
            ),
        ),
        Cause.NOT_LET_IN: _What(
            False,
            "another server",
            (
                Step("Enter its name and password under Edit.", Action.OPEN_SERVERS),
                Step("Ask whoever runs it to let this machine in."),
                _LOG,
            ),
        ),
        Cause.CERTIFICATE: _What(
            False,
            None,
            (
                Step(
                    "Check that its address begins with what it speaks, http or https.",
                    Action.OPEN_SERVERS,
                ),
                Step("Check this machine's clock, and that its certificate is still good."),
                _LOG,
            ),
        ),
        Cause.NETWORK: _What(True, "another server", (_SERVERS, _AGAIN, _LOG)),
        Cause.GPU_BROKEN: _What(
            True,
            None,
            (
                _RESTART,
                Step("Then run the same job again.", Action.RETRY),
                Step(
                    "If it comes with every job: no overclocking, an older driver, a report.",
                    Action.COPY_DETAILS,
                ),
            ),
        ),
        Cause.GPU_LOST: _What(
            False,
            "another server",
            (
                Step("Restart the computer: the driver has lost the GPU."),
                Step(
                    "Look at its power cable and its heat; the log says when it went.",
                    Action.OPEN_LOG,
                ),
            ),
        ),
        Cause.NO_GPU: _What(
            False,
            "another server",
            (
                Step("Install the driver, or the torch that fits this GPU."),
                Step("Meanwhile run it on another server.", Action.EDIT_JOB),
                _LOG,
            ),
        ),
        Cause.PACKAGE: _What(
            False,
            None,
            (
                _INSTALL,
                Step("Install it for the Python that the server or engine runs in."),
            ),
        ),
        Cause.DIED: _What(
            True,
            "fewer frames or a smaller size",
            (
                _AGAIN,
                _LOG,
                Step("If it dies again, it may lack main memory: ask for less.", Action.EDIT_JOB),
            ),
        ),
        Cause.PORT_TAKEN: _What(
            False,
            "another port",
            (
                Step("Choose another port for the server.", Action.OPEN_SERVERS),
                Step("Or end the program that has it."),
                _LOG,
            ),
        ),
        Cause.BUSY: _What(
            True,
            "another server",
            (
                Step("Wait a minute, then run the same job again.", Action.RETRY),
                Step("See what it does, and restart it if it does nothing.", Action.OPEN_SERVERS),
                _LOG,
            ),
        ),
        Cause.WORKER: _What(
            True,
            "another server",
            (
                _AGAIN,
                _SERVERS,
                Step("Or restart the engine first.", Action.RESTART_ENGINE),
                _LOG,
            ),
        ),
        Cause.VALUE: _What(
            False,
            "the nearest values that the model takes",
            (
                Step("Change the value that is named.", Action.EDIT_JOB),
                Step("Or let Queue › Round values to what models take do it."),
            ),
        ),
        Cause.PARTS: _What(
            False,
            "models of one family",
            (
                Step(
                    "Choose models of one family: the VAE and the encoders of this model.",
                    Action.EDIT_JOB,
                ),
                Step("Look in the log which part did not fit.", Action.OPEN_LOG),
            ),
        ),
        Cause.INPUT: _What(
            False,
            "another picture",
            (
                Step("Choose another picture; this one cannot be read.", Action.EDIT_JOB),
                Step("Or save it anew as PNG and choose that."),
            ),
        ),
        Cause.NODE: _What(
            False,
            "another server that has the pack",
            (
                Step(
                    "Install the node's pack on the server, restart it, then retry.",
                    Action.OPEN_SERVERS,
                ),
                Step("Or choose another server or workflow.", Action.EDIT_JOB),
                Step("Read in the log why a pack was not loaded.", Action.OPEN_LOG),
            ),
        ),
        Cause.TOO_LONG: _What(
            False,
            "fewer frames or a shorter text",
            (
                Step("Ask for fewer frames, or shorten the text.", Action.EDIT_JOB),
                Step("Or use a recipe that makes long clips in windows."),
            ),
        ),
        Cause.DISK_FULL: _What(
            False,
            None,
            (
                Step("Look at the clips' folder and make room on its disk.", Action.OPEN_OUTPUTS),
                Step("Then run the same job again.", Action.RETRY),
            ),
        ),
        Cause.PERMISSION: _What(
            False,
            None,
            (
                Step("Give yourself the right to write there.", Action.OPEN_OUTPUTS),
                Step("Close programs that hold the file open, then retry.", Action.RETRY),
            ),
        ),
        Cause.FILE_MISSING: _What(
            False,
            None,
            (
                Step("Choose the file again: it was moved or renamed.", Action.EDIT_JOB),
                Step("Look in the log which one is meant.", Action.OPEN_LOG),
            ),
        ),
        Cause.STORAGE: _What(True, None, (_FOLDER, _AGAIN, _LOG)),
        Cause.NOT_A_NUMBER: _What(
            False,
            "another scheduler, or a VAE in 32 bits",
            (
                Step("Use another scheduler, less guidance or another seed.", Action.EDIT_JOB),
                Step("Or run VAE or model in higher precision, if the recipe has that."),
            ),
        ),
        Cause.OUTPUT: _What(
            True,
            None,
            (
                _AGAIN,
                Step("See whether the disk of the clips is full or failing.", Action.OPEN_OUTPUTS),
                _REPORT,
            ),
        ),
        Cause.INTERRUPTED: _What(
            False,
            None,
            (
                Step("Run it again, if that was not meant.", Action.RETRY),
                Step("See who else uses that server.", Action.OPEN_SERVERS),
                _LOG,
            ),
        ),
        Cause.UNKNOWN: _What(True, None, (_AGAIN, _LOG, _REPORT)),
    }
)

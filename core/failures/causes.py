"""What can have happened: finer than the categories that people and retries go by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from core.errors import Category


class Cause(StrEnum):
    """What happened. Each belongs to one category; see `category_of`."""

    # A model
    MODEL_MISSING = "model_missing"
    MODEL_DAMAGED = "model_damaged"
    MODEL_OTHER = "model_other"
    """The file is whole, and another kind of model than the job takes it for."""
    MODEL_LOCKED = "model_locked"
    """Its publisher wants a licence accepted or a token."""
    # Memory
    GPU_MEMORY = "gpu_memory"
    HOST_MEMORY = "host_memory"
    # Time
    TIMED_OUT = "timed_out"
    # The network
    REFUSED = "refused"
    BROKEN_OFF = "broken_off"
    UNREACHABLE = "unreachable"
    NOT_LET_IN = "not_let_in"
    CERTIFICATE = "certificate"
    NETWORK = "network"
    # The process that works
    GPU_BROKEN = "gpu_broken"
    """The process can never use the GPU again; a new one can."""
    GPU_LOST = "gpu_lost"
    """No process can, before the driver or the machine is started anew."""
    NO_GPU = "no_gpu"
    PACKAGE = "package"
    DIED = "died"
    PORT_TAKEN = "port_taken"
    BUSY = "busy"
    WORKER = "worker"
    # What was asked for
    VALUE = "value"
    PARTS = "parts"
    """Models or tensors that do not fit each other."""
    INPUT = "input"
    NODE = "node"
    TOO_LONG = "too_long"
    # The disk
    DISK_FULL = "disk_full"
    PERMISSION = "permission"
    FILE_MISSING = "file_missing"
    STORAGE = "storage"
    # What was made
    NOT_A_NUMBER = "not_a_number"
    OUTPUT = "output"
    # The rest
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"


_OF: Mapping[Category, tuple[Cause, ...]] = MappingProxyType(
    {
        Category.MODEL_NOT_FOUND: (
            Cause.MODEL_MISSING,
            Cause.MODEL_DAMAGED,
            Cause.MODEL_OTHER,
            Cause.MODEL_LOCKED,
        ),
        Category.INSUFFICIENT_VRAM: (Cause.GPU_MEMORY, Cause.HOST_MEMORY),
        Category.TIMEOUT: (Cause.TIMED_OUT,),
        Category.NETWORK_ERROR: (
            Cause.NETWORK,
            Cause.REFUSED,
            Cause.BROKEN_OFF,
            Cause.UNREACHABLE,
            Cause.NOT_LET_IN,
            Cause.CERTIFICATE,
        ),
        Category.WORKER_UNAVAILABLE: (
            Cause.WORKER,
            Cause.GPU_BROKEN,
            Cause.GPU_LOST,
            Cause.NO_GPU,
            Cause.PACKAGE,
            Cause.DIED,
            Cause.PORT_TAKEN,
            Cause.BUSY,
        ),
        Category.INVALID_PARAMS: (
            Cause.VALUE,
            Cause.PARTS,
            Cause.INPUT,
            Cause.NODE,
            Cause.TOO_LONG,
        ),
        Category.STORAGE: (
            Cause.STORAGE,
            Cause.DISK_FULL,
            Cause.PERMISSION,
            Cause.FILE_MISSING,
        ),
        Category.BAD_OUTPUT: (Cause.OUTPUT, Cause.NOT_A_NUMBER),
        Category.UNKNOWN: (Cause.UNKNOWN, Cause.INTERRUPTED),
    }
)
"""The causes of each category, the one that says least of them first."""

_CATEGORY = MappingProxyType({cause: key for key, causes in _OF.items() for cause in causes})


def category_of(cause: Cause) -> Category:
    """Return the category that a cause belongs to."""
    return _CATEGORY[cause]


def cause_for(category: Category) -> Cause:
    """Return the cause that is taken where only the category is known."""
    return _OF[category][0]

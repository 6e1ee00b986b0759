"""What stays loaded between jobs: one model, and no second one beside it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Warm:
    """Holds the one loaded model of a worker."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._value: object = None

    def get(self, key: str, build: Callable[[], T]) -> T:
        """Return what was built for `key`, building it if it is not there.

        Whatever was kept for another key is dropped first, so that two models
        never lie in memory together.
        """
        if self._key != key:
            self.drop()
            # What is there already was looked through: only what loading leaves is, below.
            gc.freeze()
            value = build()
            self._value, self._key = value, key
            # A model lives long: no collection needs to walk through it again.
            gc.collect()
            gc.freeze()
            return value
        return self._value  # type: ignore[return-value]  # the key stands for its type

    @property
    def kept(self) -> object:
        """What is kept now, None for nothing."""
        return self._value

    def drop(self) -> None:
        """Let go of what is kept and give its memory back."""
        if self._key is None:
            return
        self._key, self._value = None, None
        gc.unfreeze()
        gc.collect()
        _forget_compiled()
        give_back()


def give_back() -> None:
    """Return unused blocks of the GPU allocator; imports nothing for it."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _forget_compiled() -> None:
    """Let go of what was compiled for a model that is gone, memory of CUDA graphs included."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()


def ran_out(error: BaseException) -> bool:
    """Say whether an error means that a card's memory ran out."""
    from core.errors import Category
    from core.failures.causes import category_of
    from core.failures.classify import diagnose

    return category_of(diagnose(error)) is Category.INSUFFICIENT_VRAM


def let_go(error: BaseException | None) -> None:
    """Let go of what the frames of an error hold, and those of the errors behind it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
        one.__traceback__ = one.__cause__ = one.__context__ = None

"""What turns out in the run not to work here is undone, and the run goes on without it.

Libraries for attention take certain types, widths and masks alone, and say so when called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from core.engines.local.speed_names import WORDS
from core.engines.local.warm import ran_out

if TYPE_CHECKING:
    from core.engines.local.speed_switches import Target


@contextmanager
def until_it_fails(
    target: Target, parts: Sequence[Any], switch: str, undo: Callable[[], None]
) -> Iterator[None]:
    """Compute a call of a part once more, without, where it fails; a person is told.

    Args:
        target: The model.
        parts: Whose calls are watched, from outside of what is compiled.
        switch: What may fail.
        undo: Turns it off; twice is fine.
    """
    failed: list[str] = []

    def gave_up(error: Exception) -> None:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = f"{type(error).__name__}: {' '.join(lines[:1])[:160]}"
        failed.append(why)
        target.gave_up(switch, why)
        target.tell(f"{WORDS[switch][0]} does not work here and is left out ({why}).")

    def watched(inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            try:
                return inner(*args, **options)
            except Exception as error:
                if failed or ran_out(error):
                    raise
                undo()
                answer = inner(*args, **options)
                gave_up(error)  # Only now: an error that the usual way has too is not its own.
                return answer

        return call

    before = [part._compiled_call_impl for part in parts]
    for part, compiled in zip(parts, before, strict=True):
        part._compiled_call_impl = watched(compiled or part._call_impl)
    try:
        yield
    finally:
        for part, compiled in zip(parts, before, strict=True):
            part._compiled_call_impl = compiled

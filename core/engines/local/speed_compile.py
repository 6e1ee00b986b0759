"""Compiled models: what is compiled, that it may fail, and how long it took."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from core.engines.local.warm import ran_out

if TYPE_CHECKING:
    from core.engines.local.speed_switches import Target

FAILED = "compile failed"
_KINDS_OF_BLOCKS = 64
"""Shapes of blocks that are compiled; a UNet has a dozen and more, where torch stops at eight."""
_UNET_BLOCKS = ("BasicTransformerBlock", "TemporalBasicTransformerBlock", "ResnetBlock2D")


def no_compiler(target: Target) -> str:
    """Return why nothing can be compiled here."""
    import shutil
    import sys

    if FAILED in target.kept:
        return str(target.kept[FAILED])
    if target.kind == "cuda":
        from importlib.util import find_spec

        return "" if find_spec("triton") else "triton is not installed"
    names = ("cl",) if sys.platform == "win32" else ("c++", "g++", "clang++")
    return "" if any(map(shutil.which, names)) else "no C++ compiler is installed"


def compiled(
    way: str, backend: str | Callable[..., Any] = "inductor"
) -> Callable[[Target], AbstractContextManager[None]]:
    """Return what compiles a model: "regional", or whole in one of torch's modes.

    What was compiled stays for the next time. Where that fails, at whatever call, the model
    goes on as it is and a person is told.
    """

    @contextmanager
    def applied(target: Target) -> Iterator[None]:
        import torch

        modules = [one for part in target.denoisers for one in _to_compile(part, way)]
        failed: list[Exception] = []
        made: dict[Any, Any] = target.kept.setdefault(f"compiled {way}", {})
        options: dict[str, Any] = {"backend": backend}
        options |= {"mode": way} if way != "regional" else {"dynamic": None}
        for module in modules:
            if module not in made:
                made[module] = torch.compile(module._call_impl, **options)

        def eager(error: Exception) -> None:
            failed.append(error.with_traceback(None))
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            why = f"{type(error).__name__}: {' '.join(lines[:2])[:200]}"
            target.kept[FAILED] = why
            target.facts["compile_failed"] = why
            target.tell(f"The model could not be compiled and runs as it is ({why}).")

        graphs = way != "regional" and target.kind == "cuda"
        for module in modules:
            fast = _from_graphs(made[module]) if graphs else made[module]
            module._compiled_call_impl = _or_eager(module, fast, eager, failed)
        try:
            # All modules are called through one function of torch, whose limit is for all of them.
            with torch._dynamo.config.patch(cache_size_limit=_KINDS_OF_BLOCKS):
                yield
        finally:
            for module in modules:
                module._compiled_call_impl = None

    return applied


def _to_compile(part: Any, way: str) -> list[Any]:
    if way != "regional":
        return [part]
    names = tuple(getattr(part, "_repeated_blocks", ()) or _UNET_BLOCKS)
    return [one for one in part.modules() if type(one).__name__ in names]


def _from_graphs(fast: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fast` with answers of their own: the next replay of a graph overwrites its."""

    def call(*args: Any, **options: Any) -> Any:
        import torch

        torch.compiler.cudagraph_mark_step_begin()
        return _copied(fast(*args, **options))

    return call


def _copied(answer: Any) -> Any:
    if hasattr(answer, "clone"):
        return answer.clone()
    if type(answer) is tuple:
        return tuple(map(_copied, answer))
    if isinstance(answer, dict):  # What models answer with is a dictionary with attributes.
        for name, one in answer.items():
            answer[name] = _copied(one)
    return answer


def _or_eager(
    module: Any,
    fast: Callable[..., Any],
    eager: Callable[[Exception], None],
    failed: list[Exception],
) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        if failed:
            return module._call_impl(*args, **options)
        try:
            return fast(*args, **options)
        except Exception as error:
            if ran_out(error):
                raise
            answer = module._call_impl(*args, **options)
            eager(error)  # Only now: an error that the plain way has too is no compiler's.
            return answer

    return call


class CompileClock:
    """Adds up the seconds that torch spends on compiling while it is entered."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began: list[float] = []
        self._handler: Any = None

    def __enter__(self) -> CompileClock:
        with contextlib.suppress(ImportError, AttributeError):
            from torch._dynamo.callback import callback_handler

            callback_handler.register_start_callback(self._start)
            callback_handler.register_end_callback(self._end)
            self._handler = callback_handler
        return self

    def __exit__(self, *exc: object) -> None:
        if self._handler is not None:
            self._handler.remove_start_callback(self._start)
            self._handler.remove_end_callback(self._end)

    def _start(self, _found: Any) -> None:
        self._began.append(monotonic())

    def _end(self, _found: Any) -> None:
        if self._began:
            began = self._began.pop()
            self.seconds += 0.0 if self._began else monotonic() - began

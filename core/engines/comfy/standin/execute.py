"""Running prompts for show: nodes in order, what is cached left out."""

from __future__ import annotations

import asyncio
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from core.engines.comfy.standin.backlog import Backlog, Item
from core.engines.comfy.standin.faults import Faults, Kind
from core.engines.comfy.standin.labour import Labour, NoPictureError, OutOfMemoryError
from core.engines.comfy.standin.media import Picture
from core.engines.comfy.standin.memory import Memory
from core.engines.comfy.standin.nodes import Catalogue
from core.engines.comfy.standin.order import Plan, Signatures, links
from core.engines.comfy.standin.run import Interrupted, Run
from core.engines.comfy.standin.saving import Shelf
from core.engines.comfy.standin.script import Script
from core.engines.comfy.standin.wires import Wires

_TIPS = (
    "This error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before "
    "you might have accidentally set the batch_size to a large number."
)
_NAMES: Mapping[type[Exception], str] = {
    OutOfMemoryError: "torch.OutOfMemoryError",
    NoPictureError: "PIL.UnidentifiedImageError",
}


@dataclass(frozen=True, slots=True)
class _Result:
    """What the cache keeps of a node."""

    picture: Picture
    ui: dict[str, Any] | None


class Executor:
    """The one worker of a server.

    Args:
        script: How it behaves.
        catalogue: What the nodes are.
        backlog: Where prompts come from.
        wires: Where messages go.
        shelf: Where files lie.
        memory: What is loaded.
        faults: What to spoil.
        log: Takes the lines that a server prints.

    Attributes:
        output_order: Order in which outputs are taken up.
        busy: Whether a node is at work.
        alive: Whether prompts are still run.
    """

    def __init__(
        self,
        script: Script,
        catalogue: Catalogue,
        backlog: Backlog,
        wires: Wires,
        shelf: Shelf,
        memory: Memory,
        faults: Faults,
        log: Callable[[str], None],
    ) -> None:
        self.output_order = script.output_order
        self.busy = False
        self.alive = True
        self._script = script
        self._catalogue = catalogue
        self._backlog = backlog
        self._wires = wires
        self._shelf = shelf
        self._memory = memory
        self._faults = faults
        self._log = log
        self._labour = Labour(script, catalogue, wires, shelf, memory, faults, self._check)
        self._cache: dict[str, _Result] = {}
        self._interrupted = False

    async def work(self) -> None:
        """Run prompts for ever, or until one kills this."""
        while True:
            item = await self._backlog.take()
            if item is not None:
                began = time()
                try:
                    await self._prompt(item)
                except Exception:  # noqa: BLE001 - whatever it is, it ends the work
                    self.alive = False
                    words = "Exception in thread Thread-7 (prompt_worker):\n"
                    self._log(words + traceback.format_exc())
                    return  # The thread of a real server ends the same way.
                self._log(f"Prompt executed in {time() - began:.2f} seconds\n")
            self._obey_flags()
            await asyncio.sleep(0)

    def interrupt(self) -> None:
        """Ask for the end of what runs; forgotten when the next prompt begins."""
        self._interrupted = True

    async def close(self) -> None:
        """Let nothing go on."""
        await self._labour.close()

    def _check(self) -> None:
        if self._interrupted:
            self._interrupted = False
            raise Interrupted

    def _obey_flags(self) -> None:
        flags = self._backlog.take_flags()
        free = flags.get("free_memory", False)
        if flags.get("unload_models", free):
            given = self._memory.free()
            self._log(f"Unloaded {given // 2**20} MB of models\n")
        if free:
            self._cache.clear()

    async def _prompt(self, item: Item) -> None:
        _, _, graph, extra, outputs = item
        if extra is None or self._faults.find(Kind.WORKER_DEAD) is not None:
            raise TypeError("argument of type 'NoneType' is not iterable")
        self._interrupted = False
        results = self._results(graph)
        run = Run(item, self._wires, results)
        self._wires.client, self._wires.step = run.client, 0
        run.tell("execution_start", {})
        kept = set(results.values())
        self._cache = {name: each for name, each in self._cache.items() if name in kept}
        cached = [name for name in graph if results.get(name) in self._cache]
        run.tell("execution_cached", {"nodes": cached})
        order = {name: place for place, name in enumerate(self.output_order)}
        wanted = sorted(outputs, key=lambda name: order.get(name, len(order)))
        good = await self._nodes(run, Plan(graph, wanted, set(cached), self._is_output(graph)))
        if good:
            run.tell("execution_success", {})
            if self._script.history_lag_seconds:
                await asyncio.sleep(self._script.history_lag_seconds)
        leak = self._faults.find(Kind.LEAK)
        self._memory.leak(int(leak.value) if leak is not None else self._script.leak_bytes)
        self._wires.node = None
        self._backlog.end(run.entry(good=good))
        run.executing(None)

    def _is_output(self, graph: Mapping[str, Any]) -> Callable[[str], bool]:
        return lambda name: self._catalogue.is_output(graph[name]["class_type"])

    def _results(self, graph: dict[str, Any]) -> dict[str, str]:
        signatures = Signatures(graph, self._catalogue, self._changed)
        return {name: signatures.of(name) for name in graph if "inputs" in graph[name]}

    def _changed(self, kind: str, values: dict[str, Any]) -> str:
        """Return what a node's result depends on beside its inputs."""
        if self._catalogue.kind(kind) == "SaveImageWebsocket":
            return str(time())
        if kind in ("LoadImage", "LoadImageMask", "LoadLatent"):
            path = self._catalogue.place(str(next(iter(values.values()), "")))
            return str(zlib.crc32(path.read_bytes())) if path.is_file() else ""
        return ""

    async def _nodes(self, run: Run, plan: Plan) -> bool:
        """Run the nodes; says whether all went well. What went wrong is told."""
        while (name := plan.next()) is not None:
            try:
                await self._node(run, name)
            except Interrupted:
                run.tell("execution_interrupted", self._about(run, name))
                return False
            except Exception as error:  # noqa: BLE001 - so does the server
                self._fail(run, name, error)
                return False
            finally:
                self.busy = False
                self._memory.work(0)
            plan.done(name)
            await asyncio.sleep(0)
        return True

    async def _node(self, run: Run, name: str) -> None:
        node, result = run.graph[name], run.results[name]
        kept = self._cache.get(result)
        if kept is not None:
            run.told(name, kept.ui)
            run.state(name, 1, 1, "finished")
            return
        run.state(name, 0.0, 1.0, "running")
        run.executing(name)
        self._check()
        self.busy = True
        sources = [run.results[source] for source, _ in links(node) if source in run.results]
        given = [self._cache[source].picture for source in sources if source in self._cache]
        picture = self._labour.picture(node, given)
        ui = await self._labour.work(run, name, picture)
        run.executed.append(name)
        self._cache[result] = _Result(picture, ui)
        run.told(name, ui)
        run.finished(name)

    def _about(self, run: Run, name: str) -> dict[str, Any]:
        kind = run.graph[name]["class_type"]
        return {"node_id": name, "node_type": kind, "executed": list(run.executed)}

    def _fail(self, run: Run, name: str, error: Exception) -> None:
        words = f"{error}\n" + (_TIPS if isinstance(error, OutOfMemoryError) else "")
        values = run.graph[name]["inputs"]
        self._log(f"!!! Exception during processing !!! {error}\n")
        run.tell(
            "execution_error",
            {
                **self._about(run, name),
                "exception_message": words,
                "exception_type": _NAMES.get(type(error), type(error).__name__),
                "traceback": traceback.format_tb(error.__traceback__),
                "current_inputs": {key: [str(value)] for key, value in values.items()},
                "current_outputs": list(run.graph),
            },
        )

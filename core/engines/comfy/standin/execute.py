"""Running prompts for show: nodes in order, each for as long as the script says."""

from __future__ import annotations

import asyncio
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import time
from typing import Any

from core.engines.comfy.standin import frames, media
from core.engines.comfy.standin.backlog import Backlog, Item
from core.engines.comfy.standin.faults import Faults, Kind
from core.engines.comfy.standin.media import Picture
from core.engines.comfy.standin.memory import Memory
from core.engines.comfy.standin.nodes import RAISE, SLEEP, Catalogue
from core.engines.comfy.standin.order import Plan, Signatures, links
from core.engines.comfy.standin.saving import Shelf
from core.engines.comfy.standin.script import Script
from core.engines.comfy.standin.wires import Wires

_SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustomAdvanced", "SamplerCustom")
_TIPS = (
    "This error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before "
    "you might have accidentally set the batch_size to a large number."
)
_TICK_SECONDS = 0.02


class _Interrupted(Exception):  # noqa: N818 - no error
    """Somebody asked for the end of the prompt."""


class _OutOfMemoryError(RuntimeError):
    """The GPU is full."""


class _NoPictureError(Exception):
    """A file is no picture."""


_NAMES: Mapping[type[Exception], str] = {
    _OutOfMemoryError: "torch.OutOfMemoryError",
    _NoPictureError: "PIL.UnidentifiedImageError",
}


@dataclass(slots=True)
class _Result:
    """What the cache keeps of a node."""

    picture: Picture
    ui: dict[str, Any] | None


@dataclass(slots=True)
class _Run:
    """One prompt while it runs."""

    item: Item
    client: Any
    names: dict[str, str]
    states: dict[str, dict[str, Any]]
    messages: list[Any]
    executed: list[str]
    outputs: dict[str, Any]

    @property
    def id(self) -> str:
        return self.item[1]

    @property
    def graph(self) -> dict[str, Any]:
        return self.item[2]


class Executor:
    """The one worker of a server.

    Args:
        script: How long things take.
        catalogue: What the nodes are.
        backlog: Where prompts come from.
        wires: Where messages go.
        shelf: Where files go.
        memory: What is loaded.
        faults: What to spoil.
        log: Takes the lines that a server prints.
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
        self._script = script
        self._catalogue = catalogue
        self._backlog = backlog
        self._wires = wires
        self._shelf = shelf
        self._memory = memory
        self._faults = faults
        self._log = log
        self._cache: dict[str, _Result] = {}
        self._late: set[asyncio.Task[None]] = set()
        self.interrupted = False
        self.busy = False
        self.alive = True

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
                    self._log(traceback.format_exc())
                    return  # The thread of a real server ends the same way.
                self._log(f"Prompt executed in {time() - began:.2f} seconds\n")
            self._obey_flags()
            await asyncio.sleep(0)

    def interrupt(self) -> None:
        """Ask for the end of what runs; forgotten when the next prompt begins."""
        self.interrupted = True

    async def close(self) -> None:
        """Give up on files that were still growing."""
        for task in list(self._late):
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def _obey_flags(self) -> None:
        flags = self._backlog.take_flags()
        free = flags.get("free_memory", False)
        if flags.get("unload_models", free):
            given = self._memory.free()
            self._log(f"Unloaded {given // 2**20} MB of models\n")
        if free:
            self._cache.clear()

    # One prompt.

    async def _prompt(self, item: Item) -> None:
        _, prompt_id, graph, extra, _ = item
        dead = self._faults.find(Kind.WORKER_DEAD) is not None
        if extra is None or dead:
            raise TypeError("argument of type 'NoneType' is not iterable")
        self.interrupted = False
        client = extra.get("client_id")
        self._wires.client, self._wires.step = client, 0
        names = self._signatures(graph)
        run = _Run(item, client, names, {}, [], [], {})
        self._tell(run, "execution_start", {"prompt_id": prompt_id})
        self._cache = {name: kept for name, kept in self._cache.items() if name in names.values()}
        cached = [name for name in graph if names.get(name) in self._cache]
        self._tell(run, "execution_cached", {"nodes": cached, "prompt_id": prompt_id})
        good = await self._nodes(run, set(cached))
        if good:
            self._tell(run, "execution_success", {"prompt_id": prompt_id})
            if self._script.history_lag_seconds:
                await asyncio.sleep(self._script.history_lag_seconds)
        leak = self._faults.find(Kind.LEAK)
        self._memory.leak(int(leak.value) if leak is not None else self._script.leak_bytes)
        self._wires.node = None
        self._end(run, good=good)

    def _end(self, run: _Run, *, good: bool) -> None:
        meta = {
            name: {"node_id": name, "display_node": name, "parent_node": None, "real_node_id": name}
            for name in run.outputs
        }
        self._backlog.end(
            {
                "outputs": run.outputs,
                "status": {
                    "status_str": "success" if good else "error",
                    "completed": good,
                    "messages": run.messages,
                },
                "meta": meta,
            }
        )
        if run.client is not None:
            self._wires.send("executing", {"node": None, "prompt_id": run.id}, run.client)

    def _signatures(self, graph: dict[str, Any]) -> dict[str, str]:
        names = Signatures(graph, self._catalogue, self._changed)
        return {name: names.of(name) for name in graph if "inputs" in graph[name]}

    def _changed(self, kind: str, values: dict[str, Any]) -> str:
        """Return what a node's result depends on beside its inputs."""
        if self._catalogue.kind(kind) == "SaveImageWebsocket":
            return str(time())
        if kind in ("LoadImage", "LoadImageMask", "LoadLatent"):
            path = self._shelf.place("input") / str(next(iter(values.values()), ""))
            return str(zlib.crc32(path.read_bytes())) if path.is_file() else ""
        return ""

    async def _nodes(self, run: _Run, cached: set[str]) -> bool:
        """Run the nodes; says whether all went well. What went wrong is told."""
        order = {name: place for place, name in enumerate(self._script.output_order)}
        outputs = sorted(run.item[4], key=lambda name: order.get(name, len(order)))
        plan = Plan(
            run.graph,
            outputs,
            cached,
            lambda name: self._catalogue.is_output(run.graph[name]["class_type"]),
        )
        while (name := plan.next()) is not None:
            try:
                await self._node(run, name)
            except _Interrupted:
                self._tell(run, "execution_interrupted", self._about(run, name))
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

    def _about(self, run: _Run, name: str) -> dict[str, Any]:
        kind = run.graph[name]["class_type"]
        about = {"prompt_id": run.id, "node_id": name, "node_type": kind}
        return {**about, "executed": list(run.executed)}

    def _fail(self, run: _Run, name: str, error: Exception) -> None:
        words = f"{error}\n" + (_TIPS if isinstance(error, _OutOfMemoryError) else "")
        values = run.graph[name]["inputs"]
        self._log(f"!!! Exception during processing !!! {error}\n")
        self._tell(
            run,
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

    async def _node(self, run: _Run, name: str) -> None:
        node = run.graph[name]
        kept = self._cache.get(run.names[name])
        if kept is not None:
            self._executed(run, name, kept.ui)
            self._state(run, name, 1, 1, "finished")
            return
        self._state(run, name, 0.0, 1.0, "running")
        if run.client is not None:
            self._wires.node = name
            about = {"node": name, "display_node": name, "prompt_id": run.id}
            self._wires.send("executing", about, run.client)
        self._check_interrupt()
        self.busy = True
        picture = self._picture(run, node)
        ui = await self._work(run, name, picture)
        run.executed.append(name)
        self._cache[run.names[name]] = _Result(picture, ui)
        self._executed(run, name, ui)
        state = run.states[name]
        self._state(run, name, state["max"], state["max"], "finished")

    def _executed(self, run: _Run, name: str, ui: dict[str, Any] | None) -> None:
        if ui is None:
            return
        run.outputs[name] = ui
        if run.client is not None:
            about = {"node": name, "display_node": name, "output": ui, "prompt_id": run.id}
            self._wires.send("executed", about, run.client)

    # What a node does.

    async def _work(self, run: _Run, name: str, picture: Picture) -> dict[str, Any] | None:
        node = run.graph[name]
        kind = self._catalogue.kind(node["class_type"])
        inputs = node["inputs"]
        await self._spoil(kind)
        for model in self._catalogue.model_files(kind, inputs):
            if self._memory.load(model):
                await asyncio.sleep(self._script.load_seconds)
        seconds = self._script.seconds.get(kind, self._script.node_seconds)
        if kind in _SAMPLERS:
            await asyncio.sleep(seconds)
            await self._steps(run, name, _step_count(inputs), self._script.step_seconds, picture)
            return None
        if kind == SLEEP:
            await self._sleep(run, name, inputs)
            return None
        if kind == RAISE:
            raise _error(str(inputs["kind"]))
        await asyncio.sleep(seconds)
        if kind == "SaveImageWebsocket":
            await self._send_pictures(run, name, picture)
            return None
        if not self._catalogue.is_output(node["class_type"]):
            return None
        return await self._save(run, name, kind, picture)

    async def _save(
        self, run: _Run, name: str, kind: str, picture: Picture
    ) -> dict[str, Any] | None:
        inputs = run.graph[name]["inputs"]
        if kind == "VHS_VideoCombine":
            for number in range(picture.count):
                self._progress(run, name, number + 1, picture.count)
        if kind == "SaveVideo" and inputs.get("format") not in ("auto", "mp4"):
            raise ValueError(f"{inputs.get('format')!r} is not a valid VideoContainer")
        for key in ("images", "video", "samples"):
            if key in inputs and not isinstance(inputs[key], list):
                what = type(inputs[key]).__name__
                raise AttributeError(f"'{what}' object has no attribute 'shape'")
        texts = {"prompt": run.graph, **((run.item[3] or {}).get("extra_pnginfo") or {})}
        saved = await asyncio.to_thread(self._shelf.save, kind, inputs, picture, texts)
        if saved is None:
            return None
        if saved.growing is not None:
            task = asyncio.create_task(_grow(*saved.growing))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
        return saved.ui

    async def _spoil(self, kind: str) -> None:
        hold = self._faults.find(Kind.HOLD, node=kind)
        if hold is not None:
            self._memory.hold(int(hold.value))
        if self._faults.find(Kind.OUT_OF_MEMORY, node=kind) is not None:
            usage = self._memory.usage()
            self._memory.work(usage.total_bytes - usage.used_bytes)
            raise _OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        if self._faults.find(Kind.ERROR, node=kind) is not None:
            raise RuntimeError("the stand-in was told to fail here")
        hang = self._faults.find(Kind.HANG, node=kind)
        if hang is not None and hang.value:
            await asyncio.sleep(hang.value)
        while hang is not None and not hang.value and hang in self._faults.armed():
            await asyncio.sleep(_TICK_SECONDS)

    async def _steps(
        self, run: _Run, name: str, count: int, seconds: float, picture: Picture
    ) -> None:
        shown = self._preview_of(picture)
        moving = _vhs_rate(run)
        if moving and shown is not None:
            told = {"length": (picture.count + 3) // 4, "rate": moving, "id": name}
            self._wires.send("VHS_latentpreview", told, run.client)
        for step in range(1, count + 1):
            await asyncio.sleep(seconds)
            self._check_interrupt()
            self._wires.step = step
            named = self._wires.wants_metadata(run.client)
            if shown is not None and moving:
                frame = frames.animated(shown, name, (step - 1) % ((picture.count + 3) // 4))
                self._wires.send_frame(frame, run.client)
            self._state(run, name, step, count, "running")
            if shown is not None and named and not moving:
                frame = frames.preview_with_metadata(shown, name, run.id)
                self._wires.send_frame(frame, run.client)
            self._told_progress(run, name, step, count)
            if shown is not None and not named and not moving:
                self._wires.send_frame(frames.preview(shown), run.client)

    def _preview_of(self, picture: Picture) -> bytes | None:
        if not self._script.previews:
            return None
        share = self._script.preview_pixels / max(picture.width, picture.height, 1)
        small = replace(
            picture,
            width=max(8, round(picture.width * share)) // 2 * 2,
            height=max(8, round(picture.height * share)) // 2 * 2,
            count=1,
        )
        return media.jpeg(next(iter(media.frames(small))))

    async def _sleep(self, run: _Run, name: str, inputs: Mapping[str, Any]) -> None:
        steps, seconds = int(inputs["steps"]), float(inputs["seconds"]) * self._script.pace
        if not steps:
            await asyncio.sleep(seconds)
            return
        began = asyncio.get_running_loop().time()
        for step in range(1, steps + 1):
            wait = began + seconds * step / steps - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, wait))
            self._check_interrupt()
            self._wires.step = step
            self._progress(run, name, step, steps)

    async def _send_pictures(self, run: _Run, name: str, picture: Picture) -> None:
        for number, pixels in enumerate(media.frames(picture)):
            self._progress(run, name, number, picture.count)
            self._wires.send_frame(frames.preview(media.png(pixels), frames.PNG), run.client)

    def _picture(self, run: _Run, node: dict[str, Any]) -> Picture:
        """Return what a node hands on: what it is given, changed by its own numbers."""
        inputs = node["inputs"]
        given = [
            self._cache[run.names[source]].picture
            for source, _ in links(node)
            if run.names.get(source) in self._cache
        ]
        shaped = [each for each in given if each != Picture()]
        picture = shaped[-1] if shaped else Picture()
        numbers = {key: value for key, value in inputs.items() if isinstance(value, int | float)}
        changes: dict[str, Any] = {}
        for key, names in (
            ("width", ("width",)),
            ("height", ("height",)),
            ("count", ("length", "video_frames", "batch_size")),
            ("seed", ("seed", "noise_seed")),
            ("color", ("color",)),
            ("fps", ("fps",)),
        ):
            for each in names:
                if each in numbers:
                    value = numbers[each]
                    changes[key] = float(value) if key == "fps" else int(value) % 2**63
                    break
        if self._catalogue.kind(node["class_type"]) in ("LoadImage", "LoadImageMask"):
            path = self._shelf.place("input") / str(inputs["image"])
            size = media.size_of(path.read_bytes())
            if size is None:
                raise _NoPictureError(f"cannot identify image file '{path}'")
            changes |= {"width": size[0], "height": size[1]}
        return replace(picture, **changes)

    # What is said about it.

    def _check_interrupt(self) -> None:
        if self.interrupted:
            self.interrupted = False
            raise _Interrupted

    def _tell(self, run: _Run, kind: str, data: dict[str, Any]) -> None:
        data = {**data, "timestamp": int(time() * 1000)}
        run.messages.append([kind, data])
        if run.client is not None:
            self._wires.send(kind, data, run.client)

    def _state(self, run: _Run, name: str, value: float, most: float, state: str) -> None:
        run.states[name] = {
            "value": value,
            "max": most,
            "state": state,
            "node_id": name,
            "prompt_id": run.id,
            "display_node_id": name,
            "parent_node_id": None,
            "real_node_id": name,
        }
        nodes = dict(run.states)
        self._wires.send("progress_state", {"prompt_id": run.id, "nodes": nodes}, run.client)

    def _progress(self, run: _Run, name: str, value: int, most: int) -> None:
        self._state(run, name, value, most, "running")
        self._told_progress(run, name, value, most)

    def _told_progress(self, run: _Run, name: str, value: int, most: int) -> None:
        told = {"value": value, "max": most, "prompt_id": run.id, "node": name}
        self._wires.send("progress", told, run.client)


def _step_count(inputs: Mapping[str, Any]) -> int:
    steps = int(inputs.get("steps", 20)) if not isinstance(inputs.get("steps"), list) else 20
    first = int(inputs.get("start_at_step", 0))
    return max(0, min(steps, int(inputs.get("end_at_step", steps))) - first)


def _vhs_rate(run: _Run) -> int:
    """Return the rate of moving previews, 0 where the workflow does not ask for them."""
    extra = (run.item[3] or {}).get("extra_pnginfo") or {}
    asked = ((extra.get("workflow") or {}).get("extra") or {}).get("VHS_latentpreview")
    return 8 if asked else 0


def _error(kind: str) -> Exception:
    if kind == "oom":
        return _OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    if kind == "bad_return":
        return TypeError("object of type 'int' has no len()")
    return ValueError("the stand-in was asked to fail")


async def _grow(path: Any, rest: bytes, seconds: float) -> None:
    await asyncio.sleep(seconds)
    with path.open("ab") as file:
        file.write(rest)

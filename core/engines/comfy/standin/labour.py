"""What nodes do here: take their time, send pictures, write files, fail when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.engines.comfy.standin import frames, media
from core.engines.comfy.standin.faults import Faults, Kind
from core.engines.comfy.standin.media import Picture
from core.engines.comfy.standin.memory import Memory
from core.engines.comfy.standin.nodes import RAISE, SLEEP, Catalogue
from core.engines.comfy.standin.run import Run
from core.engines.comfy.standin.saving import Shelf
from core.engines.comfy.standin.script import Script
from core.engines.comfy.standin.wires import Wires

_SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustomAdvanced", "SamplerCustom")
_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "width": ("width",),
    "height": ("height",),
    "count": ("length", "video_frames", "batch_size"),
    "seed": ("seed", "noise_seed"),
    "color": ("color",),
    "fps": ("fps",),
}
_TICK_SECONDS = 0.02
_VHS_RATE = 8


class OutOfMemoryError(RuntimeError):
    """The GPU is full."""


class NoPictureError(Exception):
    """A file is no picture."""


class Labour:
    """Does the nodes' work.

    Args:
        script: How long things take.
        catalogue: What the nodes are.
        wires: Where previews go.
        shelf: Where files go.
        memory: What is loaded.
        faults: What to spoil.
        check: Raises when the prompt shall end.
    """

    def __init__(
        self,
        script: Script,
        catalogue: Catalogue,
        wires: Wires,
        shelf: Shelf,
        memory: Memory,
        faults: Faults,
        check: Callable[[], None],
    ) -> None:
        self._script = script
        self._catalogue = catalogue
        self._wires = wires
        self._shelf = shelf
        self._memory = memory
        self._faults = faults
        self._check = check
        self._late: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Give up on files that were still growing."""
        for task in list(self._late):
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def picture(self, node: Mapping[str, Any], given: list[Picture]) -> Picture:
        """Return what a node hands on: what it is given, changed by its own numbers."""
        inputs = node["inputs"]
        shaped = [each for each in given if each != Picture()]
        picture = shaped[-1] if shaped else Picture()
        changes: dict[str, Any] = {}
        for field, names in _NUMBERS.items():
            for name in names:
                value = inputs.get(name)
                if isinstance(value, int | float):
                    changes[field] = float(value) if field == "fps" else int(value) % 2**63
                    break
        if self._catalogue.kind(node["class_type"]) in ("LoadImage", "LoadImageMask"):
            path = self._shelf.place("input") / str(inputs["image"])
            size = media.size_of(path.read_bytes())
            if size is None:
                raise NoPictureError(f"cannot identify image file '{path}'")
            changes |= {"width": size[0], "height": size[1]}
        return replace(picture, **changes)

    async def work(self, run: Run, name: str, picture: Picture) -> dict[str, Any] | None:
        """Do the work of a node; returns what an output node tells."""
        node = run.graph[name]
        kind = self._catalogue.kind(node["class_type"])
        inputs = node["inputs"]
        await self._spoil(kind)
        for model in self._catalogue.model_files(kind, inputs):
            if self._memory.load(model):
                await asyncio.sleep(self._script.load_seconds)
        if kind == SLEEP:
            await self._sleep(run, name, inputs)
        elif kind == RAISE:
            raise _error(str(inputs["kind"]))
        await asyncio.sleep(self._script.seconds.get(kind, self._script.node_seconds))
        if kind in _SAMPLERS:
            await self._steps(run, name, _step_count(inputs), picture)
        elif kind == "SaveImageWebsocket":
            self._send_pictures(run, name, picture)
        elif self._catalogue.is_output(node["class_type"]):
            return await self._save(run, name, kind, picture)
        return None

    async def _spoil(self, kind: str) -> None:
        hold = self._faults.find(Kind.HOLD, node=kind)
        if hold is not None:
            self._memory.hold(int(hold.value))
        if self._faults.find(Kind.OUT_OF_MEMORY, node=kind) is not None:
            usage = self._memory.usage()
            self._memory.work(usage.total_bytes - usage.used_bytes)
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        if self._faults.find(Kind.ERROR, node=kind) is not None:
            raise RuntimeError("the stand-in was told to fail here")
        if self._faults.find(Kind.BROKEN_GPU, node=kind) is not None:
            raise RuntimeError("CUDA error: device-side assert triggered")
        released = self._faults.disarmed(Kind.HANG)
        hang = self._faults.find(Kind.HANG, node=kind)
        if hang is not None and hang.value:
            await asyncio.sleep(hang.value)
        elif hang is not None:
            while self._faults.disarmed(Kind.HANG) == released:
                await asyncio.sleep(_TICK_SECONDS)

    async def _steps(self, run: Run, name: str, count: int, picture: Picture) -> None:
        """Sample: after each step its number, and a picture in the way the client asked for."""
        shown = self._preview_of(picture)
        moving = shown is not None and _wants_moving(run)
        latents = (picture.count + 3) // 4
        if moving:
            told = {"length": latents, "rate": _VHS_RATE, "id": name}
            self._wires.send("VHS_latentpreview", told, run.client)
        for step in range(1, count + 1):
            await asyncio.sleep(self._script.step_seconds)
            self._check()
            self._wires.step = step
            named = self._wires.wants_metadata(run.client)
            if shown is not None and moving:
                frame = frames.animated(shown, name, (step - 1) % latents)
                self._wires.send_frame(frame, run.client)
            run.state(name, step, count, "running")
            if shown is not None and named and not moving:
                frame = frames.preview_with_metadata(shown, name, run.id)
                self._wires.send_frame(frame, run.client)
            run.step(name, step, count)
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

    async def _sleep(self, run: Run, name: str, inputs: Mapping[str, Any]) -> None:
        steps, seconds = int(inputs["steps"]), float(inputs["seconds"]) * self._script.pace
        if not steps:
            await asyncio.sleep(seconds)
            return
        clock = asyncio.get_running_loop().time
        began = clock()
        for step in range(1, steps + 1):
            await asyncio.sleep(max(0.0, began + seconds * step / steps - clock()))
            self._check()
            self._wires.step = step
            run.progress(name, step, steps)

    def _send_pictures(self, run: Run, name: str, picture: Picture) -> None:
        for number, pixels in enumerate(media.frames(picture)):
            run.progress(name, number, picture.count)
            self._wires.send_frame(frames.preview(media.png(pixels), frames.PNG), run.client)

    async def _save(
        self, run: Run, name: str, kind: str, picture: Picture
    ) -> dict[str, Any] | None:
        inputs = run.graph[name]["inputs"]
        if kind == "VHS_VideoCombine":
            for number in range(picture.count):
                run.progress(name, number + 1, picture.count)
        if kind == "SaveVideo" and inputs.get("format") not in ("auto", "mp4"):
            raise ValueError(f"{inputs.get('format')!r} is not a valid VideoContainer")
        for key in ("images", "video", "samples"):
            if key in inputs and not isinstance(inputs[key], list):
                what = type(inputs[key]).__name__
                raise AttributeError(f"'{what}' object has no attribute 'shape'")
        saved = await asyncio.to_thread(self._shelf.save, kind, inputs, picture, run.texts)
        if saved is None:
            return None
        if saved.growing is not None:
            task = asyncio.create_task(_grow(*saved.growing))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
        return saved.ui


def _step_count(inputs: Mapping[str, Any]) -> int:
    steps = int(inputs.get("steps", 20)) if not isinstance(inputs.get("steps"), list) else 20
    first = int(inputs.get("start_at_step", 0))
    return max(0, min(steps, int(inputs.get("end_at_step", steps))) - first)


def _wants_moving(run: Run) -> bool:
    """Say whether the workflow asks VideoHelperSuite for moving previews."""
    extra = (run.texts.get("workflow") or {}).get("extra") or {}
    return bool(extra.get("VHS_latentpreview"))


def _error(kind: str) -> Exception:
    if kind == "oom":
        return OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    if kind == "bad_return":
        return TypeError("object of type 'int' has no len()")
    return ValueError("the stand-in was asked to fail")


async def _grow(path: Path, rest: bytes, seconds: float) -> None:
    await asyncio.sleep(seconds)
    with path.open("ab") as file:
        file.write(rest)

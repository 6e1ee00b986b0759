"""What output nodes write, under the names that ComfyUI gives."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.engines.comfy.standin import media
from core.engines.comfy.standin.faults import HOSTILE_NAMES, Fault, Faults, Kind
from core.engines.comfy.standin.media import Picture

_TINY_BYTES = 48
_VHS_SUFFIX = {"image/gif": "gif", "image/webp": "webp", "video/webm": "webm"}
_SAVERS = {
    "SaveAnimatedWEBP": "webp",
    "SaveAnimatedPNG": "png",
    "SaveWEBM": "webm",
    "SaveVideo": "mp4",
}


@dataclass(frozen=True, slots=True)
class Saved:
    """What an output node told the world.

    Attributes:
        ui: What stands under "output" of its message.
        growing: A file that is not whole yet, its other half, and the seconds until it comes.
    """

    ui: dict[str, Any]
    growing: tuple[Path, bytes, float] | None = None


class Shelf:
    """The folders of one server.

    Args:
        folder: Where `output`, `input` and `temp` are made.
        faults: What to spoil.
    """

    def __init__(self, folder: Path, faults: Faults) -> None:
        self.folder = folder
        self._faults = faults
        self._temp_prefix = "ComfyUI_temp_" + "".join(random.choices(string.ascii_lowercase, k=5))
        for kind in ("output", "input", "temp"):
            self.place(kind).mkdir(parents=True, exist_ok=True)

    def place(self, kind: str) -> Path:
        """Return the folder "output", "input" or "temp"."""
        return self.folder / kind

    def save(
        self, kind: str, inputs: Mapping[str, Any], picture: Picture, texts: Mapping[str, Any]
    ) -> Saved | None:
        """Do what an output node does; None for a kind that writes nothing.

        Args:
            kind: Its class.
            inputs: Its values.
            picture: What it is given.
            texts: What is kept inside the file.
        """
        prefix = str(inputs.get("filename_prefix", "ComfyUI"))
        if kind in ("SaveImage", "PreviewImage"):
            where = "output" if kind == "SaveImage" else "temp"
            prefix = prefix if kind == "SaveImage" else self._temp_prefix
            return self._pictures(prefix, where, picture, texts)
        if kind == "SaveLatent":
            return self._write(prefix, "output", "_.latent", media.latent(picture), "latents", {})
        if kind in _SAVERS:
            fps = float(inputs.get("fps", picture.fps))
            data = media.clip(picture, _SAVERS[kind], fps, texts)
            saved = self._write(prefix, "output", f"_.{_SAVERS[kind]}", data, "images", {})
            saved.ui["animated"] = [True]
            return saved
        if kind == "VHS_VideoCombine":
            return self._vhs(prefix, inputs, picture, texts)
        return None

    def _pictures(
        self, prefix: str, where: str, picture: Picture, texts: Mapping[str, Any]
    ) -> Saved:
        told: list[dict[str, Any]] = []
        growing = None
        for pixels in media.frames(picture):
            one = self._write(prefix, where, "_.png", media.png(pixels, texts), "images", {})
            told += one.ui["images"]
            growing = one.growing or growing
        return Saved({"images": told}, growing)

    def _vhs(
        self, prefix: str, inputs: Mapping[str, Any], picture: Picture, texts: Mapping[str, Any]
    ) -> Saved:
        form = str(inputs["format"])
        suffix = _VHS_SUFFIX.get(form, "mp4")
        fps = float(inputs["frame_rate"])
        where = "output" if inputs.get("save_output", True) else "temp"
        data = media.clip(picture, suffix, fps, texts)
        more = {"format": form, "frame_rate": fps}
        saved = self._write(prefix, where, f".{suffix}", data, "gifs", more)
        told = saved.ui["gifs"][0]
        path = self.place(where) / told["subfolder"] / told["filename"]
        first = next(iter(media.frames(picture)))
        told["workflow"] = Path(told["filename"]).stem + ".png"
        if len(told["workflow"]) < 200 and path.exists():
            path.with_suffix(".png").write_bytes(media.png(first, texts))
        told["fullpath"] = str(path)
        return saved

    def _write(
        self, prefix: str, where: str, ending: str, data: bytes, key: str, more: dict[str, Any]
    ) -> Saved:
        parent, _, stem = prefix.rpartition("/")
        folder = (self.place(where) / parent).resolve()
        if not folder.is_relative_to(self.place(where).resolve()):
            raise ValueError("Saving image outside the output folder is not allowed.")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}_{_next_number(folder, stem):05}{ending}"
        growing = self._put(path, data)
        name = path.name
        hostile = self._faults.find(Kind.HOSTILE_NAME)
        if hostile is not None:
            name = HOSTILE_NAMES[int(hostile.value) % len(HOSTILE_NAMES)]
        told = {"filename": name, "subfolder": parent, "type": where, **more}
        return Saved({key: [told]}, growing)

    def _put(self, path: Path, data: bytes) -> tuple[Path, bytes, float] | None:
        """Write a file, spoiled if it shall be."""
        fault: Fault | None
        growing = None
        if self._faults.find(Kind.GONE) is not None:
            return None
        if self._faults.find(Kind.TINY) is not None:
            data = data[:_TINY_BYTES]
        elif self._faults.find(Kind.CORRUPT) is not None:
            half = len(data) // 2
            data = data[: half // 2] + random.randbytes(half - half // 2)
        elif (fault := self._faults.find(Kind.GROWING)) is not None:
            half = len(data) // 2
            growing = (path, data[half:], fault.value)
            data = data[:half]
        path.write_bytes(data)
        return growing


def _next_number(folder: Path, stem: str) -> int:
    pattern = re.compile(re.escape(stem) + r"_(\d+)")
    found = [pattern.match(path.name) for path in folder.iterdir()]
    return max((int(each[1]) for each in found if each), default=0) + 1

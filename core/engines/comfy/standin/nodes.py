"""The nodes that a stand-in knows: as GET /object_info tells them, and what they are for."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core import resources
from core.engines.comfy.standin.script import Script

Info = dict[str, Any]

SLEEP = "StandinSleep"
RAISE = "StandinRaise"

LOADERS: Mapping[tuple[str, str], str] = {
    ("CheckpointLoaderSimple", "ckpt_name"): "checkpoints",
    ("ImageOnlyCheckpointLoader", "ckpt_name"): "checkpoints",
    ("UNETLoader", "unet_name"): "diffusion_models",
    ("CLIPLoader", "clip_name"): "text_encoders",
    ("DualCLIPLoader", "clip_name1"): "text_encoders",
    ("DualCLIPLoader", "clip_name2"): "text_encoders",
    ("VAELoader", "vae_name"): "vae",
    ("LoraLoader", "lora_name"): "loras",
    ("LoraLoaderModelOnly", "lora_name"): "loras",
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
    ("ADE_LoadAnimateDiffModel", "model_name"): "animatediff_models",
    ("ADE_AnimateDiffLoaderGen1", "model_name"): "animatediff_models",
    ("ADE_AnimateDiffLoaderWithContext", "model_name"): "animatediff_models",
    ("ADE_AnimateDiffLoRALoader", "name"): "animatediff_motion_lora",
    ("ADE_AnimateDiffLoRALoader", "lora_name"): "animatediff_motion_lora",
}
"""Folder whose files an input offers."""

FOLDERS = (
    *("checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models"),
    *("clip_vision", "style_models", "embeddings", "diffusers", "vae_approx", "controlnet"),
    *("gligen", "upscale_models", "custom_nodes", "hypernetworks", "photomaker", "classifiers"),
    *("model_patches", "audio_encoders", "animatediff_models", "animatediff_motion_lora"),
    *("animatediff_video_formats", "VHS_video_formats"),
)

CHECKED_BY_THEMSELVES: Mapping[str, tuple[str, str]] = {
    "LoadImage": ("image", "image"),
    "LoadImageMask": ("image", "image"),
    "LoadVideo": ("file", "video"),
    "LoadLatent": ("latent", "latent"),
}
"""Nodes that look for their file in `input` instead of in their list: input, kind of file."""

_NO_FILE = "pixel_space"
"""What a loader offers besides files."""

_SUFFIXES = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"),
    "video": (".mp4", ".webm", ".mkv", ".mov", ".gif"),
    "latent": (".latent",),
}


def _node(name: str, required: Info, output: list[str], **more: Any) -> Info:
    return {
        "input": {"required": required},
        "input_order": {"required": list(required)},
        "output": output,
        "output_is_list": [False] * len(output),
        "output_name": output,
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": "nodes",
        "category": "_for_testing",
        "output_node": False,
        **more,
    }


_OWN: tuple[Info, ...] = (
    _node(
        "SaveLatent",
        {"samples": ["LATENT"], "filename_prefix": ["STRING", {"default": "latents/ComfyUI"}]},
        [],
        output_node=True,
    ),
    _node(
        "LatentUpscaleBy",
        {
            "samples": ["LATENT"],
            "upscale_method": [["nearest-exact", "bilinear", "area", "bicubic", "bislerp"]],
            "scale_by": ["FLOAT", {"default": 1.5, "min": 0.01, "max": 8.0, "step": 0.01}],
        },
        ["LATENT"],
    ),
    _node("LoadLatent", {"latent": [[], {}]}, ["LATENT"]),
    _node(
        SLEEP,
        {
            "image": ["IMAGE"],
            "seconds": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 86400.0}],
            "steps": ["INT", {"default": 0, "min": 0, "max": 1_000_000}],
            "tag": ["INT", {"default": 0, "min": 0, "max": 2**31}],
        },
        ["IMAGE"],
    ),
    _node(
        RAISE,
        {
            "image": ["IMAGE"],
            "kind": [["value_error", "oom", "bad_return"]],
            "tag": ["INT", {"default": 0, "min": 0, "max": 2**31}],
        },
        ["IMAGE"],
    ),
)


def recorded() -> dict[str, Info]:
    """Return the nodes of a recorded server, afresh."""
    data = resources.path("comfy/object_info.json.gz").read_bytes()
    found: dict[str, Info] = json.loads(gzip.decompress(data))
    return found


class Catalogue:
    """Nodes and models of one stand-in; what it says follows its files.

    Args:
        script: Which nodes and models there are.
        inputs: Folder of uploaded files.
    """

    def __init__(self, script: Script, inputs: Path) -> None:
        self._inputs = inputs
        self._aliases = dict(script.aliases)
        self._nodes = recorded() | {info["name"]: info for info in _OWN}
        for name in script.absent:
            self._nodes.pop(name, None)
        for number in range(script.fillers):
            name = f"StandinFiller{number:03}"
            self._nodes[name] = {**self._nodes["KSampler"], "name": name}
        for alias, name in script.aliases.items():
            self._nodes[alias] = copy.deepcopy(self._nodes[name]) | {"name": alias}
        self.models: dict[str, list[str]] = {folder: [] for folder in FOLDERS}
        for (name, key), folder in LOADERS.items():
            offered = self._spec(name, key)
            if offered is not None and not self.models[folder]:
                self.models[folder] = [str(each) for each in offered[0] if each != _NO_FILE]
        for folder, files in script.models.items():
            self.models[folder] = list(files)

    def names(self) -> list[str]:
        """Return the classes of all nodes."""
        return list(self._nodes)

    def kind(self, name: str) -> str:
        """Return the class that `name` stands for, itself where it is no alias."""
        return self._aliases.get(name, name)

    def has(self, name: str) -> bool:
        """Say whether there is such a node."""
        return name in self._nodes

    def is_output(self, name: str) -> bool:
        """Say whether such a node makes a prompt worth running."""
        return bool(self._nodes[name]["output_node"])

    def info(self, name: str) -> Info:
        """Return what is told of a node now, with the files that it offers."""
        info: Info = copy.deepcopy(self._nodes[name])
        for group in ("required", "optional"):
            for key, spec in info["input"].get(group, {}).items():
                offered = self._offered(name, key)
                if offered is not None and isinstance(spec[0], list):
                    spec[0] = offered
                elif offered is not None:  # The newer notation.
                    spec[1]["options"] = offered
        return info

    def inputs(self, name: str) -> dict[str, tuple[bool, Any, dict[str, Any]]]:
        """Return by name of an input: whether it is required, its type, its options."""
        found = {}
        info = self.info(name)
        for group in ("required", "optional"):
            for key, spec in info["input"].get(group, {}).items():
                options = spec[1] if len(spec) > 1 else {}
                found[key] = (group == "required", spec[0], options)
        return found

    def outputs(self, name: str) -> list[Any]:
        """Return the types of a node's slots."""
        return list(self._nodes[name]["output"])

    def wants_its_id(self, name: str) -> bool:
        """Say whether its result depends on its own id, so that equals are not shared."""
        return "UNIQUE_ID" in json.dumps(self._nodes[name]["input"].get("hidden", {}))

    def files(self, kind: str) -> list[str]:
        """Return the uploaded files of a kind, as the lists of loaders have them."""
        if not self._inputs.is_dir():
            return []
        return sorted(
            path.name
            for path in self._inputs.iterdir()
            if path.is_file() and path.suffix.lower() in _SUFFIXES[kind]
        )

    def place(self, name: str) -> Path:
        """Return where a file lies that a node names: "x.png" or "x.latent [output]"."""
        plain, _, note = name.rpartition(" ")
        folders = {f"[{kind}]": self._inputs.with_name(kind) for kind in ("output", "temp")}
        if note in folders:
            return folders[note] / plain
        return self._inputs / (plain if note == "[input]" else name)

    def model_files(self, name: str, inputs: Mapping[str, Any]) -> list[str]:
        """Return the models that a node with these inputs loads, such as "vae/wan.safetensors"."""
        return [
            f"{folder}/{inputs[key]}"
            for (node, key), folder in LOADERS.items()
            if node == name and isinstance(inputs.get(key), str)
        ]

    def checks(self, name: str) -> Callable[[Mapping[str, Any]], tuple[str, str] | None] | None:
        """Return how such a node checks its own inputs: gives an input and what is wrong."""
        place = CHECKED_BY_THEMSELVES.get(name)
        if place is None:
            return None
        key, kind = place

        def check(inputs: Mapping[str, Any]) -> tuple[str, str] | None:
            value = inputs.get(key)
            if isinstance(value, list) or self.place(str(value)).exists():
                return None
            return key, f"Invalid {kind} file: {value}"

        return check

    def _spec(self, name: str, key: str) -> list[Any] | None:
        spec = self._nodes.get(name, {}).get("input", {}).get("required", {}).get(key)
        return spec if spec and isinstance(spec[0], list) else None

    def _offered(self, name: str, key: str) -> list[str] | None:
        folder = LOADERS.get((name, key))
        if folder is not None and self._spec(name, key) is not None:
            more = [_NO_FILE] if name == "VAELoader" else []
            return [*self.models[folder], *more]
        own = CHECKED_BY_THEMSELVES.get(name)
        if own is not None and own[0] == key:
            return self.files(own[1])
        return None

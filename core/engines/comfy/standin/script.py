"""How a stand-in behaves when nothing goes wrong: times, sizes, what it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

MB = 2**20
VERSION = "0.3.64"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What the simulated server takes its time for.

    Attributes:
        seconds: Duration by class of node, where it is not `node_seconds`.
        node_seconds: Duration of every other node.
        step_seconds: Duration of a sampling step.
        pace: Multiplies the seconds that a graph itself asks a node to sleep.
        previews: Whether samplers send pictures, as after `--preview-method latent2rgb`.
        preview_pixels: Longer side of such a picture.
        history_lag_seconds: Between `execution_success` and its entry in the history.
        history_most: Entries that the history keeps, less one.
        vram_total_bytes: Memory of the simulated GPU.
        vram_base_bytes: What the server holds before it has loaded anything.
        model_bytes: Size by the file name of a model, where it is not `model_bytes_each`.
        model_bytes_each: Size of every other model.
        leak_bytes: Memory that each finished prompt leaves for ever.
        load_seconds: Duration of loading a model that is not in memory.
        models: File names by folder; the recorded ones where a folder is left out.
        absent: Classes of nodes that this server has not.
        fillers: Further nodes that only make GET /object_info longer, 2.7 kB each;
            200 give the length of a server with two packs.
        aliases: Further names of nodes, each with the class that it stands for.
        output_order: Order in which outputs are begun; a real server's is by chance.
    """

    seconds: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    node_seconds: float = 0.0
    step_seconds: float = 0.0
    pace: float = 1.0
    previews: bool = True
    preview_pixels: int = 64
    history_lag_seconds: float = 0.0
    history_most: int = 10_000
    vram_total_bytes: int = 24 * 1024 * MB
    vram_base_bytes: int = 400 * MB
    model_bytes: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    model_bytes_each: int = 2048 * MB
    leak_bytes: int = 0
    load_seconds: float = 0.0
    models: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NOTHING)
    absent: tuple[str, ...] = ()
    fillers: int = 0
    aliases: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    output_order: tuple[str, ...] = ()

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Script:
        """Return the script that `data` describes, by the names of its fields.

        Raises:
            ValueError: A name is no field, or a value has another type; says which.
        """
        known = {each.name: each for each in fields(Script)}
        values: dict[str, Any] = {}
        sample = Script()
        for name, value in data.items():
            if name not in known:
                raise ValueError(f"{name} is no field of a script; there are {sorted(known)}")
            example = getattr(sample, name)
            if isinstance(example, tuple):
                value = tuple(value)
            elif isinstance(example, float):
                value = float(value)
            elif isinstance(example, Mapping):
                if not isinstance(value, Mapping):
                    raise ValueError(f"{name} must be an object")
                value = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
            elif type(value) is not type(example):
                raise ValueError(f"{name} must be of the type {type(example).__name__}")
            values[name] = value
        return Script(**values)

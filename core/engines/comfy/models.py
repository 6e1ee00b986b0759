"""Which inputs name model files, and in which of a server's folders those lie."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath

from core import resources
from core.engines.comfy.graphs import Graph
from core.engines.comfy.node_types import InputType, ObjectInfo, node_type

_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack of nodes, as the data file knows it."""

    title: str
    source: str
    update: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What resources/comfy.json says; `load` reads it."""

    folders: Mapping[str, str]
    not_files: frozenset[str]
    packs: tuple[Mapping[str, object], ...]

    @staticmethod
    def load() -> Known:
        """Read the data file that ships."""
        data = json.loads(resources.path("comfy.json").read_text(encoding="utf-8"))
        return Known(data["folders"], frozenset(data["not_files"]), tuple(data["packs"]))

    def folder(self, class_type: str, name: str) -> str:
        """Return the model folder that an input reads, "" when not known."""
        return self.folders.get(f"{class_type}.{name}", "")

    def pack(self, class_type: str, noted: str = "") -> Pack | None:
        """Return the pack that has a node class.

        Args:
            class_type: The class.
            noted: The pack's id or GitHub place, where a workflow file tells it.
        """
        for item in self.packs:
            starts = item.get("starts", ())
            ends = item.get("ends", ())
            assert isinstance(starts, list | tuple)
            assert isinstance(ends, list | tuple)
            own = str(item["id"]).lower() == noted.lower() if noted else False
            if own or class_type.startswith(tuple(starts)) or class_type.endswith(tuple(ends)):
                return Pack(str(item["title"]), str(item["source"]), bool(item.get("update")))
        if noted and noted.count("/") == 1:
            return Pack(noted.split("/")[1], f"https://github.com/{noted}", update=False)
        return Pack(noted, "", update=False) if noted else None


def model_key(graph: Graph, filled: Mapping[tuple[str, str], object]) -> str:
    """Return the same for graphs that need the same model files loaded; "" for none.

    Args:
        graph: Of the workflow.
        filled: What a job puts into inputs, by node and input.
    """
    names = {
        str(value)
        for key, node in graph.items()
        for name, given in node["inputs"].items()
        if looks_like_file(value := filled.get((key, name), given))
    }
    return sha256("\0".join(sorted(names)).encode()).hexdigest()[:16] if names else ""


def basename(name: str) -> str:
    """Return the name of a model file without the folders people sort them into."""
    return PurePosixPath(name.replace("\\", "/")).name


def looks_like_file(name: object) -> bool:
    """Say whether a choice is a model file rather than a word."""
    return isinstance(name, str) and name.lower().endswith(_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Use:
    """A model file that a graph names.

    Attributes:
        node: Id of the loading node.
        input: Its input.
        name: The file, as the graph has it.
        folder: Folder it belongs in, "" when not known.
        spec: What the server says of that input; None when it lacks the node.
    """

    node: str
    input: str
    name: str
    folder: str
    spec: InputType | None


def uses(graph: Graph, info: ObjectInfo, known: Known) -> Iterator[Use]:
    """Yield every model file that `graph` names."""
    for node_id, node in graph.items():
        kind = node_type(info, node["class_type"])
        for name, value in node["inputs"].items():
            folder = known.folder(node["class_type"], name)
            if not isinstance(value, str) or value in known.not_files:
                continue
            spec = kind.input(name) if kind is not None else None
            combo = spec is not None and spec.type == "COMBO" and not spec.upload
            if folder or (looks_like_file(value) and (combo or kind is None)):
                yield Use(node_id, name, value, folder, spec)

"""What was recorded from a ComfyUI 0.3.64 server, as tests of workflows read it."""

from __future__ import annotations

import copy
import functools
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.engines.comfy.graphs import Graph
from core.errors import Problem, ProblemError
from tests.comfy import recorded

FOLDER = Path(__file__).parent / "recordings"


def _read(name: str) -> str:
    return gzip.decompress((FOLDER / name).read_bytes()).decode()


@functools.cache
def object_info() -> dict[str, Any]:
    """85 nodes as GET /object_info describes them."""
    return recorded.object_info()


@functools.cache
def rejections() -> list[dict[str, Any]]:
    """82 odd requests and what the server answered."""
    return json.loads(_read("http/prompt_rejections.json.gz"))


@functools.cache
def accepted() -> list[tuple[str, Graph]]:
    """Graphs that the server took: (name of the recording, graph)."""
    rows = [json.loads(line) for line in _read("accepted_prompts.jsonl.gz").splitlines()]
    return [(row["recording"], row["prompt"]) for row in rows]


def graph(recording: str) -> Graph:
    """The first graph of a recording, as a copy."""
    return copy.deepcopy(next(found for name, found in accepted() if name.startswith(recording)))


def with_options(**more: list[str]) -> dict[str, Any]:
    """The recorded nodes with more choices: CLASS__input=[names]."""
    info = copy.deepcopy(object_info())
    for place, names in more.items():
        kind, name = place.split("__")
        info[kind]["input"]["required"][name][0][:] = names
    return info


def problem(call: Callable[[], object]) -> Problem:
    """The problem that `call` raises."""
    with pytest.raises(ProblemError) as caught:
        call()
    assert caught.value.problem.message
    assert caught.value.problem.hint
    return caught.value.problem

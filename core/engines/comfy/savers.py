"""The end of a graph: which of a server's nodes saves the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.engines.comfy import graphs
from core.engines.comfy.graphs import Graph
from core.engines.comfy.node_types import ObjectInfo, node_type

VIDEO_SAVERS = ("VHS_VideoCombine", "SaveVideo", "SaveWEBM")
"""Nodes that save a clip, best first."""
_H264 = "video/h264-mp4"


def video_saver(info: ObjectInfo | None) -> str:
    """Return the node that shall save clips on the server of `info`.

    Raises:
        ProblemError: The server has none of them.
    """
    if info is None:
        return "SaveVideo"
    for name in VIDEO_SAVERS:
        kind = node_type(info, name)
        if kind is None or (name == "SaveVideo" and node_type(info, "CreateVideo") is None):
            continue
        if name == "VHS_VideoCombine":
            # Without ffmpeg this pack only writes GIF and WebP.
            spec = kind.input("format")
            if spec is None or _H264 not in (spec.options or ()):
                continue
        return name
    raise graphs.refusal(
        "The server has no node that saves clips.",
        "Update ComfyUI, or install ComfyUI-VideoHelperSuite there.",
    )


def add(
    graph: Graph,
    output: tuple[str, int],
    makes: str,
    fps: float,
    prefix: str,
    info: ObjectInfo | None,
) -> str:
    """Put a saver behind `output` of `graph`.

    Args:
        graph: The graph, changed in place.
        output: Node and slot of the pictures.
        makes: "video" or "image".
        fps: Rate of the clip.
        prefix: Start of the file's name.
        info: The server's /object_info, None for what every recent server has.

    Returns:
        The id of the node that saves.

    Raises:
        ProblemError: The server can save nothing of the kind.
    """
    pictures: list[str | int] = list(output)
    if makes == "image":
        return _put(graph, "SaveImage", {"images": pictures, "filename_prefix": prefix})
    saver = video_saver(info)
    if saver == "VHS_VideoCombine":
        return _put(graph, saver, _vhs(pictures, fps, prefix))
    if saver == "SaveVideo":
        clip = _put(graph, "CreateVideo", {"images": pictures, "fps": fps})
        inputs = {"video": [clip, 0], "filename_prefix": prefix, "format": "mp4", "codec": "h264"}
        return _put(graph, saver, inputs)
    return _put(
        graph,
        saver,
        {"images": pictures, "filename_prefix": prefix, "codec": "vp9", "fps": fps, "crf": 24.0},
    )


def _vhs(pictures: list[str | int], fps: float, prefix: str) -> Mapping[str, Any]:
    return {
        "images": pictures,
        "frame_rate": fps,
        "loop_count": 0,
        "filename_prefix": prefix,
        "format": _H264,
        "pix_fmt": "yuv420p",
        "crf": 19,
        "save_metadata": True,
        "trim_to_audio": False,
        "pingpong": False,
        "save_output": True,
    }


def _put(graph: Graph, kind: str, inputs: Mapping[str, Any]) -> str:
    node_id = graphs.free_id(graph)
    graph[node_id] = {"class_type": kind, "inputs": dict(inputs)}
    return node_id


def rename(graph: Graph, prefix: str) -> None:
    """Let every saver of `graph` begin its files' names with `prefix`.

    A number behind it keeps the files of several savers apart.
    """
    named = [
        node
        for node in graph.values()
        if isinstance(node["inputs"].get("filename_prefix"), str)
        and node["class_type"] not in ("SaveLatent",)
    ]
    for count, node in enumerate(named, 1):
        node["inputs"]["filename_prefix"] = prefix if len(named) == 1 else f"{prefix}-{count}"


def marked(graph: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """Return a graph whose savers put `mark` behind the beginning of their files' names."""
    found = dict(graph)
    for node_id, node in graph.items():
        prefix = node["inputs"].get("filename_prefix")
        if isinstance(prefix, str) and node["class_type"] != "SaveLatent":
            found[node_id] = {
                **node,
                "inputs": {**node["inputs"], "filename_prefix": prefix + mark},
            }
    return found

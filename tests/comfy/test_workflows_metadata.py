"""Workflows are found in the files that ComfyUI saves, and damaged files are told."""

from __future__ import annotations

import json
import os
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.engines.comfy import metadata
from core.engines.comfy.convert import Converted
from core.errors import ProblemError
from tests.comfy.editor import Editor, with_defaults
from tests.comfy.samples import graph, object_info, problem

GRAPH = graph("01_sd15")
PROMPT = json.dumps(GRAPH)
WORKFLOW = json.dumps(Editor(GRAPH).data(), ensure_ascii=False)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*texts: bytes) -> bytes:
    """A picture of one pixel with text in it."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0\1\2\3"))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(texts) + body + chunk(b"IEND", b"")


def exif(fields: dict[int, bytes], order: str = "<") -> bytes:
    """An EXIF block with texts under these tags."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    table, texts = b"", b""
    start = 8 + 2 + 12 * len(fields) + 4
    for tag, text in fields.items():
        table += struct.pack(order + "HHII", tag, 2, len(text), start + len(texts))
        texts += text
    return head + struct.pack(order + "H", len(fields)) + table + b"\0" * 4 + texts


def webp(block: bytes) -> bytes:
    """A WebP file with an EXIF block behind an odd-sized part."""
    parts = b"VP8L" + struct.pack("<I", 3) + b"abc\0"
    parts += b"EXIF" + struct.pack("<I", len(block)) + block
    return b"RIFF" + struct.pack("<I", len(parts) + 4) + b"WEBP" + parts


def clip(path: Path, tags: dict[str, str]) -> Path:
    """A real clip of two frames with tags, as ComfyUI's SaveVideo and SaveWEBM write them."""
    options = {"movflags": "use_metadata_tags"} if path.suffix == ".mp4" else {}
    codec = "libvpx-vp9" if path.suffix == ".webm" else "mpeg4"
    with av.open(str(path), "w", options=options) as file:
        for name, text in tags.items():
            file.metadata[name] = text
        stream = file.add_stream(codec, rate=Fraction(16))
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def opened(path: Path) -> Converted:
    """The workflow in a file."""
    return metadata.open_workflow(path, object_info())


TEXTS = {
    "tEXt": chunk(b"tEXt", b"prompt\0" + PROMPT.encode()),
    "zTXt": chunk(b"zTXt", b"prompt\0\0" + zlib.compress(PROMPT.encode())),
    "iTXt": chunk(b"iTXt", b"prompt\0\0\0en\0Prompt\0" + PROMPT.encode()),
    "packed iTXt": chunk(b"iTXt", b"Prompt\0\1\0\0\0" + zlib.compress(PROMPT.encode())),
}


@pytest.mark.parametrize("form", TEXTS)
def test_png(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(chunk(b"tEXt", b"Software\0x"), TEXTS[form]))
    assert opened(path).graph == GRAPH


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("lead", [b"", b"Exif\0\0"])
def test_webp(order: str, lead: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    fields = {0x0110: b"prompt:" + PROMPT.encode() + b"\0", 0x010F: b"workflow:{}\0"}
    path.write_bytes(webp(lead + exif(fields, order)))
    assert metadata.embedded(path) == {"prompt": PROMPT, "workflow": "{}"}
    assert opened(path).graph == GRAPH


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
def test_clips(suffix: str, tmp_path: Path) -> None:
    path = clip(tmp_path / f"a{suffix}", {"prompt": PROMPT, "workflow": WORKFLOW})
    found = metadata.embedded(path)
    assert json.loads(found["prompt"]) == GRAPH
    assert json.loads(found["workflow"]) == json.loads(WORKFLOW)
    assert opened(path).graph == GRAPH


def test_a_comment_of_older_packs(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mkv", {"comment": json.dumps({"prompt": PROMPT})})
    assert opened(path).graph == GRAPH


def test_the_editors_form_is_taken_where_the_other_is_missing_or_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    editor = chunk(b"iTXt", b"workflow\0\0\0\0\0" + WORKFLOW.encode())
    for other in (b"", chunk(b"tEXt", b"prompt\0{broken")):
        path.write_bytes(png(other, editor))
        found = opened(path).graph
        assert {k: n["inputs"] for k, n in found.items()} == {
            k: n["inputs"] for k, n in with_defaults(GRAPH).items()
        }


def test_words_in_other_scripts_and_nan_beside_inputs(tmp_path: Path) -> None:
    made = {**GRAPH, "6": {**GRAPH["6"], "inputs": {"text": "灯塔 🗼", "clip": ["4", 1]}}}
    made["6"]["is_changed"] = [float("nan")]
    path = tmp_path / "a.png"
    for ascii_only in (True, False):
        text = json.dumps(made, ensure_ascii=ascii_only).encode()
        path.write_bytes(png(chunk(b"tEXt", b"prompt\0" + text)))
        assert opened(path).graph["6"]["inputs"]["text"] == "灯塔 🗼"


def test_json_files_of_both_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in (PROMPT, "\ufeff" + PROMPT, json.dumps({"prompt": GRAPH, "client_id": "1"})):
        path.write_text(text, encoding="utf-8")
        assert opened(path).graph == GRAPH
    path.write_text(WORKFLOW, encoding="utf-8")
    assert len(opened(path).graph) == len(GRAPH)
    with path.open("wb") as file:
        file.truncate(2**35)
    assert "larger than 16 MB" in problem(lambda: opened(path)).message


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.mp4", "a.webm", "a.txt"])
def test_files_without_a_workflow_say_so(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith(("mp4", "webm")):
        clip(path, {"title": "none"})
    else:
        kinds = {"a.png": png(), "a.webp": webp(exif({0x0110: b"Camera\0"})), "a.txt": b"hello"}
        path.write_bytes(kinds[name])
    told = problem(lambda: opened(path))
    assert name in told.message


def test_a_bomb_in_a_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    packed = zlib.compress(b" " * (64 * 2**20), 9)
    path.write_bytes(png(chunk(b"zTXt", b"prompt\0\0" + packed)))
    assert "too large" in problem(lambda: opened(path)).message
    # A length that is a lie reads nothing into memory.
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**31) + b"tEXt" + b"prompt\0")
    assert "damaged" in problem(lambda: opened(path)).message


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damage_anywhere_is_a_problem_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    whole = data.draw(
        st.sampled_from(
            [png(*TEXTS.values()), webp(exif({0x0110: b"prompt:" + PROMPT.encode() + b"\0"}))]
        )
    )
    spoilt = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if spoilt:
            spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"a{os.getpid()}.png"
    path.write_bytes(bytes(spoilt))
    try:
        opened(path)
    except ProblemError as error:
        assert error.problem.hint


def test_damaged_clips_are_problems(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(os.urandom(5000))
    assert "a.mp4" in problem(lambda: opened(path)).message
    with pytest.raises(OSError):
        opened(tmp_path / "none.png")

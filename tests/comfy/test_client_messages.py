"""Frames in, messages out: all kinds, whole, cut short and made up."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.engines.comfy import messages, posters
from core.engines.comfy.messages import Executing, NodeProgress, Nodes, Preview, Status, parse
from tests.comfy import recorded
from tests.comfy.replay import Recording

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01" + bytes(20) + b"\xff\xd9"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + bytes(30)
WORDS = json.dumps({"node_id": "3", "prompt_id": "p", "image_type": "image/jpeg"}).encode()
PLAIN = struct.pack(">II", 1, 1) + JPEG
PICTURE = struct.pack(">II", 1, 2) + PNG
WORDED = struct.pack(">II", 4, len(WORDS)) + WORDS + JPEG
ANIMATED = struct.pack(">IIII16p", 1, 1, 1, 5, b"12") + JPEG


def binary(name: str) -> list[bytes]:
    frames = Recording(recorded.transcript(name)).frames
    return [frame for _, frame in frames if isinstance(frame, bytes)]


def test_four_kinds_of_previews() -> None:
    assert parse(PLAIN) == Preview(JPEG, "jpeg")
    assert parse(PICTURE) == Preview(PNG, "png")
    assert parse(WORDED) == Preview(JPEG, "jpeg", node="3", prompt="p")
    assert parse(ANIMATED) == Preview(JPEG, "jpeg", node="12", index=5)


def test_recorded_animated_previews_and_pictures() -> None:
    animated = [parse(frame) for frame in binary("06_wan21_t2v_vhs_latentpreview")]
    assert [one.index for one in animated if isinstance(one, Preview)] == [0, 1, 0]
    assert {one.node for one in animated if isinstance(one, Preview)} == {"3"}
    assert all(isinstance(one, Preview) and one.picture[:3] == b"\xff\xd8\xff" for one in animated)
    (sent,) = [parse(frame) for frame in binary("55_save_image_websocket")]
    assert isinstance(sent, Preview)
    assert sent.kind == "png"


@pytest.mark.parametrize(
    ("name", "kind", "node", "index"),
    [
        ("01_sd15_first_run_0", "jpeg", None, None),
        ("01_sd15_first_run_1", "jpeg", None, None),
        ("04_sd15_preview_metadata_0", "jpeg", "3", None),
        ("04_sd15_preview_metadata_1", "jpeg", "3", None),
        ("05_wan21_t2v_all_savers_0", "jpeg", None, None),
        ("06_wan21_t2v_vhs_latentpreview_0", "jpeg", "3", 0),
        ("06_wan21_t2v_vhs_latentpreview_1", "jpeg", "3", 1),
        ("55_save_image_websocket_0", "png", None, None),
    ],
)
def test_recorded_frames_become_pixels(
    name: str, kind: str, node: str | None, index: int | None
) -> None:
    found = parse(recorded.frame(name))
    assert isinstance(found, Preview)
    assert (found.kind, found.node, found.index) == (kind, node, index)
    pixels = posters.pixels(found.picture, found.kind)
    assert pixels is not None
    assert pixels.shape[2] == 4
    for size in (0, 3, 7, 8, 12, 31, 32, 40, len(found.picture) // 2):
        cut = parse(recorded.frame(name)[:size])
        assert cut is None or isinstance(cut, Preview)
        if isinstance(cut, Preview):
            posters.pixels(cut.picture, cut.kind)


@pytest.mark.parametrize("whole", [PLAIN, PICTURE, WORDED, ANIMATED])
def test_a_frame_cut_short_is_none_or_a_picture_cut_short(whole: bytes) -> None:
    full = parse(whole)
    assert isinstance(full, Preview)
    for size in range(len(whole)):
        found = parse(whole[:size])
        assert found is None or (isinstance(found, Preview) and found.kind == full.kind)
    assert parse(whole[:12] if whole is ANIMATED else whole[:8]) is None


def test_a_head_longer_than_its_frame_is_nothing() -> None:
    assert parse(struct.pack(">II", 4, 2**32 - 1) + WORDS + JPEG) is None
    assert parse(struct.pack(">II", 4, 4) + b"null" + JPEG) is None
    assert parse(struct.pack(">II", 3, 1) + JPEG) is None
    assert parse(PLAIN + bytes(messages.MOST_PREVIEW_BYTES)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "3",
        "not json",
        "{}",
        '{"type":"progress"}',
        '{"type":"progress","data":{"node":"3","value":NaN,"max":4}}',
        '{"type":"progress","data":{"node":"3","value":1e999,"max":4}}',
        '{"type":"progress","data":{"node":"3","value":[],"max":4}}',
        '{"type":"progress_state","data":{"prompt_id":"p","nodes":[]}}',
        '{"type":"executing","data":null}',
        '{"type":["executing"],"data":{}}',
        '{"type":"executed","data":{}}',
        '{"type":"unknown","data":{}}',
        '{"type":"status","data":[]}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 10_000,
    ],
)
def test_nonsense_is_none(text: str) -> None:
    assert parse(text) is None


@given(st.one_of(st.text(), st.binary()))
def test_nothing_is_ever_raised(frame: str | bytes) -> None:
    parse(frame)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5)),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(max_size=5), inner)),
        max_leaves=8,
    ),
    st.sampled_from([*messages._BUILDERS, "other"]),
)
def test_no_data_of_a_message_raises(data: object, kind: str) -> None:
    parse(json.dumps({"type": kind, "data": data}))


def test_what_recorded_texts_say() -> None:
    frames = Recording(recorded.transcript("29_reconnect_midrun_clean")).frames
    found = [parse(frame) for _, frame in frames if isinstance(frame, str)]
    assert None not in found
    assert found[0] == Status(0, "rec-29_reconnect_midrun_clean")
    assert Executing(None, "3") in found, "what a reconnection tells"
    steps = [one.value for one in found if isinstance(one, NodeProgress)]
    assert steps == sorted(set(steps))
    assert len(steps) == 194
    assert len({one.prompt for one in found if isinstance(one, Nodes)}) == 1

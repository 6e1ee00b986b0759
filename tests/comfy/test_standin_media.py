"""What the stand-in saves can be decoded, is as large as asked for, and carries its graph."""

from __future__ import annotations

import io
import json
import struct

import av
import numpy as np
import pytest
import requests

from core.engines.comfy.standin import media
from core.engines.comfy.standin.media import Picture
from tests.comfy import recorded
from tests.comfy.standin import Socket, running

KINDS = ["mp4", "webm", "gif", "png"]


def decoded(data):
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize(("width", "height", "count"), [(64, 64, 1), (96, 64, 5), (512, 320, 16)])
def test_clips_hold_what_was_asked_for(suffix, width, height, count):
    data = media.clip(Picture(width, height, count, seed=3), suffix, 16, {})
    found = decoded(data)
    assert [frame.shape for frame in found] == [(height, width, 3)] * count
    assert count == 1 or not np.array_equal(found[0], found[-1])
    assert count == 1 or len(data) > 10_240
    again = decoded(media.clip(Picture(width, height, count, seed=3), suffix, 16, {}))
    assert np.array_equal(found, again)


def chunks(webp):
    """Return the chunks of a RIFF file: (name, content)."""
    assert (webp[:4], webp[8:12]) == (b"RIFF", b"WEBP")
    assert struct.unpack("<I", webp[4:8])[0] == len(webp) - 8
    found, place = [], 12
    while place < len(webp):
        size = struct.unpack("<I", webp[place + 4 : place + 8])[0]
        found.append((webp[place : place + 4], webp[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    return found


@pytest.mark.parametrize("count", [1, 5])
def test_webp_has_its_frames_and_its_graph_where_comfyui_puts_it(count):
    texts = {"prompt": {"1": "é"}, "workflow": {"nodes": []}}
    parts = chunks(media.clip(Picture(64, 48, count), "webp", 8, texts))
    names = [name for name, _ in parts]
    assert names[0] == b"VP8X"
    flags, size = parts[0][1][0], parts[0][1][4:10]
    assert flags & 0x08, "says that it has EXIF"
    assert (int.from_bytes(size[:3], "little"), int.from_bytes(size[3:], "little")) == (63, 47)
    assert names.count(b"ANMF") == (count if count > 1 else 0)
    exif = dict(parts)[b"EXIF"]
    tags = {}
    for number in range(struct.unpack("<H", exif[8:10])[0]):
        tag, kind, length, place = struct.unpack_from("<HHII", exif, 10 + 12 * number)
        assert kind == 2
        tags[tag] = exif[place : place + length].rstrip(b"\0").decode()
    assert tags == {272: 'prompt:{"1": "\\u00e9"}', 271: 'workflow:{"nodes": []}'}


def test_pictures_hold_what_was_asked_for_and_texts():
    flat = next(iter(media.frames(Picture(64, 48, color=0x102030))))
    (found,) = decoded(media.png(flat, {"prompt": {"1": "é"}}))
    assert np.array_equal(found, flat)
    assert (found[0, 0] == [0x10, 0x20, 0x30]).all()
    assert b'tEXtprompt\0{"1": "\\u00e9"}' in media.png(flat, {"prompt": {"1": "é"}})
    assert media.size_of(media.jpeg(flat)) == (64, 48)
    assert media.size_of(media.still_webp(flat)) == (64, 48)
    assert media.size_of(b"no picture") is None


def test_latents_are_laid_out_as_safetensors():
    data = media.latent(Picture(64, 32, 3))
    length = struct.unpack("<Q", data[:8])[0]
    told = json.loads(data[8 : 8 + length])["latent_tensor"]
    assert told["shape"] == [3, 4, 4, 8]
    assert len(data) == 8 + length + told["data_offsets"][1]


def test_all_savers_of_a_recorded_prompt_write_real_files(tmp_path):
    """Names and messages are compared in the contract; here the files are looked into."""
    body = recorded.exchanges("05")[0]["json"]
    told = {}
    with running(tmp_path) as server:
        socket = Socket(server.url, body["client_id"])
        name = requests.post(f"{server.url}/prompt", json=body, timeout=10).json()["prompt_id"]
        socket.until_end(name)
        socket.close()
        entry = requests.get(f"{server.url}/history/{name}", timeout=10).json()[name]
        for output in entry["outputs"].values():
            for file in [*output.get("images", []), *output.get("gifs", [])]:
                where = {key: file[key] for key in ("filename", "subfolder", "type")}
                told[file["filename"]] = requests.get(
                    f"{server.url}/view", params=where, timeout=10
                ).content
    suffixes = sorted(name.rpartition(".")[2] for name in told)
    assert suffixes == ["gif", "mp4", "mp4", "webm", "webp"]
    for file, data in told.items():
        if file.endswith(".webp"):
            assert [name for name, _ in chunks(data)].count(b"ANMF") == 5
            continue
        assert [frame.shape for frame in decoded(data)] == [(64, 64, 3)] * 5
        if file.endswith((".mp4", ".webm")):
            with av.open(io.BytesIO(data)) as container:
                texts = {key.lower(): value for key, value in container.metadata.items()}
                assert json.loads(texts["prompt"])["3"]["class_type"] == "KSampler"
                assert container.streams.video[0].average_rate == 16

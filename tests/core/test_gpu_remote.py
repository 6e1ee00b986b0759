"""Memory of a ComfyUI server elsewhere, from recorded answers and from bad ones."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Category, ProblemError
from core.gpu.remote import RemoteComfy, read_stats
from tests.core import web_servers as bad
from tests.core.web_servers import Answer, raw, serving, tells

GB = 2**30


def gpu(**more: Any) -> dict[str, Any]:
    return {
        "name": "cuda:0 NVIDIA GeForce RTX 3090 : cudaMallocAsync",
        "type": "cuda",
        "index": 0,
        "vram_total": 24 * GB,
        "vram_free": 10 * GB,
        "torch_vram_total": 12 * GB,
        "torch_vram_free": GB,
        **more,
    }


def stats(*devices: Any, **system: Any) -> dict[str, Any]:
    told = {"os": "posix", "ram_total": 64 * GB, "ram_free": 24 * GB, "comfyui_version": "0.3.64"}
    return {"system": {**told, **system}, "devices": list(devices)}


RECORDED_WITHOUT_A_GPU = {
    "system": {
        "os": "posix",
        "ram_total": 25276502016,
        "ram_free": 24323166208,
        "comfyui_version": "0.3.64",
        "argv": ["main.py", "--cpu"],
    },
    "devices": [
        {
            "name": "cpu",
            "type": "cpu",
            "index": None,
            "vram_total": 25276502016,
            "vram_free": 24323166208,
            "torch_vram_total": 25276502016,
            "torch_vram_free": 24323166208,
        }
    ],
}
"""What a real server on a machine without a GPU answered."""


def test_bytes_of_every_gpu_marked_with_where_they_come_from() -> None:
    answer = stats(gpu(), gpu(name="cuda:1 Tesla T4 : native", index=1, vram_free=0))
    with serving({"/system_stats": tells(answer)}) as server:
        before = time.monotonic()
        reading = RemoteComfy(f"{server.url}/").read()
    source = server.url.replace("http://", "ComfyUI ")
    assert reading.problem is None
    assert before <= reading.at_seconds <= time.monotonic()
    assert reading.source == source
    assert (reading.version, reading.ram_total_bytes) == ("0.3.64", 64 * GB)
    assert reading.ram_used_bytes == 40 * GB
    first, second = reading.devices
    assert (first.index, first.name, first.source) == (0, "NVIDIA GeForce RTX 3090", source)
    assert (first.total_bytes, first.used_bytes) == (24 * GB, 14 * GB)
    assert (second.index, second.name, second.used_bytes) == (1, "Tesla T4", 24 * GB)
    for unknown in ("utilisation_percent", "temperature_celsius", "power_watts", "processes"):
        assert getattr(first, unknown) is None


def test_a_server_without_a_gpu_has_none() -> None:
    with serving({"/system_stats": tells(RECORDED_WITHOUT_A_GPU)}) as server:
        reading = RemoteComfy(server.url).read()
    assert reading.devices == ()
    assert reading.ram_used_bytes == 25276502016 - 24323166208


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"<html>It works</html>"),
        raw(b'{"devices": [{"vram_total": NaN}]}'),
        tells([]),
        tells({"devices": {}}),
        tells({"devices": [3]}),
        tells({"system": {}}),
        raw(b"", 302, Location="http://127.0.0.1:9/"),
        raw(b"", 500),
        bad.endless,
        bad.drip,
        bad.drip_headers,
        bad.silent,
        bad.hang_up,
        bad.cut_short,
    ],
)
def test_a_bad_answer_is_a_problem_and_the_gpu_a_row_of_dashes(answer: Answer) -> None:
    with serving({"/system_stats": tells(stats(gpu()))}) as server:
        remote = RemoteComfy(server.url, timeout_seconds=0.4)
        assert remote.read().devices[0].used_bytes == 14 * GB
        server.answers["/system_stats"] = answer
        reading = remote.read()
        assert reading.problem is not None
        assert reading.problem.hint
        assert "ComfyUI" in reading.problem.message
        (device,) = reading.devices
        assert (device.name, device.used_bytes) == ("NVIDIA GeForce RTX 3090", None)
        server.answers["/system_stats"] = tells(stats(gpu()))
        assert remote.read().devices[0].used_bytes == 14 * GB


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"vram_total": 0}, (None, None)),
        ({"vram_total": None}, (None, None)),
        ({"vram_total": "24 GB"}, (None, None)),
        ({"vram_total": True}, (None, None)),
        ({"vram_total": 1e9}, (None, None)),
        ({"vram_total": 10**30}, (None, None)),
        ({"vram_free": -1}, (24 * GB, None)),
        ({"vram_free": 25 * GB}, (24 * GB, None)),
        ({"vram_free": None}, (24 * GB, None)),
    ],
)
def test_a_figure_that_makes_no_sense_is_none(more: dict[str, Any], expected: Any) -> None:
    (device,) = read_stats(stats(gpu(**more)), "x", 0.0).devices
    assert (device.total_bytes, device.used_bytes) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA RTX A6000", "NVIDIA RTX A6000"),
        ("cuda:3 AMD Radeon RX 7900 XTX : native", "AMD Radeon RX 7900 XTX"),
        ("cuda NVIDIA L4", "NVIDIA L4"),
        ("a\x1b[31mred\n", "a[31mred"),
        (None, "GPU 0"),
        (["x"], "GPU 0"),
        ("x" * 5000, "x" * 200),
    ],
)
def test_names_are_those_of_the_product(name: Any, expected: str) -> None:
    assert read_stats(stats(gpu(name=name)), "x", 0.0).devices[0].name == expected


def test_thousands_of_gpus_are_not_believed() -> None:
    assert len(read_stats(stats(*[gpu()] * 5000), "x", 0.0).devices) == 64


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["devices", "system", "vram_total", "vram_free", "name", "type", "ram_total",
             "ram_free", "index", "comfyui_version"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip


@given(any_json)
def test_any_json_gives_sound_figures_or_a_problem(data: Any) -> None:
    try:
        reading = read_stats(data, "x", 0.0)
    except ProblemError as error:
        assert error.problem.category is Category.BAD_OUTPUT
        return
    for device in reading.devices:
        assert device.total_bytes is None or 0 < device.total_bytes < math.inf
        if device.used_bytes is not None:
            assert device.total_bytes is not None
            assert 0 <= device.used_bytes <= device.total_bytes


def test_it_goes_on_until_stopped_through_a_time_without_server() -> None:
    with serving({"/system_stats": tells(stats(gpu()))}) as server:
        remote = RemoteComfy(server.url, interval_seconds=0.05, timeout_seconds=0.3)
        readings = remote.readings()
        assert next(readings).problem is None
        server.answers["/system_stats"] = bad.hang_up
        assert next(readings).problem is not None
        server.answers["/system_stats"] = tells(stats(gpu()))
        assert next(readings).problem is None
    assert next(readings).problem is not None
    ended = threading.Timer(0.2, remote.stop)
    ended.start()
    began = time.monotonic()
    assert len(list(readings)) >= 1
    assert time.monotonic() - began < 1
    ended.join()


def test_no_address_is_told_at_once() -> None:
    with pytest.raises(ProblemError) as caught:
        RemoteComfy("my computer")
    assert caught.value.problem.field == "url"

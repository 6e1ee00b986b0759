"""Files of a server: broken, growing, hostile; and the folder they must not leave."""

from __future__ import annotations

import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.engines.comfy import posters
from core.engines.comfy.answers import Remote, files
from core.engines.comfy.client import ComfyEngine
from core.engines.comfy.outputs import Checks
from core.errors import Category
from core.events import Failed, Finished, Noted
from core.outputs.container import picture_size
from tests.comfy.client_bench import Process, drain, engine, graph, job
from tests.comfy.small_server import picture

SLOW = Checks(window_seconds=0.4, settle_seconds=0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("server"))
    yield process
    process.kill()


@pytest.fixture
def comfy(server: Process) -> Iterator[ComfyEngine]:
    shutil.rmtree(server.folder / "output", ignore_errors=True)
    made = engine(server.base)
    yield made
    made.close()


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("tiny", "48 bytes"),
        ("cut", "not a readable clip"),
        ("html", "a web page"),
        ("missing", "does not have it"),
    ],
)
def test_a_bad_file_fails_the_job_and_is_deleted(
    comfy: ComfyEngine, tmp_path: Path, fault: str, word: str
) -> None:
    ending = drain(comfy.run(job(tmp_path, graph(fault=fault))))[-1]
    assert isinstance(ending, Failed)
    assert ending.problem.category is Category.BAD_OUTPUT
    assert word in ending.problem.message
    assert ending.problem.hint
    assert everything(tmp_path / "clips") == set()


def test_a_file_that_heals_is_fetched_again(comfy: ComfyEngine, tmp_path: Path) -> None:
    ending = drain(comfy.run(job(tmp_path, graph(fault="heals", after=0.1))))[-1]
    assert isinstance(ending, Finished)
    assert ending.output.frames == 8


def test_three_tries_are_made_and_not_more(server: Process, tmp_path: Path) -> None:
    comfy = engine(server.base, checks=Checks(window_seconds=0.01, settle_seconds=0.3))
    began = time.monotonic()
    drain(comfy.run(job(tmp_path, graph(fault="missing"))))
    assert 0.9 < time.monotonic() - began < 2.0
    comfy.close()


def test_a_growing_file_is_waited_for(server: Process, tmp_path: Path) -> None:
    comfy = engine(server.base, checks=SLOW)
    wanted = job(tmp_path, graph(fault="grow", after=0.5))
    ending = drain(comfy.run(wanted))[-1]
    assert isinstance(ending, Finished)
    whole = next((server.folder / "output").glob(f"{wanted.id[:8]}*")).read_bytes()
    assert Path(ending.output.path).read_bytes() == whole
    comfy.close()


def test_a_clip_is_looked_at_over_its_window(server: Process, tmp_path: Path) -> None:
    comfy = engine(server.base, checks=SLOW)
    began = time.monotonic()
    assert isinstance(drain(comfy.run(job(tmp_path)))[-1], Finished)
    assert time.monotonic() - began > 0.8, "three looks, two windows"
    comfy.close()


@pytest.mark.parametrize(
    "name",
    [
        "../../../../tmp/evil.mp4",
        "..\\..\\evil.mp4",
        "/etc/passwd",
        "C:\\Windows\\evil.mp4",
        "\\\\server\\share\\evil.mp4",
        "x" * 300 + ".mp4",
        "CON.mp4",
        "a\x00b.mp4",
        "a\nb.mp4",
        "",
        ".",
        "evil.mp4:stream",
        "%2e%2e%2fevil.mp4",
    ],
)
def test_a_servers_name_never_chooses_a_path(
    server: Process, comfy: ComfyEngine, tmp_path: Path, name: str
) -> None:
    before = everything(tmp_path)
    wanted = job(tmp_path, graph(filename=name))
    ending = drain(comfy.run(wanted))[-1]
    assert isinstance(ending, Finished), ending
    assert ending.output.path == wanted.output
    made = everything(tmp_path) - before
    assert {path.parent for path in made} == {tmp_path / "clips"}
    assert {path.stem for path in made} == {Path(wanted.output).stem}


def test_a_shared_folder_is_read_and_never_left(server: Process, tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    comfy = engine(server.base, shared=server.folder / "output")
    wanted = job(tmp_path)
    assert isinstance(drain(comfy.run(wanted))[-1], Finished)
    # A name that leads out is not read from the disk; the server is asked instead.
    evil = job(tmp_path, graph(filename="../../secret.mp4"))
    ending = drain(comfy.run(evil))[-1]
    assert isinstance(ending, Finished)
    assert Path(ending.output.path).read_bytes() != b"secret"
    comfy.close()
    shutil.rmtree(server.folder / "output")


def test_all_pictures_of_a_batch_are_kept(comfy: ComfyEngine, tmp_path: Path) -> None:
    what = graph(saver="SaveImage")
    what["5"] = {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "shade": 30}}
    what["6"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
    what["7"] = {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "fault": "tiny"}}
    wanted = job(tmp_path, what)
    seen = drain(comfy.run(wanted))
    assert isinstance(seen[-1], Finished)
    stem = Path(wanted.output).stem
    made = {path.name for path in (tmp_path / "clips").glob("*.png")}
    assert made == {f"{stem}.png", f"{stem}-2.png"}, "the preview is not an output"
    assert any("File 3 of 3" in event.text for event in seen if isinstance(event, Noted))


def test_no_file_at_all_is_a_failure(comfy: ComfyEngine, tmp_path: Path) -> None:
    what = {"1": {"class_type": "EmptyImage", "inputs": {}}}
    ending = drain(comfy.run(job(tmp_path, what)))[-1]
    assert isinstance(ending, Failed)
    assert "made no file" in ending.problem.message


# --- pictures that lie


def huge_png() -> bytes:
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\x00\x00\x00\x10IDAT"
        + bytes(40)
    )


def test_a_huge_picture_in_a_hundred_bytes_is_not_decoded(tmp_path: Path) -> None:
    from core.engines.comfy.http import Server
    from core.engines.comfy.outputs import Fetching
    from core.errors import ProblemError

    assert len(huge_png()) <= 100
    assert picture_size(huge_png()) == (30_000, 30_000)
    assert posters.pixels(huge_png(), "png") is None
    wanted = job(tmp_path)
    Path(wanted.output).parent.mkdir(parents=True)
    fetching = Fetching(
        wanted,
        {},
        Server("http://127.0.0.1:9"),
        lambda seconds: False,
        lambda text: None,
        lambda done, total: None,
        checks=Checks(settle_seconds=0),
    )
    began = time.monotonic()
    with pytest.raises(ProblemError) as caught:
        fetching.fetch([], [huge_png()])
    assert "30,000×30,000" in caught.value.problem.message
    assert time.monotonic() - began < 1
    assert everything(tmp_path) == set()


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_previews_become_pixels(kind: str) -> None:
    found = posters.pixels(picture(kind), kind)
    assert found is not None
    assert found.shape == (64, 64, 4)
    assert abs(int(found[0, 0, 0]) - 200) < 6
    assert abs(int(found[63, 0, 1]) - 90) < 6
    assert found[..., 3].min() == 255


@given(st.sampled_from(["jpeg", "png"]), st.integers(0, 2_000), st.binary(max_size=30))
def test_broken_previews_raise_nothing(kind: str, cut: int, junk: bytes) -> None:
    posters.pixels(picture(kind)[:cut] + junk, kind)


@given(st.binary(max_size=80))
def test_sizes_of_junk_raise_nothing(junk: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP"):
        picture_size(start + junk)


def test_files_are_listed_once_and_nonsense_left_out() -> None:
    row = {"filename": "a.png", "subfolder": "x", "type": "output"}
    shown = {
        "1": {"images": [row, row, None, 3, {"filename": 5}, {}], "animated": [True]},
        "2": {"gifs": [{"filename": "b.mp4", "fullpath": "/srv/b.mp4"}], "text": "x"},
        "3": {"images": [row]},
    }
    assert files(shown) == [
        Remote("1", "images", "a.png", "x", "output"),
        Remote("2", "gifs", "b.mp4", "", "output", "/srv/b.mp4"),
    ]

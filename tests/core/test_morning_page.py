"""The morning report as a page and as files: pictures of clips, damage, room, speed."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any
from xml.etree import ElementTree

import av
import pytest
from PIL import Image

from core.engines.comfy.standin.media import Picture, clip
from core.errors import Category, ProblemError
from core.events import Output
from core.morning.files import KEPT, METADATA, PAGE, REPORT, load, write_last
from core.morning.marks import Mark, note_of
from core.morning.page import MOST_FAILURES, as_html
from core.morning.sheet import MOST_CLIPS, GivenUpError, sheet
from core.morning.spans import find_spans
from core.outputs.thumbs import SEEK_ABOVE, thumbnails
from tests.core.nights import Night, Told, read_json


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    with Night(tmp_path) as made:
        yield made


def page_of(night: Night) -> tuple[str, ElementTree.Element]:
    report, compared = load(night.ledger.store, find_spans(night.ledger.store))
    text = as_html(report, compared, sheet(report.scenes))
    # Nothing is fetched from anywhere, and nothing runs.
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert set(re.findall(r'<img alt="" src="([^;]*);', text)) <= {"data:image/jpeg"}
    tree = ElementTree.fromstring(re.sub(r"<!doctype html>|<meta[^>]*>|<img[^>]*>", "", text))
    assert not [name for part in tree.iter() for name in part.attrib if name.startswith("on")]
    return text, tree


def written(path: Path, frames: int, side: int = 64) -> Path:
    """Write a clip that gets brighter, as FFmpeg does it."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for turn in range(frames):
            grey = Image.new("RGB", (side, side), (turn * 255 // frames,) * 3)
            container.mux(stream.encode(av.VideoFrame.from_image(grey)))
        container.mux(stream.encode(None))
    return path


def lights(found: list[bytes]) -> list[float]:
    """Return how bright each picture is, 0 to 1."""
    opened = [Image.open(io.BytesIO(data)).convert("L") for data in found]
    return [one.getpixel((one.width // 2, one.height // 2)) / 255 for one in opened]


# -- pictures of a clip -------------------------------------------------------------


def test_pictures_are_spread_over_the_clip(tmp_path: Path) -> None:
    found = thumbnails(written(tmp_path / "a.mp4", 60), 3)
    assert lights(found) == pytest.approx([1 / 6, 3 / 6, 5 / 6], abs=0.06)


def test_a_long_clip_is_not_decoded_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4", 20 * SEEK_ABOVE)
    began = perf_counter()
    found = thumbnails(path, 3)
    assert lights(found) == pytest.approx([1 / 6, 3 / 6, 5 / 6], abs=0.08)
    assert perf_counter() - began < 1.0


@pytest.mark.parametrize("suffix", ["webp", "gif", "png", "webm"])
def test_other_kinds_of_files_have_pictures_too(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    path.write_bytes(clip(Picture(96, 64, 9, seed=3), suffix, 8.0, {"prompt": {}}))
    found = thumbnails(path, 3, side=48)
    assert len(found) == 3
    assert {Image.open(io.BytesIO(data)).size for data in found} == {(48, 32)}
    assert len(set(found)) == 3


def test_a_still_is_one_picture(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (9, 90, 200)).save(tmp_path / "a.png")
    (found,) = thumbnails(tmp_path / "a.png", 3, side=150)
    assert Image.open(io.BytesIO(found)).size == (150, 100)


def test_patience_ends(tmp_path: Path) -> None:
    times = iter(range(100))
    found = thumbnails(written(tmp_path / "a.mp4", 60), 3, seconds=15, clock=lambda: next(times))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("data", "category"),
    [
        (None, Category.STORAGE),
        (b"", Category.BAD_OUTPUT),
        (b"#EXTM3U\n/etc/passwd\n", Category.BAD_OUTPUT),
        (b"\0\0\0\x20ftypisom" + b"\xff" * 2000, Category.BAD_OUTPUT),
        (b"RIFF\x10\0\0\0WEBPVP8X\x0a\0\0\0\x02", Category.BAD_OUTPUT),
        (b"GIF89a", Category.BAD_OUTPUT),
    ],
)
def test_what_is_no_clip_is_a_problem(
    tmp_path: Path, data: bytes | None, category: Category
) -> None:
    path = tmp_path / "a.mp4"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ProblemError) as caught:
        thumbnails(path)
    assert caught.value.problem.category is category
    assert caught.value.problem.hint


# -- the page ---------------------------------------------------------------------------


def test_the_page_tells_of_clips_failures_and_rungs(night: Night) -> None:
    night.run(night.job("gulls over the pier"))
    rung = note_of(Mark.RUNG, "decode in tiles (tiling off → on)")
    night.run(night.job("a fox in snow"), Told(outcome="failed"), Told(notes=[rung, "a note"]))
    night.run(night.job("paper boats"), Told(outcome="failed"))
    text, tree = page_of(night)
    words = " ".join(" ".join(tree.itertext()).split())
    assert tree.findtext(".//h1") == "2 done, 1 failed in 4:03 min"
    for part in (
        "There was not enough GPU memory for this job.",
        "cause: memory ran out",
        "Free the memory that idle models hold, then retry.",
        "A later try made the clip, decode in tiles (tiling off → on).",
        "Use fewer frames or a smaller size, or free memory and retry.",
        "1 job failed: “paper boats”.",
        "a fox in snow: a note",
        "No earlier run of this recipe.",
    ):
        assert part in words, part
    cards = tree.findall(".//div[@class='failures']/article")
    assert [(card.findtext("h3"), card.get("class")) for card in cards] == [
        ("paper boats", "failure"),
        ("a fox in snow", "failure past"),
    ], "what is still to be done comes first, and what was got over is not red"
    found = [base64.b64decode(one) for one in re.findall(r"base64,([^\"]+)", text)]
    assert len(found) == 6, "three of each clip"
    assert all(Image.open(io.BytesIO(data)).size == (64, 48) for data in found)
    bars = tree.findall(".//svg/g")
    assert [bar.get("class") for bar in bars] == ["done", "failed", "done", "failed"]
    (table,) = [one for one in tree.findall(".//table") if len(one.findall("tbody/tr")) == 3]
    cells = [[td.text for td in row.findall("td")][1:] for row in table.findall("tbody/tr")]
    assert cells[0] == [
        "6.0 s", "42.0 s", "9.0 s", "3.0 s", "–", "1:00 min", "6.67 s", "8.8 GB", "decode",
        "5.0 Wh", "0",
    ]  # fmt: skip


def test_the_page_is_reachable_by_keyboard_and_named_for_readers(night: Night) -> None:
    night.run(night.job("a"))
    text, tree = page_of(night)
    assert tree.get("lang") == "en"
    for wide in tree.findall(".//div[@class='wide']"):
        assert wide.get("tabindex") == "0"
        assert wide.get("role") == "region"
        assert wide.get("aria-label")
    assert tree.find(".//svg").get("aria-label")
    assert tree.find(".//a[@class='skip']").get("href") == "#clips"
    assert tree.find(".//*[@id='clips']") is not None
    links = [a.get("href") for a in tree.findall(".//h3/a")]
    assert len(links) == 1
    assert links[0].startswith("file:///")
    for rule in (
        "prefers-color-scheme: dark",
        "@media print",
        "@media (max-width",
        ":focus-visible",
    ):
        assert rule in text
    levels = [int(one) for one in re.findall(r"<h(\d)", text)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_a_night_of_failures_is_not_a_page_without_end(night: Night) -> None:
    for number in range(MOST_FAILURES + 40):
        night.run(night.job(str(number)), Told(outcome="failed", peak_mb=None))
    text, tree = page_of(night)
    assert len(tree.findall(".//article[@class='failure']")) == MOST_FAILURES
    assert "And 40 more; report.json has them all." in text
    assert "100 jobs failed: “0”, “1”, “2” and 97 more." in text
    (table,) = tree.findall(".//table")
    assert len(table.findall("tbody/tr")) == MOST_FAILURES + 40


def test_clips_that_are_gone_or_broken_are_told_in_words(night: Night) -> None:
    jobs = [night.run(night.job(title)) for title in ("gone", "broken", "empty", "good")]
    for job in jobs[:3]:
        Path(job.output).unlink()
    Path(jobs[1].output).write_bytes(b"\0\0\0\x20ftypisom" + bytes(5000))
    Path(jobs[2].output).write_bytes(b"")
    text, tree = page_of(night)
    missing = [one.text for one in tree.findall(".//p[@class='missing']")]
    assert [m.split(" ", 3)[-1] for m in missing] == [
        "is not there any more.", "cannot be read.", "cannot be read.",
    ]  # fmt: skip
    assert len(re.findall("base64,", text)) == 3


@pytest.mark.parametrize(
    "title",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror="x()">',
        "&amp; ]]> 'quoted'",
        "\u202e日本",
    ],
)
def test_titles_are_words_and_nothing_else(night: Night, title: str) -> None:
    night.run(night.job(title), Told(outcome="failed", notes=[title]), Told())
    _, tree = page_of(night)
    assert tree.findtext(".//article[@class='card']/h3/a") == title
    assert not tree.findall(".//script")


def test_an_odd_ledger_entry_costs_one_picture_only(night: Night) -> None:
    night.run(night.job("a"))
    report, compared = load(night.ledger.store, find_spans(night.ledger.store))
    scene = report.scenes[0]
    for path in ("", "relative.mp4", "/dev/null", "nul\0byte.mp4", str(night.home)):
        odd = replace(scene, output=replace(scene.output, path=path))  # type: ignore[type-var]
        shown = sheet([odd])
        assert shown[scene.job.id].words
        as_html(replace(report, scenes=(odd,)), compared, shown)


def test_forty_clips_take_a_few_seconds(night: Night) -> None:
    first = night.job("0", width=832, height=480, frames=49)
    night.run(first)
    for number in range(1, 40):
        job = night.job(str(number), width=832, height=480, frames=49)
        shutil.copy(first.output, job.output)
        night.clip = lambda job: Output(  # type: ignore[method-assign]
            job.output, "", str(Path(first.output).with_suffix(".json")), 832, 480, 49, 8.0, 9, 0, 0
        )
        night.run(job)
    began = perf_counter()
    written = write_last(night.ledger.store.path, night.runs)
    took = perf_counter() - began
    assert written is not None
    assert written.jobs == 40
    assert len(re.findall("base64,", written.page.read_text("utf-8"))) == 120
    assert written.page.stat().st_size < 4_000_000
    assert took < 12, "about three seconds on an idle machine"


def test_more_clips_than_fit_are_told_in_words(night: Night) -> None:
    job = night.run(night.job("a"))
    report, _ = load(night.ledger.store, find_spans(night.ledger.store))
    scene = report.scenes[0]
    many = [replace(scene, job=replace(job, id=str(number))) for number in range(MOST_CLIPS + 3)]
    times = iter(range(10_000))
    shown = sheet(many, clock=lambda: next(times) / 1000)
    assert sum(bool(one.pictures) for one in shown.values()) == MOST_CLIPS
    assert all(one.words or one.pictures for one in shown.values())
    slow = sheet(many[:5], clock=lambda: next(times) * 12.0)
    assert sum(bool(one.pictures) for one in slow.values()) < 5


# -- the files ----------------------------------------------------------------------------


def test_three_files_stand_in_a_folder_of_the_run(night: Night) -> None:
    assert write_last(night.ledger.store.path, night.runs) is None
    night.run(night.job("a"))
    made = write_last(night.ledger.store.path, night.runs)
    assert made is not None
    assert (made.jobs, made.failed) == (1, 0)
    folder = made.page.parent
    assert sorted(path.name for path in folder.iterdir()) == [METADATA, PAGE, REPORT]
    assert read_json(folder / REPORT)["headline"] == made.headline == "1 done in 1:00 min"
    assert read_json(folder / METADATA)["run"] == read_json(folder / REPORT)["run"]


def test_a_run_that_went_on_is_written_anew_and_else_left_alone(night: Night) -> None:
    first = night.run(night.job("a"))
    ledger = night.ledger.store.path
    made = write_last(ledger, night.runs)
    assert made is not None
    Path(first.output).unlink()
    again = write_last(ledger, night.runs)
    assert again == made
    assert "base64," in made.page.read_text("utf-8"), "its pictures outlive the clip"
    night.run(night.job("b"))
    more = write_last(ledger, night.runs)
    assert more is not None
    assert (more.page, more.jobs) == (made.page, 2)
    (made.page.parent / REPORT).write_text("{")
    assert write_last(ledger, night.runs) == more
    assert read_json(made.page.parent / REPORT)["version"] == 1


def test_the_run_before_gets_its_report_when_the_program_died_in_it(night: Night) -> None:
    night.run(night.job("a"))
    night.now += 24 * 3600
    night.run(night.job("b"))
    night.job("waits")
    made = write_last(night.ledger.store.path, night.runs)
    assert made is not None
    found = sorted(path.parent for path in night.runs.rglob(PAGE))
    assert len(found) == 2
    assert made.page.parent == found[1]
    link = f'href="../{found[0].name}/{PAGE}"'
    assert [link in (folder / PAGE).read_text("utf-8") for folder in found] == [False, True]
    totals = [read_json(folder / REPORT)["totals"] for folder in found]
    assert [one["waiting"] for one in totals] == [None, 1]  # type: ignore[index]


def test_nobody_waits_for_it_any_more(night: Night) -> None:
    night.run(night.job("a"))
    with pytest.raises(GivenUpError):
        write_last(night.ledger.store.path, night.runs, lambda: False)
    assert not list(night.runs.rglob("*"))


def test_old_reports_go_and_nothing_else(night: Night) -> None:
    night.run(night.job("a"))
    others = [night.runs / "20260101-000000-abc-1", night.runs / "night-mine"]
    old = [night.runs / f"night-2020010{day}-000000" for day in (1, 2)]
    many = [night.runs / f"night-20210101-{number:06}" for number in range(KEPT - 1)]
    for folder in (*others, *old, *many):
        folder.mkdir(parents=True)
        (folder / PAGE).write_text("x")
    (old[1] / "notes.txt").write_text("a person's own")
    write_last(night.ledger.store.path, night.runs)
    assert all((folder / PAGE).exists() for folder in (*others, *many))
    assert not old[0].exists()
    assert [path.name for path in old[1].iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_written_says_so_and_leaves_nothing(night: Night) -> None:
    night.run(night.job("a"))
    night.runs.parent.mkdir(parents=True)
    night.runs.write_text("a file")
    with pytest.raises(OSError):
        write_last(night.ledger.store.path, night.runs)
    assert night.runs.read_text() == "a file"

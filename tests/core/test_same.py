"""What was made already: which earlier job counts, and its clip copied whole."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from core import formats
from core.events import Finished, Output
from core.jobs import Job
from core.ledger import Ledger
from core.ledger.same import same_done
from core.ledger.twins import twin_of
from core.outputs import read_frames, read_recipe, remove_leftovers, verify_file, writer_of
from core.outputs.copied import copied
from core.outputs.publish import part_path
from tests.core._damage import make_job, names, pan


def made(ledger: Ledger, job: Job, output: Output | None = None) -> Job:
    """Enter a job that is done, of files that were there some while before."""
    time.sleep(0.1)
    ledger.enqueue([job])
    ledger.begin(job.id)
    found = output or Output("/c/1.mp4", "", "", 64, 64, 8, 8.0, 10, 0.1, 0.1, content="8-ab")
    ledger.end(
        job.id,
        Finished(
            job_id=job.id,
            output=found,
            seed=7,
            seconds=1.0,
            peak_rss_bytes=None,
            peak_vram_bytes=None,
        ),
    )
    return job


@pytest.fixture
def ledger(tmp_path: Path):
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


def again(job: Job) -> Job:
    return replace(job, id="22222222-2222-4222-8222-222222222222")


def asked(folder: Path, **params: object) -> Job:
    model = folder / "model"
    (model / "unet").mkdir(parents=True, exist_ok=True)
    (model / "unet" / "weights.safetensors").write_bytes(b"x")
    return replace(make_job(folder / "clip.mp4", frames=9, **params), model=str(model))


@pytest.mark.parametrize(
    "prompt", ["a lamp", "/", "/tmp", "/imagine a lamp", "/a\0b", "/" + "x" * 9000]
)
def test_words_that_look_like_a_path_are_words(ledger: Ledger, tmp_path: Path, prompt: str) -> None:
    job = made(ledger, asked(tmp_path, prompt=prompt))
    began = time.monotonic()
    found = same_done(ledger.store.path, again(job))
    assert [same.job.id for same in found] in ([job.id], []), "made anew at worst"
    assert "\0" in prompt or len(prompt) > 5000 or found
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "name", ["style.safetensors", "own.json", "model/unet/weights.safetensors"]
)
@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_changed_or_went_makes_it_anew(
    ledger: Ledger, tmp_path: Path, name: str, gone: bool
) -> None:
    lora, workflow = tmp_path / "style.safetensors", tmp_path / "own.json"
    for file in (lora, workflow):
        file.write_bytes(b"x")
    job = made(ledger, asked(tmp_path, lora=str(lora)))
    store = ledger.store.path
    assert same_done(store, again(job), [workflow])
    if gone:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(b"y")
    # A model without a file that it had is told by the folder's own time.
    assert not same_done(store, again(job), [workflow])


def test_a_clip_of_another_format_is_no_twin(ledger: Ledger, tmp_path: Path) -> None:
    job = made(ledger, asked(tmp_path, format="av1", guidance_scale=5))
    store, other = ledger.store.path, again(job)
    assert twin_of(store, replace(other, params={**job.params, "format": "webm"}), "8-ab") is None
    assert twin_of(store, replace(other, params={**job.params, "guidance_scale": 9}), "8-ab")


@pytest.mark.parametrize("name", ["h264", "gif", "png", "jpeg"])
def test_every_kind_of_clip_is_copied_whole(tmp_path: Path, name: str) -> None:
    first = make_job(tmp_path / f"one{formats.ending(name)}", frames=9, fps=24, format=name)
    with writer_of(first)(first) as writer:
        for frame in pan(9, 96, 64, noise=1, speed=3):
            writer.add(frame)
        writer.finish({})
    second = replace(again(first), output=str(tmp_path / f"two{formats.ending(name)}"))
    output = copied(first, second)
    assert output is not None
    assert output.path == second.output
    assert verify_file(output.path).ok
    assert next(read_frames(output.path, 10**9)).fps == 24
    told = json.loads(Path(output.recipe).read_text("utf-8"))
    assert (told["job"]["id"], told["copied_from"]) == (second.id, first.id)
    assert read_recipe(output.path)["job"]["params"]["seed"] == 7
    assert not [one for one in names(tmp_path) if one.startswith(".")]
    # Killed in the midst of another, nothing of that is left once it is looked after.
    third = replace(second, output=str(tmp_path / f"three{formats.ending(name)}"))
    part = part_path(Path(third.output), third.id, "clip")
    if Path(output.path).is_dir():
        shutil.copytree(output.path, part)
    else:
        shutil.copyfile(output.path, part)
    remove_leftovers(third.output)
    assert not [one for one in names(tmp_path) if one.startswith(".")]
    assert verify_file(output.path).ok

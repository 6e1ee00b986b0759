"""Decoding in chunks and tiles, lighter where memory runs out, and never sampling twice.

In the real worker: tests/app/test_lighter.py, with the window around it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.engines.local import decoding, starter
from core.engines.local.context import Context
from core.engines.local.families import animatediff
from core.engines.local.kept import Kept, Limits, jobs_in, key_of
from core.engines.local.warm import Warm
from core.events import Event, Noted, PhaseStarted, Sampled
from core.frames import Ring
from core.jobs import Job, Phase, Recipe, new_job
from core.morning.marks import Mark, read_note

HERE = Path(__file__).parent
OOM = "CUDA out of memory. Tried to allocate 2.00 GiB."
FREED, TILED = "memory given back first", "decode in tiles (tiling off → on)"
SMALL = {"prompt": "a red ball", "width": 128, "height": 128, "frames": 8, "steps": 2, "seed": 11}
LEAST = {"width": 64, "height": 64}
"""Where no tiles are asked for: a smaller picture has as many frames and rungs."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return animatediff.recipes(tmp_path_factory.mktemp("models"))[0]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Bench:
    """Runs jobs in this process; `broken` lists the decode calls that run out of memory."""

    def __init__(self, recipe: Recipe, warm: Warm, folder: Path) -> None:
        self.recipe, self.warm, self.folder = recipe, warm, folder
        self.ring = Ring.create()
        self.events: list[Event] = []
        self.kept = Kept(folder / "latents")
        self.sizes: list[tuple[int, ...]] = []
        self.facts: dict[str, Any] = {}

    def job(self, **given: object) -> Job:
        return new_job(self.recipe, {**SMALL, **given}, self.folder)

    def frames(self, job: Job) -> list[Any]:
        self.events.clear()
        self.sizes.clear()
        context = Context(
            job, ring=self.ring, report=self.events.append, warm=self.warm,
            device=lambda: "cpu", kept=self.kept,
        )  # fmt: skip
        self.facts = context.facts
        return list(animatediff.generate(context))

    def clip(self, **given: object) -> np.ndarray:
        return np.stack(decoding.whole(self.frames(self.job(**given))))

    def rungs(self) -> list[str]:
        read = [read_note(e.text) for e in self.events if isinstance(e, Noted)]
        return [words for mark, words in read if mark is Mark.RUNG]

    def steps(self) -> int:
        return sum(isinstance(event, Sampled) for event in self.events)


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    kept = Warm()
    yield kept
    kept.drop()


@pytest.fixture
def bench(recipe: Recipe, warm: Warm, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(recipe, warm, tmp_path)
    if warm._key is None:  # Loading decodes as well, to find the colours of previews.
        kept, made.kept = made.kept, Kept()
        made.frames(made.job(steps=1))
        made.kept = kept
    yield made
    made.ring.close()


@pytest.fixture(scope="module")
def plain(recipe: Recipe, warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The least clip, decoded frame by frame."""
    made = Bench(recipe, warm, tmp_path_factory.mktemp("plain"))
    made.kept = Kept()
    try:
        made.frames(made.job(steps=1))  # Loading decodes as well.
        clip = made.clip(**LEAST)
    finally:
        made.ring.close()
    clip.flags.writeable = False
    return clip


@pytest.fixture
def decoder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the decode calls of those numbers fail with an error."""
    from diffusers import AutoencoderKL

    real = AutoencoderKL.decode

    def break_at(wanted: set[int], error: Exception) -> None:
        calls = 0

        def decode(self: Any, latents: Any, *args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            bench.sizes.append((len(latents), self.tile_latent_min_size if self.use_tiling else 0))
            if calls in wanted:
                raise error
            return real(self, latents, *args, **options)

        monkeypatch.setattr(AutoencoderKL, "decode", decode)

    break_at(set(), RuntimeError())
    return break_at


def out_of_memory() -> Exception:
    import torch

    return torch.OutOfMemoryError(OOM)


# -- as asked for --------------------------------------------------------------------


def test_the_default_decodes_frame_by_frame_as_ever(bench: Bench, decoder: Any) -> None:
    import torch

    clip = bench.clip()
    assert bench.sizes == [(1, 0)] * 8
    assert bench.rungs() == []
    [path] = (bench.folder / "latents").iterdir()
    from safetensors.torch import load

    latents = load(path.read_bytes())["latents"]
    model = bench.warm._value
    vae = model.pipe.vae  # type: ignore[attr-defined]
    for number, one in enumerate((latents[0].transpose(0, 1) / vae.config.scaling_factor).split(1)):
        with torch.no_grad():
            picture = vae.decode(one).sample[0].float()
        expected = picture.permute(1, 2, 0).mul(127.5).add(128).clamp(0, 255).to(torch.uint8)
        assert (clip[number] == expected.numpy()).all()


@pytest.mark.parametrize("chunk", [2, 3, 8, 32])
def test_chunks_give_the_same_pictures(
    bench: Bench, plain: np.ndarray, decoder: Any, chunk: int
) -> None:
    chunked = bench.clip(**LEAST, decode_chunk=chunk)
    counts = [count for count, _ in bench.sizes]
    assert max(counts) == min(chunk, 8)
    assert sum(counts) == 8
    assert np.abs(plain.astype(int) - chunked).max() <= 1


def test_tiles_give_nearly_the_same_pictures(bench: Bench, decoder: Any) -> None:
    job = bench.job(**starter_whole())
    clip = np.stack(bench.frames(job))
    tiled = np.stack(bench.frames(replace(job, params={**job.params, "tiling": True})))
    assert bench.steps() == 0, "of the same latents"
    assert {tile for _, tile in bench.sizes} == {12}
    difference = np.abs(clip.astype(int) - tiled)
    assert difference.max() > 0, "tiles were not at work"
    # A tile's groups are normed over less of the picture, most of all in so small a model.
    assert difference.mean() < 6.0
    assert np.percentile(difference, 99) < 40
    for axis in (1, 2):
        # No tile's edge shows: the step over it is no larger than those of the whole frame.
        others = tuple(one for one in range(4) if one != axis)
        steps = [np.abs(np.diff(x.astype(int), axis=axis)).mean(others) for x in (tiled, clip)]
        assert steps[0][60:84].max() < 1.5 * steps[1].max()


def test_a_picture_too_small_for_tiles_is_told(bench: Bench, plain: np.ndarray) -> None:
    assert (bench.clip(**LEAST, tiling=True) == plain).all()
    assert any("too small" in event.text for event in bench.events if isinstance(event, Noted))


def starter_whole() -> dict[str, object]:
    return {"steps": starter.STEPS, "guidance_scale": starter.GUIDANCE, "scheduler": "ddim"}


def test_jobs_of_old_run_without_the_new_parameters(bench: Bench, plain: np.ndarray) -> None:
    job = bench.job(**LEAST)
    old = {n: v for n, v in job.params.items() if n not in ("tiling", "decode_chunk", "offload")}
    assert (np.stack(bench.frames(replace(job, params=old))) == plain).all()


def test_offload_without_a_card_is_told(bench: Bench, plain: np.ndarray) -> None:
    assert (bench.clip(**LEAST, offload="model") == plain).all()
    notes = [event.text for event in bench.events if isinstance(event, Noted)]
    assert sum("Offload does nothing here" in text for text in notes) == 1


@pytest.mark.parametrize(
    ("height", "width", "tile"),
    [(64, 64, 48), (60, 104, 64), (128, 96, 64), (40, 56, 44), (16, 16, 12), (8, 8, 0)],
)
def test_tiles_fit_and_meet_without_a_gap(height: int, width: int, tile: int) -> None:
    class Vae:
        tile_latent_min_size = 64
        config = type("C", (), {"block_out_channels": (1, 1, 1, 1)})

    found = decoding.Bench(Vae()).tile(height, width)
    assert found == tile
    assert found % 4 == 0


# -- memory runs out ------------------------------------------------------------------


def test_the_rungs_of_a_decode_in_order() -> None:
    class Vae:
        tile_latent_min_size = 64
        config = type("C", (), {"block_out_channels": (1, 1, 1, 1)})

    bench = decoding.Bench(Vae(), lambda: None, lambda: None)
    alone = decoding.lighter(decoding.Way(), decoding.Bench(Vae()), 128, 128)
    assert alone == (decoding.Way(freed=True), "memory given back first")
    way, told = decoding.Way(chunk=4), []
    while (step := decoding.lighter(way, bench, 128, 128)) is not None:
        way, words = step
        told.append(words)
    assert told == [
        "keep more of the model off the card (offload none → model)",
        "decode in smaller pieces (decode_chunk 4 → 2)",
        "decode in smaller pieces (decode_chunk 2 → 1)",
        "decode in tiles (tiling off → on)",
        "decode in smaller tiles of 256 px",
        "decode in smaller tiles of 128 px",
        "decode on the processor",
    ]
    assert way == decoding.Way(1, 0, True, True, True)


def test_smaller_chunks_come_first_and_frames_go_on(
    bench: Bench, plain: np.ndarray, decoder: Any
) -> None:
    decoder({2, 3}, out_of_memory())
    found = bench.frames(bench.job(**LEAST, decode_chunk=4))
    assert [count for count, _ in bench.sizes] == [4, 4, 4, 2, 2]
    assert bench.rungs() == [
        "memory given back first", "decode in smaller pieces (decode_chunk 4 → 2)",
    ]  # fmt: skip
    assert all(frame is not None for frame in found)
    assert np.abs(np.stack(found).astype(int) - plain).max() <= 1
    assert bench.steps() == SMALL["steps"]


def test_a_clip_is_never_half_tiled(bench: Bench, decoder: Any) -> None:
    """From tiles on it begins anew, so it is the clip that tiles alone would have given."""
    tiled = bench.clip(tiling=True)
    decoder({5, 6}, out_of_memory())
    found = bench.frames(bench.job())
    assert [frame is None for frame in found] == [*[False] * 4, True, *[False] * 8]
    assert (np.stack(decoding.whole(found)) == tiled).all()
    assert bench.rungs() == [FREED, TILED]
    assert bench.facts["lighter"] == [FREED, TILED]
    assert bench.steps() == SMALL["steps"], "no step was sampled twice"


@pytest.mark.parametrize(
    ("error", "caught"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 20 MiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate "
                      "memory: you tried to allocate 9 bytes."), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("the roof is on fire"), False),
    ],
)  # fmt: skip
def test_only_what_is_out_of_memory_is_tried_lighter(
    bench: Bench, decoder: Any, error: Exception, caught: bool
) -> None:
    decoder({1}, error)
    if caught:
        assert len(bench.clip(**LEAST)) == 8
    else:
        with pytest.raises(type(error)):
            bench.clip(**LEAST)
    assert bool(bench.rungs()) is caught


def test_at_the_end_of_the_rungs_it_fails_with_what_happened(bench: Bench, decoder: Any) -> None:
    import torch

    decoder(set(range(1, 100)), out_of_memory())
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        bench.clip(decode_chunk=2)
    assert bench.rungs() == [FREED, "decode in smaller pieces (decode_chunk 2 → 1)", TILED]


# -- latents that are kept --------------------------------------------------------------


def test_a_retry_begins_at_the_decode(bench: Bench, decoder: Any) -> None:
    plain, job = bench.clip(), bench.job()
    decoder({3}, ValueError("the roof is on fire"))
    with pytest.raises(ValueError, match="roof"):
        bench.frames(job)
    assert bench.steps() == SMALL["steps"]
    decoder(set(), ValueError())
    assert (np.stack(bench.frames(job)) == plain).all()
    phases = [event.phase for event in bench.events if isinstance(event, PhaseStarted)]
    assert phases == [Phase.LOAD, Phase.DECODE]
    assert bench.steps() == 0, "sampling steps repeated"
    # Other ways to decode the same latents; another rate.
    for changed in ({"tiling": True}, {"decode_chunk": 4}, {"fps": 12}, {"offload": "model"}):
        bench.frames(replace(job, params={**job.params, **changed}))
        assert bench.steps() == 0, changed


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "a blue star"}, {"negative_prompt": "red"}, {"seed": 12}, {"steps": 3},
        {"width": 64}, {"height": 64}, {"frames": 9}, {"guidance_scale": 2.0},
        {"scheduler": "euler"},
    ],
)  # fmt: skip
def test_what_shapes_the_latents_is_sampled_anew(recipe: Recipe, tmp_path: Path, changed) -> None:
    job = new_job(recipe, {**SMALL, "scheduler": "ddim"}, tmp_path)
    key = key_of(job.params, Path(job.model), "cpu")
    assert key == key_of(dict(job.params), Path(job.model), "cpu")
    assert key != key_of({**job.params, **changed}, Path(job.model), "cpu")
    assert key != key_of({**job.params, "new": 1}, Path(job.model), "cpu"), "unknown ones count"
    assert key != key_of(job.params, Path(job.model), "cuda:0")


def test_another_file_of_the_model_counts(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    weights = tmp_path / "unet" / "w.safetensors"
    weights.write_bytes(b"1234")
    key = key_of({}, tmp_path)
    assert key_of({}, tmp_path) == key
    os.utime(weights, (1, 1))
    later = key_of({}, tmp_path)
    weights.write_bytes(b"12345")
    os.utime(weights, (1, 1))
    assert len({key, later, key_of({}, tmp_path)}) == 3


JOBS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(20)]
KEY = "0" * 32


def latents(size: int = 64) -> Any:
    import torch

    return torch.arange(size, dtype=torch.float32).reshape(1, 4, 1, -1, 4)


def test_latents_come_back_bit_for_bit_in_every_type(tmp_path: Path) -> None:
    import torch

    kept = Kept(tmp_path / "latents")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        data = torch.randn(1, 4, 2, 8, 8).to(dtype)
        assert kept.write(JOBS[0], KEY, data)
        found = kept.read(JOBS[0], KEY)
        assert found.dtype is dtype
        assert torch.equal(found, data)
    assert len(list((tmp_path / "latents").iterdir())) == 1
    assert kept.read(JOBS[1], KEY) is None
    assert kept.read(JOBS[0], "1" * 32) is None
    kept.forget(JOBS[0])
    assert list((tmp_path / "latents").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "pickle"])
def test_damaged_latents_are_thrown_away(tmp_path: Path, damage: str) -> None:
    kept = Kept(tmp_path)
    kept.write(JOBS[0], KEY, latents())
    [path] = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    bad = {"cut": path.read_bytes()[:-7], "flipped": bytes(data), "empty": b"",
           "pickle": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94."}  # fmt: skip
    path.write_bytes(bad[damage])
    assert kept.read(JOBS[0], KEY) is None
    assert not path.exists()


def test_few_are_kept_and_no_id_chooses_a_path(tmp_path: Path) -> None:
    import torch

    folder = tmp_path / "latents"
    kept = Kept(folder, Limits(files=3, bytes=2000))
    for age, job_id in enumerate(JOBS[:6]):
        assert kept.write(job_id, KEY, latents())
        os.utime(folder / f"{job_id}.{KEY}.safetensors", (1e9 + age, 1e9 + age))
    assert jobs_in(folder) <= set(JOBS[3:6])
    assert JOBS[5] in jobs_in(folder)
    assert not kept.write(JOBS[7], KEY, latents(4096)), "too large"
    assert not kept.write(JOBS[7], KEY, latents() * float("nan"))
    assert not kept.write("../../evil", KEY, latents())
    assert [path.name for path in tmp_path.iterdir()] == ["latents"]
    assert not Kept().write(JOBS[0], KEY, latents())
    (folder / "notes.txt").write_text("mine")
    for job_id in JOBS:
        kept.forget(job_id)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert torch.is_tensor(latents())


def test_a_disk_that_takes_no_more_does_not_fail_the_job(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not Kept(tmp_path / "file" / "latents").write(JOBS[0], KEY, latents())


# -- on a card ------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["none", "model", "sequential"])
def test_on_a_card_every_offload_decodes_alike_and_memory_that_runs_out_is_got_over(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offload: str
) -> None:
    import torch
    from diffusers import AutoencoderKL

    if not torch.cuda.is_available():
        pytest.skip("no card")
    warm, ring, events = Warm(), Ring.create(), []
    job = new_job(recipe, {**SMALL, "offload": offload}, tmp_path)
    real, calls, broken = AutoencoderKL.decode, 0, False

    def decode(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if broken and calls in (1, 2, 3):
            raise torch.OutOfMemoryError(OOM)
        return real(self, *args, **options)

    def clip() -> np.ndarray:
        context = Context(
            job, ring=ring, report=events.append, warm=warm, device=lambda: "cuda:0",
            kept=Kept(tmp_path / "latents"),
        )  # fmt: skip
        return np.stack(decoding.whole(animatediff.generate(context)))

    try:
        plain = clip()
        monkeypatch.setattr(AutoencoderKL, "decode", decode)
        broken, calls = True, 0
        lighter = clip()
        broken = False
        again = clip()
    finally:
        warm.drop()
        ring.close()
    assert np.abs(plain.astype(int) - lighter).mean() < 6.0
    assert np.abs(plain.astype(int) - again).max() <= 2, "the model is on the card again"
    assert sum(isinstance(event, Sampled) for event in events) == 2, "sampled once"

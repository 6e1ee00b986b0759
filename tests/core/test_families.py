"""Every family of the embedded engine, run whole on tiny models of the real classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.engines.local import (
    decoding,
    detect,
    families,
    folders,
    placement,
    placing,
    preview,
    schedulers,
)
from core.engines.local.client import LocalEngine
from core.engines.local.context import Cancelled, Context
from core.engines.local.kept import Kept
from core.engines.local.warm import Warm
from core.errors import Category, ProblemError
from core.events import (
    Event,
    Finished,
    FramesPublished,
    Noted,
    PhaseStarted,
    Progressed,
    Sampled,
)
from core.frames import Ring
from core.jobs import Job, Kind, Phase, Recipe, new_job
from core.morning.marks import Mark, read_note
from core.outputs import verify_file
from tests.core import tiny_models

STEPS = 3


@dataclass(frozen=True)
class Case:
    """A model folder: how it is built, and how long a clip of it is; 0: a picture."""

    build: Callable[..., Path]
    family: str
    frames: int = 0
    vae: str = ""
    options: tuple[tuple[str, bool], ...] = ()


CASES = {
    "sd15": Case(tiny_models.stable_diffusion, "stable_diffusion", vae="decoder.conv_out.bias"),
    "sdxl": Case(tiny_models.stable_diffusion_xl, "stable_diffusion", vae="decoder.conv_out.bias"),
    "svd": Case(tiny_models.svd, "svd", 4, "decoder.conv_out.bias"),
    "wan-t2v": Case(tiny_models.wan, "wan", 9, "post_quant_conv.bias"),
    "wan-i2v": Case(tiny_models.wan, "wan", 9, "post_quant_conv.bias", (("picture", True),)),
    "wan22-14b": Case(tiny_models.wan, "wan", 9, "post_quant_conv.bias", (("two", True),)),
    "wan22-5b": Case(tiny_models.wan, "wan", 9, "post_quant_conv.bias", (("small", True),)),
    "ltx": Case(tiny_models.ltx, "ltx", 9, "decoder.conv_in.conv.bias"),
    "ltx-timed": Case(
        tiny_models.ltx, "ltx", 9, "decoder.conv_in.conv.bias", (("conditioned", True),)
    ),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other crawl on a machine that is busy otherwise."""
    with tiny_models.alone():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of every case."""
    folder = tmp_path_factory.mktemp("models")
    for name, case in CASES.items():
        (folder / name).mkdir()
        case.build(folder / name, **dict(case.options))
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start picture, in another shape than clips have."""
    from PIL import Image

    path = tmp_path_factory.mktemp("pictures") / "start.png"
    noise = np.random.default_rng(3).integers(0, 255, (70, 110, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def given(recipe: Recipe, start: Path, **more: object) -> dict[str, object]:
    """Return values for a small job."""
    values: dict[str, object] = {"width": 64, "height": 64, "steps": STEPS, "seed": 11}
    for knob in recipe.parameters:
        if knob.name == "prompt":
            values |= {"prompt": "a red ball", "negative_prompt": "blur"}
        if knob.kind is Kind.IMAGE and knob.required:
            values[knob.name] = str(start)
        if knob.name == "frames":
            values["frames"] = CASES[recipe.title.split(" ")[0]].frames
    return {**values, **more}


class Bench:
    """Runs jobs of one model in this process and records all that a window would see."""

    device = "cpu"

    def __init__(self, folder: Path, start: Path, clips: Path, warm: Warm) -> None:
        self.recipe = families.recipe_for_folder(folder)
        self.start, self.clips = start, clips
        self.warm, self.ring = warm, Ring.create()
        self.kept = Kept()
        self.events: list[Event] = []
        self.stop: Callable[[Event], bool] = lambda event: False

    def job(self, **more: object) -> Job:
        return new_job(self.recipe, given(self.recipe, self.start, **more), self.clips)

    def report(self, event: Event) -> None:
        self.events.append(event)
        if self.stop(event):
            raise Cancelled

    def frames(self, job: Job) -> np.ndarray:
        self.events.clear()
        context = Context(
            job, ring=self.ring, report=self.report, warm=self.warm,
            device=lambda: self.device, kept=self.kept,
        )  # fmt: skip
        return np.stack(decoding.whole(families.load(job.family).generate(context)))

    def clip(self, **more: object) -> np.ndarray:
        return self.frames(self.job(**more))

    def seen(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def loaded() -> Iterator[dict[str, Warm]]:
    """Models that stay warm from test to test."""
    made: dict[str, Warm] = {}
    yield made
    for warm in made.values():
        warm.drop()


@pytest.fixture
def benches(
    models: Path, start: Path, tmp_path: Path, loaded: dict[str, Warm]
) -> Iterator[Callable[[str], Bench]]:
    made: list[Bench] = []

    def bench(name: str) -> Bench:
        warm = loaded.setdefault(name, Warm())
        made.append(Bench(models / name, start, tmp_path, warm))
        return made[-1]

    yield bench
    for one in made:
        one.ring.close()


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    """Clips of the values that `given` gives, by the model's folder."""
    return {}


@pytest.fixture
def plain(drawn: dict[str, np.ndarray]) -> Callable[[Bench], np.ndarray]:
    """Return the clip that a bench makes when nothing else is asked for, made once."""

    def clip(bench: Bench) -> np.ndarray:
        if bench.recipe.model not in drawn:
            drawn[bench.recipe.model] = bench.clip()
            drawn[bench.recipe.model].flags.writeable = False
        return drawn[bench.recipe.model]

    return clip


@pytest.fixture(params=list(CASES))
def bench(request: pytest.FixtureRequest, benches: Callable[[str], Bench]) -> Bench:
    return benches(request.param)


# ---- what a folder is


def test_each_folder_is_known_by_its_files(models: Path) -> None:
    assert {name: detect.family_of(models / name) for name in CASES} == {
        name: case.family for name, case in CASES.items()
    }
    found = [
        recipe
        for recipe in families.recipes(models)
        if recipe.model.startswith(str(models)) and recipe.family != "dream"
    ]
    assert sorted(recipe.title.split(" ")[0] for recipe in found) == sorted(CASES)
    own, problems = families.own_recipes(models / name for name in CASES)
    own = [recipe for recipe in own if recipe.family != "dream"]
    assert (len(own), problems) == (len(CASES), [])
    assert {recipe.makes for recipe in own if recipe.family == "stable_diffusion"} == {"image"}
    assert {recipe.makes for recipe in own if recipe.family != "stable_diffusion"} == {"video"}


def test_a_folder_of_the_hugging_face_cache_is_found(models: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--Lightricks--LTX-Video"
    (cache / "refs").mkdir(parents=True)
    shutil.copytree(models / "ltx", cache / "snapshots" / "0a1b2c")
    (cache / "snapshots" / "older").mkdir()
    # Fetched by a revision it has no main branch: the one that is whole is taken.
    assert families.recipe_for_folder(cache).model == str(cache / "snapshots" / "0a1b2c")
    (cache / "refs" / "main").write_text("../../elsewhere")
    with pytest.raises(ProblemError):
        families.recipe_for_folder(cache)
    (cache / "refs" / "main").write_text("0a1b2c")
    recipe = families.recipe_for_folder(cache)
    assert recipe.model == str(cache / "snapshots" / "0a1b2c")
    assert recipe.title.startswith("LTX-Video ·")
    assert families.recipe_for_folder(Path(recipe.model)) == recipe
    assert [one.id for one in families.recipes(tmp_path) if one.family == "ltx"] == [recipe.id]


@pytest.mark.parametrize("name", ["FluxPipeline", "", "../../etc/passwd", "torch.load"])
def test_an_unknown_model_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / folders.INDEX).write_text(json.dumps({"_class_name": name}))
    with pytest.raises(ProblemError) as caught:
        families.recipe_for_folder(tmp_path / "flux")
    problem = caught.value.problem
    assert (name or "an unnamed pipeline") in problem.message
    for title in detect.TITLES:
        assert title in problem.hint
    assert families.own_recipes([tmp_path / "flux"]) == ([], [problem])


@pytest.mark.parametrize("name", list(CASES))
def test_each_missing_part_is_named(models: Path, tmp_path: Path, name: str) -> None:
    index = json.loads((models / name / folders.INDEX).read_text())
    parts = [part for part, entry in index.items() if isinstance(entry, list) and entry[0]]
    assert len(parts) >= 5
    for part in parts:
        copy = tmp_path / part
        shutil.copytree(models / name, copy)
        shutil.rmtree(copy / part)
        with pytest.raises(ProblemError) as caught:
            families.recipe_for_folder(copy)
        assert f"its part {part} is missing" in caught.value.problem.message


def test_a_damaged_file_of_a_family_is_named(models: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(models / "wan-t2v", tmp_path / "cut"))
    weights = copy / "transformer/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ProblemError) as caught:
        families.recipe_for_folder(copy)
    assert "transformer/diffusion_pytorch_model.safetensors" in caught.value.problem.message


def test_a_listing_that_leads_out_of_the_folder_is_refused(models: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(models / "ltx", tmp_path / "out"))
    weights = copy / "vae/diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    shutil.copy(tmp_path / "elsewhere.safetensors", copy / "vae/other.safetensors")
    listing = copy / "vae/diffusion_pytorch_model.safetensors.index.json"
    listing.write_text(json.dumps({"weight_map": {"a": "../../elsewhere.safetensors"}}))
    with pytest.raises(ProblemError) as caught:
        families.recipe_for_folder(copy)
    assert "leads out of its folder" in caught.value.problem.message


# ---- what it makes


def test_it_is_made_and_told_step_by_step(bench: Bench) -> None:
    name = bench.recipe.title.split(" ")[0]
    frames = CASES[name].frames or 1
    clip = bench.clip(height=128)
    assert (clip.shape, clip.dtype) == ((frames, 128, 64, 3), np.uint8)
    assert clip.std() > 2
    assert frames == 1 or all((clip[0] != other).any() for other in clip[1:])
    phases = [event.phase for event in bench.seen(PhaseStarted)]
    assert phases == [Phase.LOAD, Phase.SAMPLE, Phase.DECODE]
    told = [(event.step, event.steps) for event in bench.seen(Sampled)]
    assert told == [(step, STEPS) for step in range(1, STEPS + 1)]
    previews = [event for event in bench.seen(FramesPublished) if event.preview]
    assert [(one.first, one.count, one.total) for one in previews] == [(0, frames, frames)] * STEPS
    assert all(one.height == 2 * one.width for one in previews)
    shown = [event for event in bench.seen(FramesPublished) if not event.preview]
    assert sum(event.count for event in shown) == frames
    assert {event.total for event in shown} == {frames}


def test_the_same_seed_is_the_same_clip(bench: Bench, plain: Any, start: Path) -> None:
    clip = plain(bench)
    assert (bench.clip(seed=12) != clip).any()
    assert (bench.clip() == clip).all()
    cold = Bench(Path(bench.recipe.model), start, bench.clips, Warm())
    try:
        assert (cold.clip() == clip).all()
    finally:
        cold.ring.close()
        cold.warm.drop()


def test_words_and_guidance_reach_the_model(bench: Bench, plain: Any) -> None:
    clip, unguided = plain(bench), bench.clip(guidance_scale=1)
    assert (unguided != clip).any()
    if bench.recipe.family == "svd":
        assert (bench.clip(motion=1) != clip).any()
        assert (bench.clip(augmentation=1) != clip).any()
        return
    assert (bench.clip(prompt="two dogs") != clip).any()
    assert (bench.clip(negative_prompt="colours") != clip).any()
    assert (bench.clip(guidance_scale=1, negative_prompt="colours") == unguided).all()


@pytest.mark.parametrize("name", ["svd", "wan-i2v", "ltx"])
def test_the_start_picture_reaches_the_model(
    benches: Callable[[str], Bench], name: str, tmp_path: Path, start: Path
) -> None:
    from PIL import Image

    bench = benches(name)
    white = tmp_path / "white.jpg"
    Image.new("RGB", (40, 30), "white").save(white)
    clip = bench.clip(image=str(start))
    assert (bench.clip(image=str(white)) != clip).any()
    assert (bench.clip(image=str(start)) == clip).all()
    text = tmp_path / "words.png"
    text.write_text("no picture")
    with pytest.raises(ProblemError) as caught:
        bench.clip(image=str(text))
    assert (caught.value.problem.field, "words.png" in caught.value.problem.message) == (
        "image",
        True,
    )


def test_cancel_acts_within_a_step_and_the_next_job_runs(bench: Bench) -> None:
    bench.stop = lambda event: isinstance(event, Sampled) and event.step == 2
    with pytest.raises(Cancelled):
        bench.clip(steps=9)
    assert [event.step for event in bench.seen(Sampled)] == [1, 2]
    assert isinstance(bench.events[-1], Sampled)
    bench.stop = lambda event: False
    assert len(bench.clip()) == (CASES[bench.recipe.title.split(" ")[0]].frames or 1)


@pytest.mark.parametrize("name", ["wan-t2v", "ltx"])
def test_cancel_is_heard_while_a_clip_is_decoded_whole(
    benches: Callable[[str], Bench], name: str
) -> None:
    bench = benches(name)
    bench.stop = lambda event: isinstance(event, Progressed) and event.phase is Phase.DECODE
    with pytest.raises(Cancelled):
        bench.clip()
    assert not [event for event in bench.seen(FramesPublished) if not event.preview]


def test_a_decode_that_was_left_holds_nothing(benches: Callable[[str], Bench]) -> None:
    """What WAN's decoder carries from frame to frame is gigabytes for real clips."""
    bench = benches("wan-t2v")
    heard: list[bool] = []

    def stop(event: Event) -> bool:
        heard.append(isinstance(event, Progressed) and event.phase is Phase.DECODE)
        return sum(heard) == 3

    bench.stop = stop
    with pytest.raises(Cancelled):
        bench.clip(frames=9)
    vae: Any = bench.warm._value.pipe.vae  # type: ignore[union-attr]
    assert sum(heard) == 3, "in the midst of it"
    assert all(one is None for one in vae._feat_map)


def test_numbers_that_are_none_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    bench.clip(steps=1)
    vae: Any = bench.warm._value.pipe.vae  # type: ignore[union-attr]
    name = CASES[bench.recipe.title.split(" ")[0]].vae
    bias = dict(vae.named_parameters())[name]
    kept = bias.detach().clone()
    with torch.no_grad():
        bias.fill_(float("nan"))
    try:
        with pytest.raises(ProblemError) as caught:
            bench.clip(steps=1)
    finally:
        with torch.no_grad():
            bias.copy_(kept)
    assert caught.value.problem.category is Category.BAD_OUTPUT
    assert "produced NaN" in caught.value.problem.message


@pytest.mark.parametrize("name", ["sdxl", "svd", "wan-t2v", "ltx"])
def test_out_of_memory_in_the_decode_takes_a_rung_and_samples_nothing_again(
    benches: Callable[[str], Bench], plain: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    bench = benches(name)
    clip = plain(bench)
    vae = type(bench.warm._value.pipe.vae)  # type: ignore[union-attr]
    real, calls = vae.decode, 0

    def decode(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, *args, **options)

    monkeypatch.setattr(vae, "decode", decode)
    assert (bench.clip() == clip).all()
    notes = [read_note(event.text) for event in bench.seen(Noted)]
    assert [words for mark, words in notes if mark is Mark.RUNG] == ["memory given back first"]
    assert len(bench.seen(Sampled)) == STEPS


@pytest.mark.parametrize("name", ["wan-t2v", "ltx"])
def test_tiles_give_nearly_the_same_clip(benches: Callable[[str], Bench], name: str) -> None:
    bench = benches(name)
    side = 256 if name == "wan-t2v" else 1024
    size = {"width": side, "height": 64, "steps": 1, "frames": 9}
    whole, tiled = bench.clip(**size), bench.clip(**size, tiling=True)
    assert whole.shape == tiled.shape
    assert (whole != tiled).any(), "it was not tiled"
    # Random weights look far; those of real models do not.
    assert np.abs(whole.astype(int) - tiled).mean() < 8


def test_latents_are_kept_and_nothing_is_sampled_twice(bench: Bench, tmp_path: Path) -> None:
    bench.kept = Kept(tmp_path)
    job = bench.job()
    bench.stop = lambda event: isinstance(event, FramesPublished) and not event.preview
    with pytest.raises(Cancelled):
        bench.frames(job)
    bench.stop = lambda event: False
    again = bench.frames(job)
    assert bench.seen(Sampled) == []
    bench.kept = Kept()
    assert (bench.frames(job) == again).all()


def test_latents_of_another_picture_under_the_same_name_are_not_taken(
    benches: Callable[[str], Bench], tmp_path: Path
) -> None:
    from PIL import Image

    bench, path = benches("svd"), tmp_path / "start.png"
    bench.kept = Kept(tmp_path / "latents")
    Image.new("RGB", (64, 64), "red").save(path)
    job = bench.job(image=str(path))
    bench.frames(job)
    bench.frames(job)
    assert bench.seen(Sampled) == []
    Image.effect_noise((64, 64), 50).save(path)
    bench.frames(job)
    assert len(bench.seen(Sampled)) == STEPS


@pytest.mark.parametrize("name", [*schedulers.NAMES, "model's own"])
def test_pictures_take_every_scheduler(benches: Callable[[str], Bench], name: str) -> None:
    assert benches("sd15").clip(scheduler=name, steps=4).std() > 2


def test_wan_takes_both_schedulers_and_a_shift(benches: Callable[[str], Bench], plain: Any) -> None:
    bench = benches("wan-t2v")
    clip = plain(bench)
    assert (bench.clip(scheduler="euler") != clip).any()
    assert (bench.clip(shift=8) != clip).any()


@pytest.mark.parametrize(
    ("name", "field", "value", "words"),
    [
        ("wan-t2v", "frames", 16, "multiple of 4 plus 1"),
        ("wan-t2v", "width", 72, "multiple of 16"),
        ("ltx", "frames", 16, "multiple of 8 plus 1"),
        ("ltx", "height", 80, "multiple of 32"),
        ("svd", "width", 72, "multiple of 64"),
        ("svd", "image", "", "Choose a start picture"),
        ("wan-i2v", "image", "/nowhere.png", "Choose a file that exists"),
        ("sd15", "width", 65, "multiple of 8"),
        ("sd15", "scheduler", "magic", "Choose one of"),
    ],
)
def test_values_that_a_family_cannot_take_name_their_field(
    benches: Callable[[str], Bench], name: str, field: str, value: object, words: str
) -> None:
    bench = benches(name)
    with pytest.raises(ProblemError) as caught:
        bench.job(**{field: value})
    assert caught.value.problem.field == field
    assert words in caught.value.problem.hint


def test_models_of_few_steps_are_known_by_their_files(tmp_path: Path) -> None:
    import diffusers

    turbo = diffusers.EulerDiscreteScheduler(timestep_spacing="trailing")
    cases = {
        "turbo": ({"scheduler": turbo}, 4, 1.0),
        "lcm": ({"scheduler": diffusers.LCMScheduler(), "time_cond_proj_dim": 16}, 4, 8.5),
        "plain": ({}, 25, 7.0),
    }
    for name, (options, steps, guidance) in cases.items():
        (tmp_path / name).mkdir()
        tiny_models.stable_diffusion(tmp_path / name, **options)
        found = families.recipe_for_folder(tmp_path / name).resolve({"prompt": "a"})
        assert (found["steps"], found["guidance_scale"]) == (steps, guidance), name


class Card(str):
    """A device that says it is a card and computes here: weights then come in half precision."""

    def startswith(self, prefix: Any, *more: Any) -> bool:
        return prefix == "cuda" or super().startswith(prefix, *more)


@pytest.mark.parametrize("name", ["sdxl", "svd", "wan-i2v", "ltx-timed"])
def test_types_of_half_precision_fit_each_other(
    models: Path, start: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bench, "device", Card("cpu"))
    monkeypatch.setattr(placing, "card_of", lambda context: placement.Card(1e12))
    bench = Bench(models / name, start, tmp_path, Warm())
    try:
        clip = bench.clip()
        pipe: Any = bench.warm._value.pipe  # type: ignore[union-attr]
        main = pipe.components.get("unet") or pipe.components["transformer"]
        half = "float16" if "unet" in pipe.components else "bfloat16"
        # A few layers of some families stay whole.
        assert f"torch.{half}" in {str(weight.dtype) for weight in main.parameters()}
        assert clip.std() > 2
    finally:
        bench.ring.close()
        bench.warm.drop()


# ---- live pictures


def test_latent_frames_are_shown_as_long_as_what_they_become() -> None:
    pixels = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    assert preview.stretched(pixels, 9).ravel().tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert preview.stretched(pixels[:1], 1).ravel().tolist() == [0]


@pytest.mark.parametrize("name", ["wan-t2v", "ltx", "svd"])
def test_the_last_preview_has_the_colours_of_the_clip(
    models: Path, start: Path, tmp_path: Path, name: str
) -> None:
    """Fitted factors foretell the mean colours better than grey does."""
    folder = Path(shutil.copytree(models / name, tmp_path / name))
    (folder / preview.FILE).unlink()  # Then they are fitted as the model is loaded.
    bench = Bench(folder, start, tmp_path, Warm())
    seen: list[np.ndarray] = []
    real = Context.publish

    def publish(self: Context, frames: np.ndarray, **more: Any) -> None:
        if more["preview"]:
            seen.append(frames.copy())
        real(self, frames, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Context, "publish", publish)
        clip = bench.clip()
    bench.ring.close()
    bench.warm.drop()
    small = seen[-1][..., 2::-1].astype(float)
    rows, columns = small.shape[1:3]
    blocks = clip.reshape(len(clip), rows, 64 // rows, columns, 64 // columns, 3)
    means = blocks.mean((2, 4))
    assert np.abs(small - means).mean() < np.abs(means - 128).mean()


# ---- through the real worker


def test_the_worker_makes_whole_files(
    models: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    engine = LocalEngine(log=tmp_path / "engine.log")
    try:
        for name in ("sd15", "svd", "wan-i2v", "ltx"):
            recipe = families.recipe_for_folder(models / name)
            job = new_job(recipe, given(recipe, start), tmp_path / name)
            check_file(job, list(engine.run(job)), CASES[name].frames)
    finally:
        engine.close()


def check_file(job: Job, seen: list[Event], frames: int) -> None:
    """Fail unless a job made a sound file of so many frames; 0: a picture."""
    ending = seen[-1]
    assert isinstance(ending, Finished), ending
    output = ending.output
    assert (output.width, output.height, output.frames) == (64, 64, frames or 1)
    path = Path(output.path)
    assert path.suffix == (".mp4" if frames else ".png")
    assert path.with_suffix(".jpg").stat().st_size > 100
    assert json.loads(path.with_suffix(".json").read_text())["job"]["id"] == job.id
    verdict = verify_file(path)
    assert verdict.ok, verdict.faults
    assert {item.suffix for item in path.parent.iterdir()} == {path.suffix, ".jpg", ".json"}
    assert len(list(path.parent.iterdir())) == 3
    assert sum(isinstance(event, FramesPublished) and event.preview for event in seen) == STEPS

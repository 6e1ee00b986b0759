"""The real pipeline, run whole through its family."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from core import judge
from core.engines.local import schedulers, starter
from core.engines.local.context import Cancelled, Context
from core.engines.local.families import animatediff
from core.engines.local.warm import Warm
from core.errors import Category, ProblemError
from core.events import Event, FramesPublished, Noted, PhaseStarted, Progressed, Sampled
from core.frames import Ring
from core.jobs import Job, Phase, Recipe, new_job

Frames = np.ndarray[Any, np.dtype[np.uint8]]


WHOLE: dict[str, object] = {
    "frames": 8,
    "steps": starter.STEPS,
    "guidance_scale": starter.GUIDANCE,
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return animatediff.recipes(tmp_path_factory.mktemp("models"))[0]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other crawl on a machine that is busy otherwise."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    kept = Warm()
    yield kept
    kept.drop()


class Bench:
    """Runs jobs in this process and records all that a window would see."""

    def __init__(self, recipe: Recipe, warm: Warm, folder: Path) -> None:
        self.recipe = recipe
        self.warm = warm
        self.folder = folder
        self.ring = Ring.create()
        self.events: list[Event] = []
        self.pictures: list[tuple[FramesPublished, Frames]] = []
        self.stop: Callable[[Event], bool] = lambda event: False

    def job(self, **given: object) -> Job:
        values = {"prompt": "a red ball", "width": 64, "height": 64, "frames": 8}
        return new_job(self.recipe, {**values, "steps": 2, "seed": 11, **given}, self.folder)

    def report(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, FramesPublished):
            view = self.ring.pin(event.slot, event.sequence)
            assert view is not None
            shape = (event.count, event.height, event.width, 4)
            size = int(np.prod(shape))
            self.pictures.append(
                (event, np.frombuffer(view[:size], np.uint8).reshape(shape).copy())
            )
            del view
            self.ring.unpin()
        if self.stop(event):
            raise Cancelled

    def frames(self, job: Job) -> Iterator[Frames]:
        self.events.clear()
        self.pictures.clear()
        context = Context(
            job, ring=self.ring, report=self.report, warm=self.warm, device=lambda: "cpu"
        )
        yield from animatediff.generate(context)

    def clip(self, **given: object) -> Frames:
        return np.stack(list(self.frames(self.job(**given))))

    def seen(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def bench(recipe: Recipe, warm: Warm, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(recipe, warm, tmp_path)
    yield made
    made.ring.close()


def test_a_clip_is_made_and_told_step_by_step(bench: Bench) -> None:
    clip = bench.clip(steps=3)
    assert clip.shape == (8, 64, 64, 3)
    assert clip.dtype == np.uint8
    phases = [event.phase for event in bench.seen(PhaseStarted)]
    assert phases == [Phase.LOAD, Phase.SAMPLE, Phase.DECODE]
    assert [(event.step, event.steps) for event in bench.seen(Sampled)] == [(1, 3), (2, 3), (3, 3)]


def test_the_whole_clip_is_shown_after_each_step(bench: Bench) -> None:
    bench.clip(steps=3)
    previews = [(event, picture) for event, picture in bench.pictures if event.preview]
    assert [(e.first, e.count, e.total) for e, _ in previews] == [(0, 8, 8)] * 3
    for event, picture in previews:
        assert (event.width, event.height, event.fps) == (8, 8, 8.0)
        assert (picture[..., 3] == 255).all()
        assert len(np.unique(picture[..., :3])) > 8
    # The frames of a clip differ, and so do the steps.
    last = previews[-1][1]
    assert all((last[0] != other).any() for other in last[1:])
    assert (previews[0][1] != last).any()
    shown = [e for e in bench.events if not isinstance(e, FramesPublished) or e.preview]
    told = [type(e) for e in shown if isinstance(e, FramesPublished | Sampled)]
    assert told == [FramesPublished, Sampled] * 3


def test_decoded_frames_are_shown_as_they_are(bench: Bench) -> None:
    clip = bench.clip()
    decoded = [(event, picture) for event, picture in bench.pictures if not event.preview]
    assert [event.first for event, _ in decoded] == list(range(8))
    shown = np.concatenate([picture for _, picture in decoded])
    assert (shown[..., 2::-1] == clip).all()


def test_loading_is_told_part_by_part_once(recipe: Recipe, tmp_path: Path) -> None:
    warm = Warm()
    bench = Bench(recipe, warm, tmp_path)
    try:
        bench.clip(steps=1)
        first = [event for event in bench.seen(Progressed) if event.phase is Phase.LOAD]
        bench.clip(steps=1, seed=12)
        again = [event for event in bench.seen(Progressed) if event.phase is Phase.LOAD]
    finally:
        bench.ring.close()
        warm.drop()
    text = " ".join(event.text for event in first)
    for word in ("tokenizer", "unet", "motion adapter", "vae", "text encoder", "scheduler"):
        assert word in text
    assert first[-1].done == first[-1].total
    assert again == []


def test_same_seed_same_clip_bit_for_bit(bench: Bench, recipe: Recipe, tmp_path: Path) -> None:
    clip = bench.clip()
    bench.clip(frames=24, seed=5, scheduler="euler_a", guidance_scale=3)
    assert (bench.clip() == clip).all()
    cold = Bench(recipe, Warm(), tmp_path)
    try:
        assert (cold.clip() == clip).all()
    finally:
        cold.ring.close()
        cold.warm.drop()
    assert (bench.clip(seed=12) != clip).any()


def test_words_and_guidance_reach_the_model(bench: Bench) -> None:
    clip = bench.clip()
    assert (bench.clip(prompt="a blue star over the sea") != clip).any()
    assert (bench.clip(negative_prompt="blurry") != clip).any()
    assert (bench.clip(guidance_scale=2) != clip).any()
    unguided = bench.clip(guidance_scale=1)
    assert (bench.clip(guidance_scale=1, negative_prompt="blurry") == unguided).all()


@pytest.mark.parametrize("name", schedulers.NAMES)
def test_every_scheduler_draws_what_is_asked(bench: Bench, name: str) -> None:
    clip = bench.clip(prompt="a big red ball on a white background", scheduler=name, **WHOLE)
    seen = judge.look(clip)
    assert (seen.colours, seen.background) == (("red",), "plain white")
    steps_told = bench.seen(Sampled)
    assert steps_told[-1].step == steps_told[-1].steps >= starter.STEPS


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", schedulers.NAMES)
def test_every_scheduler_takes_few_steps(bench: Bench, name: str, steps: int) -> None:
    clip = bench.clip(scheduler=name, steps=steps, guidance_scale=20)
    assert clip.std() > 2


@pytest.mark.parametrize(("width", "height"), [(72, 64), (64, 128)])
def test_other_sizes(bench: Bench, width: int, height: int) -> None:
    assert bench.clip(width=width, height=height).shape == (8, height, width, 3)


@pytest.mark.parametrize("frames", [8, 16, 17, 32, 33, 128])
def test_every_length_works(bench: Bench, frames: int) -> None:
    clip = bench.clip(frames=frames, steps=1)
    assert len(clip) == frames
    # Long clips do not repeat one window.
    assert all((clip[0] != other).any() for other in clip[1:])
    preview = next(event for event in bench.seen(FramesPublished) if event.preview)
    assert preview.count == preview.total == frames


def test_one_hundred_steps(bench: Bench) -> None:
    bench.clip(steps=100, scheduler="lcm", guidance_scale=1)
    assert bench.seen(Sampled)[-1].step == 100


def cancelled_at(bench: Bench, stop: Callable[[Event], bool], **given: object) -> list[Event]:
    bench.stop = stop
    with pytest.raises(Cancelled):
        bench.clip(**given)
    bench.stop = lambda event: False
    return list(bench.events)


def test_cancel_while_sampling_acts_within_the_step(bench: Bench) -> None:
    def stop(event: Event) -> bool:
        return isinstance(event, Sampled) and event.step == 2

    events = cancelled_at(bench, stop, steps=9)
    assert isinstance(events[-1], Sampled)
    assert bench.clip().shape == (8, 64, 64, 3)


def test_cancel_between_decoded_frames(bench: Bench) -> None:
    def stop(event: Event) -> bool:
        return isinstance(event, FramesPublished) and not event.preview and event.first == 2

    events = cancelled_at(bench, stop)
    assert sum(isinstance(e, FramesPublished) and not e.preview for e in events) == 3


def test_cancel_between_loaded_parts(recipe: Recipe, tmp_path: Path) -> None:
    bench = Bench(recipe, Warm(), tmp_path)

    def stop(event: Event) -> bool:
        return isinstance(event, Progressed) and "vae" in event.text

    try:
        events = cancelled_at(bench, stop)
        texts = [event.text for event in events if isinstance(event, Progressed)]
        assert not any("pipeline" in text for text in texts)
    finally:
        bench.ring.close()
        bench.warm.drop()


def test_words_beyond_the_limit_are_told(bench: Bench) -> None:
    bench.clip(prompt="a red ball " * 12 + "a red star", steps=1)
    bench_notes = bench.seen(Noted)
    assert len(bench_notes) == 1
    # 38 tokens are read: 12 times three words, and two.
    assert bench_notes[0].text.endswith("“star”")
    bench.clip(prompt="a red ball " * 12 + "a red", steps=1)
    assert bench.seen(Noted) == []
    bench.clip(negative_prompt="a red ball " * 13, steps=1)
    assert "negative prompt" in bench.seen(Noted)[0].text


def test_words_it_never_learned_are_told(bench: Bench) -> None:
    bench.clip(prompt="a red dragon on a blue elephant", steps=1)
    assert [note.text for note in bench.seen(Noted)] == [
        "The model does not know “dragon”, “elephant”, so that is ignored."
    ]


def test_a_prompt_of_any_characters(bench: Bench) -> None:
    clip = bench.clip(prompt="赤いボール 🎈 \x00 <|endoftext|> " + "é" * 300, steps=1)
    assert len(clip) == 8


def test_broken_weights_are_told_not_shown(recipe: Recipe, tmp_path: Path) -> None:
    import torch
    from diffusers import AutoencoderKL

    folder = tmp_path / "broken"
    shutil.copytree(recipe.model, folder)
    vae = AutoencoderKL.from_pretrained(folder / "vae", local_files_only=True)
    with torch.no_grad():
        vae.decoder.conv_out.bias.fill_(float("nan"))
    vae.save_pretrained(folder / "vae")
    bench = Bench(animatediff.recipe_for_folder(folder), Warm(), tmp_path)
    try:
        with pytest.raises(ProblemError) as caught:
            bench.clip(steps=1)
    finally:
        bench.ring.close()
        bench.warm.drop()
    problem = caught.value.problem
    assert problem.category is Category.BAD_OUTPUT
    assert "the model produced nan" in problem.message.lower()
    assert problem.hint


def test_a_damaged_model_is_named_before_loading(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(recipe.model, folder)
    other = animatediff.recipe_for_folder(folder)
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    bench = Bench(other, Warm(), tmp_path)
    try:
        with pytest.raises(ProblemError) as caught:
            bench.clip()
    finally:
        bench.ring.close()
    assert caught.value.problem.category is Category.MODEL_NOT_FOUND
    assert "unet/diffusion_pytorch_model.safetensors" in caught.value.problem.message


def test_the_starter_says_what_it_can_draw(recipe: Recipe) -> None:
    for word in ("ball", "square", "triangle", "star", "ring", "nothing else"):
        assert word in recipe.summary
    assert Path(recipe.model) == starter.folder()
    assert recipe.examples


def test_models_beside_the_starter_are_offered(recipe: Recipe, tmp_path: Path) -> None:
    shutil.copytree(recipe.model, tmp_path / "mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model_index.json").write_text("{}")
    titles = [found.title for found in animatediff.recipes(tmp_path)]
    assert titles == [recipe.title, "mine · text → video"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", " "),
        ("prompt", "x" * 2001),
        ("width", 65),
        ("width", 56),
        ("height", 136),
        ("frames", 7),
        ("frames", 129),
        ("fps", 3),
        ("fps", 61),
        ("steps", -1),
        ("steps", 0),
        ("steps", 101),
        ("guidance_scale", 0.5),
        ("guidance_scale", 21),
        ("scheduler", "magic"),
        ("seed", 2**32),
    ],
)
def test_values_out_of_range_name_their_field(recipe: Recipe, field: str, value: object) -> None:
    with pytest.raises(ProblemError) as caught:
        recipe.resolve(cast(dict[str, object], {"prompt": "a ball", field: value}))
    assert caught.value.problem.field == field


def test_another_folder_has_larger_ranges(recipe: Recipe, bench: Bench) -> None:
    bench.clip(steps=1)
    other = animatediff.recipe_for_folder(Path(recipe.model), title="Mine")
    assert other.title == "Mine"
    assert other.resolve({"prompt": "a", "width": 2048})["width"] == 2048
    assert other.notice == ""

"""Dreams made whole: real pipelines, real files, and what happens when they are stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.engines.local import decoding, families, speed
from core.engines.local.context import Cancelled, Context
from core.engines.local.dream import making, painter, recorder, status
from core.engines.local.dream.keyframes import Slice
from core.engines.local.dream.slerp import slerp
from core.engines.local.families import dream
from core.engines.local.warm import Warm
from core.errors import Category, ProblemError
from core.events import Event, Noted, Output, PhaseStarted, Progressed, Sampled
from core.frames import Ring
from core.jobs import Job, Phase, Recipe, new_job
from core.outputs import verify_file
from tests.core import tiny_models

PROMPTS = "a red ball\na blue star\ntwo dogs"
SMALL = {
    "prompt": PROMPTS, "width": 64, "height": 64, "steps": 2, "seed": 11, "fps": 8,
    "keyframe_seconds": 1.0, "loop": "once", "segment_seconds": 60, "precise": True, "batch": 1,
}  # fmt: skip
MODELS = {
    "sd15": tiny_models.stable_diffusion,
    "sdxl": tiny_models.stable_diffusion_xl,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with tiny_models.alone():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, build in MODELS.items():
        (folder / name).mkdir()
        build(folder / name)
    return folder


@pytest.fixture(scope="module")
def loaded() -> Iterator[dict[str, Warm]]:
    made: dict[str, Warm] = {}
    yield made
    for warm in made.values():
        warm.drop()


class Run(Context):
    """A run whose viewer is the test: it takes frames, and says when it has enough."""

    taken: list[tuple[int, np.ndarray]]
    looks: Callable[[int], None] = staticmethod(lambda first: None)
    ends_at: int | None = None

    def stream(self, frames: np.ndarray, *, first: int) -> float:
        self.looks(first)
        self.taken.append((first, frames.copy()))
        return 0.0

    @property
    def enough(self) -> bool:
        return self.ends_at is not None and sum(len(one) for _, one in self.taken) >= self.ends_at


class Dreamer:
    """Makes dreams with one model in this process, and records what a window would see."""

    def __init__(self, recipe: Recipe, clips: Path, warm: Warm) -> None:
        self.recipe, self.clips, self.warm, self.ring = recipe, clips, warm, Ring.create()
        self.events: list[Event] = []
        self.stop: Callable[[Event], bool] = lambda event: False
        self.looks: Callable[[int], None] = lambda first: None
        self.ends_at: int | None = None
        self.after = 0
        self.run: Run | None = None

    def job(self, **more: object) -> Job:
        known = {knob.name for knob in self.recipe.parameters}
        values = {name: value for name, value in {**SMALL, **more}.items() if name in known}
        return new_job(self.recipe, values, self.clips)

    def report(self, event: Event) -> None:
        self.events.append(event)
        if self.stop(event):
            raise Cancelled

    def context(self, job: Job) -> Run:
        self.events.clear()
        self.run = Run(
            job, ring=self.ring, report=self.report, warm=self.warm, device=lambda: "cpu"
        )
        self.run.taken, self.run.looks, self.run.ends_at = [], self.looks, self.ends_at
        return self.run

    def make(self, job: Job | None = None, **more: object) -> Output:
        return dream.make(self.context(job or self.job(**more)))

    def frames(self, **more: object) -> np.ndarray:
        self.make(**more)
        assert self.run is not None
        firsts = [first for first, _ in self.run.taken]
        sizes = [len(frames) for _, frames in self.run.taken]
        assert firsts == [sum(sizes[:index]) for index in range(len(sizes))], "in order, no gap"
        return np.concatenate([frames for _, frames in self.run.taken])

    def picture(self, prompt: str, seed: int) -> np.ndarray:
        """Return what the model's own recipe makes of a prompt."""
        base = families.recipe_for_folder(Path(self.recipe.model))
        names = {knob.name for knob in base.parameters}
        values = {name: SMALL[name] for name in ("width", "height", "steps") if name in names}
        job = new_job(base, {**values, "prompt": prompt, "seed": seed}, self.clips)
        context = Context(
            job, ring=self.ring, report=lambda event: None, warm=self.warm, device=lambda: "cpu"
        )
        return decoding.whole(families.load(job.family).generate(context))[0]

    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Noted)]

    def status(self, job: Job) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(status.path_of(job).read_text())
        return found


@pytest.fixture
def dreamers(
    models: Path, tmp_path: Path, loaded: dict[str, Warm]
) -> Iterator[Callable[[str], Dreamer]]:
    made: list[Dreamer] = []

    def dreamer(name: str) -> Dreamer:
        warm = loaded.setdefault(name, Warm())
        made.append(Dreamer(dream.recipe_for_folder(models / name), tmp_path, warm))
        return made[-1]

    yield dreamer
    for one in made:
        one.ring.close()


@pytest.fixture
def sd(dreamers: Callable[[str], Dreamer]) -> Dreamer:
    return dreamers("sd15")


@pytest.fixture(params=list(MODELS))
def each(request: pytest.FixtureRequest, dreamers: Callable[[str], Dreamer]) -> Dreamer:
    return dreamers(request.param)


# ---- what is offered


def test_every_model_that_can_dreams(models: Path, tmp_path: Path) -> None:
    found = {one.title: one for one in dream.recipes(models)}
    assert list(found) == ["Starter · dream", "sd15 · dream", "sdxl · dream"]
    assert {one.makes for one in found.values()} == {"video"}
    own, problems = families.own_recipes([models / "sd15"])
    assert (own[1], problems) == (found["sd15 · dream"], [])
    assert len({one.id for one in families.recipes(models)}) == len(families.recipes(models))
    for one in found.values():
        names = [knob.name for knob in one.parameters]
        assert len(names) == len(set(names))
        assert {"offload", "tiling", "speed", "steps", "scheduler", "seed"} <= set(names)
        assert not {"frames", "format", "upscale", "inbetween"} & set(names)
        assert new_job(one, {"prompt": "a"}, tmp_path).params["minutes"] == 0
    with pytest.raises(ProblemError) as caught:
        new_job(found["sd15 · dream"], {"prompt": "Scene 1:\nScene 2:"}, tmp_path)
    assert caught.value.problem.field == "prompt"


# ---- what is made


def test_it_leads_exactly_from_picture_to_picture(each: Dreamer) -> None:
    frames = each.frames(mode="latents")
    assert frames.shape == (17, 64, 64, 3)
    for index, prompt in enumerate(PROMPTS.splitlines()):
        assert (frames[index * 8] == each.picture(prompt, 11 + index)).all(), prompt
    steps = np.abs(np.diff(frames.astype(int), axis=0)).mean((1, 2, 3))
    assert (steps > 0).all(), "it never stands still"
    phases = [event.phase for event in each.events if isinstance(event, PhaseStarted)]
    assert phases == [Phase.LOAD, Phase.SAMPLE, Phase.DECODE, Phase.ENCODE]


def test_between_prompts_anchors_are_sampled_on_the_way(each: Dreamer) -> None:
    frames = each.frames(mode="embeddings", every=3)
    assert frames.shape == (17, 64, 64, 3)
    for index, prompt in enumerate(PROMPTS.splitlines()):
        assert (frames[index * 8] == each.picture(prompt, 11 + index)).all(), prompt
    between = each.frames(mode="latents")
    assert (frames[3] != between[3]).any()
    assert (frames[1] != frames[2]).any()
    assert (each.frames(mode="embeddings", every=3, guidance_scale=1)[3] != frames[3]).any()


def test_drift_makes_each_picture_out_of_the_last(each: Dreamer, tmp_path: Path) -> None:
    from PIL import Image

    plain = each.frames(mode="drift", strength=0.5)
    assert (plain[0] == each.picture("a red ball", 11)).all()
    assert (plain[8] != each.picture("a blue star", 12)).any()
    assert (each.frames(mode="drift", strength=1.0)[8] != plain[8]).any()
    noise = np.random.default_rng(3).integers(0, 255, (70, 110, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "start.png")
    started = each.frames(mode="drift", strength=0.5, image=str(tmp_path / "start.png"))
    assert (started[0] != plain[0]).any()
    assert not any("start picture" in text for text in each.notes())
    each.make(mode="latents", loop="once", image=str(tmp_path / "start.png"))
    assert each.notes()[0].startswith("The start picture is not used")
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(ProblemError) as caught:
        each.make(mode="drift", image=str(tmp_path / "bad.png"))
    assert caught.value.problem.field == "image"


def test_drift_begins_at_the_noise_of_as_many_steps_as_are_made(
    sd: Dreamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    asked: list[int] = []
    real = diffusers.DDIMScheduler.set_timesteps

    def told(self: Any, steps: int, *args: Any, **options: Any) -> None:
        asked.append(steps)
        real(self, steps, *args, **options)

    monkeypatch.setattr(diffusers.DDIMScheduler, "set_timesteps", told)
    monkeypatch.setattr(speed, "steps", lambda model, steps: 2)  # As "few steps" has it.
    sd.make(mode="drift", scheduler="ddim", steps=4, keyframe_seconds=0.25)
    assert set(asked) == {2}


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm++ 2m karras", "unipc", "pndm", "lcm"])
def test_every_sampler_can_begin_in_its_midst(sd: Dreamer, scheduler: str) -> None:
    more = {"mode": "drift", "scheduler": scheduler, "steps": 4, "keyframe_seconds": 0.5}
    little = sd.frames(**more, strength=0.26)
    much = sd.frames(**more, strength=1.0)
    assert (little[0] == much[0]).all()
    apart = [np.abs(one[4].astype(int) - one[0]).mean() for one in (little, much)]
    assert apart[0] < apart[1], "little strength stays near the picture before"


def test_the_starter_dreams(tmp_path: Path) -> None:
    dreamer = Dreamer(dream.recipes(tmp_path)[0], tmp_path, Warm())
    try:
        prompts = "a red ball on a white background\na zorkled blue star over the night sky"
        frames = dreamer.frames(prompt=prompts, steps=8, mode="embeddings", every=4)
        assert frames.shape == (9, 64, 64, 3)
        red, blue = frames[0].astype(int), frames[8].astype(int)
        assert red.mean() > 150 > 100 > blue.mean(), "white ground, then night"
        assert (red[..., 0] - red[..., 2]).max() > 100
        assert (blue[..., 2] - blue[..., 0]).max() > 60
        told = [text for text in dreamer.notes() if "zorkled" in text]
        assert len(told) == 1, "of each scene alone, and once"
        assert "ball" not in told[0]
    finally:
        dreamer.ring.close()
        dreamer.warm.drop()


def test_a_round_comes_back_to_the_same_frames_and_samples_nothing_again(sd: Dreamer) -> None:
    job = sd.job(loop="round", minutes=7 / 60)
    sd.make(job)
    assert sd.run is not None
    frames = np.concatenate([one for _, one in sd.run.taken])
    assert len(frames) == 56
    assert (frames[:24] == frames[24:48]).all()
    assert sd.status(job)["phases"]["keyframe"]["count"] == 2
    onward = sd.frames(loop="onward", minutes=7 / 60)
    assert (onward[24] != onward[0]).any()
    assert (onward[:24] == frames[:24])[:17].all()


def test_frames_come_evenly_while_the_next_keyframe_is_sampled(
    sd: Dreamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    plain = Slice.sampled

    def sampled(self: Slice, step: int, steps: int) -> None:
        order.append(f"s{step}")
        plain(self, step, steps)

    sd.looks = lambda first: order.append("f")
    monkeypatch.setattr(Slice, "sampled", sampled)
    sd.make(steps=4)
    assert order[:8] == ["s1", "s2", "s3", "s4"] * 2, "two keyframes are needed to begin"
    among = "".join(order[8:]).split("s")[1:]
    assert among[:3] == ["1ff", "2ff", "3ff"]
    assert among[3].startswith("4ff")


# ---- decoding


def test_measured_decodes_are_the_same_pictures(sd: Dreamer) -> None:
    exact = sd.frames(fps=60, keyframe_seconds=0.5)
    job = sd.job(fps=60, keyframe_seconds=0.5, precise=False, batch=0)
    sd.make(job)
    assert sd.run is not None
    frames = np.concatenate([one for _, one in sd.run.taken])
    difference = np.abs(frames.astype(int) - exact)
    assert difference.mean() <= 1
    assert difference.max() <= 8
    told = sd.status(job)["decode"]
    assert set(told["numbers_ms"]) == {
        "as loaded", "bfloat16, channels last", "float32, channels last",
    }  # fmt: skip
    assert all(value > 0 for value in told["numbers_ms"].values())
    assert told["batches_ms"]["1"] > 0
    began = time.perf_counter()
    sd.make(sd.job(precise=False, batch=0, keyframe_seconds=0.25))
    assert sd.status(sd.run.job)["decode"]["numbers_ms"] == told["numbers_ms"], "remembered"
    assert time.perf_counter() - began < 30


def test_nobody_waits_for_the_autoencoder(sd: Dreamer) -> None:
    job = sd.job()
    sd.make(job)
    told = sd.status(job)
    assert (told["vae_owners"], told["vae_lock_contentions"]) == (1, 0)
    assert (told["vae_lock_avg_wait_ms"], told["vae_lock_max_wait_ms"]) == (0, 0)
    owner = painter.Owner()
    owner.decoding(0.0, lambda: owner.decoding(0.0, lambda: None))
    assert owner.contended == 1, "two at once would be seen"
    assert owner.figures()["vae_lock_max_wait_ms"] > 0


def test_memory_that_runs_out_makes_decodes_smaller(
    sd: Dreamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    plain = diffusers.AutoencoderKL.decode

    def decode(self: Any, latents: Any, *args: Any, **more: Any) -> Any:
        if len(latents) > 1:
            raise MemoryError
        return plain(self, latents, *args, **more)

    exact = sd.frames()
    monkeypatch.setattr(diffusers.AutoencoderKL, "decode", decode)
    assert (sd.frames(batch=4) == exact).all()
    assert any("decode_chunk" in text for text in sd.notes())

    def never(self: Any, *args: Any, **more: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(diffusers.AutoencoderKL, "decode", never)
    with pytest.raises(MemoryError):
        sd.frames()


def test_numbers_that_are_no_picture_end_it_and_what_was_made_stays(
    sd: Dreamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers
    import torch

    plain, calls = diffusers.AutoencoderKL.decode, [0]
    add, written = recorder.SegmentWriter.add, [0]

    def adding(self: Any, frame: Any) -> None:
        add(self, frame)
        written[0] += 1

    def decode(self: Any, latents: Any, *args: Any, **more: Any) -> Any:
        calls[0] += 1
        # What still waits to be written when it ends is left out.
        while calls[0] > 12 and written[0] < 12:
            time.sleep(0.01)
        return plain(self, latents * (torch.nan if calls[0] > 12 else 1), *args, **more)

    monkeypatch.setattr(recorder.SegmentWriter, "add", adding)
    monkeypatch.setattr(diffusers.AutoencoderKL, "decode", decode)
    job = sd.job(minutes=1, loop="round")
    with pytest.raises(ProblemError) as caught:
        sd.make(job)
    assert caught.value.problem.category is Category.BAD_OUTPUT
    kept = Path(job.output)
    assert verify_file(kept).ok
    assert sd.status(job)["state"] == "failed"


def test_a_slow_dream_is_decoded_smaller_where_that_is_allowed(
    sd: Dreamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = painter.decoding.tried

    def slow(*args: Any) -> Any:
        time.sleep(0.06)
        return plain(*args)

    monkeypatch.setattr(painter.decoding, "tried", slow)
    more = {"fps": 20, "keyframe_seconds": 1.5, "width": 128, "height": 128, "steps": 1}
    job = sd.job(**more, keep_up=True)
    sd.make(job)
    told = [text for text in sd.notes() if "scaled up" in text]
    assert len(told) == 1
    assert "1/2" in told[0]
    assert sd.status(job)["decode"]["divisor"] == 2
    assert sd.status(job)["phases"]["upscale"]["count"] >= 15
    assert sd.run is not None
    assert {frames.shape[1:] for _, frames in sd.run.taken} == {(128, 128, 3)}
    before, after = (sd.run.taken[index][1][0].astype(int) for index in (30, -1))
    assert abs(before.mean() - after.mean()) < 40
    plain_job = sd.job(**{**more, "keyframe_seconds": 2.1}, prompt="a\nb")
    sd.make(plain_job)
    assert sd.status(plain_job)["decode"]["divisor"] == 1


# ---- the end


def test_enough_is_a_good_end(sd: Dreamer) -> None:
    sd.ends_at = 12
    output = sd.make(loop="round")
    assert output.frames == 12
    assert verify_file(Path(output.path)).ok
    sd.ends_at = 0
    assert sd.make(loop="round").frames == 8, "of nothing no clip is made: a second is"


def test_enough_is_heard_while_a_keyframe_is_sampled(
    sd: Dreamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sd.ends_at = 9
    output = sd.make(loop="onward", steps=20)
    assert output.frames == 9
    # Where scenes follow quickly, most steps of a keyframe have no frame to make.
    sd.ends_at = 10
    heard: list[bool] = []
    share = making.Making._share

    def counted(self: making.Making, step: int, steps: int) -> None:
        heard.append(self.context.enough)
        share(self, step, steps)

    monkeypatch.setattr(making.Making, "_share", counted)
    assert sd.make(loop="onward", steps=20, keyframe_seconds=0.25).frames == 10
    assert heard.count(True) == 1, "it ends at the next step, not with the keyframe"


def stopped(sd: Dreamer, when: Callable[[Event], bool], **more: object) -> tuple[Job, float]:
    """Cancel a dream at an event; return it and the seconds until it is heard."""
    at: list[float] = []

    def stop(event: Event) -> bool:
        if at or when(event):
            at.append(time.perf_counter())
        return bool(at)

    sd.stop = stop
    job = sd.job(**{"loop": "onward", **more})
    with pytest.raises(Cancelled):
        sd.make(job)
    assert len(at) == 1, "it goes on reporting after it was told to stop"
    return job, time.perf_counter() - at[0]


def test_cancel_is_heard_in_each_part(sd: Dreamer) -> None:
    _, sampling = stopped(sd, lambda event: isinstance(event, Sampled) and event.step == 2)
    assert sd.run is not None
    assert sd.run.taken == []
    frames = lambda: sum(len(one) for _, one in sd.run.taken)  # noqa: E731
    _, decoding_ = stopped(sd, lambda event: isinstance(event, Progressed) and frames() >= 3)
    assert frames() == 3, "no frame is made after the cancel"
    assert max(sampling, decoding_) < 2


def test_cancel_keeps_what_is_finished_and_a_second_of_the_rest(sd: Dreamer) -> None:
    def frames() -> int:
        return sum(len(one) for _, one in sd.run.taken) if sd.run else 0

    job, _ = stopped(
        sd, lambda event: isinstance(event, Progressed) and frames() >= 45 and waited(sd),
        segment_seconds=2, steps=1,
    )  # fmt: skip
    folder = Path(job.output).parent
    clips = sorted(path for path in folder.iterdir() if path.suffix == ".mp4")
    assert [path.stem[-4:] for path in clips] == ["-001", "-002", "-003"]
    assert all(verify_file(path).ok for path in clips)
    listed = json.loads(Path(job.output).with_suffix(".segments.json").read_text())["segments"]
    assert [one["frames"] for one in listed] == [16, 16, 13]
    assert [one["first_frame"] for one in listed] == [0, 16, 32]
    assert any("-003" in text and "kept" in text for text in sd.run.last_words)
    assert sd.status(job)["state"] == "cancelled"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def waited(sd: Dreamer) -> bool:
    """Wait until the recorder has all frames; a cancel would cut its queue."""
    time.sleep(0.5)
    return True


def test_a_cancel_at_once_leaves_nothing(sd: Dreamer) -> None:
    job, _ = stopped(sd, lambda event: isinstance(event, Progressed) and bool(sd.run.taken))
    assert not [path for path in Path(job.output).parent.iterdir() if path.suffix == ".mp4"]
    assert any("too short" in text or "left out" in text for text in sd.run.last_words)


def test_slerp_is_what_lies_between(sd: Dreamer) -> None:
    """The frame half way is the decode of the interpolated latents."""
    import torch

    frames = sd.frames(mode="latents", easing="linear")
    model: Any = sd.warm._value
    ends = []
    for index, prompt in enumerate(PROMPTS.splitlines()[:2]):
        base = families.recipe_for_folder(Path(sd.recipe.model))
        values = {"width": 64, "height": 64, "steps": 2, "prompt": prompt, "seed": 11 + index}
        context = Context(
            new_job(base, values, sd.clips), ring=sd.ring, report=lambda event: None,
            warm=sd.warm, device=lambda: "cpu",
        )  # fmt: skip
        maker: Any = families.load("stable_diffusion")
        ends.append(maker.maker().sample(context, model))
    vae = model.pipe.vae
    for frame in range(8):
        middle = slerp(ends[0], ends[1], [frame / 8])[0, :, :, 0] / vae.config.scaling_factor
        with torch.no_grad():
            picture = vae.decode(middle).sample[0].mul(127.5).add(128).clamp(0, 255)
        found = picture.to(torch.uint8).permute(1, 2, 0).numpy()
        assert (np.abs(found.astype(int) - frames[frame]) <= 1).all()

"""Speed switches on tiny models of the real classes: what they do, and that nothing stays."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.engines.local import families, speed, speed_compile, speed_memory
from core.engines.local.context import Context
from core.engines.local.decoding import whole
from core.engines.local.kept import Kept
from core.engines.local.speed_switches import BY_ID, SWITCHES, for_family
from core.engines.local.warm import Warm
from core.engines.local.watching import Watch
from core.errors import ProblemError
from core.events import Event, Noted, Sampled
from core.frames import Ring
from core.jobs import Job, new_job
from core.several import Several
from tests.core import tiny_models

pytestmark = pytest.mark.filterwarnings(
    # Norms that keep single precision are computed unfused in a block of half precision.
    "ignore:Mismatch dtype between input and weight"
)
STEPS = 6
CASES = {
    "stable_diffusion": (tiny_models.stable_diffusion, {}),
    "svd": (tiny_models.svd, {"frames": 2}),
    "wan": (tiny_models.wan, {"frames": 5}),
    "ltx": (tiny_models.ltx, {"frames": 9}),
}


class Desk:
    """Runs jobs of one model in this process."""

    def __init__(self, folder: Path, given: dict[str, object], clips: Path) -> None:
        self.recipe = families.recipe_for_folder(folder)
        self.given, self.clips = given, clips
        self.warm, self.ring = Warm(), Ring.create()
        self.speeds: Path | None = None
        self.kept = Kept()
        self.events: list[Event] = []
        self.facts: dict[str, Any] = {}

    def job(self, speed: str, **more: object) -> Job:
        values = {"width": 64, "height": 64, "steps": STEPS, "seed": 11, **self.given, **more}
        if any(knob.name == "prompt" for knob in self.recipe.parameters):
            values["prompt"] = "a red ball"
        return new_job(self.recipe, {**values, "speed": speed}, self.clips)

    def clip(self, speed: str = "off", **more: object) -> np.ndarray:
        return self.run(self.job(speed, **more))

    def run(self, job: Job) -> np.ndarray:
        self.events.clear()
        context = Context(
            job, ring=self.ring, report=self.events.append, warm=self.warm,
            device=lambda: "cpu", kept=self.kept, speeds=self.speeds,
        )  # fmt: skip
        frames = np.stack(whole(families.load(job.family).generate(context)))
        self.facts = context.facts
        self.placed = context.plan.key if context.plan is not None else ""
        return frames

    @property
    def pipe(self) -> Any:
        return self.warm.kept.pipe  # type: ignore[attr-defined]

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Noted)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The same sums in the same order, however busy the machine is."""
    with tiny_models.alone():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each family, and a start picture."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("speed")
    Image.radial_gradient("L").convert("RGB").save(folder / "start.png")
    for family, (build, _) in CASES.items():
        (folder / family).mkdir()
        build(folder / family)
    return folder


@pytest.fixture(scope="module")
def loaded() -> Iterator[dict[str, Warm]]:
    """Models that stay warm from test to test."""
    made: dict[str, Warm] = {}
    yield made
    for warm in made.values():
        warm.drop()


@pytest.fixture
def desks(models: Path, tmp_path: Path, loaded: dict[str, Warm]) -> Iterator[Callable[[str], Desk]]:
    made: list[Desk] = []

    def desk(family: str) -> Desk:
        start = {"image": str(models / "start.png")} if family == "svd" else {}
        given = {**CASES[family][1], **start}
        made.append(Desk(models / family, given, tmp_path / "clips"))
        made[-1].warm = loaded.setdefault(family, Warm())
        return made[-1]

    yield desk
    for one in made:
        one.ring.close()


@pytest.fixture(params=list(CASES))
def desk(request: pytest.FixtureRequest, desks: Callable[[str], Desk]) -> Desk:
    return desks(request.param)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean difference of pixels, in steps of 255."""
    return float(np.abs(one.astype(int) - other).mean())


# ---- what is made


def test_every_switch_keeps_its_word_and_leaves_the_plain_pipeline(desk: Desk) -> None:
    plain = desk.clip()
    assert speed.KNOB not in desk.facts
    tried = []
    for switch in for_family(desk.recipe.family):
        if switch.group == "compile":
            continue  # By itself below: compiling takes long.
        made = desk.clip(switch.id)
        if switch.id not in desk.facts["speed"]["switches"]:
            assert any(f"{switch.title} is left out: " in note for note in desk.notes)
            assert (made == plain).all()
            continue
        tried.append(switch.id)
        told = any("differ from the plain ones" in note for note in desk.notes)
        assert told == switch.lossy
        assert desk.facts["speed"].get("changes_pixels", []) == [switch.id] * switch.lossy
        if not switch.lossy:
            assert apart(made, plain) <= 1
        assert apart(made, plain) < 4, switch.id
        assert (desk.clip() == plain).all(), f"{switch.id} leaves something behind"
    lossy = {"autocast", "decode_half"}
    expected = {
        "stable_diffusion": {"channels_last", "fuse_qkv", "taylor_cache", "attention_cache"},
        "svd": {"channels_last", "taylor_cache", "attention_cache"},
        "wan": {"fuse_qkv", "step_cache", "taylor_cache"},
        "ltx": {"fuse_qkv"},
    }[desk.recipe.family]
    assert set(tried) - lossy == expected


@pytest.mark.parametrize("family", ["stable_diffusion", "wan"])
def test_off_is_the_way_without_any_of_it(
    desks: Callable[[str], Desk], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits as with every hook of the switches taken out of the program."""
    desk = desks(family)
    desk.clip("fast")
    off = desk.clip()
    with monkeypatch.context() as patch:
        patch.setattr(speed, "choose", lambda context, model: None)
        patch.setattr(speed, "through", lambda model, pipe: pipe)
        patch.setattr(speed, "decoding", lambda model, frames: frames)
        patch.setattr(speed, "steps", lambda context, model: STEPS)
        assert (desk.clip() == off).all()
    cold = Desk(Path(desk.recipe.model), desk.given, desk.clips)
    try:
        assert (cold.clip() == off).all()
    finally:
        cold.warm.drop()
        cold.ring.close()


def test_weights_lie_as_before_to_the_last_stride(desks: Callable[[str], Desk]) -> None:
    desk = desks("stable_diffusion")
    desk.clip()
    parts = (desk.pipe.unet, desk.pipe.vae)
    before = [(w.data_ptr(), w.stride(), w.clone()) for part in parts for w in part.parameters()]
    desk.clip("channels_last+fuse_qkv")
    import torch

    kernel = desk.pipe.unet.conv_in.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not hasattr(desk.pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1, "to_qkv")
    desk.clip("off")
    after = [w for part in parts for w in part.parameters()]
    for (_, stride, weights), now in zip(before, after, strict=True):
        assert now.stride() == stride
        assert (now == weights).all()


def test_projections_are_really_fused(desks: Callable[[str], Desk]) -> None:
    desk = desks("wan")
    desk.clip()
    seen: list[bool] = []
    block = desk.pipe.transformer.blocks[0].attn1
    handle = block.register_forward_pre_hook(lambda m, _: seen.append(m.fused_projections))
    try:
        desk.clip("fuse_qkv")
        assert set(seen) == {True}
        seen.clear()
        desk.clip()
        assert set(seen) == {False}
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("family", "switch", "block"),
    [
        ("wan", "step_cache", "transformer.blocks.1.ffn"),
        ("wan", "taylor_cache", "transformer.blocks.1.ffn"),
        ("stable_diffusion", "taylor_cache", "unet.mid_block.resnets.0"),
        (
            "stable_diffusion",
            "attention_cache",
            "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
        ),
    ],
)
def test_caches_compute_less_and_begin_anew_with_each_job(
    desks: Callable[[str], Desk], family: str, switch: str, block: str
) -> None:
    desk = desks(family)
    desk.clip()
    part, _, rest = block.partition(".")
    calls: list[int] = []
    module = getattr(desk.pipe, part).get_submodule(rest)
    handle = module.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        desk.clip()
        plain = len(calls)
        calls.clear()
        first = desk.clip(switch)
        cached = len(calls)
        assert 2 * (plain // STEPS) <= cached < plain
        calls.clear()
        assert (desk.clip(switch) == first).all()
        assert len(calls) == cached
    finally:
        handle.remove()


def test_models_of_few_steps_take_few(desks: Callable[[str], Desk], tmp_path: Path) -> None:
    import diffusers
    from PIL import Image

    scheduler = diffusers.LCMScheduler(steps_offset=1)
    folder = tiny_models.stable_diffusion(tmp_path, scheduler=scheduler)
    desk = Desk(folder, {"guidance_scale": 1}, tmp_path)
    try:
        desk.clip("off")
        assert sum(isinstance(event, Sampled) for event in desk.events) == STEPS
        desk.clip("few_steps")
        assert sum(isinstance(event, Sampled) for event in desk.events) == 4
        desk.clip("few_steps", steps=2)
        assert sum(isinstance(event, Sampled) for event in desk.events) == 2
        desk.clip("few_steps+attention_cache", steps=9)
        assert any("Attention cache is left out: 4 steps are too few" in n for n in desk.notes)
        picture = tmp_path / "start.png"
        Image.radial_gradient("L").convert("RGB").save(picture)
        desk.clip("few_steps", image=str(picture), strength=0.2)
        assert sum(isinstance(event, Sampled) for event in desk.events) == 1, "not none of four"
    finally:
        desk.warm.drop()
        desk.ring.close()
    ordinary = desks("stable_diffusion")
    ordinary.clip("few_steps")
    assert sum(isinstance(event, Sampled) for event in ordinary.events) == STEPS


# ---- compiled


def test_compiling_is_told_apart_and_what_is_compiled_stays(
    desks: Callable[[str], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desks("ltx")
    plain = desk.clip()
    # The real tracer; a backend that generates no C++ keeps this test short.
    apply = speed_compile.compiled("regional", "eager")
    swap(monkeypatch, "compile", apply)
    began = time.monotonic()
    first = desk.clip("compile")
    first_seconds = time.monotonic() - began
    assert apart(first, plain) <= 1
    seconds = desk.facts["speed"]["compile_seconds"]
    assert 0.05 < seconds < first_seconds
    assert any("went into compiling" in note for note in desk.notes)
    desk.clip("compile")
    assert "compile_seconds" not in desk.facts["speed"]
    assert (desk.clip() == plain).all()
    desk.clip("compile")
    assert "compile_seconds" not in desk.facts["speed"], "it was compiled anew"
    assert (desk.clip() == plain).all()


def test_where_compiling_fails_the_model_runs_as_it_is(
    desks: Callable[[str], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_graph: Any, _inputs: Any) -> Any:
        raise RuntimeError("no such target: sm_999")

    desk = desks("wan")
    plain = desk.clip()
    swap(monkeypatch, "compile", speed_compile.compiled("regional", broken))
    assert (desk.clip("compile") == plain).all()
    (told,) = [note for note in desk.notes if "could not be compiled" in note]
    assert "sm_999" in told
    assert "sm_999" in desk.facts["speed"]["compile_failed"]
    assert (desk.clip() == plain).all()
    desk.clip("compile")
    assert any("Compiled blocks is left out" in note for note in desk.notes), "tried again"


def swap(patch: pytest.MonkeyPatch, name: str, apply: Any) -> None:
    """Let a switch do something else for a test."""
    from dataclasses import replace

    from core.engines.local import speed_choice

    other = replace(BY_ID[name], apply=apply)
    patch.setattr(speed_choice, "BY_ID", {**BY_ID, name: other})
    patch.setattr(speed_choice, "SWITCHES", tuple(other if s.id == name else s for s in SWITCHES))


def test_a_switch_that_fails_costs_no_clip(
    desks: Callable[[str], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_target: Any) -> Any:
        raise ValueError("not with these heads")

    desk = desks("ltx")
    plain = desk.clip()
    swap(monkeypatch, "fuse_qkv", failing)
    assert (desk.clip("fuse_qkv") == plain).all()
    assert any("could not be turned on" in n and "these heads" in n for n in desk.notes)
    assert "these heads" in desk.facts["speed"]["failed"]["fuse_qkv"]


# ---- which are chosen


def remember(desk: Desk, path: Path, auto: tuple[str, ...], fast: tuple[str, ...]) -> None:
    job = desk.job("auto")
    key = speed_memory.key_of(job.params, Path(job.model), "cpu", desk.placed)
    speed_memory.write(path, key, speed_memory.Measured(auto, fast, {}, 1.0))
    desk.speeds = path


def test_auto_takes_what_was_measured_and_nothing_that_changes_pixels(
    desks: Callable[[str], Desk], tmp_path: Path
) -> None:
    desk = desks("stable_diffusion")
    plain = desk.clip()
    assert (desk.clip("auto") == plain).all()
    assert desk.facts["speed"]["switches"] == []
    # A file that somebody edited must not change pictures either.
    remember(desk, tmp_path / "speed.json", ("autocast", "channels_last", "magic"), ("autocast",))
    assert apart(desk.clip("auto"), plain) <= 1
    assert desk.facts["speed"]["switches"] == ["channels_last"]
    assert not any("Faster" in note or "left out" in note for note in desk.notes)
    desk.clip("fast")
    assert desk.facts["speed"]["switches"] == ["autocast"]
    assert (desk.clip("auto", width=256)[0].shape, desk.facts["speed"]["switches"]) == (
        (64, 256, 3),
        [],
    )
    assert (desk.clip("off") == plain).all()


def test_fast_takes_what_usually_helps_where_nothing_was_measured(desk: Desk) -> None:
    desk.clip("fast")
    found = desk.facts["speed"]["switches"]
    usual = {switch.id for switch in SWITCHES if switch.unmeasured}
    assert set(found) <= usual
    assert {BY_ID[name].group for name in found if BY_ID[name].group} <= {"cache"}


def test_two_of_a_kind_do_not_run_together(desks: Callable[[str], Desk]) -> None:
    desk = desks("stable_diffusion")
    desk.clip("attention_cache,taylor_cache")
    assert desk.facts["speed"]["switches"] == ["taylor_cache"]
    assert any("Attention cache is left out: forecast steps" in note for note in desk.notes)


def test_a_damaged_file_of_measurements_is_none(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    assert speed_memory.read(path) == {}
    for text in ("", "[]", '{"version": 9}', '{"version": 1, "measured": {"a": 5}}'):
        path.write_text(text)
        assert speed_memory.read(path) == {}
    for number in range(speed_memory.MOST + 5):
        speed_memory.write(path, f"k{number}", speed_memory.Measured((), (), {}, float(number)))
    found = speed_memory.read(path)
    assert len(found) == speed_memory.MOST
    assert "k0" not in found
    assert f"k{speed_memory.MOST + 4}" in found


def test_latents_of_other_switches_are_not_taken(
    desks: Callable[[str], Desk], tmp_path: Path
) -> None:
    desk = desks("stable_diffusion")
    desk.clip()
    desk.kept = Kept(tmp_path / "latents")
    job = desk.job("auto")
    desk.run(job)
    desk.run(job)
    assert not any(isinstance(event, Sampled) for event in desk.events)
    remember(desk, tmp_path / "speed.json", ("channels_last",), ())
    desk.run(job)
    assert sum(isinstance(event, Sampled) for event in desk.events) == STEPS


def test_weights_that_wait_elsewhere_are_left_as_they_are(desks: Callable[[str], Desk]) -> None:
    desk = desks("stable_diffusion")
    desk.clip()
    desk.pipe.unet._hf_hook = object()
    try:
        desk.clip("channels_last+fuse_qkv+autocast")
        assert desk.facts["speed"]["switches"] == ["autocast"]
        assert any("Channels last is left out: parts of the model wait" in n for n in desk.notes)
    finally:
        del desk.pipe.unet._hf_hook


# ---- the knob


def test_the_knob_takes_words_and_switches_in_their_order() -> None:
    knob = speed.parameter("wan")
    assert isinstance(knob, Several)
    assert knob.parse(None if knob.default is None else knob.default) == "auto"
    assert knob.parse("Off") == "off"
    assert knob.parse("compile + fuse_qkv, compile") == "fuse_qkv+compile"
    for bad in ("", "channels_last", "fuse_qkv+magic", "auto+fuse_qkv", 5):
        with pytest.raises(ProblemError) as caught:
            knob.parse(bad)
        assert caught.value.problem.field == "speed"
        assert "fuse_qkv" in caught.value.problem.hint


def test_every_switch_is_described_once() -> None:
    assert len(BY_ID) == len(SWITCHES)
    assert len({switch.title for switch in SWITCHES}) == len(SWITCHES)
    assert all(switch.told.endswith(".") and switch.devices for switch in SWITCHES)
    # What stays between jobs must not change what another job makes.
    assert not any(switch.lasting and switch.lossy for switch in SWITCHES)


# ---- nothing waits for the device between two steps


@pytest.mark.parametrize("family", list(CASES))
def test_a_step_fetches_the_preview_and_nothing_else(
    desks: Callable[[str], Desk], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number or a copy that is asked for makes the program wait for a GPU.

    Everything from the end of one step to the end of the next is counted, diffusers' own
    code and the sampler's included.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    asked: list[str] = []
    copied: list[int] = []
    steps: list[tuple[int, int]] = []

    kept: set[int] = set()

    class Numbers(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            given = [one for one in args if isinstance(one, torch.Tensor)]
            here = bool(given) and all(map(in_main_memory, given))
            if func.name() in ("aten::_local_scalar_dense", "aten::nonzero") and not here:
                asked.append(func.name())
            made = func(*args, **(kwargs or {}))
            if here and isinstance(made, torch.Tensor):
                made.computed_here = True
            return made

    def in_main_memory(tensor: Any) -> bool:
        """What comes from the noise levels alone, which samplers keep in main memory."""
        known = tensor.untyped_storage().data_ptr() in kept
        return known or hasattr(tensor, "computed_here")

    copy, ended = torch.Tensor.cpu, Watch.step_ended

    def copying(self: Any, *args: Any, **more: Any) -> Any:
        copied.append(1)
        return copy(self, *args, **more)

    def counted(self: Any, pipe: Any, *args: Any) -> Any:
        answer = ended(self, pipe, *args)
        steps.append((len(asked), len(copied)))
        asked.clear()
        copied.clear()
        source = inspect.getsource(type(pipe.scheduler).set_timesteps)
        if 'sigmas.to("cpu")' in source:
            kept.add(pipe.scheduler.sigmas.untyped_storage().data_ptr())
        return answer

    desk = desks(family)
    desk.clip()
    monkeypatch.setattr(Watch, "step_ended", counted)
    monkeypatch.setattr(torch.Tensor, "cpu", copying)
    with Numbers():
        desk.clip()
    assert len(steps) == STEPS
    assert [copies for _, copies in steps[1:]] == [1] * (STEPS - 1)
    assert [numbers for numbers, _ in steps[1:]] == [0] * (STEPS - 1)


def test_what_is_remembered_is_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    measured = speed_memory.Measured(("compile",), ("autocast",), {"compile": 1.2}, 5.0)
    speed_memory.write(path, "here", measured)
    assert speed_memory.read(path) == {"here": measured}
    assert json.loads(path.read_text())["version"] == speed_memory.VERSION

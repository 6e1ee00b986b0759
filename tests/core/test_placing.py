"""Plans put into practice: tiny real models on a card that says how much it has free.

No card is here: the work is done by the processor, through the same hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.engines.local import machine, offload, parts, placing
from core.engines.local.kept import SHAPELESS, Kept
from core.engines.local.peaks import Peaks
from core.engines.local.placement import NOTE, Card
from core.engines.local.warm import Warm
from core.errors import Category, ProblemError, problem_from
from core.events import Noted, Sampled
from core.morning.marks import Mark, note_of
from core.scheduling.record import record_of
from core.statistics.runs import RAN_OUT_BEFORE, UNLIKE
from tests.core import tiny_models
from tests.core.test_families import CASES, Bench
from tests.core.test_placement import figures

OOM = "CUDA out of memory. Tried to allocate 2.00 GiB."
NAMES = ("sd15", "wan-t2v")


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    with tiny_models.alone():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in NAMES:
        (folder / name).mkdir()
        CASES[name].build(folder / name, **dict(CASES[name].options))
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    path = tmp_path_factory.mktemp("pictures") / "start.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def benches(models: Path, start: Path, tmp_path: Path) -> Iterator[Callable[[str], Bench]]:
    made: list[Bench] = []

    def bench(name: str) -> Bench:
        made.append(Bench(models / name, start, tmp_path, Warm()))
        return made[-1]

    yield bench
    for one in made:
        one.ring.close()
        one.warm.drop()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say how much is free on the card."""

    def free(megabytes: float, *, large: bool = False) -> None:
        found = Card(megabytes * 2**20)
        monkeypatch.setattr(placing, "card_of", lambda context: found)
        if large:
            # As large as WAN 14B: in a tiny model every offload takes nearly the same.
            monkeypatch.setattr(parts, "figures", lambda *_, **__: figures())

    return free


def pipe_of(bench: Bench) -> Any:
    return bench.warm._value.pipe  # type: ignore[union-attr]


def main_of(bench: Bench) -> Any:
    parts = pipe_of(bench).components
    return parts.get("unet") or parts["transformer"]


def notes(bench: Bench) -> list[str]:
    told = [event.text for event in bench.seen(Noted)]
    return [text for text in told if not text.startswith("The end of the")]


def weight_bytes(model: Any) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


# ---- on a processor


@pytest.mark.parametrize("name", NAMES)
def test_automatic_does_and_says_nothing_on_a_processor(
    benches: Callable[[str], Bench], name: str
) -> None:
    import torch

    bench = benches(name)
    bench.clip(steps=1)
    assert notes(bench) == []
    assert {weight.dtype for weight in main_of(bench).parameters()} == {torch.float32}


@pytest.mark.parametrize(("name", "most"), [("sd15", 2.0), ("wan-t2v", 2.0)])
def test_eight_bit_storage_halves_the_weights_and_changes_little(
    benches: Callable[[str], Bench], name: str, most: float
) -> None:
    bench = benches(name)
    half = bench.clip(precision="bf16", steps=2)
    held = weight_bytes(main_of(bench))
    stored = bench.clip(precision="fp8", steps=2)
    assert notes(bench) == [f"{NOTE}fp32, fp8 weights"]
    kinds = {str(weight.dtype) for weight in main_of(bench).parameters()}
    assert "torch.float8_e4m3fn" in kinds, "a second model was loaded, with another key"
    # Norms and embeddings stay as they are: in so small a model they are much of it.
    numbers = dict.fromkeys(kinds, 0)
    for weight in main_of(bench).parameters():
        numbers[str(weight.dtype)] += weight.numel()
    cast = numbers["torch.float8_e4m3fn"]
    assert cast > 0.5 * sum(numbers.values())
    assert weight_bytes(main_of(bench)) == 4 * sum(numbers.values()) - 3 * cast
    # What is cast takes half of what it takes in half precision, where that keeps it so.
    assert held >= 2 * sum(numbers.values())
    assert 0 < np.abs(half.astype(int) - stored).mean() < most


# ---- on a card


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("waits", ["model", "group"])
def test_a_model_that_waits_in_main_memory_makes_the_same_clip(
    benches: Callable[[str], Bench], card: Callable[..., None], name: str, waits: str
) -> None:
    bench = benches(name)
    card(100_000)
    plain = bench.clip(offload="none", precision="fp32", steps=1)
    moved = bench.clip(offload=waits, precision="fp32", steps=1)
    assert np.abs(plain.astype(int) - moved).max() <= 1
    words = {"model": "offload by parts", "group": "group offload"}[waits]
    assert notes(bench)[0].startswith(f"{NOTE}fp32, {words}: peak ")
    if waits == "group":
        main = main_of(bench)
        assert any(
            hook.startswith("group_offloading")
            for module in main.modules()
            if hasattr(module, "_diffusers_hook")
            for hook in module._diffusers_hook.hooks
        )


def test_what_was_copied_into_another_part_takes_no_room_on_the_card() -> None:
    import torch

    parts = {name: torch.nn.Linear(2, 2) for name in ("unet", "vae", "motion_adapter")}
    pipe = SimpleNamespace(components={**parts, "scheduler": None})
    offload.place(pipe, "meta", offload.NONE)
    kinds = {name: next(part.parameters()).device.type for name, part in parts.items()}
    assert kinds == {"unet": "meta", "vae": "meta", "motion_adapter": "cpu"}


def test_weights_are_pinned_where_main_memory_has_room_for_them() -> None:
    import torch

    part = torch.nn.Linear(1000, 1000, bias=False)
    pipe = SimpleNamespace(components={"unet": part, "again": part, "scheduler": None})
    assert not offload.too_large_to_pin(pipe, 8_000_000)
    assert offload.too_large_to_pin(pipe, 6_000_000)


@pytest.mark.parametrize("name", ["wan-t2v"])
def test_groups_and_layers_go_together_with_eight_bits(
    benches: Callable[[str], Bench], card: Callable[..., None], name: str
) -> None:
    bench = benches(name)
    card(100_000)
    plain = bench.clip(offload="none", precision="fp8", steps=1)
    for waits in ("group", "sequential"):
        moved = bench.clip(offload=waits, precision="fp8", steps=1)
        assert np.abs(plain.astype(int) - moved).max() <= 1, waits


def test_a_block_that_is_fetched_by_one_left_out_is_never_needed(
    benches: Callable[[str], Bench], card: Callable[..., None]
) -> None:
    bench = benches("sd15")
    card(100_000)
    for waits, left_out in (("group", True), ("none", False)):
        bench.clip(offload=waits, precision="fp32", steps=6, speed="taylor_cache")
        told = [text for text in notes(bench) if "Forecast steps is left out" in text]
        assert bool(told) == left_out, waits


def test_automatic_takes_what_fits_and_tiles_where_it_must(
    benches: Callable[[str], Bench], card: Callable[..., None]
) -> None:
    bench = benches("sd15")
    card(100_000)
    bench.clip(width=512, height=512, steps=1)
    assert notes(bench)[0].startswith(f"{NOTE}fp16, all on the card: peak ")
    assert len(notes(bench)) == 1
    card(1300)  # A tile of 256 by 256 is far less than the whole picture.
    bench.clip(width=512, height=512, steps=1)
    first, second = notes(bench)
    assert ", tiled decode: peak " in first
    assert (
        second == "Frames are decoded in tiles, because nothing faster fits; colours differ a bit."
    )
    card(1)
    bench.clip(width=512, height=512, steps=1)
    assert notes(bench)[0].endswith("(a guess), more than is free")


# ---- memory that runs out before the decode


def failing(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, where: str, times: int
) -> Callable[[], int]:
    """Let memory run out so many times while the model is loaded or sampled."""
    import diffusers
    import torch

    count = 0
    kind: Any = diffusers.UNet2DConditionModel
    if bench.recipe.family == "wan":
        kind = diffusers.WanTransformer3DModel
    name = "from_pretrained" if where == "load" else "forward"
    real = getattr(kind, name)

    def broken(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count <= times:
            raise torch.OutOfMemoryError(OOM)
        return real(*args, **options)

    monkeypatch.setattr(kind, name, broken)
    return lambda: count


@pytest.mark.parametrize(("name", "where"), [("sd15", "sample"), ("wan-t2v", "load")])
def test_memory_that_runs_out_leads_to_the_next_plan(
    benches: Callable[[str], Bench], card: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch, name: str, where: str,
) -> None:  # fmt: skip
    bench = benches(name)
    card(100_000)
    plain = bench.clip(offload="group", precision="fp32", steps=2)
    bench.warm.drop()
    card(100_000, large=True)
    failing(monkeypatch, bench, where, 2)
    made = bench.clip(precision="fp32", steps=2)
    told = notes(bench)
    assert told[0].startswith(f"{NOTE}fp32, all on the card")
    first = note_of(Mark.RUNG, "keep more of the model off the card (offload auto → model)")
    second = note_of(Mark.RUNG, "keep more of the model off the card (offload model → group)")
    assert [text for text in told if text.startswith(Mark.RUNG.value)] == [first, second]
    assert sum(text.startswith(RAN_OUT_BEFORE) for text in told) == 2
    assert RAN_OUT_BEFORE in UNLIKE, "nothing is learnt from its time"
    assert told[-1].startswith(f"{NOTE}fp32, group offload")
    assert (made == plain).all()
    assert [event.step for event in bench.seen(Sampled)] == [1, 2], "no step was made twice"
    found = record_of(bench.job(precision="fp32").params, bench.recipe.parameters, [told])
    assert (found.asked["offload"], found.values["offload"]) == ("auto", "group")


def test_what_a_person_chose_is_kept_to_and_the_failure_told(
    benches: Callable[[str], Bench], card: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bench = benches("sd15")
    card(100_000)
    failing(monkeypatch, bench, "sample", 99)
    for offload_ in ("none", "group"):
        with pytest.raises(Exception, match="out of memory") as error:
            bench.clip(offload=offload_, precision="fp16", steps=1)
        assert problem_from(error.value).category is Category.INSUFFICIENT_VRAM
        assert len(notes(bench)) == 1


def test_another_failure_is_no_matter_of_memory(
    benches: Callable[[str], Bench], card: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import diffusers

    bench = benches("sd15")
    card(100_000)

    def broken(*args: Any, **options: Any) -> Any:
        raise ValueError("something else")

    monkeypatch.setattr(diffusers.UNet2DConditionModel, "forward", broken)
    with pytest.raises(ValueError, match="something else"):
        bench.clip(steps=1)
    assert len(notes(bench)) == 1


# ---- what is kept


def test_measured_peaks_are_written_and_used(
    benches: Callable[[str], Bench], card: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    bench = benches("sd15")
    bench.kept = Kept(tmp_path / "latents")
    card(100_000)
    taken = iter([50_000_000, 70_000_000])
    monkeypatch.setattr(machine, "peak_vram_bytes", lambda: next(taken))
    monkeypatch.setattr(machine, "gpu_name", lambda: "Some card")
    job = bench.job(steps=1)
    bench.frames(job)
    [row] = Peaks(tmp_path / "latents").read("Some card", job.model)
    assert (row.sample_bytes, row.peak_bytes, row.key) == (
        50_000_000, 70_000_000, "fp16//off/none",
    )  # fmt: skip
    monkeypatch.setattr(machine, "peak_vram_bytes", lambda: None)
    bench.clip(steps=1)
    assert notes(bench) == [f"{NOTE}fp16, all on the card: peak 67 MB"], "no guess any more"
    card(66)
    bench.clip(steps=1)
    assert "all on the card" not in notes(bench)[0]


def test_only_what_a_plan_took_by_itself_is_learnt(
    benches: Callable[[str], Bench], card: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    bench = benches("sd15")
    bench.kept = Kept(tmp_path / "latents")
    card(100_000, large=True)
    peak = 90_000_000
    monkeypatch.setattr(machine, "gpu_name", lambda: "Some card")
    monkeypatch.setattr(machine, "peak_vram_bytes", lambda: peak)

    def forget() -> None:
        nonlocal peak
        peak = 5_000_000

    monkeypatch.setattr(machine, "forget_peak_vram", forget)
    failing(monkeypatch, bench, "sample", 1)
    job = bench.job(steps=1, precision="fp32")
    bench.frames(job)
    [row] = Peaks(tmp_path / "latents").read("Some card", job.model)
    assert row.key.endswith("/model")
    assert row.peak_bytes == 5_000_000, "not what the plan before it took when it ran out"
    # Another decoder says nothing about the model's own.
    found = placing.Placing.decoded
    monkeypatch.setattr(
        placing.Placing, "decoded",
        lambda self: (self._context.facts.update(decoder="tiny"), found(self)),
    )  # fmt: skip
    bench.frames(bench.job(steps=1, precision="fp32", width=128))
    assert Peaks(tmp_path / "latents").read("Some card", job.model) == [row]


def test_a_cancel_leaves_no_part_on_the_card(
    benches: Callable[[str], Bench], card: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    from core.engines.local.context import Cancelled

    bench = benches("wan-t2v")
    card(100_000)
    bench.clip(offload="model", precision="fp32", steps=1)
    freed: list[int] = []
    monkeypatch.setattr(
        diffusers.WanPipeline, "maybe_free_model_hooks", lambda _self: freed.append(1)
    )
    bench.stop = lambda event: isinstance(event, Sampled)
    with pytest.raises(Cancelled):
        bench.clip(offload="model", precision="fp32", steps=2)
    assert freed == [1]


def test_latents_are_known_by_what_shapes_them(
    benches: Callable[[str], Bench], card: Callable[..., None], tmp_path: Path
) -> None:
    assert not {"precision", "quantised"} & SHAPELESS
    assert {"offload", "tiling"} <= SHAPELESS
    bench = benches("sd15")
    bench.kept = Kept(tmp_path / "latents")
    card(100_000)
    from dataclasses import replace

    job = bench.job(steps=2)

    def steps(**more: object) -> int:
        bench.frames(replace(job, params={**job.params, **more}))  # type: ignore[dict-item]
        return len(bench.seen(Sampled))

    assert steps() == 2
    assert steps(offload="group", tiling=True) == 0, "the same latents"
    assert steps(precision="bf16") == 2
    assert steps(precision="fp8") == 2
    assert steps(precision="fp8", offload="model") == 0
    old = {k: v for k, v in job.params.items() if k not in ("precision", "quantised")}
    bench.frames(replace(job, params={**old, "offload": "none"}))
    assert len(bench.seen(Sampled)) == 2, "a job older than these knobs"


def test_only_a_key_that_fits_is_warm(
    benches: Callable[[str], Bench], card: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from core.engines.local.pipelines import Maker

    bench = benches("sd15")
    card(100_000)
    loaded = 0
    real = Maker.load

    def load(self: Any, *args: Any) -> Any:
        nonlocal loaded
        loaded += 1
        return real(self, *args)

    monkeypatch.setattr(Maker, "load", load)
    wanted = 0
    for more, new in (
        ({}, True), ({"seed": 2}, False), ({"tiling": True}, False), ({"offload": "none"}, False),
        ({"offload": "group"}, True), ({"precision": "fp8"}, True), ({"precision": "fp8"}, False),
        ({"precision": "bf16"}, True), ({}, True),
    ):  # fmt: skip
        bench.clip(steps=1, **more)  # type: ignore[arg-type]
        wanted += new
        assert loaded == wanted, more
    # A file that is another one now.
    index = Path(bench.recipe.model) / "model_index.json"
    index.write_bytes(index.read_bytes() + b"\n")
    bench.clip(steps=1)
    assert loaded == wanted + 1


def test_the_knobs_are_offered_and_what_is_missing_is_a_problem(
    benches: Callable[[str], Bench],
) -> None:
    bench = benches("sd15")
    knobs = {knob.name: knob for knob in bench.recipe.parameters}
    assert knobs["offload"].default == offload.AUTO
    assert knobs["offload"].choices == ("auto", "none", "model", "group", "sequential")
    assert knobs["precision"].choices == ("auto", "bf16", "fp16", "fp32", "fp8")
    with pytest.raises(ProblemError) as error:
        bench.clip(offload="all of it")
    assert error.value.problem.field == "offload"
    assert tiny_models  # The models of `CASES` are made there.


def test_a_lora_and_eight_bit_storage_are_told_apart(
    benches: Callable[[str], Bench], card: Callable[..., None], models: Path, tmp_path: Path
) -> None:
    from tests.core.test_lora import make_lora

    path = make_lora(models / "sd15", tmp_path / "one.safetensors")
    bench = benches("sd15")
    card(1)  # Nothing fits: what takes least is tried, and would be eight bits.
    with pytest.raises(ProblemError) as error:
        bench.clip(precision="fp8", lora=str(path), steps=1)
    assert error.value.problem.field == "precision"
    assert not bench.seen(Sampled)
    card(1, large=True)
    plain = bench.clip(offload="none", steps=1)
    assert "fp8" in notes(bench)[0]
    made = bench.clip(offload="none", lora=str(path), steps=1)
    assert "fp8" not in notes(bench)[0]
    assert (plain != made).any()
    for waits in ("group", "sequential"):
        moved = bench.clip(lora=str(path), offload=waits, steps=1)
        assert np.abs(moved.astype(int) - made).max() <= 1

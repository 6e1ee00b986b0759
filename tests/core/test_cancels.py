"""Cancels in every family, while it loads, samples and decodes; samplers of every family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from core.engines.local import pipelines, schedulers
from core.engines.local.context import Cancelled
from core.engines.local.families import stable_diffusion
from core.engines.local.warm import Warm
from core.errors import ProblemError
from core.events import FramesPublished, PhaseStarted, Sampled
from core.jobs import Phase
from tests.core.family_fixtures import BUILDS, Benches, Small, studio


@pytest.fixture(scope="module")
def all_benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    with studio(tmp_path_factory.mktemp("cancels")) as made:
        yield made


@pytest.fixture
def benches(all_benches: Benches) -> Iterator[Benches]:
    yield all_benches
    all_benches.rest()


@pytest.fixture(params=list(BUILDS))
def bench(request: pytest.FixtureRequest, benches: Benches) -> Small:
    return benches(request.param)


class Cancel:
    """A cancel that comes while something is computed, as a person's does.

    Attributes:
        asked: It came.
        after: Calls of the watched modules that began after it.
    """

    def __init__(self, bench: Small) -> None:
        self.asked = False
        self.after: list[str] = []
        self._calls = 0
        bench.stop = lambda event: self.asked

    def watch(self, module: Any, name: str, at: int = 0) -> Any:
        """Count calls of `module`; the cancel comes in the `at`-th, if any."""

        def called(*_given: Any) -> None:
            if self.asked:
                self.after.append(name)
            self._calls += bool(at)
            if at and self._calls == at:
                self.asked = True

        return module.register_forward_pre_hook(called)


def models_of(pipe: Any) -> list[Any]:
    parts = pipe.components
    names = ("unet", "transformer", "transformer_2")
    return [parts[name] for name in names if parts.get(name) is not None]


def test_a_cancel_within_a_step_ends_with_that_step(bench: Small) -> None:
    plain = bench.clip()
    pipe = bench.warm._value.pipe  # type: ignore[union-attr]
    cancel = Cancel(bench)
    hooks = [cancel.watch(model, "model", at=2) for model in models_of(pipe)]
    hooks.append(cancel.watch(pipe.vae.decoder, "decoder"))
    try:
        with pytest.raises(Cancelled):
            bench.clip(steps=9)
    finally:
        for hook in hooks:
            hook.remove()
    # WAN asks its model twice a step, with the prompt and without.
    assert cancel.after in ([], ["model"])
    assert len(bench.seen(Sampled)) <= 1
    assert not [event for event in bench.seen(PhaseStarted) if event.phase is Phase.DECODE]
    bench.stop = lambda event: False
    assert (bench.clip() == plain).all()


def test_a_cancel_within_the_decode_ends_with_that_piece(bench: Small) -> None:
    plain = bench.clip()
    pipe = bench.warm._value.pipe  # type: ignore[union-attr]
    cancel = Cancel(bench)
    hook = cancel.watch(pipe.vae.decoder, "decoder", at=1)
    try:
        with pytest.raises(Cancelled):
            bench.clip()
    finally:
        hook.remove()
    assert cancel.after == []
    shown = [event for event in bench.seen(FramesPublished) if not event.preview]
    assert len(shown) <= 1, "telling of the first piece is where it is heard"
    bench.stop = lambda event: False
    assert (bench.clip() == plain).all()


def test_a_cancel_within_a_part_ends_with_that_part(
    bench: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.warm = Warm()
    cancel, loaded = Cancel(bench), []
    kind = type(families_maker(bench))
    real = kind.weights

    def weights(self: Any, *given: Any) -> Any:
        loaded.append(given[2])
        cancel.asked = len(loaded) == 2
        return real(self, *given)

    monkeypatch.setattr(kind, "weights", weights)
    with pytest.raises(Cancelled):
        bench.clip()
    assert len(loaded) == 2
    assert bench.warm._value is None
    assert [event.phase for event in bench.seen(PhaseStarted)] == [Phase.LOAD]


def families_maker(bench: Small) -> pipelines.Maker:
    from core.engines.local import families

    maker: pipelines.Maker = families.load(bench.recipe.family)._Maker()  # type: ignore[attr-defined]
    return maker


# ---- samplers


def test_each_family_takes_each_sampler_that_it_offers(bench: Small) -> None:
    knob = next((one for one in bench.recipe.parameters if one.name == "scheduler"), None)
    if knob is None:
        assert bench.recipe.family in ("svd", "ltx")
        assert bench.clip().std() > 0
        return
    offered = {
        "animatediff": schedulers.NAMES,
        "stable_diffusion": (stable_diffusion.OWN, *schedulers.NAMES),
        "wan": tuple(schedulers.FLOWS),
    }
    assert knob.choices == offered[bench.recipe.family]
    seen = set()
    for name in knob.choices:
        clip = bench.clip(scheduler=name, steps=3)
        assert clip.std() > 0, name
        seen.add(clip.tobytes())
    # Some agree at so few steps, or are the model's own; most do not.
    assert len(seen) > len(knob.choices) // 2


@pytest.mark.parametrize("name", ["sd15", "animatediff", "wan-t2v"])
def test_an_unknown_sampler_is_refused_before_a_step(benches: Benches, name: str) -> None:
    bench = benches(name)
    with pytest.raises(ProblemError) as caught:
        bench.job(scheduler="magic")
    assert caught.value.problem.field == "scheduler"
    job = bench.job()
    # As an older program may have queued it.
    odd = replace(job, params={**job.params, "scheduler": "magic"})
    with pytest.raises(ProblemError) as caught:
        bench.frames(odd)
    assert caught.value.problem.field == "scheduler"
    assert "euler" in caught.value.problem.hint
    assert bench.seen(Sampled) == []

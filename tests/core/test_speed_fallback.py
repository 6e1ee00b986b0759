"""Switches that turn out in the run not to work, and what must not outlive a job."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.engines.local import speed, speed_apply, speed_compile, speed_fallback, speed_memory
from core.engines.local.speed_switches import BY_ID, SWITCHES, Target
from core.engines.local.warm import Warm
from core.engines.local.watching import Watch

OOM = "CUDA out of memory. Tried to allocate 2.00 GiB."


@dataclass
class Notes:
    """Hears what a person is told."""

    said: list[str] = field(default_factory=list)

    def target(self, *parts: Any, switches: tuple[str, ...] = ()) -> Target:
        names = ("transformer", "transformer_2")
        pipe = SimpleNamespace(**dict(zip(names, parts, strict=False)))
        facts = {"switches": list(switches)}
        return Target(pipe, "wan", "cpu", 6, self.said.append, facts=facts)


def attending() -> Any:
    """Return a small WAN transformer and what it is called with."""
    import diffusers
    import torch

    torch.manual_seed(3)
    part = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4,
        out_channels=4, text_dim=8, freq_dim=8, ffn_dim=16, num_layers=1, rope_max_seq_len=32,
    ).eval()  # fmt: skip
    given = {
        "hidden_states": torch.randn(1, 4, 1, 4, 4), "timestep": torch.tensor([5]),
        "encoder_hidden_states": torch.randn(1, 3, 8), "return_dict": False,
    }  # fmt: skip
    return part, given


def backend_of_all() -> str:
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    return str(_AttentionBackendRegistry.get_active_backend()[0].value)


def test_the_way_of_attention_is_undone_for_the_whole_program() -> None:
    """What diffusers sets with a part, it leaves set for all that comes after."""
    import torch

    part, given = attending()
    before = backend_of_all()
    with torch.no_grad():
        plain = part(**given)[0]
        with speed_apply.attention("cudnn_attention", "_native_math")(Notes().target(part)):
            assert part.blocks[0].attn1.processor._attention_backend.value == "_native_math"
            assert torch.allclose(part(**given)[0], plain, atol=1e-5)
        assert part.blocks[0].attn1.processor._attention_backend is None
        assert backend_of_all() == before
        assert part._compiled_call_impl is None
        assert (part(**given)[0] == plain).all()


def test_attention_that_fails_in_the_run_is_left_out_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from diffusers.models import attention_dispatch

    def refusing(*args: Any, **options: Any) -> Any:
        raise RuntimeError("No available kernel. Aborting execution.")

    part, given = attending()
    before, notes = backend_of_all(), Notes()
    target = notes.target(part, switches=("cudnn_attention",))
    name = attention_dispatch.AttentionBackendName("_native_math")
    with torch.no_grad(), monkeypatch.context() as patch:
        plain = part(**given)[0]
        patch.setitem(attention_dispatch._AttentionBackendRegistry._backends, name, refusing)
        with speed_apply.attention("cudnn_attention", "_native_math")(target):
            assert (part(**given)[0] == plain).all()
            assert (part(**given)[0] == plain).all()
            assert backend_of_all() == before
    assert notes.said == [
        "cuDNN attention does not work here and is left out "
        "(RuntimeError: No available kernel. Aborting execution.)."
    ]
    assert target.facts["switches"] == []
    assert "kernel" in target.facts["failed"]["cudnn_attention"]


@pytest.mark.parametrize("words", [OOM, "the model itself is broken"])
def test_what_is_not_the_fault_of_a_switch_goes_on_up(words: str) -> None:
    import torch

    class Broken(torch.nn.Module):
        def forward(self) -> Any:
            calls.append(undone[:])
            raise torch.OutOfMemoryError(words) if words == OOM else ValueError(words)

    calls: list[list[int]] = []
    undone: list[int] = []
    part, notes = Broken(), Notes()
    target = notes.target(part, switches=("xformers",))
    with (
        speed_fallback.until_it_fails(target, [part], "xformers", lambda: undone.append(1)),
        pytest.raises(Exception, match=words[:9]),
    ):
        part()
    assert notes.said == []
    assert target.facts == {"switches": ["xformers"]}
    assert len(calls) == (1 if words == OOM else 2), "memory that ran out is for the plan to mend"


# ---- compiled


class BasicTransformerBlock:
    """Stands for the class by whose name blocks are found."""


def test_blocks_of_many_shapes_are_all_compiled() -> None:
    """A UNet has a dozen and more shapes of blocks; torch by itself stops at eight."""
    import torch

    def forward(self: Any, given: Any) -> Any:
        return self.inner(given).relu()

    kind = type(BasicTransformerBlock.__name__, (torch.nn.Module,), {"forward": forward})
    whole = torch.nn.Module()
    for width in range(4, 14):
        block = kind()
        block.inner = torch.nn.Linear(width, width + 1)
        whole.add_module(f"block_{width}", block)
    compiled: list[int] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        compiled.append(1)
        return graph.forward

    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    with speed_compile.compiled("regional", backend)(Notes().target(whole)), torch.no_grad():
        for width, block in zip(range(4, 14), whole.children(), strict=True):
            block(torch.zeros(2, width))
    assert len(compiled) == 10
    assert torch._dynamo.config.recompile_limit == limit
    warm = Warm()
    warm.get("a", object)
    warm.drop()  # What was compiled goes with the model, and its count with it.
    with speed_compile.compiled("regional", backend)(Notes().target(whole)), torch.no_grad():
        next(whole.children())(torch.zeros(2, 4))
    assert len(compiled) == 11


def test_answers_of_graphs_are_copied_whatever_holds_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A graph's next replay writes over its answer; AnimateDiff's stands in an attribute."""
    import torch
    from diffusers.models.unets.unet_motion_model import UNetMotionOutput

    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
    memory = torch.ones(3)
    for answer, read in (
        (memory, lambda found: found),
        ((memory, None), lambda found: found[0]),
        (UNetMotionOutput(sample=memory), lambda found: found.sample),
    ):
        memory.fill_(1)
        kept = read(speed_compile._from_graphs(lambda answer=answer: answer)())
        memory.fill_(7)
        assert kept.tolist() == [1, 1, 1]


def test_what_lasts_speaks_to_the_job_at_hand() -> None:
    def context(number: int, steps: int) -> Any:
        def report(event: Any) -> None:
            told.append((number, event.text))

        job = SimpleNamespace(id=str(number), params={"steps": steps}, family="wan")
        return SimpleNamespace(job=job, device="cpu", facts={}, report=report)

    told: list[tuple[int, str]] = []
    model = SimpleNamespace(pipe=object(), scheduler_config={}, speed=None)
    applied = speed._of(model)
    first = applied.target = speed._target(context(1, 9), model, applied)
    first.facts["asked"] = "compile"
    speed._target(context(2, 4), model, applied)
    first.tell("it could not be compiled")
    assert told == [(2, "it could not be compiled")]
    assert (first.steps, first.facts) == (4, {})


# ---- what is on when


def test_a_decode_between_steps_is_not_in_half() -> None:
    """Frames that a dream makes between the steps of a keyframe look like the others."""
    import torch

    def seen() -> list[str]:
        return sorted(
            vars(module)["forward"].__name__ for module in parts if "forward" in vars(module)
        )

    parts = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    pipe = SimpleNamespace(unet=parts[0], vae=SimpleNamespace(decoder=parts[1]))
    model = SimpleNamespace(pipe=pipe, scheduler_config={}, speed=None)
    applied = speed._of(model)
    applied.chosen = (BY_ID["autocast"], BY_ID["decode_half"])
    applied.target = Target(pipe, "stable_diffusion", "cpu")
    assert len(speed.through(model, seen)()) == 1
    assert len(next(speed.decoding(model, (seen() for _ in range(1))))) == 2
    assert seen() == []


def test_caches_know_how_few_steps_there_are() -> None:
    names = [switch.id for switch in SWITCHES]
    caches = [switch.id for switch in SWITCHES if switch.group == "cache"]
    assert all(names.index("few_steps") < names.index(cache) for cache in caches)
    target = Notes().target()
    with contextlib.ExitStack() as stack:
        stack.enter_context(BY_ID["few_steps"].apply(target))
        assert target.steps == speed_apply.FEW_STEPS
    assert target.steps == 6


def test_a_single_file_is_told_from_another_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"one")
    first = speed_memory._digest(path)
    assert speed_memory._digest(path) == first
    path.write_bytes(b"other")
    assert speed_memory._digest(path) != first


def test_without_a_preview_a_card_is_one_step_ahead_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing else waits for the device then, and a cancel would find all steps begun."""
    import torch

    log: list[str] = []

    class Event:
        def __init__(self) -> None:
            self.name = f"step {sum(line.startswith('begun') for line in log) + 1}"

        def record(self, _stream: Any) -> None:
            log.append(f"begun {self.name}")

        def synchronize(self) -> None:
            log.append(f"done {self.name}")

    def sampled(_step: int, _steps: int) -> None:
        log.append("told")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: None)
    job = SimpleNamespace(params={"preview": "off"})
    nothing: Callable[..., Any] = lambda *_: None  # noqa: E731
    context: Any = SimpleNamespace(job=job, sampled=sampled)
    watch = Watch(context, SimpleNamespace(latents=nothing), SimpleNamespace())  # type: ignore[arg-type]
    latents = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    pipe = SimpleNamespace(num_timesteps=3)
    for index in range(3):
        watch.step_ended(pipe, index, 0, {"latents": latents})
    assert log == [
        "begun step 1", "told", "begun step 2", "done step 1", "told", "begun step 3",
        "done step 2", "told",
    ]  # fmt: skip

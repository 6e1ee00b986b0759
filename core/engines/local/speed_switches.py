"""What makes a run faster: each switch a description and what it does to a pipeline.

`apply` enters a switch and leaves it again, so that the plain pipeline is what remains.
Nothing here imports torch before a switch is applied: the window reads the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from core.engines.local import speed_apply as do
from core.engines.local import speed_caches as caches
from core.engines.local import speed_compile
from core.engines.local.speed_names import WORDS

CPU, CUDA = "cpu", "cuda"
_DEVICES = MappingProxyType({CPU: "a processor", CUDA: "an NVIDIA GPU"})
TINY_VAE = "tiny_vae"
"""Name under which the small autoencoder is measured; it is a knob of its own."""


@dataclass(slots=True)
class Target:
    """A loaded model and where it runs.

    Attributes:
        pipe: Its pipeline.
        family: Who runs it.
        device: "cpu", "cuda:0" or "mps".
        steps: Of the job.
        tell: Takes what a person should know.
        kept: What a switch keeps for the next job, such as compiled code.
        facts: What is kept beside the clip.
    """

    pipe: Any
    family: str
    device: str
    steps: int = 1
    tell: Callable[[str], None] = print
    kept: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def gave_up(self, switch: str, why: str) -> None:
        """Keep that a switch is not on after all, and why."""
        self.facts.setdefault("failed", {})[switch] = why
        if switch in self.facts.get("switches", ()):
            self.facts["switches"].remove(switch)

    @property
    def kind(self) -> str:
        """What it computes on: "cpu", "cuda" or "mps"."""
        return self.device.split(":")[0]

    @property
    def denoisers(self) -> list[Any]:
        """What the sampler calls in each step."""
        parts = (getattr(self.pipe, name, None) for name in ("unet", "transformer"))
        more = getattr(self.pipe, "transformer_2", None)
        return [part for part in (*parts, more) if part is not None]


Apply = Callable[[Target], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Switch:
    """One thing that makes a run faster.

    Attributes:
        id: Its name in a job.
        apply: Enters it; leaving it gives back the plain pipeline.
        lossy: It changes pixels beyond rounding.
        devices: Where it makes sense.
        library: Module that must be installed.
        group: Of switches of one group only one can be on.
        lasting: It stays from job to job, since entering it takes long.
        plain: It wants weights that lie in memory as they are, not waiting elsewhere.
        unmeasured: "fast" turns it on even where nothing was measured.
        why_not: Returns why it cannot be used with a model, "" where it can.
    """

    id: str
    apply: Apply
    lossy: bool = False
    devices: tuple[str, ...] = (CPU, CUDA)
    library: str = ""
    group: str = ""
    lasting: bool = False
    plain: bool = False
    unmeasured: bool = False
    why_not: Callable[[Target], str] = lambda _: ""

    @property
    def title(self) -> str:
        """Its name in a form."""
        return WORDS[self.id][0]

    @property
    def told(self) -> str:
        """What it does, needs and changes."""
        return WORDS[self.id][1]

    @property
    def families(self) -> tuple[str, ...]:
        """Whose pipelines it fits."""
        return WORDS[self.id][2]

    def unusable(self, target: Target) -> str:
        """Return why it cannot be used here, "" where it can."""
        if target.kind not in self.devices:
            names = " or ".join(_DEVICES[d] for d in self.devices)
            return f"it needs {names}"
        if target.family not in self.families:
            return "it does not fit this kind of model"
        if self.library and find_spec(self.library) is None:
            return f"{self.library} is not installed"
        if self.plain and (moved := do.moved(target)):
            return moved
        return self.why_not(target)


SWITCHES: tuple[Switch, ...] = (
    # First, because caches go by the number of steps.
    Switch(
        "few_steps",
        do.few_steps,
        lossy=True,
        unmeasured=True,
        why_not=do.not_distilled,
    ),
    Switch(
        "channels_last",
        do.channels_last,
        devices=(CPU, CUDA),
        lasting=True,
        plain=True,
        unmeasured=True,
    ),
    Switch(
        "fuse_qkv",
        do.fuse_qkv,
        plain=True,
        why_not=do.has_adapters,
    ),
    Switch(
        "cudnn_attention",
        do.attention("cudnn_attention", "_native_cudnn"),
        devices=(CUDA,),
        group="attention",
    ),
    Switch(
        "flash_attention",
        do.attention("flash_attention", "flash"),
        devices=(CUDA,),
        library="flash_attn",
        group="attention",
    ),
    Switch(
        "sage_attention",
        do.attention("sage_attention", "sage"),
        lossy=True,
        devices=(CUDA,),
        library="sageattention",
        group="attention",
        unmeasured=True,
    ),
    Switch(
        "xformers",
        do.xformers,
        devices=(CUDA,),
        library="xformers",
        group="attention",
    ),
    Switch(
        "compile",
        speed_compile.compiled("regional"),
        group="compile",
        lasting=True,
        plain=True,
        why_not=speed_compile.no_compiler,
    ),
    Switch(
        "compile_max",
        speed_compile.compiled("max-autotune"),
        devices=(CUDA,),
        group="compile",
        lasting=True,
        plain=True,
        why_not=speed_compile.no_compiler,
    ),
    Switch(
        "graphs",
        speed_compile.compiled("reduce-overhead"),
        devices=(CUDA,),
        group="compile",
        lasting=True,
        plain=True,
        why_not=speed_compile.no_compiler,
    ),
    Switch(
        "autocast",
        do.autocast,
        lossy=True,
        unmeasured=True,
        why_not=do.no_half,
    ),
    Switch(
        "decode_half",
        do.decode_half,
        lossy=True,
        unmeasured=True,
        why_not=do.no_half_decode,
    ),
    Switch(
        "step_cache",
        caches.first_block_cache,
        lossy=True,
        group="cache",
        unmeasured=True,
        why_not=caches.few_blocks,
    ),
    Switch(
        "taylor_cache",
        caches.taylor_cache,
        lossy=True,
        group="cache",
        why_not=caches.nothing_to_foretell,
    ),
    Switch(
        "attention_cache",
        caches.attention_cache,
        lossy=True,
        group="cache",
        why_not=caches.few_cached_steps,
    ),
)
"""In the order in which they are applied."""

BY_ID: Mapping[str, Switch] = {switch.id: switch for switch in SWITCHES}


def for_family(family: str) -> tuple[Switch, ...]:
    """Return the switches that fit a family's pipelines, whatever the device."""
    return tuple(switch for switch in SWITCHES if family in switch.families)

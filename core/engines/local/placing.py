"""A plan put into practice in the worker: made, told, taken to the next one, remembered."""

from __future__ import annotations

import gc
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from core.engines.local import (
    machine,
    offload,
    parts,
    placement,
    planner,
    quantised,
    sizes,
    speed,
)
from core.engines.local.peaks import Peaks
from core.engines.local.placement import Card, Measured, Plan
from core.engines.local.warm import let_go, ran_out
from core.errors import invalid
from core.events import Noted
from core.morning.marks import Mark, note_of
from core.statistics.runs import RAN_OUT_BEFORE

if TYPE_CHECKING:
    from core.engines.local import folders
    from core.engines.local.context import Context
    from core.engines.local.pipelines import Maker, Model

_TORCH = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def card_of(context: Context) -> Card | None:
    """Return what there is of the card that a job runs on; None without one."""
    if not context.device.startswith("cuda"):
        return None
    import torch

    device = torch.device(context.device)
    free, _ = torch.cuda.mem_get_info(device)
    # What the warm model holds is this job's too: it is used again or dropped first.
    mine = torch.cuda.memory_reserved(device)
    major, _ = torch.cuda.get_device_capability(device)
    return Card(
        float(free + mine), float(context.reserve_bytes), bf16=major >= 8,
        fp8=hasattr(torch, "float8_e4m3fn"),
    )  # fmt: skip


class Placing:
    """What one run knows of its placement.

    Args:
        context: The run.
        maker: Its family.
        found: Its model's folder.

    Raises:
        ProblemError: What is asked for needs something that is not there.
    """

    def __init__(self, context: Context, maker: Maker, found: folders.ModelFolder) -> None:
        params = context.job.params
        self._context = context
        self._model = context.job.model
        self._wishes = placement.wishes_of(params)
        if params.get("lora"):
            # Its own layers would be stored so too, and cannot compute in that type.
            if self._wishes.precision == offload.FP8:
                raise invalid(
                    "precision",
                    "A LoRA cannot be put on weights in 8-bit storage.",
                    "Choose another precision, or leave the LoRA out.",
                )
            if self._wishes.precision == offload.AUTO:
                self._wishes = replace(self._wishes, precision="")
        if self._wishes.precision == offload.FP8 and context.device == "mps":
            raise invalid(
                "precision",
                "This device knows no weights in 8-bit storage.",
                "Choose another precision.",
            )
        self._clip = placement.clip_of(params)
        self._card = card_of(context)
        smaller = quantised.of(found, self._wishes, on_card=self._card is not None)
        self._wishes = replace(self._wishes, quantised=smaller)
        self._figures = sizes.of(maker, found)
        self._peaks = Peaks(context.kept.folder)
        self._sample_bytes = 0

    def plan(self) -> Plan:
        """Return the first plan to try."""
        if self._card is None:
            return planner.without_card(self._figures, self._wishes)
        return planner.choose(self._figures, self._clip, self._card, self._wishes, self._measured())

    def heavier(self, plan: Plan) -> Plan | None:
        """Return the next plan after one whose memory ran out before the decode."""
        if self._card is None:
            return None
        return planner.heavier(
            plan, self._figures, self._clip, self._card, self._wishes, self._measured()
        )

    def tell(self, plan: Plan) -> None:
        """Note the plan, where it is one that a person chose or could."""
        context, wishes = self._context, self._wishes
        context.facts["placement"] = {"words": plan.words(), **asdict(plan)}
        plain = wishes.precision in ("", offload.AUTO) and wishes.quantised == offload.OFF
        if self._card is None and plain:
            return
        text = placement.NOTE + plan.words()
        if not plan.fits and self._card is not None:
            text += ", more than is free"
        context.report(Noted(job_id=context.job.id, text=text))
        if plan.tiled and not wishes.tiling:
            text = "Frames are decoded in tiles, because nothing faster fits; colours differ a bit."
            context.report(Noted(job_id=context.job.id, text=text))

    def begin_again(self) -> None:
        """Forget what a plan took that was too heavy; it tells nothing of the next one."""
        self._sample_bytes = 0
        machine.forget_peak_vram()

    def sampled(self) -> None:
        """Remember what it took up to here."""
        self._sample_bytes = machine.peak_vram_bytes() or 0

    def decoded(self) -> None:
        """Keep what the run took, for the plans of later ones."""
        plan, peak = self._context.plan, machine.peak_vram_bytes()
        facts, params = self._context.facts, self._context.job.params
        # Another decoder, or what makes the frames larger on the same card, is not in the plan.
        other = "lighter" in facts or "decoder" in facts or bool(params.get("upscaler"))
        if plan is None or not peak or not self._sample_bytes or other:
            return
        taken = Measured(plan.key, plan.tiled, self._clip, self._sample_bytes, peak)
        self._peaks.add(machine.gpu_name(), self._model, taken)

    def _measured(self) -> list[Measured]:
        return self._peaks.read(machine.gpu_name(), self._model)


def plan_of(context: Context, maker: Maker, found: folders.ModelFolder) -> Plan:
    """Return how the model of a job is placed; planned and told the first time.

    Raises:
        ProblemError: What is asked for needs something that is not there.
    """
    if context.plan is None:
        context.placing = Placing(context, maker, found)
        context.plan = context.placing.plan()
        context.placing.tell(context.plan)
    return context.plan


def made(maker: Maker, context: Context) -> tuple[Model, Any]:
    """Return the model of a job and its latents, on the first plan whose memory is enough.

    Raises:
        ProblemError: The model cannot be loaded.
        Cancelled: The job was cancelled.
    """
    while True:
        found = _tried(maker, context)
        if not isinstance(found, Plan):
            return found
        _step(context, found)


def _tried(maker: Maker, context: Context) -> tuple[Model, Any] | Plan:
    """Return the model and the latents, or the plan to try next."""
    try:
        model = maker.model(context)
        maker.notes(context, model)
        offload.note(context)
        speed.choose(context, model)
        return model, maker.sampled(context, model)
    except Exception as error:
        placing, plan = context.placing, context.plan
        below = None if placing is None or plan is None else placing.heavier(plan)
        if below is None or not ran_out(error):
            raise
        let_go(error)
        return below


def _step(context: Context, below: Plan) -> None:
    """Go over to the next plan, and tell it as the rungs that it takes."""
    before, context.plan = context.plan, below
    context.drop_model()
    gc.collect()
    assert before is not None
    asked = context.job.params
    told: dict[str, str] = context.facts.setdefault("taken", {})
    context.report(
        Noted(job_id=context.job.id, text=f"{RAN_OUT_BEFORE}; it goes on from the start.")
    )
    for name, words, old, new in (
        ("offload", "keep more of the model off the card", before.offload, below.offload),
        ("precision", "keep weights in eight bits", before.storage, below.storage),
    ):
        if old != new:
            was = told.get(name) or str(asked.get(name, old))
            told[name] = new
            text = note_of(Mark.RUNG, f"{words} ({name} {was} → {new})")
            context.report(Noted(job_id=context.job.id, text=text))
    assert context.placing is not None
    context.placing.begin_again()
    context.placing.tell(below)


def dtype(context: Context, name: str, *, full: bool, half: str) -> Any:
    """Return the type that a part's weights are loaded in.

    Args:
        context: The run.
        name: The part.
        full: It must not be in half precision.
        half: The family's type on a card, where there is no plan.
    """
    import torch

    plan = context.plan
    if plan is None:
        plan = Plan(half if context.device.startswith("cuda") else "fp32")
    if full and name == "vae":
        return torch.float32
    return getattr(torch, _TORCH.get(plan.dtype, plan.dtype))


def store(context: Context, pipe: Any) -> None:
    """Keep the denoiser's weights in eight bits between their layers, where planned."""
    plan = context.plan
    if plan is None or not plan.storage:
        return
    import torch

    for name in placement.SAMPLERS:
        part = pipe.components.get(name)
        if part is not None:
            part.enable_layerwise_casting(
                storage_dtype=torch.float8_e4m3fn,
                compute_dtype=getattr(torch, _TORCH[plan.dtype]),
            )


def weights_of(
    context: Context, found: folders.ModelFolder, name: str, class_name: str, dtype: Any
) -> tuple[Any, dict[str, Any]]:
    """Return a part read from its GGUF file or None, and what else its loading is given."""
    plan = context.plan
    if plan is None or name not in placement.SAMPLERS:
        return None, {}
    if plan.quantised == offload.GGUF and name not in found.held:
        path = parts.gguf_file(found.path, name)
        if path is not None:
            made = quantised.from_gguf(path, class_name, found.path / name, dtype)
            return made, {}
    on_card = context.device.startswith("cuda")
    return None, quantised.options(plan.quantised, dtype, on_card=on_card)

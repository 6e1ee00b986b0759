"""AnimateDiff: text to a short clip, by diffusers' AnimateDiffPipeline."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engines.local import folders, offload, preview, schedulers, starter
from core.engines.local.quiet import hush
from core.engines.local.unknown import unknown_words
from core.errors import ProblemError
from core.events import Noted, Progressed
from core.jobs import Kind, Parameter, Phase, Recipe
from core.statistics.runs import WENT_ON

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.engines.local.context import Context

ID = "animatediff"
CONTEXT_FRAMES = 16
"""Frames that motion modules are usually trained for; longer clips use sliding windows."""


def recipes(models: Path) -> tuple[Recipe, ...]:
    """Return the recipes of this family: the starter, and each sound folder in `models`."""
    first = Recipe(
        id="starter",
        title="Starter · text → video",
        summary=starter.SUMMARY,
        engine="local",
        family=ID,
        parameters=parameters(
            size=starter.SIZE,
            smallest=starter.SIZE,
            largest=2 * starter.SIZE,
            steps=starter.STEPS,
            guidance=starter.GUIDANCE,
            scheduler=starter.SCHEDULER,
        ),
        model=str(starter.folder()),
        examples=starter.EXAMPLES,
    )
    return (first, *found_in(models))


def found_in(models: Path) -> Iterator[Recipe]:
    """Yield a recipe for each folder in `models` that can be run."""
    for folder in sorted(models.iterdir()) if models.is_dir() else ():
        if (folder / folders.INDEX).is_file():
            with contextlib.suppress(ProblemError):
                yield recipe_for_folder(folder)


def recipe_for_folder(folder: Path, *, id: str | None = None, title: str | None = None) -> Recipe:
    """Return a recipe for the AnimateDiff model in `folder`.

    Raises:
        ProblemError: The folder is no model that can be run.
    """
    folder = folder.absolute()
    found = folders.check(folder)
    # Folders of one name may lie in different places, and a job must mean one of them.
    place = blake2b(str(folder).encode(), digest_size=3).hexdigest()
    return Recipe(
        id=id or f"{folder.name}-{place}",
        title=title or f"{folder.name} · text → video",
        summary=f"Makes a clip from text with the model in {folder.name}.",
        engine="local",
        family=ID,
        parameters=parameters(
            size=folders.native_size(folder) or 512, smallest=64, largest=2048, steps=25
        ),
        model=str(found.path),
    )


def parameters(
    *,
    size: int,
    smallest: int,
    largest: int,
    steps: int,
    guidance: float = 7.5,
    scheduler: str = "euler",
) -> tuple[Parameter, ...]:
    """Return the knobs of an AnimateDiff; sizes in pixels."""
    whole, number, text = Kind.INTEGER, Kind.NUMBER, Kind.TEXT
    return (
        Parameter(
            "prompt", text, "Prompt", "", maximum=2000, required=True, help="What the clip shows."
        ),
        Parameter(
            "negative_prompt",
            text,
            "Negative prompt",
            "",
            maximum=2000,
            help="What to keep out of the clip.",
        ),
        Parameter("width", whole, "Width", size, smallest, largest, 8, unit="px", group="size"),
        Parameter("height", whole, "Height", size, smallest, largest, 8, unit="px", group="size"),
        Parameter(
            "frames", whole, "Frames", 16, 8, 128, help="Length of the clip.", group="length"
        ),
        Parameter(
            "fps", whole, "Rate", 8, 4, 60, unit="fps", help="How fast it plays.", group="length"
        ),
        Parameter(
            "steps",
            whole,
            "Steps",
            steps,
            1,
            100,
            help="More steps take longer and give finer clips.",
            group="sampling",
        ),
        Parameter(
            "guidance_scale",
            number,
            "Guidance",
            guidance,
            1,
            20,
            help="How strictly the prompt is followed; 1 turns guidance and negative prompt off "
            "and halves the time.",
            group="sampling",
        ),
        Parameter(
            "scheduler",
            Kind.CHOICE,
            "Scheduler",
            scheduler,
            choices=schedulers.NAMES,
            help="The method that turns noise into frames.",
            group="method",
        ),
        Parameter(
            "seed",
            Kind.SEED,
            "Seed",
            None,
            0,
            2**32 - 1,
            help="The same seed and settings give the same clip; empty is random.",
            group="method",
        ),
        *offload.parameters(),
    )


@dataclass(slots=True)
class Model:
    """A loaded model, kept warm between jobs."""

    pipe: Any
    colours: preview.Projection
    scheduler_config: Mapping[str, Any]
    tokens: int
    window: int
    aside: bool = False
    """Only the autoencoder is on the card."""


def generate(context: Context) -> Iterator[npt.NDArray[np.uint8] | None]:
    """Make the clip of `context.job`, yielding RGB frames of shape (h, w, 3).

    None where the frames begin anew; see `core.engines.local.families`.

    Raises:
        ProblemError: The model cannot be loaded, or gave numbers that are no
            picture.
        Cancelled: The job was cancelled.
    """
    context.phase(Phase.LOAD)
    hush()
    model = _model(context)
    _note_cut_words(context, model)
    _note_unknown_words(context, model)
    offload.note(context)
    key = _key(context)
    latents = context.kept.read(context.job.id, key)
    if latents is None:
        context.phase(Phase.SAMPLE)
        latents = _sample(context, model)
        context.kept.write(context.job.id, key, latents)
    else:
        text = f"{WENT_ON}: nothing is sampled again."
        context.report(Noted(job_id=context.job.id, text=text))
        latents = latents.to(context.device)
    context.phase(Phase.DECODE)
    yield from _decode(context, model, latents)


# ---- loading -----------------------------------------------------------------


def _model(context: Context) -> Model:
    folder = Path(context.job.model)
    found = folders.check(folder)
    dtype = "float16" if context.device.startswith("cuda") else "float32"
    waits = offload.of(context)
    key = f"{ID}|{folder}|{dtype}|{context.device}|{waits}"
    model = context.warm(key, lambda: _load(context, found, dtype, waits))
    if model.aside:
        model.pipe.to(context.device)
        model.aside = False
    return model


def _key(context: Context) -> str:
    """Return what the latents of this job are known by."""
    import diffusers
    import torch

    from core.engines.local import kept

    versions = torch.__version__, diffusers.__version__
    return kept.key_of(context.job.params, Path(context.job.model), ID, context.device, *versions)


def _teller(context: Context) -> Callable[[int, int, str], None]:
    def told(done: int, total: int, word: str) -> None:
        text = "Loading " + word.replace("_", " ")
        context.report(
            Progressed(job_id=context.job.id, phase=Phase.LOAD, done=done, total=total, text=text)
        )

    return told


def _load(
    context: Context, found: folders.ModelFolder, dtype_name: str, waits: str = offload.NONE
) -> Model:
    """Load part by part, so that a cancel is heard between two parts."""
    import diffusers
    import torch
    import transformers

    told = _teller(context)
    dtype = getattr(torch, dtype_name)
    parts: dict[str, Any] = {}
    total = len(folders.CONFIGS) + len(found.classes) + 1
    told(0, total, "tokenizer")
    parts["tokenizer"] = transformers.CLIPTokenizer.from_pretrained(
        found.path / "tokenizer", local_files_only=True
    )
    for name, class_name in found.classes.items():
        told(len(parts), total, name)
        library = transformers if name == "text_encoder" else diffusers
        naming = {"dtype": dtype} if library is transformers else {"torch_dtype": dtype}
        parts[name] = getattr(library, class_name).from_pretrained(
            found.path / name,
            use_safetensors=True,
            local_files_only=True,
            variant=found.variants[name],
            **naming,
        )
    told(len(parts), total, "scheduler")
    config = diffusers.DDIMScheduler.load_config(found.path / "scheduler", local_files_only=True)
    parts["scheduler"] = diffusers.DDIMScheduler.from_config(config)
    told(len(parts), total, "pipeline")
    pipe = diffusers.AnimateDiffPipeline(**parts)
    pipe.unet.eval()
    pipe.set_progress_bar_config(disable=True)
    if waits == offload.NONE:
        offload.place(pipe, context.device, waits)
        colours = preview.for_model(found.path, pipe.vae)
    else:
        # Colours are found where the decode runs; it goes back before hooks move it.
        colours = preview.for_model(found.path, pipe.vae.to(context.device))
        pipe.vae.to("cpu")
        offload.place(pipe, context.device, waits)
    told(total, total, "done")
    window = starter.FRAMES if found.path == starter.folder() else CONTEXT_FRAMES
    return Model(pipe, colours, dict(config), int(pipe.tokenizer.model_max_length), window)


def _note_cut_words(context: Context, model: Model) -> None:
    """Tell which words stand behind the last one that the model reads."""
    fields = {"prompt": "prompt", "negative_prompt": "negative prompt"}
    for name, label in fields.items():
        text = str(context.job.params[name])
        cut = cut_words(model.pipe.tokenizer, text, model.tokens)
        if cut:
            short = cut if len(cut) <= 120 else cut[:119] + "…"
            words = f"The end of the {label} is not read, because it is too long: “{short}”"
            context.report(Noted(job_id=context.job.id, text=words))


def _note_unknown_words(context: Context, model: Model) -> None:
    """Tell which words a small model does not know."""
    words = unknown_words(model.pipe.tokenizer, str(context.job.params["prompt"]))
    if words:
        listed = ", ".join(f"“{word}”" for word in words[:8]) + (", …" if len(words) > 8 else "")
        text = f"The model does not know {listed}, so that is ignored."
        context.report(Noted(job_id=context.job.id, text=text))


def cut_words(tokenizer: Any, text: str, limit: int) -> str:
    """Return the end of `text` that does not fit into `limit` tokens."""
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = spans["offset_mapping"]
    # Two tokens are taken by the start and the end.
    if len(offsets) <= limit - 2:
        return ""
    return text[offsets[limit - 2][0] :].strip()


# ---- sampling ----------------------------------------------------------------


def _sample(context: Context, model: Model) -> Any:
    """Run the pipeline; return latents of shape (1, channels, f, h, w)."""
    import torch

    params = context.job.params
    pipe = model.pipe
    frames, steps = int(params["frames"]), int(params["steps"])
    pipe.scheduler = schedulers.make(str(params["scheduler"]), model.scheduler_config, steps)
    set_windows(pipe, frames, model.window)
    watch = _Watch(context, model, frames)
    pipe.scheduler.step = watch.wrapped(pipe.scheduler.step)
    result = pipe(
        prompt=str(params["prompt"]),
        negative_prompt=str(params["negative_prompt"]),
        width=int(params["width"]),
        height=int(params["height"]),
        num_frames=frames,
        num_inference_steps=steps,
        guidance_scale=float(params["guidance_scale"]),
        # On the CPU, so that a seed means the same noise on every device.
        generator=torch.Generator("cpu").manual_seed(int(params["seed"])),
        output_type="latent",
        callback_on_step_end=watch.step_ended,
    )
    return result.frames


class _Watch:
    """Follows the sampler: shows the whole clip and reports after each step."""

    def __init__(self, context: Context, model: Model, frames: int) -> None:
        self._context = context
        self._model = model
        self._frames = frames
        self._output: Any = None

    def wrapped(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Return `step` remembering what it returned, where the clean guess is."""

        @functools.wraps(step)
        def remembering(*args: Any, **options: Any) -> Any:
            self._output = step(*args, **options)
            return self._output

        return remembering

    def step_ended(
        self, pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        """Publish the clip so far; raises Cancelled through `sampled`."""
        latents = tensors["latents"]
        guess = schedulers.clean_latents(pipe.scheduler, self._output, latents)
        self._output = None
        pixels = self._model.colours.pixels(guess)
        self._context.publish(pixels, first=0, total=self._frames, preview=True)
        self._context.sampled(index + 1, int(pipe.num_timesteps))
        return tensors


def set_windows(pipe: Any, frames: int, window: int = CONTEXT_FRAMES) -> None:
    """Let the motion modules see `frames` at once, or sliding windows of `window`."""
    longest = int(pipe.motion_adapter.config.motion_max_seq_length)
    length = min(window, longest)
    if frames > length:
        pipe.enable_free_noise(context_length=length, context_stride=max(1, length // 4))
    elif pipe.free_noise_enabled:
        # pipe.disable_free_noise() fails where the middle has no motion modules.
        unet = pipe.unet
        for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
            if hasattr(block, "motion_modules"):
                pipe._disable_free_noise_in_block(block)
        pipe._free_noise_context_length = None
    pipe.unet.eval()


# ---- decoding ----------------------------------------------------------------


def _decode(context: Context, model: Model, latents: Any) -> Iterator[npt.NDArray[np.uint8] | None]:
    """Decode as asked, and lighter where memory runs out."""
    from core.engines.local import decoding

    pipe, params = model.pipe, context.job.params

    def step_aside() -> None:
        model.aside = True
        for part in (pipe.unet, pipe.text_encoder):
            part.to("cpu")

    bench = offload.bench(context, pipe, step_aside)
    chunk, tiling = int(params.get("decode_chunk", 1)), params.get("tiling") is True
    way = decoding.first_way(bench, latents, chunk=chunk, tiling=tiling)
    if tiling and not way.tile:
        text = "The picture is too small to be decoded in tiles; it is decoded whole."
        context.report(Noted(job_id=context.job.id, text=text))
    try:
        yield from decoding.decode(context, bench, latents, way)
    finally:
        if offload.of(context) != offload.NONE:
            pipe.maybe_free_model_hooks()

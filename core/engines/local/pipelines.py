"""What the families of diffusers' pipelines share: loading, watching, decoding.

A family subclasses `Maker` and says how its pipeline is put together and called.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engines.local import (
    folders,
    image_prompt,
    lora,
    machine,
    offload,
    pieces,
    preview,
    singles,
    speed,
    tiny,
)
from core.engines.local.quiet import hush
from core.events import Noted, Progressed
from core.jobs import Parameter, Phase, Recipe
from core.statistics.runs import WENT_ON

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.engines.local.context import Context
    from core.engines.local.decoding import Bench, Way

Heard = Callable[[], None] | None
_TRANSFORMERS = ("text_encoder", "text_encoder_2", "image_encoder")


def recipe(
    folder: Path,
    family: str,
    parameters: tuple[Parameter, ...],
    *,
    task: str,
    summary: str,
    **more: Any,
) -> Recipe:
    """Return a recipe for a model folder of a person's own.

    Args:
        folder: The model's, absolute.
        family: Who runs it.
        parameters: Its knobs.
        task: What becomes what, such as "text → video".
        summary: What it makes, without the model's name.
        more: Further fields of the recipe.
    """
    # Folders of one name may lie in different places, and a job must mean one of them.
    name = folders.name_of(folder)
    place = blake2b(str(folder).encode(), digest_size=3).hexdigest()
    return Recipe(
        id=f"{name}-{place}",
        title=f"{name} · {task}",
        summary=f"{summary} with the model in {name}.",
        engine="local",
        family=family,
        parameters=parameters,
        model=str(folder),
        **more,
    )


@dataclass(slots=True)
class Model:
    """A loaded model, kept warm between jobs."""

    pipe: Any
    colours: preview.Projection
    scheduler_config: Mapping[str, Any]
    aside: bool = False
    """Only the autoencoder is on the card."""
    loras: tuple[lora.Lora, ...] = ()
    """What is put on it."""
    tiny: Any = None
    """Its tiny autoencoder, once a job asked for it."""
    takes_pictures: bool = False
    """Its adapter for image prompts is on."""
    speed: Any = None
    """What `core.engines.local.speed` has switched on."""
    more: dict[str, Any] = field(default_factory=dict)
    """What was found out about it and is kept as long as it is."""


class Maker(ABC):
    """Makes clips or pictures with one kind of pipeline.

    Attributes:
        family: Id of the family.
        layout: What its model folders hold.
    """

    family: str
    layout: folders.Layout
    autoencoder_in_full = False
    """The autoencoder overflows or fades in half precision."""
    half = "bfloat16"
    """Type of the weights on a card."""
    half_before_ampere = "float16"
    """The same on one that does not compute in bfloat16."""
    tiles = True
    """Its autoencoder decodes in tiles."""

    # ---- what a family says

    @abstractmethod
    def assemble(self, found: folders.ModelFolder, parts: dict[str, Any]) -> Any:
        """Return the pipeline of loaded parts."""

    def notes(self, context: Context, model: Model) -> None:
        """Tell what a person should know before the first step."""
        self.note_cut_words(context, model)

    @abstractmethod
    def scheduler(self, context: Context, model: Model) -> Any:
        """Return the sampler of a job."""

    @abstractmethod
    def call(self, context: Context, model: Model) -> Mapping[str, Any]:
        """Return what the pipeline is called with beside size, seed and callbacks."""

    def pipeline(self, context: Context, model: Model) -> Any:  # noqa: ARG002 - some need it
        """Return the pipeline that runs a job."""
        return model.pipe

    def latents(self, context: Context, model: Model, found: Any) -> Any:  # noqa: ARG002
        """Return the sampler's latents as (1, c, f, h, w)."""
        return found

    def shape(self, context: Context) -> Mapping[str, int]:
        """Return the size that the pipeline is called with, pixels."""
        params = context.job.params
        return {"width": int(params["width"]), "height": int(params["height"])}

    def steps(self, context: Context, model: Model) -> int:
        """Return the steps that the pipeline is called with."""
        return speed.steps(model, int(context.job.params["steps"]))

    def shown(self, context: Context, pixels: Any) -> Any:  # noqa: ARG002 - some need it
        """Return as many preview frames as the clip will have."""
        return pixels

    def bench(self, context: Context, heard: Heard = None) -> Callable[..., Bench]:  # noqa: ARG002
        """Return what makes the bench that its autoencoder needs.

        Args:
            context: The run.
            heard: Called during a decode that takes long; raises Cancelled.
        """
        from core.engines.local.decoding import Bench

        return Bench

    # ---- the way through

    def generate(self, context: Context) -> Iterator[npt.NDArray[np.uint8] | None]:
        """Make what `context.job` asks for; see `core.engines.local.families`.

        Raises:
            ProblemError: The model cannot be loaded, or gave numbers that are
                no picture.
            Cancelled: The job was cancelled.
        """
        context.phase(Phase.LOAD)
        hush()
        from core.engines.local import placing

        model, latents = placing.made(self, context)
        context.phase(Phase.DECODE)
        yield from self.decode(context, model, latents)
        if context.placing is not None:
            context.placing.decoded()

    def model(self, context: Context) -> Model:
        """Return the model of a job, loading it where it is not warm."""
        from core.engines.local import kept, placing

        folder = Path(context.job.model)
        found = singles.check(folder, self.layout)
        lora.asked(context.job.params)  # A damaged file is told before minutes of loading.
        plan = placing.plan_of(context, self, found)
        # Files that were exchanged since make another model.
        files = kept.key_of({}, folder)
        key = f"{self.family}|{folder}|{files}|{context.device}|{plan.key}"
        model: Model = context.warm(key, lambda: self.load(context, found, plan.offload))
        if model.aside:
            offload.place(model.pipe, context.device, offload.NONE)
            model.aside = False
        lora.apply(context, model)
        if model.takes_pictures or context.job.params.get(image_prompt.FIELD):
            image_prompt.apply(context, model)
        return model

    def decodes_in_full(self, found: folders.ModelFolder) -> bool:  # noqa: ARG002
        """Say whether a model's autoencoder must stay in full precision."""
        return self.autoencoder_in_full

    def load(self, context: Context, found: folders.ModelFolder, waits: str) -> Model:
        """Load part by part, so that a cancel is heard between two parts."""
        from core.engines.local import placing

        with machine.importing():
            import diffusers

            # Each name brings its own modules in.
            for name, class_name in {"": found.pipeline, **found.classes}.items():
                with contextlib.suppress(AttributeError):
                    _kind(name, class_name)
        told = teller(context, len(found.configs) + len(found.classes) + 1)
        parts: dict[str, Any] = {}
        for name, class_name in found.classes.items():
            told(len(parts), name)
            parts[name] = self.weights(context, found, name, class_name)
        config: Mapping[str, Any] = {}
        for name in found.configs:
            told(len(parts), name)
            if name == "scheduler":
                config = diffusers.DDIMScheduler.load_config(
                    found.path / name, local_files_only=True
                )
                parts[name] = pieces.own_scheduler(config)
            else:
                parts[name] = pieces.plain_part(found.path, name)
        told(len(parts), "pipeline")
        pipe = self.assemble(found, parts)
        for part in pipe.components.values():
            if hasattr(part, "eval"):
                part.eval()
        pipe.set_progress_bar_config(disable=True)
        placing.store(context, pipe)
        if waits == offload.NONE:
            offload.place(pipe, context.device, waits)
            colours = self.colours(context, found.path, pipe.vae)
        else:
            # Colours are found where the decode runs; it goes back before hooks move it.
            colours = self.colours(context, found.path, pipe.vae.to(context.device))
            pipe.vae.to("cpu")
            offload.place(pipe, context.device, waits)
        told(len(found.configs) + len(found.classes) + 1, "done")
        return Model(pipe, colours, dict(config))

    def weights(
        self, context: Context, found: folders.ModelFolder, name: str, class_name: str
    ) -> Any:
        """Return one part with its weights, read from safetensors alone."""
        from core.engines.local import placing

        dtype = placing.dtype(context, name, full=self.decodes_in_full(found), half=self.half)
        read, more = placing.weights_of(context, found, name, class_name, dtype)
        if read is not None:
            return read
        if name in found.held:
            from core.engines.local import singles_load

            return singles_load.weights(found, name, class_name, dtype, more)
        naming = "dtype" if name in _TRANSFORMERS else "torch_dtype"
        return _kind(name, class_name).from_pretrained(
            found.path / name,
            use_safetensors=True,
            local_files_only=True,
            variant=found.variants[name],
            **{naming: dtype},
            **more,
        )

    def colours(self, context: Context, folder: Path, vae: Any) -> preview.Projection:
        """Return the factors of the preview."""
        from core.engines.local.decoding import Way

        bench = self.bench(context)(vae)

        def decode(latents: Any) -> Any:
            prepared = bench.prepared(latents[:, :, None].to(vae.device))
            return bench.pictures(vae, prepared, Way())

        return preview.for_model(folder, vae, decode, pieces.channels_of(vae))

    def note_cut_words(self, context: Context, model: Model) -> None:
        """Tell which words stand behind the last one that the model reads."""
        tokenizer = getattr(model.pipe, "tokenizer", None)
        if tokenizer is None:
            return
        limit = self.tokens(model)
        for name, label in (("prompt", "prompt"), ("negative_prompt", "negative prompt")):
            text = str(context.job.params.get(name, ""))
            cut = pieces.cut_words(tokenizer, text, limit) if text else ""
            if cut:
                short = cut if len(cut) <= 120 else cut[:119] + "…"
                words = f"The end of the {label} is not read, because it is too long: “{short}”"
                context.report(Noted(job_id=context.job.id, text=words))

    def tokens(self, model: Model) -> int:
        """Return how many tokens of a prompt the pipeline reads."""
        return int(model.pipe.tokenizer.model_max_length)

    def sampled(self, context: Context, model: Model) -> Any:
        """Return the latents of a job: those of an earlier try, or newly sampled ones."""
        from core.engines.local import latents_key

        key = latents_key.of(context, self.family, self.layout)
        latents = context.kept.read(context.job.id, key)
        if latents is not None:
            text = f"{WENT_ON}: nothing is sampled again."
            context.report(Noted(job_id=context.job.id, text=text))
            return latents.to(context.device)
        context.phase(Phase.SAMPLE)
        latents = self.sample(context, model)
        if context.placing is not None:
            context.placing.sampled()
        context.kept.write(context.job.id, key, latents)
        return latents

    def sample(self, context: Context, model: Model) -> Any:
        """Run the pipeline; return latents of shape (1, c, f, h, w)."""
        from core.engines.local.watching import Watch

        params = context.job.params
        pipe = self.pipeline(context, model)
        pipe.scheduler = self.scheduler(context, model)
        watch = Watch(context, self, model)
        pipe.scheduler.step = watch.wrapped(pipe.scheduler.step)
        frames = {"num_frames": int(params["frames"])} if "frames" in params else {}
        try:
            result = speed.through(model, pipe)(
                **self.shape(context),
                num_inference_steps=self.steps(context, model),
                generator=noise(context),
                output_type="latent",
                callback_on_step_end=watch.step_ended,
                **frames,
                **self.call(context, model),
            )
        except BaseException:
            # What was at work would lie on the card beside what the next job begins with.
            if offload.of(context) == offload.MODEL:
                model.pipe.maybe_free_model_hooks()
            raise
        watch.finish()
        return self.latents(context, model, result[0])

    def decode(
        self, context: Context, model: Model, latents: Any
    ) -> Iterator[npt.NDArray[np.uint8] | None]:
        """Decode as asked, and lighter where memory runs out."""
        from core.engines.local import decoding, tiny_decoder

        pipe, params = model.pipe, context.job.params

        def step_aside() -> None:
            model.aside = True
            for name, part in pipe.components.items():
                if name != "vae" and hasattr(part, "parameters"):
                    with contextlib.suppress(ValueError):  # Some weights of 8 bits must stay.
                        part.to("cpu")

        total = int(params.get("frames", 1))

        def heard() -> None:
            context.report(
                Progressed(job_id=context.job.id, phase=Phase.DECODE, done=0, total=total)
            )

        bench = (
            tiny_decoder.bench(context, model)
            if tiny.decodes(params)
            else offload.bench(context, pipe, step_aside, self.bench(context, heard))
        )
        tiling = context.plan.tiled if context.plan else params.get("tiling") is True
        chunk = int(params.get("decode_chunk", 1))
        way: Way = decoding.first_way(bench, latents, chunk=chunk, tiling=tiling)
        if tiling and not way.tile:
            text = "The picture is too small to be decoded in tiles; it is decoded whole."
            context.report(Noted(job_id=context.job.id, text=text))
        try:
            yield from speed.decoding(model, decoding.decode(context, bench, latents, way))
        finally:
            if offload.of(context) != offload.NONE:
                pipe.maybe_free_model_hooks()


def _kind(name: str, class_name: str) -> Any:
    """Return the class of a pipeline's part. Raises AttributeError."""
    import diffusers
    import transformers

    return getattr(transformers if name in _TRANSFORMERS else diffusers, class_name)


def teller(context: Context, total: int) -> Callable[[int, str], None]:
    """Return what tells which part is loaded. Raises Cancelled when called."""

    def told(done: int, word: str) -> None:
        text = "Loading " + word.replace("_", " ")
        context.report(
            Progressed(job_id=context.job.id, phase=Phase.LOAD, done=done, total=total, text=text)
        )

    return told


def noise(context: Context) -> Any:
    """Return the source of a job's noise."""
    import torch

    # On the CPU, so that a seed means the same noise on every device.
    return torch.Generator("cpu").manual_seed(int(context.job.params["seed"]))

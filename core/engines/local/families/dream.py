"""Dream: from each picture to the next without a break, as long as one likes.

What it samples with is the family of the model: Stable Diffusion, or AnimateDiff, one frame
at a time.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from core.engines.local import detect, starter
from core.engines.local.dream import easing, plan, script
from core.jobs import Kind, Parameter, Recipe, Value

if TYPE_CHECKING:
    from core.engines.local.context import Context
    from core.engines.local.pipelines import Maker
    from core.events import Output

ID = "dream"
FAMILIES = ("stable_diffusion", "animatediff")
"""Families whose models can dream."""
_OWN = frozenset(
    {"prompt", "negative_prompt", "frames", "fps", "image", "strength", "decode_chunk"}
    # A dream is kept in segments of H.264 as its frames are made.
    | {"format", "inbetween", "upscale", "upscaler"}
)
"""Knobs of a family that a dream has its own in place of, or none."""
_FEW_STEPS = 8
_EXAMPLES = (
    "a red ball on a green field\na yellow star over the night sky\na big blue square on the sea",
)


def recipes(models: Path) -> tuple[Recipe, ...]:
    """Return a recipe for the starter and for each model in `models` that can dream."""
    there = detect.families_in(models)
    wanted = [name for name in FAMILIES if name == "animatediff" or name in there]
    return tuple(
        dreaming(recipe)
        for name in reversed(wanted)
        for recipe in importlib.import_module(f"core.engines.local.families.{name}").recipes(models)
    )


def can(recipe: Recipe) -> bool:
    """Tell whether the model of a recipe can dream."""
    return recipe.family in FAMILIES


def dreaming(base: Recipe) -> Recipe:
    """Return the recipe that dreams with the model of `base`, with its other knobs."""
    of_base = {knob.name: knob for knob in base.parameters}
    built_in = base.model == str(starter.folder())
    few = int(of_base["steps"].default or 0) <= _FEW_STEPS
    mode = plan.EMBEDDINGS if few or built_in else plan.LATENTS
    negative = tuple(knob for knob in base.parameters if knob.name == "negative_prompt")
    rest = tuple(knob for knob in base.parameters if knob.name not in _OWN)
    title = base.title.rpartition(" · ")[0] or base.title
    words = " ".join(base.summary.split())
    summary = (
        "Dreams of one or two plain objects, each turning into the next, as long as you like."
        if built_in
        else f"Dreams from picture to picture{words[words.rfind(' with the model in') :]}"
    )
    return replace(
        base,
        id=f"{base.id}-dream",
        title=f"{title} · dream",
        summary=summary,
        family=ID,
        parameters=(_prompt(), *negative, *_way(mode), *_pace(12 if built_in else 24), *rest,
                    *_work()),
        examples=_EXAMPLES,
        makes="video",
        check=_check,
    )  # fmt: skip


def recipe_for_folder(folder: Path) -> Recipe:
    """Return the recipe that dreams with the model in `folder`.

    Raises:
        ProblemError: The folder is no model that can dream.
    """
    family = detect.family_of(folder)
    module = importlib.import_module(f"core.engines.local.families.{family}")
    base: Recipe = module.recipe_for_folder(folder)
    if not can(base):
        raise LookupError(family)
    return dreaming(base)


def _check(values: Mapping[str, Value]) -> None:
    script.scenes_of(str(values["prompt"]), str(values["form"]))


def _prompt() -> Parameter:
    return Parameter(
        "prompt",
        Kind.TEXT,
        "Prompts",
        "",
        maximum=20_000,
        required=True,
        help="What it dreams of, one scene to a line. Or a story: scenes between blank lines, or "
        "under “Scene 1:”, “Scene 2:”.",
    )


def _way(mode: str) -> tuple[Parameter, ...]:
    """Return the knobs of what is dreamt."""
    return (
        Parameter(
            "form",
            Kind.CHOICE,
            "Text",
            script.AUTO,
            choices=script.FORMS,
            titles=("As it looks", "Lines", "Story"),
            help="How the prompts are told apart.",
            group="form",
        ),
        Parameter(
            "loop",
            Kind.CHOICE,
            "After the last",
            plan.ROUND,
            choices=plan.LOOPS,
            titles=("Back to the first", "On, ever new", "End"),
            help="Whether the same pictures come again, others of the same prompts, or none.",
            group="form",
        ),
        Parameter(
            "mode",
            Kind.CHOICE,
            "Way",
            mode,
            choices=plan.MODES,
            titles=("Pictures", "Prompts", "Drift"),
            help="Pictures: from one to the next, quick. Prompts: pictures are sampled on the way "
            "too, slower and richer, good with few steps. Drift: each comes out of the last one.",
            group="way",
        ),
        Parameter(
            "every",
            Kind.INTEGER,
            "Every",
            6,
            1,
            240,
            unit="frames",
            help="By prompts: how close the sampled pictures stand.",
            group="way",
        ),
        Parameter(
            "strength",
            Kind.NUMBER,
            "Change",
            0.6,
            0.05,
            1,
            help="By drift: how much of the last picture is dreamt anew.",
            group="way",
        ),
        Parameter(
            "image",
            Kind.IMAGE,
            "Start picture",
            "",
            help="What a drift begins with; empty: the first prompt.",
        ),
    )


def _pace(fps: int) -> tuple[Parameter, ...]:
    """Return the knobs of time."""
    number = Kind.NUMBER
    return (
        Parameter(
            "keyframe_seconds", number, "Each scene", 4.0, 0.1, 3600, unit="s",
            help="From one scene to the next, where there is no beat.", group="beat",
        ),
        Parameter(
            "bpm", number, "Beat", 0.0, 0, 400, unit="bpm",
            help="The beat that scenes follow; 0: seconds count.", group="beat",
        ),
        Parameter(
            "beats", number, "Beats a scene", 4.0, 0.25, 256,
            help="How many beats lead from one scene to the next.", group="beat",
        ),
        Parameter(
            "easing", Kind.CHOICE, "Easing", "smooth", choices=easing.NAMES,
            titles=("Smooth", "Even", "Slow start", "Slow end", "Cosine"),
            help="How the way to the next scene is gone.", group="pace",
        ),
        Parameter(
            "fps", Kind.INTEGER, "Rate", fps, 4, 60, unit="fps", help="How fast it plays.",
            group="pace",
        ),
        Parameter(
            "minutes", number, "Length", 0.0, 0, 100_000, unit="min",
            help="How long it is; 0: until it is ended.", group="length",
        ),
        Parameter(
            "segment_seconds", number, "Each file", 60.0, 2, 3600, unit="s",
            help="It is kept in files of this length, each whole as soon as it is there.",
            group="length",
        ),
    )  # fmt: skip


def _work() -> tuple[Parameter, ...]:
    """Return the knobs of how it is computed."""
    return (
        Parameter(
            "batch",
            Kind.INTEGER,
            "Frames at once",
            0,
            0,
            32,
            help="Decoded together; 0: as many as is measured to be fastest here.",
            group="work",
        ),
        Parameter(
            "precise",
            Kind.SWITCH,
            "Exact decode",
            False,
            help="Decodes in full precision, also where other numbers are faster and all but the "
            "same.",
            group="work",
        ),
        Parameter(
            "keep_up",
            Kind.SWITCH,
            "Keep up",
            False,
            help="Decodes smaller and scales up where frames come too slowly for the rate.",
            group="work",
        ),
    )


def make(context: Context) -> Output:
    """Make the dream of `context.job`; see `core.engines.local.families`."""
    from core.engines.local.dream import making

    family = detect.family_of(Path(context.job.model))
    module = importlib.import_module(f"core.engines.local.families.{family}")
    return making.make(context, cast("Maker", module.maker()))

"""`framedeck bench engine`: what each speed switch gives on this machine, measured."""

from __future__ import annotations

import json
import sys
import tempfile
import textwrap
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from core.bench import history, method
from core.bench.figures import PLAIN, Run
from core.engine_env import engine_python
from core.engines.local.bench_client import BenchProcess
from core.engines.local.speed_switches import TINY_VAE
from core.errors import invalid
from core.jobs import Job, Kind, Recipe, new_job
from core.places import Places
from core.settings import load as load_settings
from core.several import JOINT, Several

NAMES = ("engine", "compare")
KEPT, SLOWER, INTERRUPTED = 0, 1, 130
PROMPT, SEED = "a red ball bounces on a green field", 3
_START = "made for the measurement"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the arguments of `engine` and `compare`."""
    asked = parser.add_argument_group("bench engine")
    asked.add_argument("--steps", help="sampling steps")
    asked.add_argument("--size", help="pixels, such as 512 or 832x480")
    asked.add_argument("--frames", help="number of frames")
    asked.add_argument("--runs", type=int, default=method.LEAST_RUNS, help="of each way, 5 or more")
    asked.add_argument(
        "--switch",
        nargs="+",
        metavar="NAME",
        help="switches to measure; all that can be used here by default",
    )
    asked.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any other parameter"
    )


def run(options: Namespace) -> int:
    """Measure, or compare two measurements.

    Returns:
        The exit code: 0 measured and nothing slower, 1 slower or larger than before,
        130 interrupted.

    Raises:
        ProblemError: A value or the model cannot be used, or runs cannot be compared.
        OSError: The history cannot be written.
    """
    places = Places.find(options.home)
    if options.what == "compare":
        return _compare(options, places)
    if options.runs < method.LEAST_RUNS:
        hint = f"Use {method.LEAST_RUNS} or more."
        raise invalid("runs", f"{options.runs} runs say nothing.", hint)
    try:
        with tempfile.TemporaryDirectory(prefix="framedeck-bench-") as folder:
            recipe, given = _asked(options, places, Path(folder))
            record, report, made = _measured(options, places, recipe, given)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return INTERRUPTED
    finally:
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
    earlier = history.read(places.measured)
    old = history.before(earlier, record)
    history.append(places.measured, record)
    worse = [] if old is None else history.regressions(old, record)
    _tell(options, record, report, old, worse, made)
    return SLOWER if worse else KEPT


def _asked(options: Namespace, places: Places, folder: Path) -> tuple[Recipe, dict[str, object]]:
    """Return the recipe and the values that it is measured with."""
    from core.engines.local import families

    if options.model is None:
        recipe = families.load("animatediff").recipes(places.models)[0]
    else:
        recipe = families.recipe_for_folder(options.model)
    given: dict[str, object] = {"seed": SEED}
    if any(knob.name == "prompt" for knob in recipe.parameters):
        given["prompt"] = PROMPT
    if options.size:
        width, _, height = options.size.lower().replace("×", "x").partition("x")
        given |= {"width": width, "height": height or width}
    given |= {
        name: getattr(options, name)
        for name in ("steps", "frames")
        if getattr(options, name) is not None
    }
    for item in options.set:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise invalid("set", f"--set {item!r} is not NAME=VALUE.", "Write --set steps=8.")
        given[name.strip()] = value
    for knob in recipe.parameters:
        if knob.kind is Kind.IMAGE and knob.required and knob.name not in given:
            given[knob.name] = str(_start_picture(folder))
    return recipe, given


def _start_picture(folder: Path) -> Path:
    """Return a picture that is the same each time."""
    from PIL import Image

    path = folder / "start.png"
    Image.radial_gradient("L").resize((512, 512)).convert("RGB").save(path)
    return path


def _switches(recipe: Recipe, wanted: list[str] | None) -> list[str]:
    """Return the switches to measure.

    Raises:
        ProblemError: A name is none of the recipe's.
    """
    knob = next((knob for knob in recipe.parameters if isinstance(knob, Several)), None)
    known = knob.switches if knob else ()
    if wanted and any(knob.name == "decoder" for knob in recipe.parameters):
        known = (*known, TINY_VAE)
    for name in wanted or ():
        if name not in known:
            hint = f"It knows {', '.join(known)}." if known else "It knows none."
            raise invalid("switch", f"{recipe.title} knows no switch {name!r}.", hint)
    return [name for name in known if wanted is None or name in wanted]


def _measured(
    options: Namespace, places: Places, recipe: Recipe, given: Mapping[str, object]
) -> tuple[history.Record, method.Report, float]:
    """Measure in a process of its own, and remember which switches were fastest."""
    from core.engines.local import speed_memory
    from core.engines.local.speed_switches import BY_ID

    def job(way: str) -> Job:
        # The small autoencoder is a knob of its own.
        tiny = {"decoder": "tiny"} if TINY_VAE in way.split(JOINT) else {}
        speed = JOINT.join(name for name in way.split(JOINT) if name != TINY_VAE) or PLAIN
        return new_job(recipe, {**given, **tiny, "speed": speed}, places.outputs)

    names, plain = _switches(recipe, options.switch), job(PLAIN)
    python = engine_python(places, load_settings(places.settings)[0].interpreter)
    process = BenchProcess(places.logs / "bench.log", python)
    try:
        _told(0, 0, f"loading {recipe.title}")
        found = process.ask({"look": plain.to_json(), "try": names})
        usable = [name for name in names if name not in found["unusable"]]
        kinds = [
            method.Kind(name, BY_ID[name].lossy, BY_ID[name].group)
            if name in BY_ID
            else method.Kind(name, lossy=True)
            for name in usable
        ]

        def ask(way: str) -> Run:
            one = Run.from_json(process.ask({"run": job(way).to_json()}))
            tiny = (TINY_VAE,) if TINY_VAE in way.split(JOINT) else ()
            return replace(one, switches=(*one.switches, *tiny))

        report = method.measure(ask, kinds, options.runs, _told)
    finally:
        process.close()
    report.left_out = {**found["unusable"], **report.left_out}
    params = plain.params
    frames = params.get("frames")
    made = float(int(frames) / float(params["fps"])) if frames is not None else 0.0
    ways = {name: way.figures(report.plain_of(name), made) for name, way in report.ways.items()}
    now = time.time()
    if options.switch is None:
        ratios = {name: figures["ratio"] for name, figures in ways.items()}
        best = speed_memory.Measured(report.auto, report.fast, ratios, now)
        speed_memory.write(places.speeds, found["key"], best)
    record = history.Record(
        history.next_id(history.read(places.measured)),
        now,
        _settings(recipe, plain, found, usable),
        found["versions"],
        _version(),
        ways,
    )
    return record, report, made


def _settings(
    recipe: Recipe, plain: Job, found: Mapping[str, Any], usable: Iterable[str]
) -> dict[str, Any]:
    params = {name: value for name, value in plain.params.items() if name != "speed"}
    for knob in recipe.parameters:
        if (
            knob.kind is Kind.IMAGE
            and knob.required
            and "framedeck-bench-" in str(params[knob.name])
        ):
            params[knob.name] = _START
    return {
        "model": Path(plain.model).name,
        "family": plain.family,
        "ways": JOINT.join(usable),
        **{name: found[name] for name in ("device", "threads", "placed", "types", "sampler")},
        **params,
    }


def _version() -> str:
    try:
        return metadata.version("framedeck")
    except metadata.PackageNotFoundError:
        return ""


def _compare(options: Namespace, places: Places) -> int:
    if len(options.named) != 2:
        raise invalid(
            "named",
            "Comparing takes two measurements.",
            "Write for example `framedeck bench compare 1 2`.",
        )
    records = history.read(places.measured)
    old, new = (history.named(records, name) for name in options.named)
    worse = history.regressions(old, new)
    if options.json:
        facts = {"old": asdict(old), "new": asdict(new), "worse": worse}
        sys.stdout.write(json.dumps(facts) + "\n")
        return SLOWER if worse else KEPT
    sys.stdout.write(f"{'':<32}{old.id:>10}{new.id:>10}{'ratio':>8}\n")
    for name in (name for name in new.ways if name in old.ways):
        was, now = (one.ways[name]["median_seconds"] for one in (old, new))
        sys.stdout.write(f"{name:<32}{was:>8.3f} s{now:>8.3f} s{now / was:>8.2f}\n")
    for text in history.differences(old.versions, new.versions):
        sys.stdout.write(f"Made with other versions: {text}.\n")
    _tell_worse(worse)
    return SLOWER if worse else KEPT


def _tell_worse(worse: list[str]) -> None:
    for text in worse:
        sys.stdout.write(f"SLOWER  {text}\n")


def _tell(
    options: Namespace,
    record: history.Record,
    report: method.Report,
    old: history.Record | None,
    worse: list[str],
    made: float,
) -> None:
    """Print the figures, as a table or as one line of JSON."""
    if options.json:
        facts = {
            **asdict(record),
            "auto": report.auto,
            "fast": report.fast,
            "left_out": report.left_out,
            "compared_with": old.id if old else None,
            "worse": worse,
        }
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    write = sys.stdout.write
    for facts in (record.settings, record.versions):
        write(textwrap.fill(_line(facts), 110) + "\n")
    write("\n")
    head = (
        f"{'':<44}{'median':>10}{'±':>6}{'ratio':>8}{'mean':>8}{'max':>5}{'peak':>10}{'compile':>9}"
    )
    write(head + (f"{'RTF':>8}\n" if made else "\n"))
    for name, one in record.ways.items():
        row = (
            f"{name if name != PLAIN else 'plain':<44}{one['median_seconds']:>8.3f} s"
            f"{one['spread']:>6.0%}{one['ratio']:>7.2f}×{one['mean_difference']:>8.3f}"
            f"{one['max_difference']:>5}{one['peak_bytes'] / 2**20:>6.0f} MiB"
            f"{one['compile_seconds']:>7.1f} s"
        )
        write(row + (f"{one['real_time_factor']:>8.3f}\n" if made else "\n"))
    for name, why in report.left_out.items():
        write(f"{name:<44}{why}\n")
    write("mean, max: difference of the pixels from the plain ones, in steps of 255\n\n")
    write(f"Fastest without loss: {JOINT.join(report.auto) or 'the plain way'}\n")
    write(f"Fastest of all: {JOINT.join(report.fast) or 'the plain way'}\n")
    if options.switch is None:
        write("Remembered: jobs of this model and shape use it from now on.\n")
    write(f"Measurement {record.id}")
    write(f", compared with {old.id}\n" if old else ", the first of these settings\n")
    _tell_worse(worse)


def _line(facts: Mapping[str, Any]) -> str:
    words = []
    for name, value in facts.items():
        shown = _line(value) if isinstance(value, Mapping) else value
        words += [f"{name} {shown}"] if shown != "" else []
    return ", ".join(words)


def _told(done: int, total: int, words: str) -> None:
    place = f"{done}/{total} " if total else ""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{place}{words}")
    else:
        sys.stderr.write(f"{place}{words}\n")
    sys.stderr.flush()

"""Encoding, the starter model, and the starter clip: made, verified and judged."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from typing import Any

from core import formats
from core.doctor.asking import NoAnswerError, Why
from core.doctor.context import Context
from core.doctor.findings import Finding, Looking, broken, note, ok, warning
from core.doctor.starter_words import BACKGROUND, COLOUR, MOTION, PROMPT, SHAPE
from core.doctor.versions import REINSTALL, unanswered

CODECS_SECONDS = 90.0
CLIP_SECONDS = 600.0
"""On a slow processor the starter clip takes about a minute, torch's import included."""
_CODECS, _CLIP = "Formats", "Starter clip"
PREFIX = "framedeck-doctor-"


def codecs(context: Context) -> Iterator[Finding | Looking]:
    """Say whether every format that clips can have is written and read."""
    if context.interpreter is None:
        return
    try:
        found = yield from progress(context, _CODECS, "codecs", seconds=CODECS_SECONDS)
    except NoAnswerError as error:
        yield unanswered("codecs", _CODECS, error)
        return
    yield told_codecs(found)


def told_codecs(found: dict[str, Any]) -> Finding:
    """Say which formats cannot be written."""
    wrong = {name: why for name, why in found["formats"].items() if why}
    good = [formats.TITLES.get(name, name) for name in found["formats"] if name not in wrong]
    library = f"PyAV {found['av']}"
    if not wrong:
        text = f"{library} wrote and read two frames of each: {', '.join(good)}."
        return ok("codecs", _CODECS, text)
    listed = "; ".join(f"{formats.TITLES.get(name, name)}: {why}" for name, why in wrong.items())
    text = f"{library} cannot make {listed}"
    text = text if text.endswith(".") else f"{text}."
    if formats.DEFAULT in wrong:
        return broken("codecs", _CODECS, text, "Reinstall the engine.", REINSTALL)
    fix = "Choose another format, or reinstall the engine."
    return warning("codecs", _CODECS, text, fix, REINSTALL)


def starter(context: Context) -> Iterator[Finding]:
    """Say whether the starter model is there and whole."""
    found = context.own("starter")
    if found["fault"]:
        text = f"The starter model cannot be used. {found['fault']}"
        yield broken("starter", "Starter model", text, "Install Framedeck again.")
        return
    yield ok("starter", "Starter model", f"It is whole, {found['bytes'] / 2**20:.0f} MB.")


def clip(context: Context) -> Iterator[Finding | Looking]:
    """Make the starter clip with the real engine, and say what came of it."""
    if context.interpreter is None:
        return
    try:
        found = yield from progress(context, _CLIP, "clip", seconds=CLIP_SECONDS)
    except NoAnswerError as error:
        if error.why is Why.HUNG:
            text = f"The starter clip was not done within {error.said}."
            fix = "Look whether another program takes the GPU or the CPU."
            yield broken("clip", _CLIP, text, fix)
            return
        yield unanswered("clip", _CLIP, error)
        return
    yield told_clip(found)


def told_clip(found: dict[str, Any]) -> Finding:
    """Say whether the clip is whole and shows what was asked for."""
    if found.get("problem"):
        text = f"The engine made no clip. {found['problem']}"
        return broken("clip", _CLIP, text, "Reinstall the engine.", REINSTALL)
    if found["faults"]:
        text = f"The clip that the engine made is not whole. {' '.join(found['faults'])}"
        return broken("clip", _CLIP, text, "Reinstall the engine.", REINSTALL)
    seen = found["seen"]
    shown = f"{' and '.join(seen['colours']) or 'nothing clear'} on {seen['background']}"
    made = f"{found['frames']} frames in {found['seconds']:.0f} s, verified"
    if seen["colours"] != [COLOUR] or seen["background"] != BACKGROUND or not seen["clean"]:
        text = f"{made}, but of “{PROMPT}” the judge sees {shown}: the engine computes wrongly."
        return warning("clip", _CLIP, text, "Reinstall the engine.", REINSTALL)
    if seen["shapes"] != [SHAPE] or seen["motion"] != MOTION:
        what = " and ".join(seen["shapes"])
        text = f"{made}. It shows {shown}; the judge takes it for a {what}, {seen['motion']}."
        return note("clip", _CLIP, text)
    return ok("clip", _CLIP, f"{made} and judged: it shows “{PROMPT}”.")


def progress(
    context: Context, title: str, what: str, seconds: float
) -> Generator[Looking, None, dict[str, Any]]:
    """Yield how far the engine's Python is with a look in a folder of its own; return its answer.

    Raises:
        NoAnswerError: There is none.
    """
    with tempfile.TemporaryDirectory(
        prefix=PREFIX, dir=context.temp, ignore_cleanup_errors=True
    ) as folder:
        asked = context.ask(what, (folder,), seconds, engine=True)
        while True:
            try:
                share, doing = next(asked)
            except StopIteration as end:
                answer: dict[str, Any] = end.value
                return answer
            yield Looking(f"{title}: {doing}" if doing else title, share)

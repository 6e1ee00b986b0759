"""What readiness says of a workflow, as the lines of the box in Compose."""

from __future__ import annotations

import re
from collections.abc import Mapping

from core.engines.comfy.ready import Lack, Missing, Readiness
from core.engines.comfy.workflows import Workflow
from core.jobs import Value
from widgets.readiness import Line


def lines_of(
    workflow: Workflow, found: Readiness, values: Mapping[str, Value], server: str
) -> tuple[str, str, tuple[Line, ...]]:
    """Return head, tone and lines for the box.

    Args:
        workflow: What shall run.
        found: What was found of it.
        values: What the form holds.
        server: What a person calls the server.
    """
    lines = [_missing(workflow, lack, values) for lack in found.missing]
    lines += [Line(note) for note in found.notes]
    lines += [
        Line(f"{one.name} is there {len(one.places)} times: " + ", ".join(one.places) + ".")
        for one in found.duplicates
    ]
    count = len(found.missing)
    if count:
        things = "1 thing is" if count == 1 else f"{count} things are"
        head, tone = f"{things} missing on {server}.", "warning"
    elif found.vram_ok is False:
        head, tone = f"Ready on {server}, but its memory is small.", "warning"
    else:
        head, tone = f"Ready on {server}.", "success"
    return head, tone, tuple(lines)


def _missing(workflow: Workflow, lack: Missing, values: Mapping[str, Value]) -> Line:
    parameter, hint, near = "", lack.hint, lack.near
    if lack.kind is Lack.FILE:
        for knob in workflow.knobs:
            name = knob.parameter.name
            if (knob.folder or knob.listed) and values.get(name) == lack.name:
                parameter = name
                # Names that look alike may be another expert's, or another model's.
                if knob.like:
                    near = tuple(n for n in near if re.search(knob.like, n, re.IGNORECASE))
                break
    if lack.near and not lack.elsewhere and near[:1] != lack.near[:1]:
        place = lack.place or "the folder its loader reads"
        hint = f"Put it into {place}, or choose {near[0]}." if near else f"Put it into {place}."
    safe = lack.source if lack.source.startswith("https://") else ""
    return Line(lack.message, hint, parameter, near, safe, f"Get {lack.place}" if safe else "")

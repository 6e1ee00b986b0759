"""What a dream is told: the scenes that are its keyframes."""

from __future__ import annotations

import re

from core.errors import invalid

AUTO, LINES, STORY = "auto", "lines", "story"
FORMS = (AUTO, LINES, STORY)
MOST = 1000
"""Scenes that are taken."""

_HEADING = re.compile(
    r"^[ \t#*_]*(?:scene|shot|part|chapter)\s+\d+\b[ \t]*[*_]*[ \t]*(?:[:.)–—-]+[ \t*_]*|$)", re.I
)


def scenes_of(text: str, form: str = AUTO) -> tuple[str, ...]:
    """Return the scenes of a text, each as one line.

    Args:
        text: One scene to a line; or a story, whose scenes stand under headings such as
            "Scene 1:", or else between blank lines.
        form: One of `FORMS`; "auto" takes a text with headings or blank lines as a story.

    Raises:
        ProblemError: There is no scene, or there are too many.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    headed = any(_HEADING.match(line) for line in lines)
    if form == LINES or (form == AUTO and not headed and all(line.strip() for line in lines)):
        found = [" ".join(line.split()) for line in lines]
    elif headed:
        found = _under_headings(lines)
    else:
        found = [" ".join(part.split()) for part in re.split(r"\n[ \t]*\n", "\n".join(lines))]
    scenes = tuple(scene for scene in found if scene)
    if not scenes:
        raise invalid("prompt", "There is no scene to dream of.", "Write one scene to a line.")
    if len(scenes) > MOST:
        raise invalid(
            "prompt", f"These are {len(scenes)} scenes.", f"Use at most {MOST} in one dream."
        )
    return scenes


def _under_headings(lines: list[str]) -> list[str]:
    """Return what stands behind each heading; what stands before the first is no scene."""
    found: list[list[str]] = []
    for line in lines:
        heading = _HEADING.match(line)
        if heading:
            found.append([line[heading.end() :]])
        elif found:
            found[-1].append(line)
    return [" ".join(" ".join(part).split()) for part in found]

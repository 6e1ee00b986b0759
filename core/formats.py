"""What a finished clip can be: names, words and endings. Nothing heavy: forms read it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SUFFIXES: Mapping[str, str] = MappingProxyType({"video": ".mp4", "image": ".png"})
"""Ending of the file by what a recipe makes, where it leaves the format open."""
DEFAULT = "h264"
SEQUENCE = ".frames"
"""Ending of a folder of numbered pictures."""
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "h264": "H.264 · MP4",
        "h265": "H.265 · MP4",
        "av1": "AV1 · MP4",
        "webm": "AV1 · WebM",
        "prores": "ProRes 422 · MOV",
        "prores4444": "ProRes 4444 · MOV",
        "gif": "GIF",
        "webp": "Animated WebP",
        "png": "PNG sequence",
        "jpeg": "JPEG sequence",
    }
)
NAMES = tuple(TITLES)
MOST_FPS = 240
GIF_FPS = 50
"""Players take a shorter time per frame of a GIF for none at all, and play far slower."""
_ENDINGS: Mapping[str, str] = MappingProxyType(
    {
        "h264": ".mp4",
        "h265": ".mp4",
        "av1": ".mp4",
        "webm": ".webm",
        "prores": ".mov",
        "prores4444": ".mov",
        "gif": ".gif",
        "webp": ".webp",
        "png": SEQUENCE,
        "jpeg": SEQUENCE,
    }
)


def ending(name: str) -> str:
    """Return the ending of a format's files. Raises KeyError for one that is not known."""
    return _ENDINGS[name]


def most_fps(name: object) -> int:
    """Return how many frames a second a format holds at most."""
    return GIF_FPS if name == "gif" else MOST_FPS


def suffix_of(makes: str, params: Mapping[str, object]) -> str:
    """Return the ending of what a recipe makes, "video" or "image", of such values."""
    if makes == "video":
        return _ENDINGS.get(str(params.get("format", DEFAULT)), SUFFIXES[makes])
    return SUFFIXES[makes]

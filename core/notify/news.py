"""What is told of the queue, in words, and who wants to be told of what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from core.errors import Category, Problem


class Kind(StrEnum):
    """What happened. ALERT is both its begin and its end."""

    FAILED = "failed"
    EMPTY = "empty"
    FINISHED = "finished"
    ALERT = "alert"


class Channel(StrEnum):
    """How a person is told."""

    DESKTOP = "desktop"
    SOUND = "sound"
    WEBHOOK = "webhook"
    NTFY = "ntfy"


USUAL = (Kind.FAILED, Kind.EMPTY)
_SHOWN = 3
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class News:
    """One thing that happened.

    Attributes:
        title: What a person calls it, such as a job's title; may hold words of a prompt.
        text: More of it; may hold words of a prompt.
        plain: The same without any words of a prompt; "" for nothing more than the kind.
        about: An alert's key: its end answers its begin.
        cleared: Whether an alert is over.
        bad: Whether it is loud.
    """

    kind: Kind
    title: str = ""
    text: str = ""
    plain: str = ""
    about: str = ""
    cleared: bool = False
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent at once: one piece of news, or several of a kind.

    Attributes:
        count: How many pieces of news it is.
    """

    kind: Kind
    title: str
    text: str
    count: int = 1
    bad: bool = False
    cleared: bool = False


def message_of(news: Sequence[News], *, titles: bool) -> Message:
    """Return the message of news of one kind, in the order they happened.

    Args:
        news: At least one.
        titles: Whether words of prompts may be in it.
    """
    first, count = news[0], len(news)
    bad = any(one.bad for one in news)
    cleared = all(one.cleared for one in news)
    if count == 1:
        title, text = _single(first, titles=titles)
        return Message(first.kind, title, text, 1, bad, cleared)
    many = {
        Kind.FAILED: f"{count} jobs failed",
        Kind.FINISHED: f"{count} clips are done",
        Kind.EMPTY: "The queue is empty",
        Kind.ALERT: f"{count} alerts",
    }[first.kind]
    words = [_single(one, titles=titles)[1] for one in news]
    if titles and first.kind in (Kind.FAILED, Kind.FINISHED):
        words = [_short(one.title) for one in news]
    shown = list(dict.fromkeys(word for word in words if word))
    rest = f" … and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return Message(first.kind, many, "\n".join(shown[:_SHOWN]) + rest, count, bad, cleared)


def _single(news: News, *, titles: bool) -> tuple[str, str]:
    match news.kind:
        case Kind.FAILED:
            if titles:
                return f"“{_short(news.title)}” failed", _short(news.text)
            return "A job failed", _short(news.plain)
        case Kind.FINISHED:
            return "A clip is done", _short(news.title) if titles else ""
        case Kind.EMPTY:
            return "The queue is empty", _short(news.plain)
        case Kind.ALERT:
            return ("Alert over" if news.cleared else "Alert"), _short(news.plain)


def _short(text: str) -> str:
    bare = " ".join(text.split())
    return bare if len(bare) <= _LONGEST else bare[: _LONGEST - 1] + "…"


@dataclass(frozen=True, slots=True)
class Choices:
    """Which channels are on, and what each tells of; without any address.

    Attributes:
        on: The channels beside the desktop's own that are on.
        kinds: What each tells of, also while it is off.
        titles: Whether messages that leave this machine hold titles of jobs.
    """

    on: frozenset[Channel] = frozenset()
    kinds: Mapping[Channel, tuple[Kind, ...]] = field(default_factory=dict)
    titles: bool = False

    def of(self, channel: Channel) -> tuple[Kind, ...]:
        """Return what a channel tells of when it is on."""
        return self.kinds.get(channel, USUAL)

    def wants(self, channel: Channel, kind: Kind) -> bool:
        """Say whether a channel is to tell of a kind."""
        return channel in self.on and kind in self.of(channel)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the settings."""
        return {
            "on": sorted(self.on),
            "kinds": {one.value: [kind.value for kind in self.of(one)] for one in self.kinds},
            "titles": self.titles,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Choices:
        """Rebuild choices; what cannot be used is left out."""
        on, kinds = data.get("on"), data.get("kinds")
        return Choices(
            frozenset(Channel(one) for one in _words(on) if one in _CHANNELS),
            {
                Channel(name): tuple(Kind(one) for one in _words(told) if one in _KINDS)
                for name, told in (kinds.items() if isinstance(kinds, dict) else ())
                if name in _CHANNELS
            },
            data.get("titles") is True,
        )


_CHANNELS = frozenset(one.value for one in Channel)
_KINDS = frozenset(one.value for one in Kind)


def _words(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


_WHY: Mapping[Category, str] = MappingProxyType(
    {
        Category.INVALID_PARAMS: "Something in it cannot be used.",
        Category.MODEL_NOT_FOUND: "A model is missing.",
        Category.INSUFFICIENT_VRAM: "There was not enough memory.",
        Category.TIMEOUT: "It took too long.",
        Category.NETWORK_ERROR: "Its server could not be reached.",
        Category.WORKER_UNAVAILABLE: "What runs it is not there.",
        Category.STORAGE: "A file or disk could not be used.",
        Category.BAD_OUTPUT: "What was made is not right.",
        Category.UNKNOWN: "Something unexpected happened.",
    }
)


def failed(title: str, problem: Problem) -> News:
    """Return the news of a job that failed."""
    return News(Kind.FAILED, title, problem.message, _WHY[problem.category], bad=True)

"""Sending a message to a webhook or to a topic of ntfy, tried again a few times."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from core import web
from core.errors import Category, Problem, ProblemError, invalid
from core.notify.news import Channel, Kind, Message
from core.vault import hidden

TRY_SECONDS = 6.0
"""Longest time that one try takes."""
WAITS_SECONDS = (2.0, 10.0, 30.0)
"""Pauses before the second and later tries; there are no more tries."""
LARGEST_ANSWER = 64_000
_SHOWN = 200
_TITLES = {Channel.WEBHOOK: "The webhook", Channel.NTFY: "The ntfy server"}
_TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")
_TOKEN = re.compile(r"[!-~]{0,500}")
_TAGS: Mapping[Kind, str] = {
    Kind.FAILED: "x",
    Kind.EMPTY: "white_check_mark",
    Kind.FINISHED: "clapper",
    Kind.ALERT: "warning",
}
_AGAIN = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a channel sends to. Both values are secrets, and no text shows them.

    Attributes:
        address: http or https.
        token: Sent as `Authorization: Bearer`; "" for none.
    """

    address: str = field(repr=False)
    token: str = field(default="", repr=False)


def checked(channel: Channel, target: Target) -> Target:
    """Return `target` in its usual form.

    Raises:
        ProblemError: It cannot be used; the problem names the field, and never the address.
    """
    address, token = target.address.strip(), target.token.strip()
    example = "https://ntfy.sh/my-topic" if channel is Channel.NTFY else "https://example.org/hook"
    try:
        place = web.parse(address)
    except ProblemError:
        raise _wrong("address", "This is no http or https address.", example) from None
    if not address.isprintable() or place.fragment:
        raise _wrong("address", "This address has signs in it that none has.", example)
    if channel is Channel.NTFY:
        topic = place.path.strip("/")
        if _TOPIC.fullmatch(topic) is None or place.query:
            what = "An ntfy address is a server and one topic of letters, digits, - and _."
            raise _wrong("address", what, example)
    if _TOKEN.fullmatch(token) is None:
        raise invalid("token", "A token has no spaces and no signs but ASCII.", "Copy it anew.")
    return Target(address, token)


def _wrong(name: str, message: str, example: str) -> ProblemError:
    return invalid(name, message, f"Write it like {example}.")


def payload(
    channel: Channel, message: Message, target: Target, at_unix: float
) -> tuple[str, dict[str, Any]]:
    """Return where a message is posted to, and its JSON.

    A webhook gets facts under plain names, and `text` and `content` with one sentence, which
    chat services show. ntfy gets what its own JSON asks for, at the root of the server.
    """
    words = f"{message.title}: {message.text}" if message.text else message.title
    if channel is Channel.NTFY:
        place = web.parse(target.address)
        body: dict[str, Any] = {
            "topic": place.path.strip("/"),
            "title": f"Framedeck: {message.title}",
            "message": message.text or message.title,
            "priority": _priority(message),
            "tags": ["white_check_mark" if message.cleared else _TAGS[message.kind]],
        }
        return place._replace(path="/", query="", fragment="").geturl(), body
    return target.address, {
        "app": "Framedeck",
        "event": message.kind.value,
        "title": message.title,
        "message": message.text,
        "count": message.count,
        "level": "warning" if message.bad else "info",
        "cleared": message.cleared,
        "at": datetime.fromtimestamp(at_unix, UTC).isoformat(timespec="seconds"),
        "text": words,
        "content": words,
    }


def _priority(message: Message) -> int:
    if message.cleared or message.kind is Kind.FINISHED:
        return 2
    return 4 if message.bad else 3


def send(
    channel: Channel,
    message: Message,
    target: Target,
    at_unix: float,
    *,
    stopped: Callable[[], bool] = lambda: False,
    seconds: float = TRY_SECONDS,
) -> str:
    """Send once; return what the other side answered, in a line to show.

    Args:
        channel: WEBHOOK or NTFY.
        message: What is told.
        target: Where to.
        at_unix: When it happened.
        stopped: Asked several times a second; True ends it as a TIMEOUT.
        seconds: For all of it.

    Raises:
        ProblemError: It was not taken. Neither address nor token stands in the problem.
    """
    target = checked(channel, target)
    url, body = payload(channel, message, target, at_unix)
    headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
    try:
        status, answer = web.post(
            url,
            body,
            headers,
            who=_TITLES[channel],
            timeout_seconds=seconds,
            largest=LARGEST_ANSWER,
            stopped=stopped,
        )
    except web.RefusedError as error:
        problem = _without(error.problem, target)
        raise web.RefusedError.of(_told_status(problem, error.status), error.status) from None
    except web.RedirectedError as error:
        raise web.RedirectedError(_without(error.problem, target)) from None
    except ProblemError as error:
        raise ProblemError(_without(error.problem, target)) from None
    # Hidden before it is cut: a cut might leave the half of a secret.
    said = _line(hidden(answer.decode("utf-8", "replace"), *_secrets(target)))
    return f"{status}" + (f" · {said}" if said else "")


def deliver(
    channel: Channel,
    message: Message,
    target: Target,
    at_unix: float,
    *,
    wait: Callable[[float], bool],
    stopped: Callable[[], bool] = lambda: False,
    waits: tuple[float, ...] = WAITS_SECONDS,
    seconds: float = TRY_SECONDS,
) -> None:
    """Send until it is taken, with pauses that grow, a bounded number of times.

    Args:
        channel: WEBHOOK or NTFY.
        message: What is told.
        target: Where to.
        at_unix: When it happened.
        wait: Waits so many seconds; False when it is to stop.
        stopped: Says whether to stop.
        waits: The pauses.
        seconds: For each try.

    Raises:
        ProblemError: It was not taken in the end, or never will be.
    """
    for pause in (*waits, None):
        try:
            send(channel, message, target, at_unix, stopped=stopped, seconds=seconds)
            return
        except ProblemError as error:
            if pause is None or not _helps_again(error) or stopped() or not wait(pause):
                raise


def _helps_again(error: ProblemError) -> bool:
    if isinstance(error, web.RefusedError):
        return error.status >= 500 or error.status in _AGAIN
    passing = not isinstance(error, web.RedirectedError)
    return passing and error.problem.category in (Category.TIMEOUT, Category.NETWORK_ERROR)


def _told_status(problem: Problem, status: int) -> Problem:
    hint = {
        401: "It wants a token, or another one.",
        403: "It wants a token, or another one.",
        404: "It does not know this address; copy it anew.",
        410: "It does not know this address any more; make a new one there.",
        413: "It takes shorter messages only.",
        429: "It had too many messages; Framedeck goes on more slowly.",
    }.get(status, problem.hint)
    return Problem(problem.category, problem.message, hint, problem.details)


def _without(problem: Problem, target: Target) -> Problem:
    whole = (target.address, web.parse(target.address).path, target.token)
    message, hint = hidden(problem.message, *whole), hidden(problem.hint, *whole)
    details = _line(hidden(problem.details, *_secrets(target)))
    return Problem(problem.category, message, hint, details)


def _secrets(target: Target) -> tuple[str, ...]:
    """Return everything that a server might say again of what it was sent."""
    place = web.parse(target.address)
    parts = (*place.path.split("/"), *re.split("[&=]", place.query))
    own = (place.username or "", place.password or "", *parts)
    return (target.address, place.path, target.token, *own, *map(unquote, own))


def _line(text: str) -> str:
    """Return the begin of what a server said as one line, without signs that would hide others."""
    seen = "".join(sign if sign.isprintable() else " " for sign in text[: 4 * _SHOWN])
    bare = " ".join(seen.split())
    return bare if len(bare) <= _SHOWN else bare[: _SHOWN - 1] + "…"

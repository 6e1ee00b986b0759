"""News: what stands in them, how often they are sent, and servers that take them badly."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import web
from core.errors import Category, Problem, ProblemError
from core.notify.channels import Target, checked, deliver, payload, send
from core.notify.news import (
    USUAL,
    Channel,
    Choices,
    Kind,
    Message,
    News,
    failed,
    message_of,
)
from core.notify.outbox import MOST, WINDOW_SECONDS, Outbox
from tests.core import web_servers as bad
from tests.core.web_servers import Handler, not_found, raw, serving, tells

PROMPT = "a red fox in the snow"
EMPTY = News(Kind.EMPTY, text="All jobs have ended.", plain="All jobs have ended.")
MESSAGE = Message(Kind.FAILED, "12 jobs failed", "It took too long.", 12, bad=True)


def failure(title: str = PROMPT) -> News:
    problem = Problem(Category.TIMEOUT, f"“{title}” took too long.", "Retry.")
    return failed(title, problem)


# -- words -----------------------------------------------------------------------------


def test_prompts_are_left_out_unless_wanted() -> None:
    for count in (1, 3):
        plain = message_of([failure()] * count, titles=False)
        assert PROMPT not in plain.title + plain.text
        assert "It took too long." in plain.text
        assert PROMPT in str(message_of([failure()] * count, titles=True))
    assert message_of([News(Kind.FINISHED, PROMPT)], titles=False).text == ""
    assert message_of([News(Kind.FINISHED, PROMPT)], titles=True).text == PROMPT


def test_many_become_one() -> None:
    found = message_of([failure(f"clip {n}") for n in range(12)], titles=True)
    assert found.title == "12 jobs failed"
    assert found.text == "clip 0\nclip 1\nclip 2 … and 9 more"
    assert (found.count, found.bad) == (12, True)
    assert message_of([EMPTY] * 3, titles=False).title == "The queue is empty"


def test_long_and_broken_titles_stay_one_short_line() -> None:
    found = message_of([failure("x\n\ty" * 500)], titles=True)
    assert "\n" not in found.title + found.text
    assert len(found.title) < 230
    assert len(found.text) <= 200


def test_choices_are_failures_and_the_empty_queue_and_hold_no_address() -> None:
    none = Choices()
    assert none.on == frozenset()
    on = Choices(frozenset({Channel.NTFY}))
    assert [kind for kind in Kind if on.wants(Channel.NTFY, kind)] == list(USUAL)
    assert USUAL == (Kind.FAILED, Kind.EMPTY)
    mixed = Choices(
        frozenset({Channel.WEBHOOK}), {Channel.WEBHOOK: (Kind.ALERT,), Channel.SOUND: ()}, True
    )
    assert Choices.from_json(json.loads(json.dumps(mixed.to_json()))) == mixed
    assert not mixed.wants(Channel.WEBHOOK, Kind.FAILED)


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(["on", "kinds", "titles", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.text() | st.sampled_from(["ntfy", "failed"]),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_any_settings_give_choices(data: dict[str, Any]) -> None:
    found = Choices.from_json(data)
    assert Choices.from_json(found.to_json()) == found


# -- how often -------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_bounded_and_merged() -> None:
    clock = Clock()
    outbox = Outbox(clock=clock)
    told = []
    for _ in range(200):
        outbox.add(failure())
        told += [outbox.take()]
    sent = [news for news in told if news]
    assert [len(news) for news in sent] == [1] * MOST
    assert outbox.take() == []
    assert outbox.wait_seconds() == WINDOW_SECONDS
    outbox.add(EMPTY)
    clock.now += WINDOW_SECONDS
    assert [len(outbox.take()), len(outbox.take()), outbox.take()] == [200 - MOST, 1, []]
    assert outbox.wait_seconds() is None


def test_an_alert_that_was_over_before_it_was_told_is_not_told() -> None:
    clock = Clock()
    outbox = Outbox(most=1, clock=clock)
    outbox.add(EMPTY)
    assert outbox.take() == [EMPTY]
    begin = News(Kind.ALERT, plain="low", about="low_vram 0", bad=True)
    end = News(Kind.ALERT, plain="fine", about="low_vram 0", cleared=True)
    other = News(Kind.ALERT, plain="backlog", about="backlog", bad=True)
    for one in (begin, other, end):
        outbox.add(one)
    clock.now += WINDOW_SECONDS
    assert outbox.take() == [other]
    outbox.add(end)
    assert len(outbox) == 1, "its begin was told, so its end is"


@given(st.lists(st.tuples(st.sampled_from(list(Kind)), st.floats(0, 40)), max_size=120))
def test_never_more_than_so_many_in_any_minute_and_nothing_is_lost(
    happened: list[tuple[Kind, float]],
) -> None:
    clock, at, told = Clock(), [], 0
    outbox = Outbox(clock=clock)
    wanted = sum(kind in (Kind.FAILED, Kind.FINISHED) for kind, _ in happened)

    def empty() -> None:
        nonlocal told
        while news := outbox.take():
            at.append(clock.now)
            told += len(news) if news[0].kind in (Kind.FAILED, Kind.FINISHED) else 0

    for number, (kind, later) in enumerate(happened):
        clock.now += later
        outbox.add(News(kind, about=str(number)))
        empty()
    for _ in range(len(happened)):
        wait = outbox.wait_seconds()
        if wait is None:
            break
        assert 0 <= wait <= WINDOW_SECONDS
        clock.now += wait + 1e-6
        empty()
    assert len(outbox) == 0
    assert told == wanted
    for first, last in zip(at, at[MOST:], strict=False):
        assert last - first >= WINDOW_SECONDS - 1e-6


# -- sending ---------------------------------------------------------------------------


def test_a_webhook_gets_json_and_its_token() -> None:
    with serving({"/hook/s3cret?k=v4lue": raw(b"", 204)}) as server:
        target = Target(f"{server.url}/hook/s3cret?k=v4lue", "tk_token")
        assert send(Channel.WEBHOOK, MESSAGE, target, 0.0) == "204"
        (command, _, body), headers = server.asked[0], server.headers[0]
    assert command == "POST"
    assert headers["Authorization"] == "Bearer tk_token"
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "app": "Framedeck",
        "event": "failed",
        "title": "12 jobs failed",
        "message": "It took too long.",
        "count": 12,
        "level": "warning",
        "cleared": False,
        "at": "1970-01-01T00:00:00+00:00",
        "text": "12 jobs failed: It took too long.",
        "content": "12 jobs failed: It took too long.",
    }


def test_ntfy_gets_title_priority_and_tags_at_its_root() -> None:
    with serving({"/": tells({"id": "x", "topic": "my-topic"})}) as server:
        answer = send(Channel.NTFY, MESSAGE, Target(f"{server.url}/my-topic"), 0.0)
        assert server.asked == [
            (
                "POST",
                "/",
                {
                    "topic": "my-topic",
                    "title": "Framedeck: 12 jobs failed",
                    "message": "It took too long.",
                    "priority": 4,
                    "tags": ["x"],
                },
            )
        ]
        assert "Authorization" not in server.headers[0]
    assert answer.startswith("200 · ")
    assert "my-topic" not in answer, "whoever knows a topic can read it"


@pytest.mark.parametrize(
    ("message", "priority", "tag"),
    [
        (Message(Kind.EMPTY, "e", ""), 3, "white_check_mark"),
        (Message(Kind.FINISHED, "f", ""), 2, "clapper"),
        (Message(Kind.ALERT, "a", "low", bad=True), 4, "warning"),
        (Message(Kind.ALERT, "a", "fine", cleared=True), 2, "white_check_mark"),
    ],
)
def test_how_loud_ntfy_is(message: Message, priority: int, tag: str) -> None:
    url, body = payload(Channel.NTFY, message, Target("https://ntfy.sh/topic/"), 0.0)
    assert url == "https://ntfy.sh/"
    assert (body["priority"], body["tags"], body["topic"]) == (priority, [tag], "topic")
    assert body["message"]


def test_name_and_password_of_an_address_are_sent_as_such() -> None:
    with serving({"/hook": tells("ok")}) as server:
        address = server.url.replace("//", "//me:pa%20ss@") + "/hook"
        send(Channel.WEBHOOK, MESSAGE, Target(address), 0.0)
        assert server.headers[0]["Authorization"] == "Basic bWU6cGEgc3M="
        assert "@" not in server.headers[0]["Host"]


@pytest.mark.parametrize(
    ("channel", "address", "token"),
    [
        (Channel.WEBHOOK, "", ""),
        (Channel.WEBHOOK, "file:///etc/passwd", ""),
        (Channel.WEBHOOK, "ftp://host/x", ""),
        (Channel.WEBHOOK, "http://", ""),
        (Channel.WEBHOOK, "http://host:0/", ""),
        (Channel.WEBHOOK, "http://host:99999/", ""),
        (Channel.WEBHOOK, "http://ho st/", ""),
        (Channel.WEBHOOK, "http://host/s3cret\r\nX: y", ""),
        (Channel.WEBHOOK, "http://host/s3cret\x7f", ""),
        (Channel.WEBHOOK, "http://host/s3cret#part", ""),
        (Channel.WEBHOOK, "http://höst/s3cret", ""),
        (Channel.WEBHOOK, "http://host/", "tk s3cret"),
        (Channel.WEBHOOK, "http://host/", "tk\r\nX: s3cret"),
        (Channel.WEBHOOK, "http://host/", "s3crét"),
        (Channel.NTFY, "https://ntfy.sh", ""),
        (Channel.NTFY, "https://ntfy.sh/s3cret/more", ""),
        (Channel.NTFY, "https://ntfy.sh/s3cret?x=1", ""),
        (Channel.NTFY, "https://ntfy.sh/" + "s3cret" * 20, ""),
    ],
)
def test_a_bad_address_is_refused_by_its_field_and_not_shown(
    channel: Channel, address: str, token: str
) -> None:
    with pytest.raises(ProblemError) as caught:
        checked(channel, Target(address, token))
    problem = caught.value.problem
    assert problem.field == ("token" if token else "address")
    assert problem.hint
    assert "s3c" not in f"{problem}{caught.value}"
    assert "s3c" not in repr(Target(address, token))


def dumb(handler: Handler) -> None:
    time.sleep(0.6)


def echo(handler: Handler) -> None:
    """Say what it got: path and token, in the midst of long lines."""
    told = f"{'a' * 190} {handler.path} {handler.headers['Authorization']}\x1b[2J\u202e<b>"
    bad.send(handler, told.encode(), 500)


@pytest.mark.parametrize(
    ("answer", "category", "words", "again"),
    [
        (raw(b"no", 500), Category.NETWORK_ERROR, "refuses (500)", True),
        (raw(b"no", 503), Category.NETWORK_ERROR, "refuses (503)", True),
        (raw(b"slow down", 429), Category.NETWORK_ERROR, "refuses (429)", True),
        (raw(b"", 401), Category.NETWORK_ERROR, "refuses (401)", False),
        (raw(b"", 410), Category.NETWORK_ERROR, "refuses (410)", False),
        (not_found, Category.NETWORK_ERROR, "refuses (404)", False),
        (raw(b"", 302, Location="/else"), Category.NETWORK_ERROR, "sends elsewhere (302)", False),
        (raw(b"", 307, Location="http://[::1]/"), Category.NETWORK_ERROR, "elsewhere", False),
        (dumb, Category.TIMEOUT, "did not answer in time", True),
        (bad.drip, Category.TIMEOUT, "did not answer in time", True),
        (bad.drip_headers, Category.TIMEOUT, "did not answer in time", True),
        (bad.endless, Category.BAD_OUTPUT, "answers without end", False),
        (bad.hang_up, Category.NETWORK_ERROR, "cannot be asked", True),
        (bad.no_http, Category.NETWORK_ERROR, "cannot be asked", True),
        (echo, Category.NETWORK_ERROR, "refuses (500)", True),
    ],
)
def test_bad_answers_are_told_and_only_passing_ones_are_tried_again(
    answer: Any, category: Category, words: str, again: bool
) -> None:
    tries: list[float] = []

    def wait(seconds: float) -> bool:
        tries.append(seconds)
        return True

    seconds = 0.15 if category is Category.TIMEOUT else 2.0
    with serving({"/hook/s3cret": answer, "/else": tells("taken")}) as server:
        began = time.monotonic()
        target = Target(f"{server.url}/hook/s3cret", "tk_s3cret")
        with pytest.raises(ProblemError) as caught:
            deliver(
                Channel.WEBHOOK, MESSAGE, target, 0.0,
                wait=wait, waits=(2.0, 10.0), seconds=seconds,
            )  # fmt: skip
        assert time.monotonic() - began < 3.0
        assert len(server.asked) in ((0, 3) if again else (1,))
        assert all(path != "/else" for _, path, _ in server.asked)
    problem = caught.value.problem
    assert problem.category is category
    assert words in problem.message
    assert problem.message.startswith("The webhook at 127.0.0.1:")
    assert problem.hint
    assert tries == ([2.0, 10.0] if again else [])
    assert "s3c" not in f"{problem}{caught.value}{caught.value.args}"
    assert problem.details.isprintable()
    assert len(problem.details) <= 200


def test_it_is_taken_at_the_third_try() -> None:
    count = 0

    def third(handler: Handler) -> None:
        nonlocal count
        count += 1
        bad.send(handler, b"ok", 200 if count == 3 else 502)

    with serving({"/": third}) as server:
        pauses: list[float] = []
        deliver(
            Channel.WEBHOOK, MESSAGE, Target(server.url), 0.0,
            wait=lambda seconds: pauses.append(seconds) is None,
        )  # fmt: skip
    assert (count, pauses) == (3, [2.0, 10.0])


def test_the_end_of_the_program_ends_it() -> None:
    with serving({"/": dumb}) as server:
        began = time.monotonic()
        with pytest.raises(ProblemError):
            deliver(
                Channel.WEBHOOK, MESSAGE, Target(server.url), 0.0,
                wait=lambda _: False, stopped=lambda: time.monotonic() - began > 0.2,
            )  # fmt: skip
        assert time.monotonic() - began < 1.0
    with serving({"/": raw(b"", 500)}) as server:
        with pytest.raises(web.RefusedError):
            deliver(Channel.WEBHOOK, MESSAGE, Target(server.url), 0.0, wait=lambda _: False)
        assert len(server.asked) == 1


def test_no_proxy_of_the_environment_is_asked(monkeypatch: Any) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", "/nowhere")
    with serving({"/": tells("ok")}) as server:
        assert send(Channel.WEBHOOK, MESSAGE, Target(server.url), 0.0) == '200 · "ok"'

"""Looking for jobs among all there are: by words, state and place, and in another order.

Every row is looked at, and none is parsed here: 100,000 of them take a fifth of a second.
The work is done within one call of SQLite, so other threads go on meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from core.ledger.store import Store
from core.queue import Found, Order, Show, Wanted

_ENDED = "j.removal IS NULL AND j.state IN ('done', 'failed', 'stopped', 'lost')"
_RUN = "LEFT JOIN attempts a ON a.job = j.key AND a.number = j.attempt"
_PEAK = "ifnull(a.peak_vram_bytes, a.peak_rss_bytes)"
_RANK = "CASE j.state WHEN 'lost' THEN 0 WHEN 'failed' THEN 1 WHEN 'stopped' THEN 2 ELSE 3 END"
_ORDERS: Mapping[Order, tuple[str, str]] = MappingProxyType(
    {
        Order.OLDEST: ("", "j.ended_at, j.key"),
        Order.LONGEST: (_RUN, "a.seconds IS NULL, a.seconds DESC, j.ended_at DESC, j.key DESC"),
        Order.PEAK: (_RUN, f"{_PEAK} IS NULL, {_PEAK} DESC, j.ended_at DESC, j.key DESC"),
        Order.STATE: ("", f"{_RANK}, j.ended_at DESC, j.key DESC"),
    }
)
"""What each order needs beside the jobs, and how it sorts."""
_STATES: Mapping[Show, str] = MappingProxyType(
    {
        Show.RUNNING: "running",
        Show.NEXT: "waiting",
        Show.FINISHED: "done",
        Show.FAILED: "failed",
        Show.STOPPED: "stopped",
        Show.LOST: "lost",
    }
)
_FIELDS = " || char(10) || ".join(
    f"ifnull(json_extract(job, '$.{name}'), '')"
    for name in ("title", "params.prompt", "recipe", "recipe_title")
)
"""What is searched, one below the other."""
MOST_WORDS = 16


def look(store: Store, wanted: Wanted) -> Found:
    """Return the keys of what is wanted. Blocks; call it beside the window.

    Raises:
        ProblemError: The file cannot be read.
    """
    keys: frozenset[int] | None = None
    ended: tuple[int, ...] | None = None
    if wanted.narrows:
        where, values = _conditions(wanted)
        sql = f"SELECT json_group_array(key) FROM jobs WHERE {where}"  # noqa: S608
        keys = frozenset(json.loads(store.read(sql, values)[0][0]))
    if wanted.order in _ORDERS:
        join, order = _ORDERS[wanted.order]
        rows = f"SELECT j.key FROM jobs j {join} WHERE {_ENDED} ORDER BY {order}"  # noqa: S608
        sql = f"SELECT json_group_array(key) FROM ({rows})"  # noqa: S608
        ended = tuple(json.loads(store.read(sql)[0][0]))
    return Found(keys, ended)


def _conditions(wanted: Wanted) -> tuple[str, list[object]]:
    parts, values = ["removal IS NULL"], list[object]()
    if wanted.shows:
        states = [_STATES[show] for show in wanted.shows if show in _STATES]
        either = ["state IN (SELECT value FROM json_each(?))"]
        values.append(json.dumps(states))
        if Show.DECIDE in wanted.shows:
            either.append("state = 'lost'")
            either.append("(state = 'waiting' AND id IN (SELECT value FROM json_each(?)))")
            values.append(json.dumps(wanted.aside))
        parts.append(f"({' OR '.join(either)})")
    if wanted.places is not None:
        one = "(engine = ? AND json_extract(job, '$.params.server') IS ?)"
        parts.append(f"({' OR '.join([one] * len(wanted.places)) or '0'})")
        values += [item for place in wanted.places for item in place]
    for word in wanted.text.split()[:MOST_WORDS]:
        spellings = _spellings(word)
        # The whole text first: most rows have the word nowhere, and are not taken apart.
        rough = [_like(json.dumps(one, ensure_ascii=False)[1:-1]) for one in spellings]
        fine = [_like(one) for one in spellings]
        for text, patterns in (("job", rough), (f"(id || char(10) || {_FIELDS})", fine)):
            like = " OR ".join([f"{text} LIKE ? ESCAPE '!'"] * len(patterns))
            parts.append(f"({like})")
            values += patterns
    return " AND ".join(parts), values


def _spellings(word: str) -> list[str]:
    """Return the word as it may be written: SQLite knows no capitals beyond English."""
    if word.isascii():
        return [word]
    return list(dict.fromkeys([word, word.lower(), word.upper(), word.capitalize()]))


def _like(word: str) -> str:
    for special in "!%_":
        word = word.replace(special, "!" + special)
    return f"%{word}%"

"""Taking what is private out of texts that a person may pass on: one place for all reports.

What is known of this machine (home folder, user, host, secrets, addresses, prompts) goes
wherever it stands and however it was escaped; what merely looks like a token, an address or a
prompt goes as well. Too much is rather taken out than too little.
"""

from __future__ import annotations

import getpass
import html
import ipaddress
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

HOME, USER, HOST = "<home>", "<user>", "<host>"
SECRET, ADDRESS, PROMPT = "<secret>", "<address>", "<prompt>"
DEVICE = "<id>"

NO_NAMES = frozenset({"root", "user", "admin", "administrator", "localhost"})
"""Names that say nothing of anybody, and that are words of logs."""
_RUN = 3
"""So many words of a prompt in a row are taken to be of it."""
_SURELY = 4
"""Secrets shorter than this only count as whole words: else no text would be left."""
_WORD = re.compile(r"[^\W_]+")
_START, _END = r"(?<![^\W_])", r"(?![^\W_])"
_URL = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]{1,15})://([^\s\"'<>\\)\]}]*)")
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?(?=$|[/?#])")
_PEOPLE = re.compile(
    r"((?:/home/|/Users/|/var/home/|[A-Za-z]:(?:\\\\|\\|/)Users(?:\\\\|\\|/)))"
    r"([^/\\\s\"':,;<>|]+)"
)
_MAIL = re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")
_SIGNED = re.compile(r"[^\s/@\"'<>]+:[^\s/@\"'<>]+@(?=[\w\[])")
_NAMED_PORT = re.compile(r"(?<![\w./-])(?:[A-Za-z0-9-]+\.)+[A-Za-z][A-Za-z0-9-]+:\d{2,5}\b")
_LAN = re.compile(r"(?<![\w.-])[A-Za-z0-9-]+\.(?:local|lan|home|internal|intranet|fritz\.box)\b")
_V4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_V6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?")
_MAC = re.compile(r"(?<![\w:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![\w:-])")
_SHOWN_KEY = re.compile(
    r"((?:[\w-]*(?:token|password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|authorization|cookie|credential)s?)[\"']?\s*[:=]\s*(?:bearer\s+|basic\s+)?)"
    r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s,;&\"']+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer|basic|digest)\s+([A-Za-z0-9._~+/=-]{6,})", re.IGNORECASE)
_TOKEN = re.compile(
    r"(?<![^\W_])(?:hf_|sk[-_]|pk[-_]|rk[-_]|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|r8_|AKIA|ASIA|AIza|ya29\."
    r"|eyJ)[A-Za-z0-9._~+/=-]{8,}"
)
_LONG = re.compile(r"(?<![^\W_])(?=[A-Za-z0-9+/_-]*\d)(?=[A-Za-z0-9+/_-]*[A-Za-z])[A-Za-z0-9]{32,}")
_SHOWN_PROMPT = re.compile(
    r"(\b\w*prompt\w*[\"']?\s*[:=]\s*)(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\n\"'{\[][^\n]*)",
    re.IGNORECASE,
)
_DEVICE = re.compile(
    r"\b(?:GPU|MIG)-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"
    r"|(?<=serial)((?:[ _-]?(?:number|no\.?))?[\"']?\s*[=:#]\s*[\"']?)[A-Za-z0-9-]{5,}",
    re.IGNORECASE,
)
_SHARE = re.compile(r"\\\\(?![?.])[^\\\s\"']+\\[^\\\s\"']+")
_PROMPT_KEY = re.compile(r"prompt|^title$", re.IGNORECASE)


class Scrubber:
    """Knows what is private, and takes it out of texts.

    Args:
        homes: Home folders.
        users: Names by which the system knows the person.
        hosts: Names of the machine.
        secrets: Tokens and passwords.
        addresses: Hosts and addresses of servers that a person entered.
        prompts: What a person wrote for clips, and titles made of it.
        show_prompts: The person wants prompts to be in the text.
    """

    def __init__(
        self,
        *,
        homes: Iterable[str] = (),
        users: Iterable[str] = (),
        hosts: Iterable[str] = (),
        secrets: Iterable[str] = (),
        addresses: Iterable[str] = (),
        prompts: Iterable[str] = (),
        show_prompts: bool = False,
    ) -> None:
        self._show_prompts = show_prompts
        self._rules: list[tuple[re.Pattern[str], str]] = []
        self._known(secrets, SECRET)
        self._known(addresses, ADDRESS)
        found = {home.rstrip("/\\") for home in homes}
        self._known((home for home in found if len(home) > 1), HOME, anywhere=False)
        wanted: list[str] = [] if show_prompts else list(dict.fromkeys(filter(None, prompts)))
        self._runs = {run for prompt in wanted for run in _runs(prompt)}
        self._shorts = {short for prompt in wanted if (short := _short(prompt))}
        names = {user for user in users if user.casefold() not in NO_NAMES}
        places = {host for host in hosts if host.casefold() not in NO_NAMES}
        self._names: list[tuple[re.Pattern[str], str]] = []
        self._known(places, HOST, anywhere=False, into=self._names)
        first = {host.partition(".")[0] for host in places}
        self._known(first - {""} - NO_NAMES, HOST, anywhere=False, into=self._names)
        self._known(names, USER, anywhere=False, into=self._names)

    @staticmethod
    def of_this_machine(
        *,
        secrets: Iterable[str] = (),
        addresses: Iterable[str] = (),
        prompts: Iterable[str] = (),
        show_prompts: bool = False,
    ) -> Scrubber:
        """Return one that knows this machine, this user and what is given; asks no network."""
        homes, users = {str(Path.home()), os.path.expanduser("~")}, set()  # noqa: PTH111
        with suppress(OSError):
            homes.add(str(Path.home().resolve()))
        with suppress(Exception):  # No such user, or none of the variables: each by its own error.
            users.add(getpass.getuser())
        users |= {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME")}
        return Scrubber(
            homes=homes, users=users - {""}, hosts={socket.gethostname()} - {""},
            secrets=secrets, addresses=addresses, prompts=prompts, show_prompts=show_prompts,
        )  # fmt: skip

    def clean(self, text: str) -> str:
        """Return `text` without what is private."""
        for pattern, instead in self._rules:
            text = pattern.sub(instead, text)
        if not self._show_prompts:
            text = _SHOWN_PROMPT.sub(_hide_prompt, text)
            text = self._without_prompts(text)
        text = _URL.sub(_address, text)
        text = _PEOPLE.sub(rf"\1{USER}", text)
        text = _SHOWN_KEY.sub(_hide_secret, text)
        text = _BEARER.sub(rf"\1 {SECRET}", text)
        for pattern in (_TOKEN, _LONG):
            text = pattern.sub(SECRET, text)
        text = _DEVICE.sub(lambda found: f"{found[1] or ''}{DEVICE}", text)
        for pattern in (_SHARE, _SIGNED, _MAIL, _MAC, _NAMED_PORT, _LAN):
            text = pattern.sub(ADDRESS, text)
        for pattern in (_V4, _V6):
            text = pattern.sub(_outside, text)
        for pattern, instead in self._names:
            text = pattern.sub(instead, text)
        return text

    def clean_json(self, value: Any, key: str = "") -> Any:
        """Return plain values without what is private; what is called a prompt goes whole."""
        if isinstance(value, str):
            if value and not self._show_prompts and _PROMPT_KEY.search(key):
                return PROMPT
            shown = f"{key}: " if key else ""
            hidden = _SHOWN_KEY.fullmatch(f"{shown}{json.dumps(value)}") if shown else None
            return SECRET if hidden and value else self.clean(value)
        if isinstance(value, Mapping):
            return {
                self.clean(str(name)): self.clean_json(inner, str(name))
                for name, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.clean_json(inner, key) for inner in value]
        return value

    def _known(
        self,
        words: Iterable[str],
        instead: str,
        *,
        anywhere: bool = True,
        into: list[tuple[re.Pattern[str], str]] | None = None,
    ) -> None:
        """Take `words` out, the longest first, in every way in which texts escape them."""
        forms = {form for word in words if word.strip() for form in _forms(word)}
        rules = self._rules if into is None else into
        for form in sorted(forms, key=lambda form: (-len(form), form)):
            bare = re.escape(form)
            loose = anywhere and len(form) >= _SURELY
            # A name's end is where no letter or digit goes on; "_" may stand around it.
            pattern = bare if loose else f"{_START if form[:1].isalnum() else ''}{bare}{_END}"
            rules.append((re.compile(pattern, re.IGNORECASE), instead))

    def _without_prompts(self, text: str) -> str:
        if not self._runs and not self._shorts:
            return text
        words = list(_WORD.finditer(text))
        folded = [word.group().casefold() for word in words]
        hidden: list[tuple[int, int]] = []
        for size in range(1, _RUN + 1):
            known = self._runs if size == _RUN else self._shorts
            for at in range(len(words) - size + 1):
                if tuple(folded[at : at + size]) in known:
                    hidden.append((words[at].start(), words[at + size - 1].end()))
        return _covered(text, sorted(hidden), PROMPT)


def _forms(word: str) -> set[str]:
    """Return how a word may stand in a text: as it is, or as JSON, Python, URLs and HTML do."""
    plain, ascii_ = json.dumps(word, ensure_ascii=False)[1:-1], json.dumps(word)[1:-1]
    found = {word, plain, ascii_, repr(word)[1:-1], ascii(word)[1:-1], html.escape(word)}
    found |= {quote(word), quote(word, safe=""), quote_plus(word), word.replace("\\", "/")}
    return {form for form in found if form.strip()}


def _written(prompt: str) -> list[tuple[str, ...]]:
    """Return the words of a prompt, as it is and as JSON, Python and URLs escape it."""
    found: dict[tuple[str, ...], None] = {}
    for text in (prompt, prompt.lower()):
        plain = json.dumps(text, ensure_ascii=False)[1:-1]
        for form in (text, plain, json.dumps(text)[1:-1], ascii(text)[1:-1], quote(text, safe="")):
            found[tuple(word.casefold() for word in _WORD.findall(form))] = None
    return list(found)


def _runs(prompt: str) -> set[tuple[str, ...]]:
    return {
        tuple(words[at : at + _RUN])
        for words in _written(prompt)
        for at in range(len(words) - _RUN + 1)
    }


def _short(prompt: str) -> tuple[str, ...]:
    words = _written(prompt)[0]
    return words if 0 < len(words) < _RUN and len("".join(words)) > 1 else ()


def _covered(text: str, spans: list[tuple[int, int]], instead: str) -> str:
    """Return `text` with `instead` in the place of each stretch that `spans` cover."""
    parts, at = [], 0
    begin = end = -1
    for first, last in [*spans, (len(text) + 2, 0)]:
        if end >= 0 and first <= end + 2:  # A blank, a comma and a blank lie between words.
            end = max(end, last)
            continue
        if end >= 0:
            parts += [text[at:begin], instead]
            at = end
        begin, end = first, last
    return "".join([*parts, text[at:]])


def _hide_prompt(found: re.Match[str]) -> str:
    return f"{found[1]}{PROMPT}" if found[2].strip("\"' ") else found[0]


def _hide_secret(found: re.Match[str]) -> str:
    value = found[2].strip("\"'")
    plain = value.casefold() in ("", "none", "null", "true", "false", SECRET)
    return found[0] if plain else f"{found[1]}{SECRET}"


def _address(found: re.Match[str]) -> str:
    """Keep what is of this machine; of others nothing but the scheme."""
    if found[1].casefold() == "file":
        return found[0]
    here = _LOOPBACK.match(found[2])
    return f"{found[1]}://{here.group() if here else ADDRESS}"


def _outside(found: re.Match[str]) -> str:
    text = found.group()
    try:
        place = ipaddress.ip_address(
            text.rstrip(".:").partition("%")[0] if ":" not in text[-1:] else text
        )
    except ValueError:
        return text
    return text if place.is_loopback or place.is_unspecified else ADDRESS

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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import quote, quote_plus

HOME, USER, HOST = "~", "<user>", "<host>"
SECRET, ADDRESS, PROMPT = "<secret>", "<address>", "<prompt>"
IDENTITY, MAIL, FOLDER = "<id>", "<mail>", "<folder>"

NO_NAMES = frozenset(
    {"root", "user", "admin", "administrator", "localhost", "home", "users", "framedeck"}
)
"""Names that say nothing of anybody, and that are words of logs."""
_RUN = 3
"""So many words of a prompt in a row are taken to be of it."""
_SURELY = 4
"""Secrets shorter than this only count as whole words: else no text would be left."""
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Scripts that set no blanks between words: each sign counts as a word there."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_START, _END = r"(?<![^\W_])", r"(?![^\W_])"
_URL = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]{1,15})://([^\s\"'<>\\)}]*)")
_PORT = re.compile(r"(?:[^/?#@]*@)?(?:\[[^\]/?#]*\]|[^:/?#]*)(:\d{1,5})(?=$|[/?#])")
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?(?=$|[/?#])")
_PEOPLE = re.compile(
    r"((?:/home/|/Users/|/var/home/|[A-Za-z]:(?:\\\\|\\|/)Users(?:\\\\|\\|/)))"
    # A name may hold blanks where it is plain that a folder's name goes on behind them.
    r"([^/\\\s\"':,;<>|]+(?:\\? [^/\\\s\"':,;<>|]{1,32}){0,3}(?=[/\\])|[^/\\\s\"':,;<>|]+)"
)
_DISK = re.compile(
    r"(?:/run/media/|/media/|/Volumes/)([^/\\\n\"':,;<>|]{1,64}(?=/)|[^/\\\s\"':,;<>|]+)"
)
_MADE_ID = re.compile(r"(?<![\w.])\w{1,24}@[A-Za-z0-9][\w-]{1,62}(?=[\s:,;)\"']|$)")
_NAMED_HOST = re.compile(
    r"\b(?:host(?:name)?|server)\s?=\s?[\"']?(?!127\.0\.0\.1|localhost|None)([^\s\"',;)]+)",
    re.IGNORECASE,
)
_RESOLVED = re.compile(
    r"\b(?:resolve|connection to)\s+"
    r"(?:[\"'](?!localhost)([\w.-]+)|(?!127\.)((?=\w*[-.\d])\w[\w.-]*))",
    re.IGNORECASE,
)
_NAMED_USER = re.compile(r"\b(?:user(?:name)?|login)\s?=\s?[\"']?([^\s\"',;&)]+)", re.IGNORECASE)
_HOOK = re.compile(r"(?:hooks?\.[\w.-]{3,60}|[\w.-]{3,60}/api/webhooks)/[^\s\"'<>]+", re.IGNORECASE)
_NETWORK_PATH = re.compile(r"(?<![\w:/.])//([\w.-]{2,63}/[^/\s\"']+)(?=/)")
# All counts are bounded: a line of a log may be as long as all of it.
_MAIL = re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_SIGNED = re.compile(r"[^\s/@\"'<>:]{1,64}:[^\s/@\"'<>]{1,64}@(?=[\w\[])")
_NAMED_PORT = re.compile(r"(?<![\w./-])((?:[A-Za-z0-9-]+\.)+[A-Za-z][A-Za-z0-9-]+):\d{2,5}\b")
_LAN = re.compile(r"(?<![\w.-])[A-Za-z0-9-]+\.(?:local|lan|home|internal|intranet|fritz\.box)\b")
_V4 = re.compile(r"(?<![^\W_])(?<!\d\.)\d{1,3}(?:\.\d{1,3}){3}(?![^\W_]|\.\d)")
_V6 = re.compile(r"(?<![0-9A-Za-z_])[0-9A-Fa-f:.]{2,46}(?:%\w{1,16})?(?![0-9A-Za-z_])")
_MAC = re.compile(r"(?<![\w:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![\w:-])")
_KEY = (
    r"(?:token|password|passwd|\bpwd|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|authorization|cookie|credential)s?"
)
_SECRET_KEY = re.compile(_KEY, re.IGNORECASE)
_SHOWN_KEY = re.compile(
    rf"{_KEY}[\"']?\s{{0,8}}[:=]\s{{0,8}}"
    r"(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|((?:(?:bearer|basic)\s+)?[^\s,;&\"']+))",
    re.IGNORECASE,
)
_OPTION = re.compile(
    rf"(?<!\w)--?[\w-]{{0,30}}{_KEY}\s{{1,4}}(\"[^\"\n]*\"|'[^'\n]*'|[^\s\"'-][^\s\"']*)",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"\b(?:set-cookie|cookie|(?:proxy-)?authorization)[\"']?\s{0,4}:\s{0,4}[\"']?([^\n\"']+)",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    r"[?&](?:sig|signature|key|auth|code|x-amz-\w{1,30})=([^\s&\"'<>]+)", re.IGNORECASE
)
_BEARER = re.compile(r"\b(bearer|basic|digest)\s+([A-Za-z0-9._~+/=-]{6,})", re.IGNORECASE)
_TOKEN = re.compile(
    r"(?<![^\W_])(?:hf_|sk[-_]|pk[-_]|rk[-_]|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|r8_|AKIA|ASIA|AIza|ya29\."
    r"|eyJ)[A-Za-z0-9._~+/=-]{8,}"
)
_LONG = re.compile(r"(?<![^\W_])[A-Za-z0-9]{32,}")
_SHARE = re.compile(r"\\\\(?![?.<])([^\\\s\"']+\\[^\\\s\"']+)")
_PLAIN = (
    (_PEOPLE, 2, USER), (_BEARER, 2, SECRET), (_TOKEN, 0, SECRET), (_SHARE, 1, HOST),
    (_SIGNED, 0, ADDRESS), (_MAIL, 0, MAIL), (_MAC, 0, IDENTITY), (_NAMED_PORT, 1, ADDRESS),
    (_LAN, 0, ADDRESS), (_DISK, 1, USER), (_MADE_ID, 0, ADDRESS), (_NAMED_HOST, 1, HOST),
    (_RESOLVED, 1, HOST), (_RESOLVED, 2, HOST),
    (_NAMED_USER, 1, USER), (_HOOK, 0, ADDRESS), (_NETWORK_PATH, 1, HOST), (_OPTION, 1, SECRET),
    (_HEADER, 1, SECRET), (_SIGNATURE, 1, SECRET),
)  # fmt: skip
"""What goes wherever it stands: the pattern, which part of it, and what stands there then."""
_SHOWN_PROMPT = re.compile(
    r"(\b\w*prompt\w*[\"']?\s*[:=]\s*)(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\n\"'{\[][^\n]*)",
    re.IGNORECASE,
)
_DEVICE = re.compile(
    r"\b(?:GPU|MIG)-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"
    r"|(?<=serial)((?:[ _-]?(?:number|no\.?))?[\"']?\s*[=:#]\s*[\"']?)[A-Za-z0-9-]{5,}",
    re.IGNORECASE,
)
_PROMPT_KEY = re.compile(r"prompt|^title$", re.IGNORECASE)
_Span = tuple[int, int, str]
"""A stretch of a text, and what stands there then."""


class Scrubber:
    """Knows what is private, and takes it out of texts.

    Args:
        homes: Home folders.
        users: Names by which the system knows the person.
        hosts: Names of the machine.
        secrets: Tokens and passwords.
        addresses: Hosts and addresses of servers that a person entered.
        folders: Folders and files that a person chose.
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
        folders: Iterable[str] = (),
        prompts: Iterable[str] = (),
        show_prompts: bool = False,
    ) -> None:
        self._show_prompts = show_prompts
        self._rules: list[tuple[re.Pattern[str], str]] = []
        self._known(secrets, SECRET)
        self._known(addresses, ADDRESS)
        found = {home.rstrip("/\\") for home in homes}
        self._known((home for home in found if len(home) > 1), HOME, anywhere=False)
        chosen = {folder.rstrip("/\\") for folder in folders}
        # Three signs are a drive, which says nothing of anybody.
        self._known((one for one in chosen - found if len(one) > 3), FOLDER, anywhere=False)
        wanted: list[str] = [] if show_prompts else list(dict.fromkeys(filter(None, prompts)))
        self._runs = {run for prompt in wanted for run in _runs(prompt)}
        self._shorts = {short for prompt in wanted if (short := _short(prompt))}
        self._nexts = _nexts(wanted)
        names = {user for user in users if user.casefold() not in NO_NAMES}
        places = {host for host in hosts if host.casefold() not in NO_NAMES}
        self._known(places, HOST, anywhere=False)
        first = {host.partition(".")[0] for host in places}
        self._known(first - {""} - NO_NAMES, HOST, anywhere=False)
        self._known(names, USER, anywhere=False)

    @staticmethod
    def of_this_machine(
        *,
        secrets: Iterable[str] = (),
        addresses: Iterable[str] = (),
        folders: Iterable[str] = (),
        prompts: Iterable[str] = (),
        show_prompts: bool = False,
    ) -> Scrubber:
        """Return one that knows this machine, this user and what is given; asks no network."""
        homes, users = {str(Path.home()), os.path.expanduser("~")}, set()  # noqa: PTH111
        with suppress(OSError):
            homes.add(str(Path.home().resolve()))
        with suppress(Exception):  # No such user, or none of the variables: each by its own error.
            users.add(getpass.getuser())
        # A folder's name may be the person's where the name to sign in is another.
        users |= {Path(home).name for home in homes}
        users |= {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME")}
        return Scrubber(
            homes=homes, users=users - {""}, hosts={socket.gethostname()} - {""},
            secrets=secrets, addresses=addresses, folders=folders, prompts=prompts,
            show_prompts=show_prompts,
        )  # fmt: skip

    def clean(self, text: str) -> str:
        """Return `text` without what is private.

        All of it is looked for in the text as it is: what one rule took out first might be half
        of what another one looks for, and its other half would stay.
        """
        found = [
            (match.start(), match.end(), instead)
            for pattern, instead in self._rules
            for match in pattern.finditer(text)
        ]
        if not self._show_prompts:
            for match in _SHOWN_PROMPT.finditer(text):
                if match[2].strip("\"' ") and not match[2].startswith(PROMPT):
                    found.append((*match.span(2), PROMPT))
            found += self._prompts_in(text)
        found += _looks_private(text)
        return _without(text, found)

    def clean_json(self, value: Any, key: str = "") -> Any:
        """Return plain values without what is private; what is called a prompt goes whole."""
        if isinstance(value, str):
            if value and not self._show_prompts and _PROMPT_KEY.search(key):
                return PROMPT
            return SECRET if value and _SECRET_KEY.search(key) else self.clean(value)
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
    ) -> None:
        """Take `words` out, the longest first, in every way in which texts escape them."""
        forms = {form for word in words if word.strip() for form in _forms(word)}
        for form in sorted(forms, key=lambda form: (-len(form), form)):
            bare = re.escape(form)
            loose = anywhere and len(form) >= _SURELY
            # A name's end is where no letter or digit goes on; "_" may stand around it.
            pattern = bare if loose else f"{_START if form[:1].isalnum() else ''}{bare}{_END}"
            self._rules.append((re.compile(pattern, re.IGNORECASE), instead))

    def _prompts_in(self, text: str) -> Iterator[_Span]:
        if not self._runs and not self._shorts:
            return
        words = list(_WORD.finditer(text))
        folded = [word.group().casefold() for word in words]
        for size in range(1, _RUN + 1):
            known = self._runs if size == _RUN else self._shorts
            for at in range(len(words) - size + 1):
                if tuple(folded[at : at + size]) in known:
                    yield words[at].start(), words[at + size - 1].end(), PROMPT
        # Names of files and titles end in the midst of a word.
        for at in range(1, len(words)):
            cut, begun = folded[at], self._nexts.get(folded[at - 1], ())
            if any(cut != word and word.startswith(cut) for word in begun):
                yield words[at - 1].start(), words[at].end(), PROMPT


def _forms(word: str) -> set[str]:
    """Return how a word may stand in a text: as it is, or as JSON, Python, URLs and HTML do."""
    plain, ascii_ = json.dumps(word, ensure_ascii=False)[1:-1], json.dumps(word)[1:-1]
    found = {word, plain, ascii_, repr(word)[1:-1], ascii(word)[1:-1], html.escape(word)}
    found |= {quote(word), quote(word, safe=""), quote_plus(word), word.replace("\\", "/")}
    found |= {word.replace(" ", "\\ "), word.replace(" ", "\\040")}
    # Some systems and tools write a letter and its dots as two signs.
    found |= {normalize(kind, form) for form in tuple(found) for kind in ("NFC", "NFD")}
    decomposed = normalize("NFD", word)
    found |= {quote(decomposed), quote(decomposed, safe=""), json.dumps(decomposed)[1:-1]}
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


def _nexts(prompts: Iterable[str]) -> dict[str, set[str]]:
    """Return which longer words follow a word of some length in prompts."""
    found: dict[str, set[str]] = {}
    for prompt in prompts:
        for words in _written(prompt):
            for word, after in pairwise(words):
                if len(word) >= _SURELY and len(after) > 1:
                    found.setdefault(word, set()).add(after)
    return found


def _short(prompt: str) -> tuple[str, ...]:
    words = _written(prompt)[0]
    return words if 0 < len(words) < _RUN and len("".join(words)) > 1 else ()


def _looks_private(text: str) -> Iterator[_Span]:
    """Yield the stretches that look like secrets and addresses."""
    for pattern, group, instead in _PLAIN:
        for match in pattern.finditer(text):
            if match[group] is not None:
                yield *match.span(group), instead
    for match in _SHOWN_KEY.finditer(text):
        group = next(number for number in (1, 2, 3) if match[number] is not None)
        if match[group].casefold() not in ("", "none", "null", "true", "false", SECRET):
            yield *match.span(group), SECRET
    for match in _LONG.finditer(text):
        # Those of one kind are words, or rules of a table.
        if not (match.group().isalpha() or match.group().isdigit()):
            yield *match.span(), SECRET
    for match in _DEVICE.finditer(text):
        yield match.end(1) if match[1] else match.start(), match.end(), IDENTITY
    yield from _addresses(text)


def _addresses(text: str) -> Iterator[_Span]:
    for match in _URL.finditer(text):
        if match[1].casefold() == "file":
            continue
        # Of this machine's own servers the address stays; of others the scheme and the port.
        here, port = _LOOPBACK.match(match[2]), _PORT.match(match[2])
        begin, (first, last) = match.start(2), port.span(1) if port else (0, 0)
        if here:
            yield begin + here.end(), match.end(), ""
        elif port:
            yield begin, begin + first, ADDRESS
            yield begin + last, match.end(), ""
        else:
            yield begin, match.end(), ADDRESS
    for pattern in (_V4, _V6):
        for match in pattern.finditer(text):
            yield match.start(), match.start() + _outside(match.group()), ADDRESS


def _outside(text: str) -> int:
    """Return how many letters of `text` are an address that is not this machine's own."""
    for end in ("", ".", ".:"):
        word = text.rstrip(end) if end else text
        try:
            place = ipaddress.ip_address(word.partition("%")[0])
        except ValueError:
            continue
        return 0 if place.is_loopback or place.is_unspecified else len(word)
    return 0


def _without(text: str, found: list[_Span]) -> str:
    """Return `text` with the stretches replaced; those that overlap go as one, as the longest."""
    parts: list[str] = []
    at = 0
    now: _Span = (-9, -9, "")
    widest = 0
    for begin, end, instead in sorted(one for one in found if one[0] < one[1]):
        # A blank, a comma and a blank lie between words of a prompt.
        near = 2 if instead == now[2] == PROMPT else -1
        if begin <= now[1] + near:
            label = instead if end - begin > widest else now[2]
            widest = max(widest, end - begin)
            now = (now[0], max(now[1], end), label)
            continue
        if now[1] > 0:
            parts += [text[at : now[0]], now[2]]
            at = now[1]
        now, widest = (begin, end, instead), end - begin
    if now[1] > 0:
        parts += [text[at : now[0]], now[2]]
        at = now[1]
    return "".join([*parts, text[at:]])

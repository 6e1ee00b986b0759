"""Taking out of a text what is nobody's business: for reports that a person gives away.

What is left tells what is wrong, and not whose machine it is: no user or host name, no home
folder, no address beyond this machine, no serial number, no password or token.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

USER, HOST, ADDRESS, SECRET, IDENTITY, MAIL = (
    "<user>", "<host>", "<address>", "<secret>", "<id>", "<mail>",
)  # fmt: skip
_LOOPBACK_NAMES = ("localhost", "ip6-localhost")
_NO_NAMES = frozenset(
    ["", "root", "user", "admin", "administrator", "localhost", "home", "users", "framedeck"]
)
"""Names that tell nothing, and words that stand in every path."""

_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'<>)\]},;]+(?:\][^\s\"'<>)},;]*)?")
_MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_NAMED_SECRET = re.compile(
    r"(?i)\b([\w-]*(?:token|secret|passw(?:or)?d|api[_-]?key|authorization|cookie))"
    r"(\"?\s*[=:]\s*\"?)(?:(?:bearer|basic)\s+)?[^\s\"',;&]+"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}")
_TOKEN = re.compile(r"\b(?:hf|sk|pk|ghp|gho|ghs|github_pat|xox[abp]|glpat|r8)[-_][A-Za-z0-9_-]{8,}")
_UUID = re.compile(r"\b(?:GPU-|MIG-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_MAC = re.compile(r"(?<![0-9a-fA-F:-])[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}(?![0-9a-fA-F:-])")
_LONG_HEX = re.compile(r"\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{16,}\b")
_SERIAL = re.compile(r"(?i)\b(serial(?:[ _-]?(?:number|no\.?))?\s*[=:#]?\s*)[A-Za-z0-9-]{5,}")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*(?:%\w+)?(?![\w:])")
_HOMES = re.compile(
    r"(?i)((?:/home/|/Users/|/var/home/|\b[a-z]:[\\/]+Users[\\/]+))[^/\\\s\"':;,<>]+"
)
_SHARE = re.compile(r"\\\\(?!\?|\.)[^\\\s]+\\[^\\\s]+")


@dataclass(frozen=True, slots=True)
class Person:
    """Whose machine it is.

    Attributes:
        user: Login name; "" when unknown.
        host: Name of the machine; "" when unknown.
        home: Home folder; "" when unknown.
        hosts: Names of other machines, such as servers.
        secrets: Words that shall stand nowhere.
    """

    user: str = ""
    host: str = ""
    home: str = ""
    hosts: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @staticmethod
    def here(hosts: Iterable[str] = (), secrets: Iterable[str] = ()) -> Person:
        """Return the person whose session this is."""
        try:
            user = getpass.getuser()
        except (OSError, KeyError, ImportError):
            user = ""
        return Person(user, socket.gethostname(), str(Path.home()), tuple(hosts), tuple(secrets))


def scrubbed(text: str, person: Person) -> str:
    """Return `text` without anything private in it; twice gives the same as once."""
    for secret in sorted((one for one in person.secrets if len(one) > 3), key=len, reverse=True):
        text = text.replace(secret, SECRET)
    text = _URL.sub(_url, text)
    text = _MAIL.sub(MAIL, text)
    text = _NAMED_SECRET.sub(rf"\1\2{SECRET}", text)
    text = _BEARER.sub(rf"\1 {SECRET}", text)
    text = _TOKEN.sub(SECRET, text)
    text = _SERIAL.sub(rf"\1{IDENTITY}", text)
    for pattern in (_UUID, _MAC, _LONG_HEX):
        text = pattern.sub(IDENTITY, text)
    text = _without_home(text, person.home)
    text = _SHARE.sub(lambda _: f"\\\\{HOST}", text)
    text = _HOMES.sub(rf"\1{USER}", text)
    text = _IPV4.sub(_address, text)
    text = _IPV6.sub(_address, text)
    for name in (*person.hosts, person.host, person.host.partition(".")[0]):
        text = _without_name(text, name, HOST)
    return _without_name(text, person.user, USER)


def _without_home(text: str, home: str) -> str:
    if len(home.strip("/\\")) < 2:
        return text
    flags = re.IGNORECASE if os.name == "nt" else 0
    # JSON writes a backslash as two.
    for one in dict.fromkeys((home, home.replace("\\", "\\\\"), home.replace("\\", "/"))):
        text = re.sub(re.escape(one) + r"(?![\w.-])", "~", text, flags=flags)
    return text


def _without_name(text: str, name: str, instead: str) -> str:
    """Take a name out wherever it stands as a word; one inside of a longer word is no name."""
    if len(name) < 2 or name.lower() in _NO_NAMES:
        return text
    return re.sub(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", instead, text, flags=re.IGNORECASE)


def _url(found: re.Match[str]) -> str:
    """Return an address: whole where it is this machine's, else without its host."""
    text = found[0]
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"{text.partition('://')[0]}://{ADDRESS}"
    if parts.scheme == "file":
        return text
    shown = host if _is_loopback(host) else ADDRESS
    shown = f"[{shown}]" if ":" in shown else shown
    where = f"{shown}:{port}" if port is not None else shown
    return f"{parts.scheme}://{where}"


def _address(found: re.Match[str]) -> str:
    text = found[0].partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return found[0]
    kept = address.is_loopback or address.is_unspecified
    return found[0] if kept else ADDRESS


def _is_loopback(host: str) -> bool:
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""The ComfyUI servers that a person named: where they are, and how they are started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from core.engines.comfy.fetch import address
from core.engines.comfy.sign_in import split
from core.errors import Problem, ProblemError, invalid

USUAL_PORT = 8188
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - told from addresses, never listened on


@dataclass(frozen=True, slots=True)
class KnownServer:
    """One server, as the settings hold it.

    Attributes:
        base: Its address, such as "http://127.0.0.1:8188"; its key everywhere.
        title: What a person calls it; "" for a name made of its port or host.
        folder: Folder of its main.py on this machine; "" when Framedeck does not start it.
        python: Python that runs it; "" for the one found beside or in the folder.
        arguments: What it is started with, beside address and port.
        shared: Its output folder as this machine sees it; "" when it is not shared.
        keep_running: It goes on when Framedeck quits.
        signed: It wants a name and a password, which a keyring or this run's memory holds.
        secret: These as they were entered just now or stood in an older file, see
            `sign_in.written`; "" otherwise. In no file, and in no text.
    """

    base: str
    title: str = ""
    folder: str = ""
    python: str = ""
    arguments: tuple[str, ...] = ()
    shared: str = ""
    keep_running: bool = False
    signed: bool = False
    secret: str = field(default="", repr=False, compare=False)

    @property
    def name(self) -> str:
        """What it is called in the window."""
        if self.title:
            return self.title
        host = urlsplit(self.base).hostname or ""
        return f"ComfyUI :{self.port}" if self.is_local else f"ComfyUI {host}:{self.port}"

    @property
    def port(self) -> int:
        """Where it listens."""
        parts = urlsplit(self.base)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine, as its address says."""
        return urlsplit(self.base).hostname in _LOOPBACK

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the settings."""
        plain = {**asdict(self), "arguments": list(self.arguments)}
        del plain["secret"]
        return plain

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> KnownServer:
        """Rebuild a server; its address comes out in the one form it has everywhere.

        Raises:
            ProblemError: A value cannot be used; the problem names the field.
        """
        if not isinstance(data, Mapping):
            raise invalid("servers", "An entry of the servers is no object.", "Add it anew.")
        values = {"base": "", **{k: v for k, v in data.items() if k in _KINDS}}
        for name, value in values.items():
            if name == "arguments":
                good = isinstance(value, list | tuple) and all(isinstance(i, str) for i in value)
            else:
                good = isinstance(value, _KINDS[name])
            if not good or "\0" in str(value):
                raise invalid(
                    name, f"{value!r:.80} cannot be used as {name} of a server.", "Enter it anew."
                )
        made = KnownServer(**{**values, "arguments": tuple(values.get("arguments", ()))})
        return checked(made)


_KINDS: Mapping[str, type] = {
    each.name: {"arguments": tuple, "keep_running": bool, "signed": bool}.get(each.name, str)
    for each in fields(KnownServer)
    if each.name != "secret"
}


def checked(server: KnownServer) -> KnownServer:
    """Return `server` in its usual form.

    Raises:
        ProblemError: A value cannot be used; the problem names the field.
    """
    base, who = split(_usual(server.base))
    secret = who or server.secret
    made = KnownServer(
        base,
        " ".join(server.title.split())[:60],
        server.folder.strip(),
        server.python.strip(),
        tuple(server.arguments),
        server.shared.strip(),
        server.keep_running,
        server.signed or bool(secret),
        secret,
    )
    if made.folder and not made.is_local:
        raise invalid(
            "folder",
            f"{base} is another machine, and Framedeck starts servers on this one only.",
            "Leave the folder empty, or use an address like http://127.0.0.1:8188.",
        )
    if made.arguments:
        from core.engines.comfy.arguments import check

        check(made.arguments, made.port)
    return made


def _usual(text: str) -> str:
    bare = text.strip()
    if bare and "://" not in bare and bare.rpartition("]")[2].count(":") == 0:
        host, slash, rest = bare.partition("/")
        bare = f"{host}:{USUAL_PORT}{slash}{rest}"
    try:
        found = address(bare)
    except ProblemError as error:
        raise invalid("base", error.problem.message, error.problem.hint) from None
    parts = urlsplit(found)
    if parts.hostname in _EVERYWHERE:
        raise invalid(
            "base",
            f"{parts.hostname} says where a server listens, not where it is.",
            f"Write http://127.0.0.1:{parts.port or USUAL_PORT}.",
        )
    # Host names know no capitals; names, passwords and paths do.
    who, at, where = parts.netloc.rpartition("@")
    return parts._replace(netloc=who + at + where.lower(), scheme=parts.scheme.lower()).geturl()


def vault_name(base: str) -> str:
    """Return under which name a vault has a server's name and password."""
    return f"server {base}"


def load(rows: Sequence[Any]) -> tuple[list[KnownServer], list[Problem]]:
    """Return the servers that the settings hold, and what is wrong with the others.

    A server named twice counts once.
    """
    found: dict[str, KnownServer] = {}
    problems = []
    for row in rows:
        try:
            server = KnownServer.from_json(row)
        except ProblemError as error:
            problems.append(error.problem)
            continue
        found.setdefault(server.base, server)
    return list(found.values()), problems

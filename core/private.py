"""Whose machine it is, and what of it must not stand in a report that is given away."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from core.private_words import Scrubber


@dataclass(frozen=True, slots=True)
class Person:
    """Whose machine it is.

    Attributes:
        user: Login name; "" when unknown.
        host: Name of the machine; "" when unknown.
        home: Home folder; "" when unknown.
        hosts: Other names that are nobody's business, such as those of servers.
        secrets: Passwords and tokens that are known.
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
    return Scrubber(
        homes=[person.home],
        users=[person.user],
        hosts=[person.host, *person.hosts],
        secrets=[secret for secret in person.secrets if len(secret) > 3],
    ).clean(text)

"""Name and password of a server: beside its address, never in it.

An address is a key everywhere: in the settings, in jobs, in recipes, in texts. So what a
server is signed in with is taken out of it at the door, and given to those alone who call
the server, as a function that is asked when it is needed.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from urllib.parse import quote, unquote, urlsplit

SignIn = Callable[[], str]
"""Returns "name:password" as it stands in an address, "" for none; may wait for a keyring."""


def nobody() -> str:
    """Sign in as nobody."""
    return ""


def split(address: str) -> tuple[str, str]:
    """Return an address without name and password, and these; "" for none."""
    parts = urlsplit(address)
    who, at, where = parts.netloc.rpartition("@")
    return (parts._replace(netloc=where).geturl(), who) if at else (address, "")


def door(address: str, sign_in: SignIn | None) -> tuple[str, SignIn]:
    """Return an address without what may stand in it, and who signs in there."""
    base, own = split(address)
    return base, sign_in or (lambda: own)


def joined(address: str, who: str) -> str:
    """Return an address with name and password in it, for calling the server alone."""
    parts = urlsplit(address)
    return parts._replace(netloc=f"{who}@{parts.netloc}").geturl() if who else address


def written(name: str, password: str) -> str:
    """Return name and password as they stand in an address; "" for none."""
    return f"{quote(name, safe='')}:{quote(password, safe='')}" if name or password else ""


def read(who: str) -> tuple[str, str]:
    """Return the name and the password that `written` wrote."""
    name, _, password = who.partition(":")
    return unquote(name), unquote(password)


def headers(who: str) -> dict[str, str]:
    """Return what signs a request in."""
    if not who:
        return {}
    pair = ":".join(read(who)).encode()
    return {"Authorization": "Basic " + b64encode(pair).decode()}

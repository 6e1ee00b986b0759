"""The proxies that the environment names: which one an address is asked through, and its faults.

`requests` takes such a variable as it is, and meets a malformed one with whatever
error comes of it, some with the password inside. So it is looked at before it is used.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from core.errors import Category, Problem, ProblemError

EXAMPLE = "http://name:password@proxy.example.org:3128"
_BEGIN = "begins with neither http:// nor https://"
_SECRET = re.compile(r"//\S+@")


def scrubbed(text: str) -> str:
    """Return `text` without a name and a password that stand in an address."""
    return _SECRET.sub("//…@", text)


def fault(proxy: str) -> str:
    """Return why a text is no address of a proxy that can be asked, "" when it is one.

    The words go on from the proxy's name, and hold nothing of what it says: any part of a
    malformed one may be the password.
    """
    # Late: the window starts without them.
    from requests.utils import prepend_scheme_if_needed
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    bare = proxy.removeprefix("//")
    try:
        parts = urlsplit(bare if "://" in bare else f"http://{bare}")
        host, port = parts.hostname or "", parts.port
        whole = "@" not in f"{parts.path}{parts.query}{parts.fragment}"
    except ValueError:
        whole = False
    if not whole:
        return "has a port that is no number, or a password with signs not written as in %2F"
    if not host:
        return "names no host"
    if parts.scheme.startswith("socks"):
        return "" if _knows_socks() else "is a SOCKS proxy, which Framedeck does not speak to"
    if parts.scheme not in ("http", "https"):
        return _BEGIN
    if port == 0:
        return "has the port 0, which nobody listens on"
    try:
        host.encode("idna")
        unquote(f"{parts.username}{parts.password}").encode("latin-1")
    except UnicodeError:
        return "has a host, a name or a password with signs that cannot be sent"
    try:
        # As it is read where it is used.
        sound = bool(parse_url(prepend_scheme_if_needed(proxy, "http")).host)
    except (LocationParseError, TypeError, ValueError):
        sound = False
    if sound:
        return ""
    return "names a host that can be none" if "://" in proxy else _BEGIN


def check_proxy(address: str) -> None:
    """Refuse to ask `address` through a proxy of the environment that is no proxy.

    Raises:
        ProblemError: It names the variable and what is wrong with it; the field is "proxy".
    """
    from requests.utils import get_environ_proxies, select_proxy

    proxies = get_environ_proxies(address)
    proxy = select_proxy(address, proxies)
    what = fault(proxy) if proxy else ""
    if what:
        scheme = urlsplit(address).scheme
        raise unusable(variable(scheme if scheme in proxies else "all"), what)


def variable(kind: str) -> str:
    """Return the environment variable that names the proxy for "http", "https" or "all"."""
    small = f"{kind}_proxy"
    # Whoever reads them prefers the small ones.
    names = (small, small.upper(), *os.environ)
    return next((one for one in names if one.lower() == small and os.environ.get(one)), "")


def unusable(name: str, what: str) -> ProblemError:
    """Return the error for a variable ("" for the system's own settings) that cannot be used."""
    if name:
        hint = f"Write it like {name}={EXAMPLE}, or remove it."
    else:
        hint = f"Write it like {EXAMPLE} in the settings of the system, or turn it off there."
    message = f"{name or 'The proxy of the system'} {what}."
    return ProblemError(Problem(Category.NETWORK_ERROR, message, hint, field="proxy"))


def _knows_socks() -> bool:
    from importlib.util import find_spec

    return find_spec("socks") is not None

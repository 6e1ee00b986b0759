"""Secrets: kept by the system's keyring, or for this run alone where there is none."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

SERVICE = "Framedeck"
_SURE = 1.0
"""Backends below this priority write into files that others can read; none is used."""
_log = logging.getLogger(__name__)


class Keyring(Protocol):
    """What is used of a backend of the `keyring` library."""

    def get_password(self, service: str, username: str) -> str | None:
        """Return a secret, None when there is none."""
        ...

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep a secret."""
        ...

    def delete_password(self, service: str, username: str) -> None:
        """Forget a secret."""
        ...


class Vault:
    """Secrets by name. From any thread but the window's: a keyring may ask a person first.

    What was read or kept once is remembered until the program ends, so the keyring is asked
    for each name at most once.

    Args:
        ring: Where secrets are kept; None for the one that the system offers.
    """

    def __init__(self, ring: Keyring | None = None) -> None:
        self._lock = threading.RLock()
        self._ring = ring
        self._looked = ring is not None
        self._known: dict[str, str] = {}
        self.why = ""
        """Why secrets are kept for this run alone, in a sentence; "" when a keyring keeps them.

        Known after the first call of another method.
        """

    def get(self, name: str) -> str:
        """Return a secret, "" when there is none."""
        with self._lock:
            if name not in self._known:
                found = self._read(name)
                self._known.setdefault(name, found)
            return self._known[name]

    def know(self, name: str, secret: str) -> None:
        """Have a secret for this run; from any thread, without waiting for anything."""
        self._known[name] = secret

    def known(self) -> list[str]:
        """Return the secrets that were asked for or kept in this run, to take them out of texts."""
        return [secret for secret in list(self._known.values()) if secret]

    def put(self, name: str, secret: str) -> bool:
        """Keep a secret, "" to forget it; say whether it is still there after this run."""
        with self._lock:
            self._known[name] = secret
            ring = self._found()
            if ring is None:
                return False
            try:
                if secret:
                    ring.set_password(SERVICE, name, secret)
                elif ring.get_password(SERVICE, name) is not None:
                    ring.delete_password(SERVICE, name)
            except Exception as error:  # noqa: BLE001 - backends raise what they like
                self._give_up("does not keep secrets", error)
                return False
            return True

    def keeps(self) -> bool:
        """Say whether a keyring keeps secrets; `why` tells why not."""
        with self._lock:
            return self._found() is not None

    def _read(self, name: str) -> str:
        ring = self._found()
        if ring is None:
            return ""
        try:
            return ring.get_password(SERVICE, name) or ""
        except Exception as error:  # noqa: BLE001 - backends raise what they like
            self._give_up("does not open", error)
            return ""

    def _found(self) -> Keyring | None:
        if not self._looked:
            self._looked = True
            try:
                self._ring = system_keyring()
            except Exception as error:  # noqa: BLE001 - backends raise what they like
                self._give_up("cannot be used", error)
            if self._ring is None and not self.why:
                self.why = "This system has no keyring that Framedeck can use."
        return self._ring

    def _give_up(self, what: str, error: Exception) -> None:
        # Its words may hold anything; its kind says enough.
        _log.warning("the keyring %s: %s", what, type(error).__name__)
        self.why = f"This system's keyring {what} ({type(error).__name__})."
        self._ring = None


def system_keyring() -> Keyring | None:
    """Return the keyring of this system, None when it has none that is safe.

    Source: the `keyring` library, which knows the Secret Service and KWallet of Linux desktops,
    the Keychain and the Windows Credential Locker, so that none of them is spoken to here.
    """
    import keyring

    found = keyring.get_keyring()
    if not float(getattr(found, "priority", 0.0)) >= _SURE:
        return None
    if type(found).__module__.startswith("keyring.backends.null"):
        return None
    return found


def hidden(text: str, *secrets: str) -> str:
    """Return `text` without the secrets in it, for showing what a server said."""
    for secret in sorted((one for one in secrets if len(one) > 3), key=len, reverse=True):
        text = text.replace(secret, "…")
    return text

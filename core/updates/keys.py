"""Whose word counts: the public keys that ship with Framedeck."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import resources
from core.errors import Category, Problem, ProblemError

FILE = "update_keys.json"
KEY_BYTES = 32


def key_id(public: bytes) -> str:
    """Return the name of a public key: the beginning of its sha256."""
    return hashlib.sha256(public).hexdigest()[:16]


def load_keys(path: Path | None = None) -> dict[str, bytes]:
    """Return the raw Ed25519 public keys by their id: those that ship, or those in `path`.

    Raises:
        ProblemError: The file cannot be read, or a key is none.
    """
    path = path or resources.path(FILE)
    try:
        made = [base64.b64decode(one["public"], validate=True) for one in _read(path)["keys"]]
        if any(len(public) != KEY_BYTES for public in made):
            raise ValueError("a key is not 32 bytes long")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProblemError(
            Problem(
                Category.STORAGE,
                f"The keys for updates in {path.name} cannot be read: {error}",
                "Install Framedeck again.",
                str(path),
            )
        ) from error
    return {key_id(public): public for public in made}


def built_in_address(path: Path | None = None) -> str:
    """Return where this build looks for updates; "" when whoever built it named no address."""
    try:
        found = _read(path or resources.path(FILE)).get("address", "")
    except (OSError, ValueError):
        return ""
    return found if isinstance(found, str) else ""


def verify(data: bytes, signature: bytes, public: bytes) -> bool:
    """Say whether `signature` of `data` was made with the private half of `public`."""
    # Loads OpenSSL, which nothing but an update needs.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _read(path: Path) -> Mapping[str, Any]:
    data = json.loads(path.read_text("utf-8"))
    if not isinstance(data, dict):
        raise ValueError("it is no object")
    return data

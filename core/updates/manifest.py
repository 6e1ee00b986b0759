"""The signed list of what there is: read only after its signature was found good."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.errors import Category, Problem, ProblemError
from core.updates import keys
from core.updates.numbers import key

FORMAT = 1
MOST_BYTES = 256_000
MOST_SIGNATURE_BYTES = 4_000
MOST_NOTES = 20_000
LARGEST_FILE = 2 * 2**30
LARGEST_BUNDLE = 4 * 2**30
KINDS = ("tar.xz", "zip")
SIGNATURE_ENDING = ".sig"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LATER = "Try again later. If it stays so, get the new version from where you got this one."


@dataclass(frozen=True, slots=True)
class Artefact:
    """One file to download.

    Attributes:
        platform: Such as "linux-x86_64".
        name: Its name beside the manifest on the server; never a path here.
        sha256: As hex.
        size_bytes: Of the file.
        unpacked_bytes: Of everything in it.
        kind: One of KINDS.
    """

    platform: str
    name: str
    sha256: str
    size_bytes: int
    unpacked_bytes: int
    kind: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the publisher says there is.

    Attributes:
        sequence: Grows with every manifest, so that an old one is known as such.
        version: The version there is.
        minimum: The oldest version that can update to it by itself.
        released_unix: When it was released.
        expires_unix: From then on the manifest is no longer believed.
        notes: What is new, as plain text.
        engine_since: The first version with the engine that it needs; "" for none told.
        artefacts: A file for each platform.
    """

    sequence: int
    version: str
    minimum: str
    released_unix: float
    expires_unix: float
    notes: str
    engine_since: str
    artefacts: tuple[Artefact, ...]

    def artefact(self, platform: str) -> Artefact | None:
        """Return the file for `platform`, None when there is none."""
        return next((one for one in self.artefacts if one.platform == platform), None)


def read_signed(data: bytes, signature: bytes, trusted: Mapping[str, bytes]) -> Manifest:
    """Return the manifest in `data`, if one of the `trusted` keys signed exactly these bytes.

    Args:
        data: The manifest as it was fetched.
        signature: The signature's file: JSON with "key" and "signature".
        trusted: Raw public keys by id.

    Raises:
        ProblemError: The signature is bad or of an unknown key, or the manifest is none.
    """
    name, made = _signature(signature)
    public = trusted.get(name)
    if public is None:
        raise _refused(
            "The list of updates is signed with a key that this version does not know.",
            f"key {name}",
        )
    if not keys.verify(data, made, public):
        raise _refused("The signature of the list of updates is wrong; nothing was taken from it.")
    try:
        found = json.loads(data)
        if found["format"] != FORMAT:
            raise _refused("The list of updates is written for a newer Framedeck than this one.")
        return _manifest(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refused("The list of updates cannot be read.", f"{type(error).__name__}: {error}")  # noqa: B904


def _signature(text: bytes) -> tuple[str, bytes]:
    try:
        found = json.loads(text)
        name, made = found["key"], base64.b64decode(found["signature"], validate=True)
        if not isinstance(name, str) or len(name) > 64 or not name.isalnum():
            raise ValueError("the key's id is none")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused(
            "The signature of the list of updates cannot be read.", str(error)
        ) from error
    return name, made


def _manifest(found: Mapping[str, Any]) -> Manifest:
    return Manifest(
        sequence=_count(found, "sequence", 2**53),
        version=_version(found["version"]),
        minimum=_version(found["minimum"]),
        released_unix=_moment(found["released_at"]),
        expires_unix=_moment(found["expires_at"]),
        notes=_plain(found.get("notes", "")),
        engine_since=_version(found["engine_since"]) if found.get("engine_since") else "",
        artefacts=tuple(_artefact(one) for one in found["artefacts"]),
    )


def _artefact(found: Mapping[str, Any]) -> Artefact:
    name, digest, kind = found["name"], found["sha256"], found["kind"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("name is no plain name of a file")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError("sha256 is none")
    if kind not in KINDS:
        raise ValueError(f"kind is none of {', '.join(KINDS)}")
    return Artefact(
        platform=str(found["platform"]),
        name=name,
        sha256=digest,
        size_bytes=_count(found, "size", LARGEST_FILE),
        unpacked_bytes=_count(found, "unpacked", LARGEST_BUNDLE),
        kind=kind,
    )


def _count(found: Mapping[str, Any], name: str, most: int) -> int:
    value = found[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
        raise ValueError(f"{name} is not a whole number from 1 to {most}")
    return value


def _version(value: object) -> str:
    if not isinstance(value, str) or key(value) is None:
        raise ValueError(f"{value!r:.60} is no version")
    return value


def _moment(value: object) -> float:
    moment = datetime.fromisoformat(str(value))
    if moment.tzinfo is None:
        raise ValueError(f"{value} names no time zone")
    return moment.timestamp()


def _plain(notes: object) -> str:
    if not isinstance(notes, str):
        raise TypeError("notes is no text")
    kept = (sign for sign in notes[:MOST_NOTES] if sign in "\n\t" or sign.isprintable())
    return "".join(kept).strip()


def _refused(message: str, details: str = "") -> ProblemError:
    return ProblemError(Problem(Category.BAD_OUTPUT, message, _LATER, details))

"""Looks whether there is a newer version, and believes only what holds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote, urljoin

from core.errors import Category, Problem, ProblemError
from core.updates import active, seen
from core.updates.fetch import Fetcher
from core.updates.manifest import (
    MOST_BYTES,
    MOST_SIGNATURE_BYTES,
    SIGNATURE_ENDING,
    Artefact,
    Manifest,
    read_signed,
)
from core.updates.numbers import is_newer
from core.updates.program import Program

_WHAT = "The list of updates"
_AGE = "If the address for updates was changed on purpose, run `framedeck update forget`."


class Verdict(StrEnum):
    """What a look came to."""

    NEWEST = "newest"
    OFFER = "offer"
    BY_HAND = "by hand"
    """There is a newer one, and this one cannot fetch it: a checkout, or the system updates it."""
    TOO_OLD = "too old"
    """There is a newer one, and this one is too old to update to it by itself."""
    NO_FILE = "no file"
    """There is a newer one, and none for this system."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look found.

    Attributes:
        verdict: What it came to.
        manifest: The publisher's word.
        artefact: The file for this system, None when there is none.
        address: Where that file is; "" when there is none.
        failed_here: That version was put here before and did not start.
        needs_engine: It needs another engine than the one that runs now.
    """

    verdict: Verdict
    manifest: Manifest
    artefact: Artefact | None
    address: str
    failed_here: bool
    needs_engine: bool


def look(
    address: str,
    trusted: Mapping[str, bytes],
    program: Program,
    folder: Path,
    *,
    now: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Found:
    """Fetch the manifest, and return what it means for `program`.

    Args:
        address: Of the manifest; its signature lies beside it.
        trusted: Raw public keys by id.
        program: What runs here.
        folder: Where the versions lie, and what was seen before.
        now: Unix seconds.
        stopped: Asked often; True ends it.

    Raises:
        ProblemError: It cannot be fetched, is signed by nobody known, is out of date, or older
            than one that was seen.
        StoppedError: It is no longer wanted.
        OSError: What was seen cannot be written.
    """
    now = time.time() if now is None else now
    seen.looked(folder, now)
    fetcher = Fetcher(program.agent, stopped)
    data = fetcher.small(address, MOST_BYTES, _WHAT)
    signature = fetcher.small(_beside(address, None), MOST_SIGNATURE_BYTES, "Its signature")
    manifest = read_signed(data, signature, trusted)
    _refuse_old(manifest, hashlib.sha256(data).hexdigest(), folder, now)
    artefact = manifest.artefact(program.platform)
    state = active.load(folder)
    return Found(
        verdict=_verdict(manifest, artefact, program),
        manifest=manifest,
        artefact=artefact,
        address=_beside(address, artefact.name) if artefact else "",
        failed_here=bool(state and state.given_up(manifest.version)),
        needs_engine=is_newer(manifest.engine_since, program.version),
    )


def _verdict(manifest: Manifest, artefact: Artefact | None, program: Program) -> Verdict:
    if not is_newer(manifest.version, program.version):
        return Verdict.NEWEST
    if not program.can_install:
        return Verdict.BY_HAND
    if is_newer(manifest.minimum, program.version):
        return Verdict.TOO_OLD
    return Verdict.OFFER if artefact else Verdict.NO_FILE


def _beside(address: str, name: str | None) -> str:
    """Return the address of a file beside the manifest; None for its signature."""
    plain = address.partition("?")[0].partition("#")[0]
    return plain + SIGNATURE_ENDING if name is None else urljoin(plain, quote(name))


def _refuse_old(manifest: Manifest, digest: str, folder: Path, now: float) -> None:
    before = seen.load(folder)
    if manifest.sequence < before.sequence:
        raise _unbelieved(
            "The list of updates is older than one that was seen before.",
            f"number {manifest.sequence}, after {before.sequence}",
        )
    if manifest.sequence == before.sequence and digest != before.digest:
        raise _unbelieved(
            "There are two lists of updates with the same number.", f"number {manifest.sequence}"
        )
    if now > manifest.expires_unix:
        day = time.strftime("%Y-%m-%d", time.gmtime(manifest.expires_unix))
        raise ProblemError(
            Problem(
                Category.BAD_OUTPUT,
                f"The list of updates is out of date since {day}: newer ones may be held back.",
                "Check this computer's clock. If it is right, get the new version from where "
                "you got this one.",
            )
        )
    if manifest.sequence > before.sequence:
        newest = replace(
            before, sequence=manifest.sequence, digest=digest, version=manifest.version
        )
        seen.save(folder, newest)


def _unbelieved(message: str, details: str) -> ProblemError:
    hint = f"Somebody may be holding newer versions back. Nothing was taken from it. {_AGE}"
    return ProblemError(Problem(Category.BAD_OUTPUT, message, hint, details))

"""What can go wrong with an installation, as a person meets it."""

from __future__ import annotations

import errno
from pathlib import Path

from core.errors import Category, Problem, ProblemError
from core.proxies import scrubbed

GOES_ON = "What was fetched is kept: the next try goes on from there."
_GB = 1024**3


class StoppedError(Exception):
    """It was stopped as asked."""


def gigabytes(count: float) -> str:
    """Return an amount as a person reads it: GB of 2**30 bytes, or MB below one of them."""
    if count < _GB:
        return f"{max(count, 0) / 1024**2:.0f} MB"
    return f"{count / _GB:.1f} GB"


def no_space(folder: Path, need_bytes: int, free_bytes: int) -> ProblemError:
    """Return the error for a disk that is too full before anything is done."""
    missing = need_bytes - free_bytes
    return ProblemError(
        Problem(
            Category.STORAGE,
            f"The disk of {folder} has too little space: {gigabytes(need_bytes)} are needed and "
            f"{gigabytes(free_bytes)} are free, so {gigabytes(missing)} are missing.",
            "Free that much on this disk, or keep everything on another one: "
            "start with --home and a folder there.",
            field="disk",
        )
    )


def storage(error: OSError, folder: Path) -> ProblemError:
    """Return the error for a folder that could not be written in the midst of it."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        message = f"The disk of {folder} became full."
        hint = f"Free some space on it, then try again. {GOES_ON}"
    else:
        message = f"{folder} cannot be written: {error.strerror or error}."
        hint = f"Check who may write there. {GOES_ON}"
    return ProblemError(Problem(Category.STORAGE, message, hint, str(error), field="disk"))


def wrong_hash(name: str, where: str, wanted: str, got: str) -> ProblemError:
    """Return the error for a file that is another than the lock names."""
    return ProblemError(
        Problem(
            Category.BAD_OUTPUT,
            f"{name} from {where} is not the file that was locked: its checksum differs.",
            "It was not used. Try again; if it stays so, a proxy on the way changes files, or "
            "the file of the folder is another one.",
            f"wanted sha256 {wanted}\ngot    sha256 {got}",
            field="hash",
        )
    )


def unreachable(host: str, details: str) -> ProblemError:
    """Return the error for a server that does not answer."""
    return ProblemError(
        Problem(
            Category.NETWORK_ERROR,
            f"{host} cannot be reached.",
            "Check the network. Behind a company's proxy, give its address; without a network, "
            f"name a folder of wheels. {GOES_ON}",
            scrubbed(details),
            field="network",
        )
    )


def cut_off(host: str, name: str, details: str) -> ProblemError:
    """Return the error for a server that ends or stalls again and again."""
    return ProblemError(
        Problem(
            Category.NETWORK_ERROR,
            f"{host} breaks off again and again while {name} is fetched.",
            f"Try again later. {GOES_ON}",
            scrubbed(details),
            field="network",
        )
    )


def refused(host: str, name: str, status: int) -> ProblemError:
    """Return the error for a server that answers, but not with the file."""
    gone = "does not have" if status in (404, 410) else "refuses"
    return ProblemError(
        Problem(
            Category.NETWORK_ERROR,
            f"{host} {gone} {name} ({status}).",
            "Try again later, or name a folder that has this file. " + GOES_ON,
            field="network",
        )
    )


def proxy(details: str, *, wants_sign_in: bool) -> ProblemError:
    """Return the error for a proxy that does not let us through."""
    if wants_sign_in:
        message = "The proxy wants a name and a password (407)."
        hint = "Give the proxy's address as http://name:password@host:port."
    else:
        message = "The proxy cannot be reached or refuses."
        hint = (
            "Check the proxy's address, here and in HTTP_PROXY, HTTPS_PROXY and ALL_PROXY; "
            "it begins with http:// or https://."
        )
    return ProblemError(
        Problem(
            Category.NETWORK_ERROR, message, f"{hint} {GOES_ON}", scrubbed(details), field="proxy"
        )
    )


def certificate(host: str, details: str) -> ProblemError:
    """Return the error for a server whose certificate is not trusted."""
    return ProblemError(
        Problem(
            Category.NETWORK_ERROR,
            f"The certificate of {host} is not trusted.",
            "Check the clock of this computer. Where a company's proxy opens connections, name "
            "its certificate file in REQUESTS_CA_BUNDLE.",
            scrubbed(details),
            field="certificate",
        )
    )


def no_python(versions: str, details: str = "") -> ProblemError:
    """Return the error for a machine on which no Python that fits is to be had."""
    return ProblemError(
        Problem(
            Category.WORKER_UNAVAILABLE,
            f"No Python that the engine can use is here: it needs Python {versions}.",
            "Install one, such as the package python3, or connect to the network so that one can "
            "be fetched; then try again.",
            scrubbed(details),
            field="python",
        )
    )


def failed(what: str, details: str) -> ProblemError:
    """Return the error for a program that failed in a way that it says itself."""
    if "no space left on device" in details.lower():
        return ProblemError(
            Problem(
                Category.STORAGE,
                "The disk became full while the engine was installed.",
                f"Free some space on it, then try again. {GOES_ON}",
                scrubbed(details),
                field="disk",
            )
        )
    return ProblemError(
        Problem(
            Category.WORKER_UNAVAILABLE,
            f"{what} failed.",
            f"Try again; what it said is in the details. {GOES_ON}",
            scrubbed(details),
        )
    )


def none_active() -> ProblemError:
    """Return the error for an engine that is asked for while there is none."""
    return ProblemError(
        Problem(
            Category.WORKER_UNAVAILABLE,
            "The engine is not set up yet.",
            "Set up the engine: Help → Set up engine, or `framedeck engine install`.",
            field="engine",
        )
    )

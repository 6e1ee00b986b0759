"""A report about a problem: one zip, put together here, sent nowhere, with nothing private."""

from __future__ import annotations

import json
import logging
import os
import platform
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from core.crashes import records
from core.crashes.trace import PACKAGES
from core.frozen import version
from core.places import Places
from core.private_words import Scrubber
from core.queue import JobRow
from core.settings import Settings

MOST_LOG_BYTES = 200_000
MOST_RECORDS = 5
MOST_SERVER_LOGS = 6
_PLAIN_SETTINGS_OUT = (
    "geometry",
    "layout",
    "compose",
    "news",
    "timeline",
    "queue",
    "servers",
    "dream_screen",
)
_SINCE = (1980, 1, 1, 0, 0, 0)
"""Time of all files in the zip: it tells nothing."""
_log = logging.getLogger(__name__)
WHAT_IT_IS = """\
A report about Framedeck, put together on the machine it is about. Nothing was sent anywhere.
Home folders, names of user and machine, addresses, tokens and prompts were taken out: ~, <user>,
<host>, <address>, <folder>, <mail>, <id>, <secret> and <prompt> stand in their places.
"""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the report.

    Attributes:
        name: In the zip.
        about: What it is, for a person who decides whether it goes along.
        text: What is in it.
        wanted: Whether it goes along unless a person says otherwise.
    """

    name: str
    about: str
    text: str
    wanted: bool = True

    @property
    def size_bytes(self) -> int:
        """Its size before it is packed."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class Sources:
    """What a report is made from.

    Attributes:
        places: Where logs and records lie.
        settings: What was chosen.
        counts: How many jobs are in which state.
        rows: The latest jobs.
        secrets: Tokens and passwords that this program knows.
        machine: More about it: versions of the toolkit, GPUs.
        doctor: Returns the doctor's findings as text; None where there is no doctor.
        prompts: The person wants prompts to be in it.
    """

    places: Places
    settings: Settings
    counts: Mapping[str, int]
    rows: Sequence[JobRow] = ()
    secrets: Sequence[str] = ()
    machine: Mapping[str, Any] | None = None
    doctor: Callable[[], str] | None = None
    prompts: bool = False


def assemble(sources: Sources, scrubber: Scrubber | None = None) -> list[Part]:
    """Return the parts of a report, scrubbed. Reads files; for a thread aside.

    Args:
        sources: What it is made from.
        scrubber: Takes private words out; one that knows this machine when left out.
    """
    cleaner = scrubber or scrubber_for(sources)
    found: list[Part] = []
    for part in _raw(sources):
        structured = part.name.endswith(".json")
        text = _clean_json(part.text, cleaner) if structured else cleaner.clean(part.text)
        found.append(replace(part, text=text))
    return found


def scrubber_for(sources: Sources) -> Scrubber:
    """Return what takes out of a report whatever is known to be private here."""
    settings = sources.settings
    addresses, prompts = [], list(written_in(settings.compose))
    for server in settings.servers:
        base = str(server.get("base", ""))
        if not any(here in base for here in ("127.0.0.1", "localhost", "[::1]")):
            addresses += [base.partition("://")[2].rpartition("@")[2], base]
            addresses.append(base.partition("://")[2].rpartition("@")[2].partition(":")[0])
        addresses.append(str(server.get("title", "")))
    for row in sources.rows:
        prompts += [row.job.title, *written_in(row.job.params)]
    environment = [
        value
        for name, value in os.environ.items()
        if any(word in name.upper() for word in ("TOKEN", "SECRET", "PASSW", "API_KEY", "APIKEY"))
    ]
    proxies = [value for name, value in os.environ.items() if name.upper().endswith("_PROXY")]
    for proxy in (*proxies, settings.engine_proxy):
        named, _, host = proxy.partition("://")[2].rpartition("@")
        # A password alone may stand in what a library prints.
        environment += [named, *map(unquote, (named, *named.split(":", 1)))]
        addresses += [host.rstrip("/"), host.partition(":")[0]] if host else []
    addresses = [one for one in addresses if one not in ("127.0.0.1", "localhost", "[")]
    return Scrubber.of_this_machine(
        secrets=[one for one in (*sources.secrets, *environment) if len(one) > 3],
        addresses=[one for one in addresses if len(one) > 3],
        folders=[one for one in folders_of(sources) if one],
        prompts=prompts,
        show_prompts=sources.prompts,
    )


def folders_of(sources: Sources) -> Iterator[str]:
    """Yield the folders that a person chose; those below the home are as usual, and help."""
    settings, places = sources.settings, sources.places
    yield from (settings.outputs, *settings.model_folders)
    python = Path(settings.interpreter)
    if settings.interpreter and not any(
        python.is_relative_to(known) for known in (Path.home(), Path("/usr"))
    ):
        yield str(python.parent)
        if len(python.parents) > 3:
            yield str(python.parent.parent)
    for server in settings.servers:
        yield str(server.get("folder", ""))
    for usual in (places.data, places.outputs, places.logs):
        if not usual.is_relative_to(Path.home()):
            yield str(usual)


def written_in(values: Any, key: str = "") -> Iterator[str]:
    """Yield what a person wrote in a form's or a job's values: prompts, and whatever has words."""
    if isinstance(values, str):
        if "prompt" in key or len(values.split()) > 1:
            yield values
    elif isinstance(values, Mapping):
        for name, inner in values.items():
            yield from written_in(inner, str(name))
    elif isinstance(values, list | tuple):
        for inner in values:
            yield from written_in(inner, key)


def write_zip(path: Path, parts: Sequence[Part]) -> None:
    """Write a report; a crash leaves the old file or the new one.

    Raises:
        OSError: It cannot be written.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED) as file:
            for name, text in (("README.txt", WHAT_IT_IS), *((p.name, p.text) for p in parts)):
                entry = zipfile.ZipInfo(name, _SINCE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                file.writestr(entry, text.encode())
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def _raw(sources: Sources) -> Iterator[Part]:
    places = sources.places
    yield Part("versions.json", "Versions, system, memory and GPUs", _dump(_versions(sources)))
    if sources.doctor is not None:
        yield Part("doctor.txt", "What the doctor found", _looked(sources.doctor))
    yield Part(
        "settings.json", "Settings without secrets, servers and layout", _dump(_chosen(sources))
    )
    yield Part(
        "jobs.json", "How many jobs there are, and the latest failures", _dump(_jobs(sources))
    )
    for record in records.listed(places.crashes)[:MOST_RECORDS]:
        text = tail(record.text_path)
        if text:
            yield Part(f"crashes/{record.text_path.name}", record.title, text)
    own = ((places.log, "The program's log"), (places.worker_log, "What the engine printed"),
           (places.crash_log, "Stacks of the window's crashes"))  # fmt: skip
    for path, about in own:
        text = tail(path)
        if text:
            yield Part(f"logs/{path.name}", about, text)
    known = {path.name for path, _ in own}
    for number, path in enumerate(_others(places.logs, known), 1):
        # Servers' names may be in the names of their logs.
        yield Part(f"logs/server-{number}.log", "What a server printed", tail(path), wanted=False)


def _looked(doctor: Callable[[], str]) -> str:
    try:
        return doctor()
    except Exception as error:  # noqa: BLE001 - what is wrong with it must not hide the rest
        _log.error("the doctor failed", exc_info=error)
        return f"The doctor could not look: {type(error).__name__}: {error}\n"


def _others(logs: Path, known: set[str]) -> list[Path]:
    with suppress(OSError):
        found = [path for path in logs.glob("*.log") if path.name not in known and path.is_file()]
        return sorted(found, key=lambda path: -path.stat().st_mtime)[:MOST_SERVER_LOGS]
    return []


def tail(path: Path, most_bytes: int = MOST_LOG_BYTES) -> str:
    """Return the end of a text file, from the beginning of a line; "" when it cannot be read."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - most_bytes)
            file.seek(start)
            text = file.read(most_bytes).decode("utf-8", "replace")
    except OSError:
        return ""
    return text.partition("\n")[2] if start else text


def _versions(sources: Sources) -> dict[str, Any]:
    import psutil

    found = {"framedeck": version(), "python": platform.python_version()}
    for name in ("PySide6", "PySide6-Essentials", "pyqtgraph", "psutil", *PACKAGES):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    memory = psutil.virtual_memory()
    return {
        "versions": found,
        "system": {
            "platform": platform.platform(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "memory_bytes": memory.total,
            "available_bytes": memory.available,
        },
        **(sources.machine or {}),
    }


def _chosen(sources: Sources) -> dict[str, Any]:
    plain = {k: v for k, v in asdict(sources.settings).items() if k not in _PLAIN_SETTINGS_OUT}
    plain["model_folders"] = len(sources.settings.model_folders)
    plain["servers"] = [
        {
            "on_this_machine": any(
                here in str(server.get("base", "")) for here in ("127.0.0.1", "localhost", "[::1]")
            ),
            "started_by_framedeck": bool(server.get("folder")),
            "arguments": [*_shown_arguments(server.get("arguments", []))],
        }
        for server in sources.settings.servers
    ]
    return plain


def _shown_arguments(arguments: Iterable[object]) -> Iterator[str]:
    """Yield options and numbers; what else stands there may be a folder, a name or a key."""
    for word in map(str, arguments):
        name, is_one, _ = word.partition("=")
        if word.startswith("-"):
            yield f"{name}=…" if is_one else name
        else:
            yield word if word.isdigit() and len(word) < 6 else "…"


def _jobs(sources: Sources) -> dict[str, Any]:
    failures = []
    for row in sources.rows:
        if row.problem is None:
            continue
        failures.append(
            {
                "id": row.job.id,
                "recipe": row.job.recipe,
                "state": row.state.value,
                "attempt": row.attempt,
                "values": {
                    # Names of files stand in lists and in what is nested as well.
                    name: value
                    for name, value in row.job.params.items()
                    if isinstance(value, bool | int | float)
                },
                "category": row.problem.category.value,
                "message": row.problem.message,
                "details": row.problem.details[-4000:],
            }
        )
    found: dict[str, Any] = {"counts": dict(sources.counts), "failures": failures[:20]}
    if sources.prompts:
        found["prompts"] = [
            {"id": row.job.id, **{k: v for k, v in row.job.params.items() if "prompt" in k}}
            for row in sources.rows[:50]
        ]
    return found


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _clean_json(text: str, cleaner: Scrubber) -> str:
    cleaned = cleaner.clean_json(json.loads(text))
    return json.dumps(cleaned, indent=1, ensure_ascii=False) + "\n"

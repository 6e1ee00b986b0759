"""What a ComfyUI server can be asked over HTTP, one method each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlencode

from core.engines.comfy import answers
from core.engines.comfy.answers import Queue, Record, Remote
from core.engines.comfy.fetch import Fetcher, RefusedError, broken, parse_json
from core.engines.comfy.rejections import rejection
from core.engines.comfy.sign_in import SignIn
from core.errors import ProblemError, invalid

Graph = Mapping[str, Mapping[str, Any]]
"""Nodes by id, each with "class_type" and "inputs", as the API takes them."""

_Read = TypeVar("_Read")

MOST_UPLOAD_BYTES = 100 * 1024 * 1024
MOST_OUTPUT_BYTES = 16 * 1024**3
_MOST_UNTOLD_BYTES = 512 * 1024**2
_MOST_LOG_LINES = 5_000


@dataclass(frozen=True, slots=True)
class Submitted:
    """A prompt the server took.

    Attributes:
        prompt: Its id; servers of old choose another one than was asked for.
        node_errors: Outputs that it will leave out, as it words them.
    """

    prompt: str
    node_errors: Mapping[str, Any]


class UnclearError(ProblemError):
    """Whether the server took the prompt is not known: look before sending it again."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the server. Bytes are None when it did not say.

    Attributes:
        torch_free_bytes: Memory that torch holds for later and could give back.
    """

    name: str
    type: str
    vram_total_bytes: int | None
    vram_free_bytes: int | None
    torch_total_bytes: int | None
    torch_free_bytes: int | None


@dataclass(frozen=True, slots=True)
class Stats:
    """What a server says of itself."""

    version: str
    python: str
    torch: str
    ram_total_bytes: int | None
    ram_free_bytes: int | None
    devices: tuple[Device, ...]
    arguments: tuple[str, ...]

    @property
    def device(self) -> str:
        """A word for its first device, such as "cuda:0"."""
        return self.devices[0].name.split()[0] if self.devices else "unknown"

    @property
    def has_gpu(self) -> bool:
        """Whether its figures for VRAM are a GPU's; without one they repeat those for RAM."""
        return any(device.type not in ("cpu", "mps") for device in self.devices)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that the server printed, with its own words for when."""

    at: str
    text: str


class Server:
    """One server's HTTP side. One object belongs to one thread; `fork` makes one for another.

    All calls raise ProblemError: NETWORK_ERROR, TIMEOUT, or what they say.
    """

    def __init__(self, base: str, title: str = "", sign_in: SignIn | None = None) -> None:
        self.fetcher = Fetcher(base, title, sign_in)

    @property
    def base(self) -> str:
        """Its address."""
        return self.fetcher.base

    @property
    def called(self) -> str:
        """What it is within a sentence: its title, else "the server at" its address."""
        return self.fetcher.called

    def fork(self) -> Server:
        """Return another one of the same server, for another thread."""
        return Server(self.base, self.fetcher.title, self.fetcher.sign_in)

    def close(self) -> None:
        """Let the connections go."""
        self.fetcher.close()

    # --- prompts

    def submit(
        self,
        graph: Graph,
        *,
        prompt: str,
        client: str,
        extra: Mapping[str, Any] | None = None,
    ) -> Submitted:
        """Queue a graph.

        Args:
            graph: What to run.
            prompt: The id to give it.
            client: Who hears its progress.
            extra: Stored in the files it makes, such as {"workflow": ...}.

        Raises:
            UnclearError: The server may have taken it: an answer is missing or a 500.
            ProblemError: It refused; the problem says why.
        """
        body: dict[str, Any] = {"prompt": graph, "prompt_id": prompt, "client_id": client}
        # Never null: a server that gets null here runs nothing any more until it is restarted.
        if extra:
            body["extra_data"] = {"extra_pnginfo": dict(extra)}
        try:
            said = self.fetcher.json("POST", "/prompt", body=body)
        except RefusedError as error:
            if error.status == 400:
                raise rejection(error.body, graph, self.called) from error
            if error.status < 500:
                raise
            raise UnclearError(error.problem) from error
        except ProblemError as error:
            raise UnclearError(error.problem) from error
        if not isinstance(said, dict) or not isinstance(said.get("prompt_id"), str):
            raise UnclearError(broken(self.base, "It took a prompt and gave no id.").problem)
        faults = said.get("node_errors")
        return Submitted(said["prompt_id"], faults if isinstance(faults, dict) else {})

    def queue(self) -> Queue:
        """Return what runs and what waits, everybody's."""
        return self._sense(answers.queue, self.fetcher.json("GET", "/queue"))

    def history(self, prompt: str) -> Record | None:
        """Return how a prompt ended; None when the server has nothing of it."""
        answer = self.fetcher.json("GET", "/history/" + quote(prompt, safe=""))
        return self._sense(lambda said: answers.record(said, prompt), answer)

    def sent(self, prompt: str, client: str) -> Graph | None:
        """Return the graph of a prompt that runs, waits or ended; None when there is none.

        Args:
            prompt: Its id.
            client: Its client id, for servers of old that choose another id.
        """
        for path, key in (("/queue", ""), ("/history/" + quote(prompt, safe=""), prompt)):
            found = answers.sent_graph(self.fetcher.json("GET", path), key, prompt, client)
            if found is not None:
                return found
        return None

    def recent(self, most: int = 50) -> dict[str, Record]:
        """Return how the last prompts ended, everybody's, by id."""
        answer = self.fetcher.json("GET", "/history", params={"max_items": most})
        if not isinstance(answer, dict):
            raise broken(self.base, "Its history is no object.")
        found = {str(key): answers.record(answer, str(key)) for key in answer}
        return {key: record for key, record in found.items() if record is not None}

    def interrupt(self, prompt: str) -> None:
        """Interrupt a prompt if it is the one that runs.

        It acts at the next progress tick or the next node. Servers of old know
        no ids and would stop whatever runs: look at the queue first.
        """
        self.fetcher.read("POST", "/interrupt", json={"prompt_id": prompt})

    def delete(self, prompts: Sequence[str]) -> None:
        """Take prompts that wait out of the queue; one that runs goes on."""
        self.fetcher.read("POST", "/queue", json={"delete": list(prompts)})

    def forget(self, prompts: Sequence[str]) -> None:
        """Take prompts out of the history."""
        self.fetcher.read("POST", "/history", json={"delete": list(prompts)})

    def free(self, *, keep_results: bool = False) -> None:
        """Ask for memory back; it is done between prompts.

        Args:
            keep_results: Unload models alone: what nodes made is kept for the next prompt.
        """
        flags = {"unload_models": True, "free_memory": not keep_results}
        self.fetcher.read("POST", "/free", json=flags)

    # --- what it has

    def stats(self) -> Stats:
        """Return what it says of itself and its memory."""
        return stats_of(self.fetcher.json("GET", "/system_stats"), self.base)

    def models(self, folder: str) -> list[str]:
        """Return the names in a model folder; none when it has no such folder."""
        try:
            names = self.fetcher.json("GET", "/models/" + quote(folder, safe=""))
        except RefusedError as error:
            if error.status == 404:
                return []
            raise
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def model_folders(self) -> list[str]:
        """Return the kinds of models it knows."""
        names = self.fetcher.json("GET", "/models")
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def object_info(self, cache: Path | None = None, max_age_seconds: float = 0.0) -> Any:
        """Return all node types it has, as it describes them: 660 kB, so call it in a pump.

        Args:
            cache: Folder to keep the answer in.
            max_age_seconds: A kept answer up to this old is taken without asking.
        """
        kept = None if cache is None else _Kept(cache, self.base)
        if kept is not None:
            raw = kept.read(max_age_seconds)
            if raw is not None:
                return raw
        given: dict[str, Any] = {}
        if kept is not None and kept.etag:
            given["headers"] = {"If-None-Match": kept.etag}
        try:
            with self.fetcher.stream("GET", "/object_info", **given) as answer:
                raw = b"".join(self.fetcher.chunks(answer, 30.0, 64 * 1024 * 1024))
                etag = answer.headers.get("ETag", "")
        except RefusedError as error:
            found = kept.read(float("inf")) if kept is not None and error.status == 304 else None
            if found is None:
                raise
            return found
        info = parse_json(raw, self.base)
        if not isinstance(info, dict):
            raise broken(self.base, "Its list of nodes is no object.")
        if kept is not None:
            kept.write(raw, etag)
        return info

    def log(self) -> list[LogLine]:
        """Return the last lines it printed; none from servers that do not tell."""
        try:
            said = self.fetcher.json("GET", "/internal/logs/raw")
        except RefusedError as error:
            if error.status in (403, 404):
                return []
            raise
        rows = said.get("entries") if isinstance(said, dict) else None
        return [
            LogLine(str(row.get("t", "")), str(row.get("m", "")).rstrip("\n")[:2_000])
            for row in (rows if isinstance(rows, list) else [])[-_MOST_LOG_LINES:]
            if isinstance(row, dict)
        ]

    # --- files

    def upload(self, name: str, data: bytes) -> str:
        """Put a picture into its input folder; return the name it gave it.

        Raises:
            ProblemError: INVALID_PARAMS when it is larger than it takes.
        """
        if len(data) > MOST_UPLOAD_BYTES:
            raise invalid(
                "image",
                f"The picture {name} has {len(data):,} bytes and the server takes "
                f"{MOST_UPLOAD_BYTES:,}.",
                "Use a smaller picture.",
            )
        said = self.fetcher.json(
            "POST", "/upload/image", files={"image": (name, data)}, data={"type": "input"}
        )
        if not isinstance(said, dict) or not isinstance(said.get("name"), str):
            raise broken(self.base, "It took a picture and gave no name.")
        folder = said.get("subfolder")
        return f"{folder}/{said['name']}" if isinstance(folder, str) and folder else said["name"]

    def view_size(self, remote: Remote) -> int | None:
        """Return a file's size now, None when the server does not say."""
        with self.fetcher.stream("HEAD", _view(remote)) as answer:
            said = answer.headers.get("Content-Length", "")
        return int(said) if said.isdecimal() else None

    def view_start(self, remote: Remote, most_bytes: int) -> bytes:
        """Return the first bytes of a file, fewer when it is shorter."""
        found = b""
        with self.fetcher.stream("GET", _view(remote)) as answer:
            for chunk in self.fetcher.chunks(answer, 30.0, MOST_OUTPUT_BYTES):
                found += chunk
                if len(found) >= most_bytes:
                    break
        return found[:most_bytes]

    def view(
        self,
        remote: Remote,
        target: BinaryIO,
        *,
        seconds: float = 600.0,
        most_bytes: int = MOST_OUTPUT_BYTES,
    ) -> int:
        """Write a file to `target` as it comes; return its size."""
        return self.fetcher.download(
            _view(remote),
            target,
            seconds=seconds,
            most_bytes=most_bytes,
            most_untold_bytes=_MOST_UNTOLD_BYTES,
        )

    def _sense(self, read: Callable[[Any], _Read], answer: Any) -> _Read:
        try:
            return read(answer)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise broken(self.base, str(error) or "It sent other values.") from error


class _Kept:
    """An answer on the disk, with its tag beside it in the same file."""

    def __init__(self, folder: Path, base: str) -> None:
        name = sha256(base.encode()).hexdigest()[:16]
        self._path = folder / f"nodes-{name}.json"
        self.etag = ""
        self._raw: bytes | None = None
        try:
            head, _, raw = self._path.read_bytes().partition(b"\n")
            said = json.loads(head)
            if said["base"] == base and said["bytes"] == len(raw):
                self.etag, self._raw = str(said["etag"]), raw
                self._age = time.time() - float(said["at"])
        except (OSError, ValueError, KeyError, TypeError):
            self._raw = None
        self._base = base

    def read(self, max_age_seconds: float) -> Any:
        """Return the values if they are not older than that; else None."""
        if self._raw is None or not 0 <= self._age <= max_age_seconds:
            return None
        try:
            return parse_json(self._raw, self._base)
        except ProblemError:
            return None

    def write(self, raw: bytes, etag: str) -> None:
        """Keep an answer; a disk that cannot be written only costs the next start time."""
        head = {"base": self._base, "bytes": len(raw), "etag": etag, "at": time.time()}
        part = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(json.dumps(head).encode() + b"\n" + raw)
            part.replace(self._path)
        except OSError:
            part.unlink(missing_ok=True)


def _view(remote: Remote) -> str:
    # Only these three kinds exist; another word is not passed on.
    kind = remote.type if remote.type in ("output", "temp", "input") else "output"
    query = {"filename": remote.filename, "subfolder": remote.subfolder, "type": kind}
    return "/view?" + urlencode(query)


def stats_of(said: Any, base: str) -> Stats:
    """Return what the answer to GET /system_stats says. Raises ProblemError for nonsense."""
    try:
        return _stats(said)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise broken(base, str(error) or "It sent other values.") from error


def _stats(said: Any) -> Stats:
    system = said["system"]
    return Stats(
        str(system.get("comfyui_version") or ""),
        str(system.get("python_version") or ""),
        str(system.get("pytorch_version") or ""),
        _bytes(system.get("ram_total")),
        _bytes(system.get("ram_free")),
        tuple(
            Device(
                str(one.get("name") or ""),
                str(one.get("type") or ""),
                _bytes(one.get("vram_total")),
                _bytes(one.get("vram_free")),
                _bytes(one.get("torch_vram_total")),
                _bytes(one.get("torch_vram_free")),
            )
            for one in said.get("devices") or ()
        ),
        tuple(str(word) for word in system.get("argv") or ()),
    )


def _bytes(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value >= 0 else None

"""Servers for language models on this machine: what they hold, and giving it back.

Ollama: `GET /api/ps` lists the models in memory; `POST /api/generate` with
`keep_alive` 0 and no prompt unloads one. Both stand in its API reference
(docs.ollama.com/api/ps and /api/generate).

LM Studio: `GET /api/v1/models` lists models with their `loaded_instances`,
`POST /api/v1/models/unload` takes an `instance_id`. Both stand in its REST
reference (lmstudio.ai/docs/developer/rest), since version 0.4. Before that its
API could list but not unload.

What a server says is not believed: memory counts as freed once the driver's
own readings fall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, Protocol

from core import web
from core.errors import Category, Problem, ProblemError
from core.gpu.roles import LM_STUDIO, OLLAMA, USUAL_PORTS
from core.units import memory

CONFIRM_SECONDS = 15.0
ENOUGH = 0.8
"""Share of what was expected that has to come back."""

SETTLED_SECONDS = 1.0
"""Memory that stood still for so long has come back as far as it will."""

UNLOAD_SECONDS = 10.0
_POLL_SECONDS = 0.1
_MOST_MODELS = 50


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        id: By which the server unloads it.
        name: By which a person knows it.
        used_bytes: GPU memory it takes, where the server tells.
    """

    id: str
    name: str
    used_bytes: int | None


class LlmServer(Protocol):
    """What can be asked of a server. Every call may raise ProblemError."""

    program: str

    def loaded(self) -> list[LoadedModel]:
        """Return the models in memory."""
        ...

    def unload(self, model: LoadedModel) -> None:
        """Ask for one model to be taken out of memory."""
        ...


class Ollama:
    """Ollama's API.

    Args:
        url: Of the server; this machine's usual one when left out.
        timeout_seconds: For one answer.
    """

    program = OLLAMA

    def __init__(self, url: str = "", timeout_seconds: float = web.TIMEOUT_SECONDS) -> None:
        self._url = url.rstrip("/") or loopback(USUAL_PORTS[OLLAMA])
        self._timeout = timeout_seconds

    def loaded(self) -> list[LoadedModel]:
        """Return the models in memory."""
        url = f"{self._url}/api/ps"
        data = web.ask(url, who=OLLAMA, timeout_seconds=self._timeout)
        found = []
        for item in _listed(data, OLLAMA)[:_MOST_MODELS]:
            name = item.get("name") or item.get("model")
            if isinstance(name, str):
                found.append(LoadedModel(name, name, _count(item.get("size_vram"))))
        return found

    def unload(self, model: LoadedModel) -> None:
        """Ask for one model to be taken out of memory."""
        body = {"model": model.id, "keep_alive": 0, "stream": False}
        url = f"{self._url}/api/generate"
        web.ask(url, body, who=OLLAMA, timeout_seconds=max(self._timeout, UNLOAD_SECONDS))


class LmStudio:
    """LM Studio's REST API.

    Args:
        url: Of the server; this machine's usual one when left out.
        timeout_seconds: For one answer.
    """

    program = LM_STUDIO

    def __init__(self, url: str = "", timeout_seconds: float = web.TIMEOUT_SECONDS) -> None:
        self._url = url.rstrip("/") or loopback(USUAL_PORTS[LM_STUDIO])
        self._timeout = timeout_seconds

    def loaded(self) -> list[LoadedModel]:
        """Return the models in memory; one that is loaded twice counts twice."""
        url = f"{self._url}/api/v1/models"
        try:
            data = web.ask(url, who=LM_STUDIO, timeout_seconds=self._timeout)
        except web.RefusedError as error:
            if error.status != 404:
                raise
            message = "This LM Studio has no way to unload models from outside."
            hint = "Update it to 0.4 or later, or eject the model in its own window."
            raise ProblemError(Problem(Category.WORKER_UNAVAILABLE, message, hint)) from error
        found = []
        for item in _listed(data, LM_STUDIO):
            instances = item.get("loaded_instances")
            name = item.get("display_name") or item.get("key")
            for instance in instances if isinstance(instances, list) else []:
                known = instance.get("id") if isinstance(instance, dict) else None
                if isinstance(known, str):
                    # The size it tells is that of the file, not of what lies on the GPU.
                    found.append(LoadedModel(known, str(name or known), None))
        return found[:_MOST_MODELS]

    def unload(self, model: LoadedModel) -> None:
        """Ask for one model to be taken out of memory."""
        body = {"instance_id": model.id}
        url = f"{self._url}/api/v1/models/unload"
        web.ask(url, body, who=LM_STUDIO, timeout_seconds=max(self._timeout, UNLOAD_SECONDS))


def loopback(port: int) -> str:
    """Return the address of a server on this machine."""
    return f"http://127.0.0.1:{port}"


def server_of(program: str, port: int | None) -> LlmServer | None:
    """Return the server that a process reading names, None for one without an API for this."""
    kinds: dict[str, Callable[[str], LlmServer]] = {OLLAMA: Ollama, LM_STUDIO: LmStudio}
    kind = kinds.get(program)
    return kind(loopback(port or USUAL_PORTS[program])) if kind else None


@dataclass(frozen=True, slots=True)
class Unloaded:
    """What came of unloading.

    Attributes:
        models: Names of the models that the server was asked to unload.
        freed_bytes: By how much the memory in use fell, by the driver; None when it does not tell.
        seconds: Until it had fallen as far, or until it was given up.
        why: Why less came back than was held; "" when enough did.
    """

    program: str
    models: tuple[str, ...]
    freed_bytes: int | None
    seconds: float
    why: str

    @property
    def confirmed(self) -> bool:
        """Whether the driver's readings show it."""
        return not self.why


def unload_all(
    server: LlmServer,
    used: Callable[[], int | None],
    expected_bytes: int | None = None,
    *,
    within_seconds: float = CONFIRM_SECONDS,
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = monotonic,
    pause: Callable[[float], None] = sleep,
) -> Iterator[Unloaded]:
    """Unload every model of a server, wait for the driver to show it, and yield what came.

    Args:
        server: Whose models.
        used: Bytes in use on the GPU by the latest reading; None when not known.
        expected_bytes: What the server's processes hold; None when not known.
        within_seconds: How long to wait for the readings to fall.
        stopped: Asked while waiting; True gives up at once, and nothing is yielded.
        clock: Monotonic seconds.
        pause: Waits.

    Raises:
        ProblemError: The server cannot be asked, or has no model in memory.
    """
    began = clock()
    before = used()
    models = server.loaded()
    if not models:
        raise ProblemError(
            Problem(
                Category.WORKER_UNAVAILABLE,
                f"{server.program} says that it has no model in memory.",
                f"Close {server.program} to give back what it holds.",
            )
        )
    for model in models:
        server.unload(model)
    told = [model.used_bytes for model in models]
    known = sum(size or 0 for size in told) if None not in told else None
    expected = known if known is not None else expected_bytes
    lowest, lowest_at = before, clock()
    while clock() - began < within_seconds:
        if stopped():
            return
        now = used()
        if now is not None and (lowest is None or now < lowest):
            lowest, lowest_at = now, clock()
        freed = None if before is None or lowest is None else before - lowest
        still = clock() - lowest_at >= SETTLED_SECONDS
        if freed and still and freed >= (expected or 1) * ENOUGH:
            break
        pause(_POLL_SECONDS)
    freed = None if before is None or lowest is None else before - lowest
    names = tuple(model.name for model in models)
    enough = bool(freed) and (freed or 0) >= (expected or 1) * ENOUGH
    why = "" if enough else _why(server, freed, expected)
    took = (lowest_at if enough else clock()) - began
    yield Unloaded(server.program, names, freed, took, why)


def in_words(found: Unloaded) -> str:
    """Say what came of unloading, such as "5.2 GB freed in 1.8 s."."""
    if found.confirmed:
        return f"{memory(found.freed_bytes or 0)} freed in {found.seconds:.1f} s."
    amount = "" if not found.freed_bytes else f"Only {memory(found.freed_bytes)} freed: "
    text = f"{amount}{found.why}"
    return text[0].upper() + text[1:]


def _why(server: LlmServer, freed: int | None, expected: int | None) -> str:
    """Say why the readings do not show what was asked for."""
    if freed is None:
        return "the driver does not tell how much memory is in use, so nothing is confirmed."
    try:
        left = server.loaded()
    except ProblemError as error:
        return f"{server.program} took the request, and then: {error.problem.message}"
    if left:
        names = ", ".join(model.name for model in left[:3])
        return f"{server.program} still has {names} in memory; a request may be running on it."
    share = f" of {memory(expected)}" if expected else ""
    return (
        f"{server.program} unloaded its models, but the memory in use did not fall{share}; "
        "another program may have taken it, or the models lay in main memory."
    )


def _listed(data: Any, who: str) -> list[dict[str, Any]]:
    listed = data.get("models") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        message = f"{who} answers, but not with a list of models."
        hint = f"Update {who}, or unload the model in its own window."
        raise ProblemError(Problem(Category.BAD_OUTPUT, message, hint, f"{data!r:.200}"))
    return [item for item in listed if isinstance(item, dict)]


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**53:
        return None
    return value

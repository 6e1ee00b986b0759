"""ComfyUI and servers for language models: found, and answering."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.doctor.asking import NoAnswerError
from core.doctor.context import Context
from core.doctor.findings import Finding, note, ok, warning
from core.engines.comfy.known import USUAL_PORT, KnownServer, load
from core.units import memory

_COMFY = "ComfyUI"
SERVER_SECONDS = 10.0


def comfy(context: Context) -> Iterator[Finding]:
    """Say which ComfyUI servers answer, and where ComfyUI lies."""
    known, problems = load(context.settings.servers)
    for number, problem in enumerate(problems):
        yield warning(f"comfy.entry.{number}", _COMFY, problem.message, problem.hint)
    for number, server in enumerate(known):
        yield server_told(f"comfy.server.{number}", server, _asked(context, server))
    folders = context.own("comfy_folders")["folders"]
    usual = KnownServer(f"http://127.0.0.1:{USUAL_PORT}")
    if not known:
        found = _asked(context, usual)
        if found.get("answers"):
            yield note(
                "comfy.usual",
                _COMFY,
                f"A ComfyUI server answers at {usual.base}{_about(found)}.",
                "Add it under Servers to use its workflows.",
            )
            return
    if folders:
        listed = ", ".join(folders)
        yield ok("comfy.folders", _COMFY, f"ComfyUI lies in {listed}.")
    elif not known:
        yield ok(
            "comfy.folders",
            _COMFY,
            "None was found on this machine, and no server is known; none is needed for what "
            "the engine makes itself.",
        )


def _asked(context: Context, server: KnownServer) -> dict[str, Any]:
    try:
        return context.own("comfy_server", server.base, seconds=SERVER_SECONDS)
    except NoAnswerError as error:
        return {
            "answers": False,
            "message": f"{server.name} did not answer in time.",
            "hint": "Check that it runs and that the address is right.",
            "why": error.why.value,
        }


def server_told(key: str, server: KnownServer, found: dict[str, Any]) -> Finding:
    """Say how a known server is."""
    if found["answers"] and found["state"] == "stuck":
        return warning(key, server.name, found["message"], found["hint"])
    if found["answers"]:
        return ok(key, server.name, f"It answers{_about(found)}.")
    if server.signed:
        return note(
            key,
            server.name,
            "It wants a name and a password, which the doctor does not give.",
            "Servers in the window shows how it is.",
        )
    # One that does not run may just not be wanted now.
    return note(key, server.name, found["message"], found["hint"])


def _about(found: dict[str, Any]) -> str:
    words = [f"version {found['version']}"] if found.get("version") else []
    words += [f"torch {found['torch']}"] if found.get("torch") else []
    for name, total, free in found.get("devices", ()):
        if total is not None and free is not None:
            words.append(f"{name.split(' : ')[0]}, {memory(free)} of {memory(total)} free")
    return f": {', '.join(words)}" if words else ""


def language(context: Context) -> Iterator[Finding]:
    """Say which servers for language models run."""
    title = "Language models"
    found = context.own("language_servers")["servers"]
    if not found:
        yield ok("llm", title, "No Ollama and no LM Studio runs here; none is needed.")
        return
    told = "; ".join(
        f"{program} answers and holds {', '.join(models) if models else 'no model'}"
        for program, models in found
    )
    yield ok("llm", title, f"{told}.")

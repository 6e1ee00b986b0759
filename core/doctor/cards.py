"""Driver, torch and CUDA: whether they fit each other, and which build of torch would."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from core.doctor.asking import NoAnswerError, Why
from core.doctor.context import Context
from core.doctor.findings import Finding, Repair, broken, note, ok, warning
from core.doctor.versions import REINSTALL, unanswered
from core.engine_env.card import builds_for, named, unused
from core.units import MEGABYTE, memory

DRIVERS = {"cu130": "580", "cu128": "570", "cu126": "560"}
"""The first series of NVIDIA's drivers for each build."""
CPU = "cpu"
_TORCH, _DRIVER = "torch and CUDA", "NVIDIA driver"
_RESTART = "Restart the computer; if it stays so, install the driver anew."

Pair = tuple[int, int]


def fitting_build(driver: Sequence[int] | None, capabilities: Iterable[Sequence[int]]) -> str:
    """Return the build of torch for a driver's CUDA version and its cards: "cu130" … or "cpu".

    Args:
        driver: The CUDA version that the driver speaks, such as (12, 8); None without a driver.
        capabilities: Of each card, such as (8, 6); none where they are not known.
    """
    return builds_for(driver, capabilities)[0]


def check(context: Context) -> Iterator[Finding]:
    """Say what the driver, the cards and torch are, and whether they go together."""
    try:
        seen = context.own("gpus", seconds=20.0)
    except NoAnswerError as error:
        yield _silent_driver(error)
        return
    yield driver(seen)
    yield from cards(seen, context.settings.min_free_mb * MEGABYTE)
    if context.interpreter is None:
        return
    try:
        found = context.engine("cuda", seconds=120.0)
    except NoAnswerError as error:
        yield unanswered("torch", _TORCH, error)
        return
    yield offered(match(seen, found), context.builds)
    yield from counted(seen, found)


def _silent_driver(error: NoAnswerError) -> Finding:
    if error.why is Why.HUNG:
        text = f"The NVIDIA driver does not answer within {error.said}: it hangs."
    else:
        text = f"The NVIDIA driver cannot be asked: {error.said}."
    return broken("driver", _DRIVER, text, _RESTART)


def driver(seen: dict[str, Any]) -> Finding:
    """Say what driver there is."""
    speaks, names = spoken(seen), [gpu["name"] for gpu in seen["gpus"]]
    if "mismatch" in seen["error"].lower():
        return broken(
            "driver",
            _DRIVER,
            "The driver's two halves are of different versions, as after an update without a "
            "restart.",
            "Restart the computer.",
        )
    if seen["driver"] and names:
        text = f"{seen['driver']}, speaks CUDA {_dotted(speaks)}. {_listed(names)}."
        return ok("driver", _DRIVER, text)
    if seen["cards"]:
        count = "There is an NVIDIA card" if seen["cards"] == 1 else "There are NVIDIA cards"
        return broken(
            "driver",
            _DRIVER,
            f"{count}, but no driver of NVIDIA's answers.",
            f"Install NVIDIA's driver {DRIVERS['cu130']} or later and restart the computer. "
            "In a container or virtual machine the card must be passed through.",
        )
    return note(
        "driver",
        _DRIVER,
        "There is no NVIDIA GPU: what the engine makes is made on the CPU.",
        "The starter model runs well so; large models want an NVIDIA GPU, here or behind a "
        "ComfyUI server.",
    )


def spoken(seen: dict[str, Any]) -> Pair | None:
    """Return the CUDA version that the driver speaks, None without one."""
    said = seen["cuda"] or seen["cuda_driver"]
    return (int(said[0]), int(said[1])) if said else None


def cards(seen: dict[str, Any], least_bytes: int) -> Iterator[Finding]:
    """Say how much memory of each card is free, and who holds the rest."""
    for index, gpu in enumerate(seen["gpus"]):
        key, title, total, used = (
            f"vram.{index}",
            gpu["name"],
            gpu["total_bytes"],
            gpu["used_bytes"],
        )
        if total is None or used is None:
            yield note(key, title, "Its driver does not tell how much of its memory is free.")
            continue
        free = total - used
        holders = [(name, size) for name, size in gpu["holders"] if size]
        held = ", ".join(f"{name} {memory(size)}" for name, size in holders[:5])
        text = f"{memory(free)} of {memory(total)} are free."
        text += f" Held by {held}." if held else ""
        if free < min(least_bytes, total // 2):
            yield warning(
                key, title, text, "Close programs that hold its memory, or unload their models."
            )
        else:
            yield ok(key, title, text)


def match(seen: dict[str, Any], found: dict[str, Any]) -> Finding:
    """Say whether torch fits the driver and the cards; if not, which build would."""
    if "import_error" in found:
        return broken(
            "torch",
            _TORCH,
            f"torch cannot be imported: {found['import_error']}.",
            "Reinstall the engine.",
            REINSTALL,
        )
    speaks, has = spoken(seen), seen["gpus"]
    tag = fitting_build(speaks, [gpu["capability"] for gpu in has if gpu["capability"]])
    built = None if found["cuda"] is None else _pair(found["cuda"])
    name = f"torch {found['torch']}"
    if found["processor"]:
        text = f"{name} does not compute rightly on the CPU: {found['processor']}."
        return broken("torch", _TORCH, text, "Reinstall the engine.", REINSTALL)
    if not has and not found["available"]:
        return _without_a_card(name, built, found)
    if built is None and not found["hip"]:
        return _cpu_build(name, tag, speaks, has)
    if built is not None and not found["available"]:
        return _not_available(name, built, tag, speaks, found)
    return _devices(name, tag, built, found)


def offered(finding: Finding, builds: Collection[str] | None) -> Finding:
    """Return the finding with its button only where that build can be had.

    Args:
        finding: With the build that would fit.
        builds: Those that this version of Framedeck offers; None where that is not known.
    """
    repair = finding.repair
    if repair is None or repair.action != "switch" or builds is None or repair.tag in builds:
        return finding
    fix = f"The build {repair.tag} would fit, but this version of Framedeck does not offer it."
    other = next((tag for tag in DRIVERS if tag in builds), "")
    if other:
        fix += f" {other} is offered: update NVIDIA's driver to {DRIVERS[other]} or later for it."
    return replace(finding, fix=fix, repair=None)


def _without_a_card(name: str, built: Pair | None, found: dict[str, Any]) -> Finding:
    if built is not None:
        return Finding(
            "torch",
            _TORCH,
            note("", "", "").state,
            f"{name} is built for CUDA {_dotted(built)}, and there is no NVIDIA GPU: it computes "
            "on the CPU.",
            "The build for the CPU takes 3.5 GB less room.",
            Repair("switch", CPU),
        )
    where = "on the Mac's GPU" if found.get("mps") else "on the CPU"
    return ok("torch", _TORCH, f"{name} computes {where}, as it must here.")


def _cpu_build(name: str, tag: str, speaks: Pair | None, has: list[dict[str, Any]]) -> Finding:
    text = f"{name} is the build for the CPU, so {_listed(gpu['name'] for gpu in has)} idles."
    if tag == CPU:
        return warning(
            "torch",
            _TORCH,
            f"{text} The driver speaks CUDA {_dotted(speaks)}, which no build of torch takes.",
            f"Update NVIDIA's driver to {DRIVERS['cu126']} or later, then switch the engine.",
        )
    left = unused(((gpu["capability"], gpu["name"]) for gpu in has if gpu["capability"]), tag)
    fix = f"Take the build {tag}. {left}".rstrip()
    return warning("torch", _TORCH, text, fix, Repair("switch", tag))


def _not_available(
    name: str, built: Pair, tag: str, speaks: Pair | None, found: dict[str, Any]
) -> Finding:
    said = f" torch says: {found['warnings'][0]}" if found.get("warnings") else ""
    if speaks is not None and built > speaks:
        text = (
            f"{name} is built for CUDA {_dotted(built)}; the driver speaks only CUDA "
            f"{_dotted(speaks)}."
        )
        newer = DRIVERS.get(f"cu{built[0]}{built[1]}", DRIVERS["cu130"])
        fix = f"Take the build {tag}, or update NVIDIA's driver to {newer} or later."
        return broken("torch", _TORCH, text, fix, Repair("switch", tag))
    text = f"{name} (CUDA {_dotted(built)}) sees no GPU, though the driver does.{said}"
    return broken("torch", _TORCH, text, f"{_RESTART} Else reinstall the engine.", REINSTALL)


def _devices(name: str, tag: str, built: Pair | None, found: dict[str, Any]) -> Finding:
    arches = found["arches"]
    lacking = [
        one
        for one in found["devices"]
        if one["capability"] and arches and not _has_kernels(one["capability"], arches)
    ]
    served = [one for one in found["devices"] if one not in lacking]
    # No other build is better: this one serves the newest card, and none serves them all.
    best = built is not None and tag == f"cu{built[0]}{built[1]}" and bool(served)
    if lacking and not best:
        device = lacking[0]
        text = (
            f"{name} has no kernels for {device['name']} (compute capability "
            f"{_dotted(device['capability'])}); it has {', '.join(arches)}."
        )
        # What fits by the driver's word may be the very build that is there.
        return broken("torch", _TORCH, text, f"Take the build {tag}.", Repair("switch", tag))
    for device in served:
        if device["error"]:
            text = f"{name} fails on {device['name']}: {device['error']}."
            return broken(
                "torch", _TORCH, text, f"{_RESTART} Else reinstall the engine.", REINSTALL
            )
    text = f"{name} multiplied on {_listed(one['name'] for one in served)} as it must."
    if lacking:
        left = named(one["name"] for one in lacking)
        text += f" It has no kernels for {left}, so what is made is not made there."
        return note(
            "torch", _TORCH, text, "No build of torch that this driver runs serves all these cards."
        )
    return ok("torch", _TORCH, text)


def counted(seen: dict[str, Any], found: dict[str, Any]) -> Iterator[Finding]:
    """Say when torch sees another number of cards than the driver."""
    there, sees = len(seen["gpus"]), len(found.get("devices", ()))
    if there and sees and there != sees:
        yield note(
            "gpu.count",
            "GPUs",
            f"The driver has {there} GPUs, torch sees {sees}.",
            "CUDA_VISIBLE_DEVICES and MIG decide which ones it sees.",
        )


def _has_kernels(capability: Sequence[int], arches: Sequence[str]) -> bool:
    """Say whether a card runs what was built: same generation and no newer, or from PTX."""
    major, minor = capability
    for arch in arches:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", arch)
        if found is None:
            continue
        has = (int(found[2]), int(found[3]))
        if found[1] == "compute" and has <= (major, minor):
            return True
        if found[1] == "sm" and has[0] == major and has[1] <= minor:
            return True
    return False


def _pair(text: str) -> Pair:
    major, _, minor = text.partition(".")
    return int(major), int(minor.partition(".")[0] or 0)


def _dotted(pair: Sequence[int] | None) -> str:
    return "of an unknown version" if pair is None else ".".join(map(str, pair))


def _listed(names: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counts.items())

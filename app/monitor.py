"""`framedeck monitor`: what the window's memory dock shows, in a terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from core.errors import ProblemError
from core.gpu.readings import DeviceReading, Reading
from core.gpu.remote import POLL_SECONDS, RemoteComfy, RemoteReading
from core.gpu.sampler import SHORTEST_SECONDS, Sampler
from core.gpu.source import sampler_for
from core.units import GIGABYTE, memory

DONE, FAILED, BAD_ARGUMENTS = 0, 1, 2
ENGINE = "core.engines.local"
"""The module that an engine's process runs."""

MOST_PROCESSES = 4
REMOTE_SECONDS = 3.0
"""How long a server may take to answer; the next reading waits for it."""


def main(argv: list[str]) -> int:
    """Print readings until interrupted, or as many as were asked for.

    Returns:
        The exit code: 0 done or interrupted, 1 failed, 2 bad arguments.
    """
    options = _parser().parse_args(argv)
    try:
        sampler, trace = sampler_for(
            options.gpu_trace, find_engine, options.interval, options.interval
        )
        servers = [RemoteComfy(url, timeout_seconds=REMOTE_SECONDS) for url in options.comfyui]
    except ProblemError as error:
        sys.stderr.write(f"{error.problem.message} {error.problem.hint}\n")
        return BAD_ARGUMENTS
    told: dict[str, str] = {}
    found: list[RemoteReading] = []
    # A little less than the goal, so that a reading which comes early still counts.
    due, poll = float("-inf"), POLL_SECONDS - 0.05
    if trace is not None:
        sys.stderr.write(f"Simulated: {trace.title}. {trace.about}\n")
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), lambda *_: sampler.stop())
    try:
        for reading in _some(sampler, options.count):
            if reading.at_seconds >= due:
                found, due = [server.read() for server in servers], reading.at_seconds + poll
            told.update(_tell_problems(found, told))
            shown = as_json(reading, found) if options.json else as_lines(reading, found)
            sys.stdout.write(shown + "\n")
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough; nothing must be flushed into the pipe at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="framedeck monitor",
        description="Prints memory, load, temperature, power, clocks and bus traffic of every GPU, "
        "why its clocks are held back, and who holds the memory; without an NVIDIA driver main "
        "memory. Ends with Ctrl-C.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON line a reading")
    parser.add_argument(
        "--interval", type=_seconds, default=1.0, help="seconds between readings, 0.1 or more (1)"
    )
    parser.add_argument("--count", type=_count, help="end after so many readings")
    parser.add_argument(
        "--comfyui",
        metavar="URL",
        action="append",
        default=[],
        help="ComfyUI server whose memory is printed too; may be given several times",
    )
    parser.add_argument("--gpu-trace", metavar="FILE", help="simulated GPUs, see the README")
    return parser


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if SHORTEST_SECONDS <= (seconds := float(text)) <= 3600:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not 0.1 to 3600 seconds")


def _count(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (count := int(text)) >= 1:
            return count
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")


def _some(sampler: Sampler, count: int | None) -> Iterator[Reading]:
    with contextlib.closing(sampler.readings()) as readings:
        for number, reading in enumerate(readings, 1):
            yield reading
            if number == count:
                return


def find_engine() -> int | None:
    """Return the process id of an engine that runs on this machine, None without one."""
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if ENGINE in (process.info["cmdline"] or ()):
            return int(process.pid)
    return None


def _tell_problems(found: Sequence[RemoteReading], told: Mapping[str, str]) -> dict[str, str]:
    """Say once why a server does not answer, and return what was said last of each."""
    now = {item.source: item.problem.message if item.problem else "" for item in found}
    for item in found:
        if item.problem and told.get(item.source) != item.problem.message:
            sys.stderr.write(f"{item.problem.message} {item.problem.hint}\n")
    return now


def as_json(reading: Reading, servers: Sequence[RemoteReading] = ()) -> str:
    """Return a reading as one line; the moment also as Unix time."""
    more = {"servers": [asdict(server) for server in servers]} if servers else {}
    return json.dumps({"unix_seconds": round(time.time(), 3), **asdict(reading), **more})


def as_lines(reading: Reading, servers: Sequence[RemoteReading] = ()) -> str:
    """Return a reading as a line for each GPU, or one for main memory, then the servers'."""
    clock = time.strftime("%H:%M:%S")
    rows = [_device(device) for device in reading.devices] or [_system(reading)]
    rows += [row for server in servers for row in _remote(server)]
    return "\n".join(f"{clock}  {row}" for row in rows)


def _system(reading: Reading) -> str:
    system = reading.system
    used = _amount(system.used_bytes, system.total_bytes)
    engine = memory(system.worker_rss_bytes) if system.worker_rss_bytes else "–"
    load = _rounded(system.load_percent, "%")
    return f"main memory  {used}  CPU {load}  engine {engine}"


def _device(device: DeviceReading) -> str:
    held = sorted(device.processes or (), key=lambda item: -(item.used_bytes or 0))
    named = [
        f"{item.name} {memory(item.used_bytes) if item.used_bytes is not None else '–'}"
        for item in held[:MOST_PROCESSES]
    ]
    parts = (
        f"GPU {device.index} {device.name}",
        _amount(device.used_bytes, device.total_bytes),
        _rounded(device.utilisation_percent, "%"),
        _rounded(device.temperature_celsius, "°C"),
        _rounded(device.power_watts, "W"),
        f"{_rounded(device.core_clock_mhz)} / {_rounded(device.memory_clock_mhz)} MHz",
        f"PCIe ↓ {_speed(device.pcie_receive_bytes_per_second)}"
        f" ↑ {_speed(device.pcie_send_bytes_per_second)} GB/s",
        f"held back: {', '.join(device.throttle)}" if device.throttle else "",
        " · ".join(named),
    )
    return "  ".join(part for part in parts if part)


def _remote(found: RemoteReading) -> list[str]:
    rows = [
        f"{found.source}  GPU {device.index} {device.name}"
        f"  {_amount(device.used_bytes, device.total_bytes)}"
        for device in found.devices
    ]
    if rows:
        return rows
    return [f"{found.source}  main memory  {_amount(found.ram_used_bytes, found.ram_total_bytes)}"]


def _amount(used: int | None, total: int | None) -> str:
    parts = ("–" if value is None else f"{value / GIGABYTE:.1f}" for value in (used, total))
    return " / ".join(parts) + " GB"


def _rounded(value: float | None, unit: str = "") -> str:
    return f"{'–' if value is None else round(value)} {unit}".rstrip()


def _speed(bytes_per_second: float | None) -> str:
    return "–" if bytes_per_second is None else f"{bytes_per_second / GIGABYTE:.1f}"

"""`framedeck monitor`: what the window's memory dock shows, in a terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

from core.errors import ProblemError
from core.gpu.readings import DeviceReading, Reading
from core.gpu.sampler import SHORTEST_SECONDS, Sampler
from core.gpu.source import sampler_for
from core.units import GIGABYTE, memory

DONE, FAILED, BAD_ARGUMENTS = 0, 1, 2
ENGINE = "core.engines.local"
"""The module that an engine's process runs."""

MOST_PROCESSES = 4


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
    except ProblemError as error:
        sys.stderr.write(f"{error.problem.message} {error.problem.hint}\n")
        return BAD_ARGUMENTS
    if trace is not None:
        sys.stderr.write(f"Simulated: {trace.title}. {trace.about}\n")
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), lambda *_: sampler.stop())
    try:
        for reading in _some(sampler, options.count):
            sys.stdout.write((as_json(reading) if options.json else as_lines(reading)) + "\n")
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough; nothing must be flushed into the pipe at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="framedeck monitor",
        description="Prints memory, load, temperature and power of every GPU, and who holds the "
        "memory; without an NVIDIA driver main memory. Ends with Ctrl-C.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON line a reading")
    parser.add_argument(
        "--interval", type=_seconds, default=1.0, help="seconds between readings, 0.1 or more (1)"
    )
    parser.add_argument("--count", type=_count, help="end after so many readings")
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


def as_json(reading: Reading) -> str:
    """Return a reading as one line; the moment also as Unix time."""
    return json.dumps({"unix_seconds": round(time.time(), 3), **asdict(reading)})


def as_lines(reading: Reading) -> str:
    """Return a reading as a line for each GPU, or one for main memory."""
    clock = time.strftime("%H:%M:%S")
    if reading.devices:
        return "\n".join(f"{clock}  {_device(device)}" for device in reading.devices)
    system = reading.system
    used = _amount(system.used_bytes, system.total_bytes)
    engine = memory(system.worker_rss_bytes) if system.worker_rss_bytes else "–"
    load = _rounded(system.load_percent, "%")
    return f"{clock}  main memory  {used}  CPU {load}  engine {engine}"


def _device(device: DeviceReading) -> str:
    held = sorted(device.processes or (), key=lambda item: -(item.used_bytes or 0))
    named = [
        f"{item.name} {memory(item.used_bytes) if item.used_bytes is not None else '–'}"
        for item in held[:MOST_PROCESSES]
    ]
    return "  ".join(
        (
            f"GPU {device.index} {device.name}",
            _amount(device.used_bytes, device.total_bytes),
            _rounded(device.utilisation_percent, "%"),
            _rounded(device.temperature_celsius, "°C"),
            _rounded(device.power_watts, "W"),
            " · ".join(named),
        )
    ).rstrip()


def _amount(used: int | None, total: int | None) -> str:
    parts = ("–" if value is None else f"{value / GIGABYTE:.1f}" for value in (used, total))
    return " / ".join(parts) + " GB"


def _rounded(value: float | None, unit: str) -> str:
    return f"{'–' if value is None else round(value)} {unit}"

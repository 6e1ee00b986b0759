"""Who runs a job: a mark of a process that no later process can have."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


def mark(pid: int | None = None) -> str:
    """Return the mark of process `pid` (this one by default); "" if it is gone.

    A pid alone is used again by the system, so the mark also holds when the
    process began. On Linux that is counted from boot and paired with the boot's
    own id, because the wall clock may be set while the process lives.
    """
    pid = os.getpid() if pid is None else pid
    began = _began_linux(pid) if sys.platform == "linux" else _began_elsewhere(pid)
    return f"{pid} {began}" if began else ""


def alive(owner: str) -> bool:
    """Say whether the process that `owner` marks still runs."""
    pid = owner.partition(" ")[0]
    return pid.isdigit() and mark(int(pid)) == owner


def boot() -> str:
    """Return a mark of this run of the machine: monotonic clocks of one mark agree."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    import psutil

    return f"{psutil.boot_time():.0f}"


def _began_linux(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    # The name in parentheses may hold spaces; the fields after it may not.
    fields = stat.rpartition(")")[2].split()
    state, ticks = fields[0], fields[19]
    return "" if state in "ZX" else f"{boot}:{ticks}"


def _began_elsewhere(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return f"{process.create_time():.3f}"
    except psutil.Error:
        return ""

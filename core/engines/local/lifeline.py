"""No orphans: a worker ends when its parent is gone, however the parent died.

The worker's standard input tells it too, but only a thread that gets its turn
can read that; a long call into a C library may hold every thread up for
minutes. So the system itself does it: on Linux the kernel sends SIGKILL when
the other end of a pipe closes, on Windows the worker lies in a job object that
ends with its last handle.

Linux' PR_SET_PDEATHSIG would not do: it fires when the parent's *thread* ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys


class Lifeline:
    """The parent's end: as long as it lives, the worker may live."""

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._job: object = None

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """Descriptors that the worker must inherit."""
        if sys.platform == "linux":
            if not self._ends:
                self._ends = list(os.pipe())
            return (self._ends[0],)
        else:
            return ()

    def arguments(self) -> list[str]:
        """Return the worker's arguments by which it finds its end."""
        return [item for fd in self.pass_fds for item in ("--lifeline", str(fd))]

    def hold(self, process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
        """Tie `process`, just started, to this process' life."""
        if sys.platform == "win32":
            self._job = _job_object(int(process._handle))  # type: ignore[attr-defined]
        elif self._ends:
            os.close(self._ends.pop(0))

    def cut(self) -> None:
        """Let go: a worker that still lives ends now."""
        while self._ends:  # Popping is atomic: no descriptor is closed twice.
            with contextlib.suppress(IndexError):
                os.close(self._ends.pop())
        if sys.platform == "win32" and self._job is not None:
            import ctypes

            ctypes.windll.kernel32.CloseHandle(self._job)
            self._job = None


def obey(descriptor: int) -> None:
    """In the worker: let the kernel end this process when the lifeline is cut."""
    if sys.platform != "linux":
        return
    import fcntl

    os.set_inheritable(descriptor, False)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    # SIGIO, the default, may be taken over by a library; this one cannot.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(descriptor, 0)
    if poll.poll(0):  # Cut before the kernel was asked to tell.
        os._exit(1)


def be_polite() -> None:
    """In the worker: let the window's process go first; costs no throughput."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.nice(5)


if sys.platform == "win32":

    def _job_object(process_handle: int) -> object:
        """Put a process into a job that kills it when this process ends."""
        import ctypes
        import struct

        kernel = ctypes.windll.kernel32
        kernel.CreateJobObjectW.restype = ctypes.c_void_p
        job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
        # JOBOBJECT_EXTENDED_LIMIT_INFORMATION, all zero but LimitFlags at byte 16
        # = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE.
        size = 144 if struct.calcsize("P") == 8 else 112
        limits = ctypes.create_string_buffer(size)
        struct.pack_into("I", limits, 16, 0x2000)
        kernel.SetInformationJobObject(job, 9, limits, size)
        kernel.AssignProcessToJobObject(job, ctypes.c_void_p(process_handle))
        return job

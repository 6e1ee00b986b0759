"""What can be made to go wrong, and the list of what shall."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from time import monotonic
from typing import Any


class Kind(StrEnum):
    """Each fault, with what its `value` means."""

    # On sockets; with `step`, from that sampling step on, else at the next message.
    DROP = "drop"
    """All sockets break off without a close frame."""
    DEAF = "deaf"
    """Nothing is said on sockets, they stay open; for `value` seconds, 0: ever."""
    SLOW_SOCKET = "slow_socket"
    """`value` seconds before each message."""
    SILENT_PROXY = "silent_proxy"
    """Nothing is answered and nothing closed; for `value` seconds, 0: ever."""
    CUT_FRAME = "cut_frame"
    """Binary frames end after `value` bytes."""
    HUGE_PICTURE = "huge_picture"
    """Previews declare 30,000 × 30,000 pixels in 100 bytes."""
    BAD_MESSAGE = "bad_message"
    """Messages of the socket are no JSON."""

    # On answers to requests; `path` says which, all by default.
    LATENCY = "latency"
    """`value` seconds before each answer."""
    HTML = "html"
    """A page of HTML instead of JSON, with status 200."""
    NAN = "nan"
    """JSON that has NaN and Infinity in it."""
    DEEP_JSON = "deep_json"
    """100,000 brackets."""
    ENDLESS_BODY = "endless_body"
    """A body that does not end."""
    WRONG_LENGTH = "wrong_length"
    """A body shorter than its Content-Length."""
    REDIRECT = "redirect"
    """A redirect to another host."""
    STATUS = "status"
    """The status `value`, with an empty body."""
    LOST_REPLY = "lost_reply"
    """The request is carried out, the connection breaks off before the answer."""
    LATE_REPLY = "late_reply"
    """The request is carried out, the answer comes `value` seconds later."""
    DUPLICATE_500 = "duplicate_500"
    """A prompt is queued, the answer is 500."""

    # On running prompts; `node` says at which class of node.
    OUT_OF_MEMORY = "out_of_memory"
    """The node fails as torch does when the GPU is full."""
    ERROR = "error"
    """The node raises RuntimeError."""
    BROKEN_GPU = "broken_gpu"
    """The node fails as CUDA does whose process cannot use it any more."""
    HANG = "hang"
    """The node does nothing for `value` seconds, 0: ever; it cannot be interrupted."""
    WORKER_DEAD = "worker_dead"
    """The server answers, and nothing runs any more until it is restarted."""
    LEAK = "leak"
    """`value` bytes of GPU memory are lost with each prompt."""
    HOLD = "hold"
    """A pack holds `value` bytes of GPU memory, whatever is freed."""

    # On files that output nodes write.
    CORRUPT = "corrupt"
    """The file is cut in half and its middle is noise."""
    TINY = "tiny"
    """The file has 48 bytes."""
    GROWING = "growing"
    """The file is complete only `value` seconds after the prompt has ended."""
    GONE = "gone"
    """The file is not there."""
    HOSTILE_NAME = "hostile_name"
    """The server tells another name: number `value` of `HOSTILE_NAMES`."""

    # On the whole.
    RESTART = "restart"
    """All ends at once, as by SIGKILL, and begins anew `value` seconds later."""


HOSTILE_NAMES = (
    "../../../../escaped.png",
    "/tmp/escaped.png",  # noqa: S108 - never written
    "C:\\Windows\\escaped.png",
    "\\\\evil.example\\share\\escaped.png",
    "//evil.example/share/escaped.png",
    "n" * 300 + ".png",
    "CON.png",
    "NUL",
    "COM1.webm",
    "trailing. ",
    "new\nline\x00zero.png",
    "..",
    ".",
    "",
    "stream:alternate.png",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to go wrong.

    Attributes:
        kind: What.
        value: How much, as the kind says.
        times: How often; 0 means until it is disarmed.
        path: Beginning of the paths of requests that it meets.
        node: Class of the nodes that it meets, any by default.
        step: Sampling step from which on it acts.
    """

    kind: Kind
    value: float = 0.0
    times: int = 0
    path: str = ""
    node: str = ""
    step: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Fault:
        """Rebuild a fault.

        Raises:
            ValueError: The kind is unknown or a field is none.
        """
        values = dict(data)
        unknown = set(values) - {each.name for each in fields(Fault)}
        if unknown or "kind" not in values:
            raise ValueError(f"a fault has kind, value, times, path, node, step; not {unknown}")
        return Fault(Kind(values.pop("kind")), **values)


_TIMED = (Kind.DEAF, Kind.SILENT_PROXY)


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int
    began: float | None = None

    def over(self) -> bool:
        timed = self.fault.kind in _TIMED and self.fault.value > 0 and self.began is not None
        return timed and monotonic() - (self.began or 0.0) > self.fault.value


class Faults:
    """The faults that are armed. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        self._disarmed: Counter[Kind] = Counter()

    def arm(self, kind: Kind | str, value: float = 0.0, **more: Any) -> Fault:
        """Let something go wrong from now on; see `Fault` for the arguments."""
        fault = Fault(Kind(kind), value, **more)
        self.add(fault)
        return fault

    def add(self, fault: Fault) -> None:
        """Arm a fault."""
        with self._lock:
            self._armed.append(_Armed(fault, fault.times))

    def disarm(self, kind: Kind | str | None = None) -> None:
        """Let nothing of this kind go wrong any more, or nothing at all."""
        with self._lock:
            self._armed = [each for each in self._armed if kind and each.fault.kind != kind]
            self._disarmed.update([Kind(kind)] if kind else list(Kind))

    def disarmed(self, kind: Kind) -> int:
        """Return how often a kind was disarmed, for whoever waits for that."""
        with self._lock:
            return self._disarmed[kind]

    def armed(self) -> list[Fault]:
        """Return what may still go wrong."""
        with self._lock:
            return [each.fault for each in self._armed]

    def find(
        self, kind: Kind, *, path: str = "", node: str = "", step: int | None = None
    ) -> Fault | None:
        """Return the fault of a kind that acts here, and count it; None without one."""
        with self._lock:
            self._armed = [each for each in self._armed if not each.over()]
            for each in self._armed:
                fault = each.fault
                if fault.kind != kind or not path.startswith(fault.path):
                    continue
                if (fault.node and fault.node != node) or (step or 0) < fault.step:
                    continue
                each.began = monotonic() if each.began is None else each.began
                if each.left == 1:
                    self._armed.remove(each)
                each.left -= bool(each.left)
                return fault
        return None

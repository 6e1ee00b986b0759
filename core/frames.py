"""Frames between two processes: a ring of slots in shared memory.

The reader's process makes the ring, the writer's attaches to it. Every slot
has a sequence number, odd while it is being written. The reader leases one
slot at a time (a pin) and paints straight out of it; the writer never writes
into a leased slot and never waits: it takes another one.

Two rules make a torn frame impossible to show. The writer marks a slot odd
and only then looks at the pins once more, giving way if the slot was leased
meanwhile; the reader leases and only then looks at the sequence number. And
whoever paints asks `intact` again before the picture reaches the screen.

On Linux the memory is a memfd: it has no name, so nothing stays behind however
either side dies.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

READERS = 3
"""How many leases can be held at once, one for each reader index."""

STREAM_READER = READERS - 1
"""The lease of whoever takes endless frames out; the others are the stage's."""

_PAGE = 4096
_MOST_SLOTS = 60
_FLAG = "--ring"


class Ring:
    """Slots of pixels shared by one writing and one reading process.

    Use `create` or `attach`; the constructor takes what they have prepared.

    Attributes:
        slots: Number of slots.
        slot_bytes: Size of each slot.
    """

    def __init__(
        self, memory: mmap.mmap, slots: int, slot_bytes: int, name: str, descriptor: int | None
    ) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes
        self._name = name
        self._descriptor = descriptor
        self._memory = memory
        self._bytes = memoryview(memory)
        # One aligned 64-bit store or load each: no reader sees half a number.
        self._words = self._bytes[:_PAGE].cast("Q")
        self._leases: dict[int, memoryview] = {}
        self._next = 0
        self._held: set[int] = set()
        # Taking a lock is the full memory barrier that Python has to offer.
        self._barrier = threading.Lock()
        self._closed = False

    @classmethod
    def create(cls, slots: int = 6, slot_bytes: int = 8_500_000) -> Ring:
        """Make a ring; called by the process that reads.

        Args:
            slots: Number of slots, 4 to 60; more let a reader lag further behind.
            slot_bytes: Bytes per slot, rounded up to whole pages.

        Raises:
            ValueError: A size is out of range.
            OSError: There is no memory for it.
        """
        if not READERS + 1 <= slots <= _MOST_SLOTS or slot_bytes < 1:
            raise ValueError(f"a ring has 4 to {_MOST_SLOTS} slots of at least one byte")
        slot_bytes = _whole_pages(slot_bytes)
        size = _PAGE + slots * slot_bytes
        if sys.platform == "win32":
            name = f"framedeck-{secrets.token_hex(16)}"
            return cls(mmap.mmap(-1, size, tagname=name), slots, slot_bytes, name, None)
        descriptor = _nameless(size)
        return cls(mmap.mmap(descriptor, size), slots, slot_bytes, "fd", descriptor)

    @classmethod
    def attach(cls, arguments: Sequence[str]) -> Ring:
        """Open the ring that `arguments` of another process' ring tell of; the writer's side.

        Raises:
            ValueError: The arguments are not a ring's.
            OSError: The memory is gone.
        """
        parts = arguments[-1].split(":") if arguments else []
        if len(parts) != 3 or arguments[0] != _FLAG:
            raise ValueError(f"not a ring: {list(arguments)!r}")
        where, slots, slot_bytes = parts[0], int(parts[1]), int(parts[2])
        size = _PAGE + slots * slot_bytes
        if sys.platform == "win32":
            ring = cls(mmap.mmap(-1, size, tagname=where), slots, slot_bytes, where, None)
        else:
            descriptor = int(where)
            ring = cls(mmap.mmap(descriptor, size), slots, slot_bytes, "fd", None)
            os.close(descriptor)  # The mapping keeps the memory; nobody inherits it further.
        ring._repair()
        return ring

    def arguments(self) -> list[str]:
        """Return the command line arguments by which a child finds this ring."""
        where = self._name if self._descriptor is None else str(self._descriptor)
        return [_FLAG, f"{where}:{self.slots}:{self.slot_bytes}"]

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """Descriptors that the child must inherit."""
        return () if self._descriptor is None else (self._descriptor,)

    # --- the writer's side

    def publish(self, pixels: Buffer) -> tuple[int, int]:
        """Copy `pixels` (contiguous) into a free slot and return (slot, sequence).

        Raises:
            ValueError: They are larger than a slot.
        """
        source = memoryview(pixels).cast("B")

        def copy(target: memoryview) -> None:
            target[:] = source

        return self.publish_with(source.nbytes, copy)

    def publish_with(self, size: int, fill: Callable[[memoryview], None]) -> tuple[int, int]:
        """Let `fill` write `size` bytes into a free slot; return (slot, sequence).

        Never waits for a reader. The slot is readable only when `fill` is through.

        Raises:
            ValueError: `size` is larger than a slot.
        """
        if size > self.slot_bytes:
            raise ValueError(f"{size} bytes do not fit a slot of {self.slot_bytes}")
        slot = self._claim()
        start = self._start(slot)
        word = self._word(slot)
        try:
            fill(self._bytes[start : start + size])
        finally:
            # Also after an error: the slot holds no old frame any more.
            with self._barrier:
                self._words[word] += 1
        return slot, self._words[word]

    @property
    def most_held(self) -> int:
        """How many slots may be held at once, so that one is always left to write into."""
        return self.slots - READERS

    def hold(self, slot: int) -> None:
        """Write nothing into `slot` until `let_go`.

        Raises:
            ValueError: `most_held` slots are held already.
        """
        if slot not in self._held and len(self._held) >= self.most_held:
            raise ValueError(f"{len(self._held)} of {self.slots} slots are held already")
        self._held.add(slot)

    def let_go(self, slot: int) -> None:
        """Write into `slot` again, whether or not it was held."""
        self._held.discard(slot)

    def _claim(self) -> int:
        """Mark the oldest slot that nobody leases as being written."""
        while True:
            slot = self._next
            self._next = (slot + 1) % self.slots
            if slot in self._held or self._leased(slot):
                continue
            word = self._word(slot)
            with self._barrier:
                self._words[word] += 1
            with self._barrier:
                leased = self._leased(slot)
            if not leased:
                return slot
            self._words[word] -= 1  # Nothing was written: the old frame stands.

    def _leased(self, slot: int) -> bool:
        return any(self._words[1 + reader] == slot + 1 for reader in range(READERS))

    def _repair(self) -> None:
        """Make slots that a dead writer left half written readable as newer, empty ones."""
        for slot in range(self.slots):
            word = self._word(slot)
            self._words[word] += self._words[word] & 1

    # --- the reader's side

    def pin(self, slot: int, sequence: int, reader: int = 0) -> memoryview | None:
        """Lease `slot` and return its bytes, or None if the frame is gone.

        The lease lasts until `unpin` or the next `pin` of the same `reader`.

        Args:
            slot: Slot named by the event.
            sequence: Sequence number named by the event.
            reader: Which of the READERS leases to use.
        """
        self.unpin(reader)
        if self._closed or not 0 <= slot < self.slots or not 0 <= reader < READERS:
            return None
        with self._barrier:
            self._words[1 + reader] = slot + 1
        with self._barrier:
            current = self._words[self._word(slot)]
        if current != sequence or sequence & 1:
            self._words[1 + reader] = 0
            return None
        start = self._start(slot)
        lease = self._bytes[start : start + self.slot_bytes].toreadonly()
        self._leases[reader] = lease
        return lease

    def read_into(self, target: Buffer, slot: int, begin: int = 0) -> None:
        """Copy bytes of a leased slot from `begin` on until `target` is full.

        Other threads go on meanwhile where the system can read from a descriptor: a frame
        copied with the interpreter's lock held lets whoever paints wait.
        """
        view = memoryview(target).cast("B")
        at, size = self._start(slot) + begin, view.nbytes
        done = 0
        if self._descriptor is not None and hasattr(os, "preadv"):
            done = os.preadv(self._descriptor, [view], at)
        if done < size:
            view[done:] = self._bytes[at + done : at + size]

    def intact(self, slot: int, sequence: int) -> bool:
        """Tell whether `slot` still holds the frame of `sequence`."""
        if self._closed or not 0 <= slot < self.slots:
            return False
        with self._barrier:
            return self._words[self._word(slot)] == sequence

    def unpin(self, reader: int = 0) -> None:
        """Give the lease of `reader` back; without one, nothing happens."""
        lease = self._leases.pop(reader, None)
        if lease is None:
            return
        with contextlib.suppress(BufferError):  # A picture still refers to it.
            lease.release()
        if not self._closed:
            self._words[1 + reader] = 0

    def close(self) -> None:
        """Let go of the memory. Views that are still in use keep it alive; twice is fine."""
        if self._closed:
            return
        for reader in tuple(self._leases):
            self.unpin(reader)
        self._closed = True
        for part in (self._words, self._bytes, self._memory):
            with contextlib.suppress(BufferError):
                part.close() if isinstance(part, mmap.mmap) else part.release()
        # Without these references the last view in use takes the mapping with it.
        self._bytes = memoryview(b"")
        self._words = self._bytes.cast("Q")
        del self._memory
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _word(self, slot: int) -> int:
        # A cache line apart from its neighbours, so that polling does not slow the writer.
        return 8 * (1 + slot)

    def _start(self, slot: int) -> int:
        return _PAGE + slot * self.slot_bytes


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _nameless(size: int) -> int:
    """Return a descriptor of `size` bytes of memory that has no name in any folder."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("framedeck-ring", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:  # Unlinked already.
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor

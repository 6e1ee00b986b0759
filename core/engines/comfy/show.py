"""Previews into the ring of shared memory, not more than an eye can follow."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

from core.engines.comfy.follow import Follower
from core.engines.comfy.messages import Preview
from core.engines.comfy.posters import pixels
from core.events import Event, FramesPublished
from core.frames import Ring
from core.jobs import Job

_LEAST_SECONDS = 1 / 15
_DEFAULT_FPS = 8.0


class Show:
    """Decodes the newest preview of a job and says where it lies.

    Args:
        job: Whose previews they are; its "fps" is how fast they play.
        ring: Where they go.
    """

    def __init__(self, job: Job, ring: Ring) -> None:
        self._job = job
        self._ring = ring
        self._shown = 0
        self._at = 0.0

    def latest(self, follower: Follower) -> Iterator[Event]:
        """Yield the newest preview, if there is a new one and the last was not just now."""
        preview, now = follower.preview, monotonic()
        if preview is None or follower.previews == self._shown:
            return
        if now - self._at < _LEAST_SECONDS and follower.node is not None:
            return
        self._shown, self._at = follower.previews, now
        length = follower.animation.length if follower.animation is not None else 0
        if preview.index is None:
            yield from self._publish([preview])
        elif 0 < length <= len(follower.frames):
            rate = follower.animation.rate if follower.animation is not None else None
            frames = [follower.frames[i] for i in range(length) if i in follower.frames]
            yield from self._publish(frames, rate)

    def _publish(self, previews: list[Preview], rate: float | None = None) -> Iterator[Event]:
        decoded = [pixels(one.picture, one.kind) for one in previews]
        shown = [one for one in decoded if one is not None]
        # All of one size, and no more than a slot holds.
        shown = [one for one in shown if one.shape == shown[0].shape]
        room = self._ring.slot_bytes // shown[0].nbytes if shown else 0
        shown = shown[:room]
        if not shown:
            return
        height, width = shown[0].shape[:2]
        size = shown[0].nbytes

        def fill(target: memoryview) -> None:
            for index, one in enumerate(shown):
                target[index * size : (index + 1) * size] = one.reshape(-1).data

        slot, sequence = self._ring.publish_with(size * len(shown), fill)
        fps = self._job.params.get("fps")
        given = float(fps) if isinstance(fps, int | float) and fps > 0 else _DEFAULT_FPS
        yield FramesPublished(
            job_id=self._job.id,
            slot=slot,
            sequence=sequence,
            width=width,
            height=height,
            first=0,
            count=len(shown),
            total=len(shown),
            fps=rate or given,
            preview=True,
        )

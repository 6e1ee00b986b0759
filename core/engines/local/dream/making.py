"""A dream from its first keyframe to its end, on one thread that owns the device.

The next keyframe is sampled while the way to the present one is shown: after each of its
steps a share of that way's frames is made, so that they come evenly and never run dry.
"""

from __future__ import annotations

import contextlib
import copy
from collections import deque
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from core.engines.local import machine, offload, placing, tiny, tiny_decoder
from core.engines.local.dream import pace, plan, slerp
from core.engines.local.dream.keyframes import Keyframes, Slice
from core.engines.local.dream.painter import Painter
from core.engines.local.dream.recorder import Recorder
from core.engines.local.dream.status import Status
from core.engines.local.dream.timings import MADE, Timings
from core.engines.local.quiet import hush
from core.events import Event, Noted, Output, Progressed
from core.jobs import Phase
from core.outputs import check_writable
from core.stream.endless import recorded

if TYPE_CHECKING:
    from core.engines.local.context import Context
    from core.engines.local.pipelines import Maker, Model

_AT_ONCE = 64
"""Latents that are interpolated together."""
_TOLD_SECONDS = 0.25
_LEAST_FRAMES = 8
"""Somebody who has enough before there are so many gets these; a slow source takes long to them."""
_SCENES_LOOKED_AT = 50
_SMALLEST_SIDE = 8
"""Latent pixels below which no divisor leads."""


class _EnoughError(BaseException):
    """Somebody asked for a good end; no pipeline catches this."""


@dataclass(slots=True)
class Stretch:
    """The way from one anchor to the next.

    Attributes:
        first: Latents of the one, (1, c, 1, h, w).
        last: Latents of the other.
        next: Number of the next frame to make.
        end: Number of the first frame that is no part of it.
    """

    anchor: plan.Anchor
    first: Any
    last: Any
    next: int
    end: int
    target: int
    """Number of the frame that shows `last`."""


class Making:
    """Makes one dream.

    Args:
        context: The run.
        keyframes: Samples them.
        painter: Decodes what lies between.
        recorder: Where frames go.
        timings: What is measured.
        words: What the recorder has to tell a person.
    """

    def __init__(
        self,
        context: Context,
        keyframes: Keyframes,
        painter: Painter,
        recorder: Recorder,
        timings: Timings,
        words: deque[str],
    ) -> None:
        params = context.job.params
        self.words = words
        self.context, self.recorder, self.timings = context, recorder, timings
        self.plan = plan.plan_of(params)
        self._every = int(params["every"]) if params["mode"] == plan.EMBEDDINGS else 0
        self._keyframes, self.painter = keyframes, painter
        self._stretch: Stretch | None = None
        self._ahead: Any = None
        self._ahead_first = 0
        self._told, self._words = 0.0, ""
        self._advised = False
        self._busy_mark = self._decode_mark = 0.0
        self.anchor: plan.Anchor | None = None
        self._keeps_up = params.get("keep_up") is True
        self._keep_up = pace.KeepUp(self.plan.fps, self._largest_divisor())

    def _largest_divisor(self) -> int:
        if not self._keeps_up:
            return 1
        side = min(int(self.context.job.params[name]) for name in ("width", "height")) // 8
        return max(1, min(4, side // _SMALLEST_SIDE))

    # ---- the way through

    def run(self, start: Any) -> None:
        """Make frames up to the dream's end, or until somebody has enough.

        Args:
            start: Latents of the first keyframe, (1, c, 1, h, w).

        Raises:
            Cancelled: The job was cancelled.
            ProblemError: The model made no pictures, or they cannot be written.
        """
        with contextlib.suppress(_EnoughError):
            self._run(start)

    def _run(self, start: Any) -> None:
        found = plan.anchors(self.plan, self._every)
        before = next(found)
        self.painter.prepare(start[:, :, 0], self.heard)
        after = next(found)
        end = self._sampled(after, ahead=False)
        self.context.phase(Phase.DECODE)
        while True:
            self._stretch = self._stretch_of(before, start, after, end)
            following = next(found, None) if not self._over(after) else None
            if following is None:
                break
            coming = self._sampled(following, ahead=True)
            self._rest()
            before, start, after, end = after, end, following, coming
        self._rest()
        if not self._over(after):
            # The very last keyframe has a frame of its own.
            self._stretch = Stretch(after, end, end, after.frame, after.frame + 1, after.frame + 1)
            self._rest()

    def _over(self, anchor: plan.Anchor) -> bool:
        frames = self.plan.frames
        return frames is not None and anchor.frame >= frames

    def _stretch_of(self, before: plan.Anchor, start: Any, after: plan.Anchor, end: Any) -> Stretch:
        frames = self.plan.frames
        last = after.frame if frames is None else min(after.frame, frames)
        self.anchor, self._ahead = before, None
        return Stretch(before, start, end, before.frame, last, after.frame)

    def _sampled(self, anchor: plan.Anchor, *, ahead: bool) -> Any:
        """Return an anchor's latents, making frames of the present stretch between steps."""
        known = self._keyframes.known(anchor)
        if known is not None:
            return known
        before = self.timings.seconds(*MADE, "stream_wait", "record_wait")
        began = self.timings.clock()
        between = self._share if ahead else _nothing
        latents = self._keyframes.sample(anchor, between, shown=not ahead)
        others = self.timings.seconds(*MADE, "stream_wait", "record_wait") - before
        self.timings.add("keyframe", self.timings.clock() - began - others)
        return latents

    def _share(self, step: int, steps: int) -> None:
        """Make as many frames, in whole batches, as leave the same share for each step to come."""
        self.heard()
        self._end_if_enough()  # No frame may be due before the end of a slow keyframe.
        stretch = self._stretch
        assert stretch is not None
        left = stretch.end - stretch.next
        due = left - left * max(0, steps - step) // max(1, steps - step + 1)
        while due >= self.painter.batch:
            due -= self._make(self.painter.batch)

    def _rest(self) -> None:
        stretch = self._stretch
        assert stretch is not None
        while stretch.next < stretch.end:
            self._make(min(self.painter.batch, stretch.end - stretch.next))

    # ---- frames

    def _end_if_enough(self) -> None:
        """Raise _EnoughError where somebody has enough; of nothing no clip can be made."""
        if self.context.enough and self.timings.frames >= min(self.plan.fps, _LEAST_FRAMES):
            raise _EnoughError

    def _make(self, count: int) -> int:
        """Make the next `count` frames of the present stretch; return how many."""
        stretch = self._stretch
        assert stretch is not None
        self._end_if_enough()
        frames = self.painter.paint(self._latents(stretch, count))
        with self.timings.of("stream_wait", len(frames)):
            self.context.stream(frames, first=stretch.next)
        for frame in frames:
            self.recorder.add(frame, self.heard)
        stretch.next += len(frames)
        self.timings.made(len(frames))
        self._keep(len(frames))
        self.heard()
        return len(frames)

    def _latents(self, stretch: Stretch, count: int) -> Any:
        """Return the latents of the next frames, (n, c, h, w); many are computed at once."""
        offset = stretch.next - self._ahead_first
        if self._ahead is None or not 0 <= offset <= len(self._ahead) - count:
            last = min(stretch.end, stretch.next + max(count, _AT_ONCE))
            with self.timings.of("slerp", last - stretch.next):
                places = [self._place(stretch, frame) for frame in range(stretch.next, last)]
                found = slerp.slerp(stretch.first, stretch.last, places)
                self._ahead, self._ahead_first = found[:, 0, :, 0], stretch.next
            offset = 0
        return self._ahead[offset : offset + count]

    def _place(self, stretch: Stretch, frame: int) -> float:
        if not self._every:
            if frame == stretch.anchor.frame:
                return 0.0
            return self.plan.place(frame, stretch.anchor.before.index)
        # Anchors are eased already; between them it goes straight on.
        first = stretch.anchor.frame
        return (frame - first) / (stretch.target - first)

    def _keep(self, frames: int) -> None:
        """Make smaller pictures where they come too slowly and the job allows it."""
        busy = self.timings.seconds(*MADE)
        decode = self.timings.seconds("decode", "upscale")
        told = self._keep_up.told(frames, busy - self._busy_mark, decode - self._decode_mark)
        self._busy_mark, self._decode_mark = busy, decode
        if told == "divisor":
            self.painter.divisor = self._keep_up.divisor
            self._note(
                f"Frames come too slowly for {self.plan.fps:g} fps: from here on they are decoded "
                f"at 1/{self.painter.divisor} of their size and scaled up."
            )
        elif told == "sampling" and not self._advised and self._keeps_up:
            self._advised = True
            self._note(
                f"Frames come too slowly for {self.plan.fps:g} fps, because keyframes take most "
                "of the time: fewer steps or more seconds from keyframe to keyframe would help."
            )

    def _note(self, text: str) -> None:
        self.context.report(Noted(job_id=self.context.job.id, text=text))

    def heard(self) -> None:
        """Tell how far it is, now and then; raises Cancelled when the job is."""
        now = monotonic()
        if now - self._told >= _TOLD_SECONDS:
            self._told, self._words = now, self._say()
            while self.words:
                self._note(self.words.popleft())
        total = self.plan.frames or 0
        done = min(self.timings.frames, total)  # Of what has no end, no share is done.
        self.context.report(
            Progressed(
                job_id=self.context.job.id,
                phase=Phase.DECODE,
                done=done,
                total=total,
                text=self._words,
            )
        )

    def _say(self) -> str:
        rate, kept = self.timings.rate(), self.timings.frames / self.plan.fps
        if self.plan.frames is None:
            return f"{recorded(kept)} · {rate:.1f} fps"
        scene = self.anchor.before.prompt if self.anchor is not None else self.plan.scenes[0]
        short = scene if len(scene) <= 60 else scene[:59] + "…"
        return f"{short} · {kept:.0f} s made · {rate:.1f} fps"

    def figures(self) -> dict[str, Any]:
        """Return all that `status.json` tells, as plain values."""
        anchor = self.anchor
        return {
            **self.timings.figures(),
            "wanted_fps": self.plan.fps,
            "segments": len(self.recorder.segments),
            "segments_seconds": round(self.recorder.kept_seconds, 3),
            "record_queue_frames": self.recorder.waiting,
            "keyframe": anchor.before.index if anchor is not None else 0,
            "scene": anchor.before.scene if anchor is not None else 0,
            "prompt": anchor.before.prompt if anchor is not None else self.plan.scenes[0],
            **self.painter.figures(),
        }


def _nothing(step: int, steps: int) -> None:
    """Nothing is there yet to be made between two steps."""


def _painter(context: Context, maker: Maker, model: Model, timings: Timings) -> Painter:
    params = context.job.params
    if tiny.decodes(params):
        bench = tiny_decoder.bench(context, model)
    else:
        # Nothing can step aside for a decode: the next keyframe needs all of it.
        bench = maker.bench(context)(model.pipe.vae)
    return Painter(
        context,
        bench,
        timings,
        size=(int(params["width"]), int(params["height"])),
        precise=params.get("precise") is True,
        batch=int(params.get("batch", 0)),
        tiled=context.plan.tiled if context.plan else params.get("tiling") is True,
        memory=model.more,
        key=str(params.get("decoder", tiny.FULL)),
    )


def _notes(context: Context, maker: Maker, model: Model, scenes: tuple[str, ...]) -> None:
    """Tell once what a person should know about the scenes, such as unknown words."""
    seen: set[str] = set()

    def report(event: Event) -> None:
        if isinstance(event, Noted):
            if event.text in seen:
                return
            seen.add(event.text)
        context.report(event)

    for scene in dict.fromkeys(scenes[:_SCENES_LOOKED_AT]):
        params = {**context.job.params, "prompt": scene}
        maker.notes(Slice(context, params, _nothing, shown=False, report=report), model)


def _begun(context: Context, maker: Maker, found: plan.Plan) -> tuple[Model, Any]:
    """Return the model and the first keyframe, placed so that memory is enough.

    Raises:
        ProblemError: The model cannot be loaded.
        Cancelled: The job was cancelled.
    """
    kind: Any = type(maker)
    first = next(plan.anchors(found))

    class Beginning(kind):  # type: ignore[misc]  # the family's own, known when it runs
        def notes(self, context: Context, model: Model) -> None:
            _notes(context, maker, model, found.scenes)

        def sampled(self, context: Context, model: Model) -> Any:
            context.phase(Phase.SAMPLE)
            keyframes = Keyframes(context, maker, model)
            return keyframes, keyframes.sample(first, _nothing, shown=True)

    beginning = copy.copy(maker)
    beginning.__class__ = Beginning
    job = context.job
    # Switches and plans are those of the model's family.
    context.job = replace(job, family=maker.family)
    try:
        return placing.made(beginning, context)
    finally:
        context.job = job


def make(context: Context, maker: Maker) -> Output:
    """Make the dream of `context.job` and return its last segment.

    Raises:
        ProblemError: It cannot be made.
        Cancelled: The job was cancelled; what is finished stays.
    """
    context.phase(Phase.LOAD)
    hush()
    found = plan.plan_of(context.job.params)
    check_writable(context.job.output)
    if context.job.params.get("image") and context.job.params["mode"] != plan.DRIFT:
        text = "The start picture is not used: only a drift begins with one."
        context.report(Noted(job_id=context.job.id, text=text))
    model, (keyframes, start) = _begun(context, maker, found)
    timings, words = Timings(), deque[str]()
    length = float(context.job.params["segment_seconds"]) * found.fps
    recorder = Recorder(
        context.job,
        timings,
        facts=lambda: {**machine.facts(), **context.facts},
        told=words.append,
        whole=found.frames is not None and found.frames <= length,
    )
    painter = _painter(context, maker, model, timings)
    making = Making(context, keyframes, painter, recorder, timings, words)
    try:
        with Status(context.job, making.figures), recorder:
            making.run(start)
            context.phase(Phase.ENCODE)
            output = recorder.finish(making.heard)
    finally:
        context.last_words.extend(words)
        if offload.of(context) != offload.NONE:
            model.pipe.maybe_free_model_hooks()
    for text in words:
        context.report(Noted(job_id=context.job.id, text=text))
    return output

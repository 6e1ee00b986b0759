"""The stage: the running job's clip as it forms, then the finished clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, QTimer, Signal, SignalInstance
from PySide6.QtGui import (
    QContextMenuEvent,
    QHideEvent,
    QImage,
    QKeyEvent,
    QResizeEvent,
    QShowEvent,
)
from PySide6.QtWidgets import QMenu, QVBoxLayout, QWidget

from core.errors import Problem
from core.events import (
    Event,
    Failed,
    Finished,
    FramesPublished,
    MemoryRead,
    Noted,
    Output,
    PhaseStarted,
    Progressed,
    Sampled,
    Stopped,
    Streamed,
    WorkerStarted,
)
from core.jobs import Job, Phase
from widgets.filmstrip import MOST, FilmStrip
from widgets.picture import Picture
from widgets.player import Clip, Player, thumbnails
from widgets.problem_card import MOST_WIDE, ProblemCard
from widgets.stage_words import (
    DOING,
    RUNNING,
    SHARES,
    STATES,
    StageState,
    badges_of_output,
    badges_of_run,
)
from widgets.transport import Transport, left_text

if TYPE_CHECKING:
    from core.frames import Ring

_THUMB = QSize(96, 44)


class StagePanel(QWidget):
    """Shows one job from its first step to its verified clip.

    Events of other jobs than the one begun are left alone.
    """

    stop_requested = Signal(str)
    reject_requested = Signal(str)
    retry_requested = Signal(str)
    clip_wanted = Signal(str)
    save_as_requested = Signal(str)
    reveal_requested = Signal(str)
    trace_requested = Signal(str)
    report_requested = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "stage-panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.state = StageState.EMPTY
        self._job: Job | None = None
        self._output: Output | None = None
        self._sampled: Sampled | None = None
        self._reading = False
        self._preview = False
        self.clip = Clip()
        self.player = Player(self)
        self.picture = Picture(self.clip)
        self.strip = FilmStrip()
        self.transport = Transport()
        self.card = ProblemCard()
        self.card.setParent(self.picture)
        self.card.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 10)
        column.setSpacing(8)
        column.addWidget(self.picture, 1)
        column.addWidget(self.strip)
        column.addWidget(self.transport)
        self._connect()
        self.clear()

    def _connect(self) -> None:
        bar, player = self.transport, self.player
        player.moved.connect(self._on_moved)
        player.playing_changed.connect(bar.set_playing)
        self.strip.frame_chosen.connect(player.seek)
        bar.scrub.valueChanged.connect(player.seek)
        bar.play.clicked.connect(player.toggle)
        bar.back.clicked.connect(lambda: player.step(-1))
        bar.forward.clicked.connect(lambda: player.step(1))
        bar.loop.toggled.connect(self._on_loop)
        bar.stop.connect(self.request_stop)
        bar.reject.connect(self.request_reject)
        bar.save_as.connect(self._on_save_as)
        bar.reveal.connect(self._on_reveal)
        self.card.retry.clicked.connect(self._on_retry)

    # -- what happens -----------------------------------------------------

    def clear(self) -> None:
        """Show nothing and say what to do first."""
        self._reset(None)
        self._enter(StageState.EMPTY)

    def begin(self, job: Job) -> None:
        """Show `job`, which starts now."""
        self._reset(job)
        self._enter(StageState.LOADING)
        self.picture.set_message("Starting…", job.title, 0.0)

    def apply(self, event: Event, ring: Ring | None) -> None:
        """Show what `event` tells; `ring` holds the frames it may name."""
        if self._job is None or event.job_id != self._job.id:
            return
        match event:
            case PhaseStarted(phase=phase):
                self._on_phase(phase)
            case Progressed():
                self._on_progress(event)
            case Sampled():
                self._on_sampled(event)
            case FramesPublished():
                if ring is not None:
                    self._on_frames(event, ring)
            case Finished(output=output):
                self.show_output(self._job, output)
            case Failed(problem=problem):
                self.show_problem(self._job, problem)
            case Stopped():
                self._on_stopped()
            case WorkerStarted() | Noted() | MemoryRead() | Streamed():
                pass

    def show_output(self, job: Job, output: Output) -> None:
        """Show a finished clip; its frames are asked for with `clip_wanted`."""
        if self._job is None or self._job.id != job.id:
            self._reset(job)
        else:
            self.clip.detach()
        self._output = output
        self._reading = True
        self._preview = False
        self._enter(StageState.DONE)
        if not len(self.clip):
            self.picture.set_message("Opening the clip…", job.title)
        self.clip_wanted.emit(output.path)

    def show_problem(self, job: Job, problem: Problem) -> None:
        """Show why `job` failed; what was seen of it stays behind the words."""
        if self._job is None or self._job.id != job.id:
            self._reset(job)
        self.picture.keep()
        self.clip.detach()
        self.card.show_problem(problem)
        self._enter(StageState.FAILED)
        self.player.pause()

    def clip_frame(self, index: int, total: int, image: QImage, fps: float) -> None:
        """Take frame `index` of the finished clip, as it is read from the file."""
        if self.state is not StageState.DONE:
            return
        if index == 0 and self._reading and self.clip.decoded < total:
            self.clip.clear()
        self.clip.put(index, total, image, fps)
        self._show_clip(index, image)
        if index == total - 1:
            self._reading = False
            self._refill_strip()

    def request_stop(self) -> None:
        """Ask for the running job to be stopped."""
        self._ask(self.stop_requested, "Stopping…")

    def request_reject(self) -> None:
        """Ask for the running job to be stopped and queued with another seed."""
        self._ask(self.reject_requested, "Next seed…")

    def _ask(self, request: SignalInstance, words: str) -> None:
        bar = self.transport
        if self._job is not None and self.state in RUNNING and bar.stop_button.isEnabled():
            bar.stop_button.setEnabled(False)
            bar.reject_button.setEnabled(False)
            bar.status.setText(words)
            request.emit(self._job.id)

    def set_left(self, job_id: str, words: str, share: float) -> None:
        """Say what the job on stage still takes, and which part of its time is over; "" if unknown.

        From then on this stands in place of what each phase knows of itself.
        """
        if self._job is not None and self._job.id == job_id and self.state in RUNNING:
            self.transport.set_left(words, share, SHARES[Phase.LOAD][1])

    def job_id(self) -> str | None:
        """Return the id of the job on stage."""
        return self._job.id if self._job else None

    # -- Qt ---------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Space plays, arrows step, Home and End jump, L loops, R rejects, T shows memory."""
        player, key = self.player, Qt.Key
        plain = event.modifiers() in (
            Qt.KeyboardModifier.NoModifier,
            Qt.KeyboardModifier.KeypadModifier,
        )
        control = event.modifiers() == Qt.KeyboardModifier.ControlModifier
        actions = {
            key.Key_Space: player.toggle,
            key.Key_Left: lambda: player.step(-1),
            key.Key_Right: lambda: player.step(1),
            key.Key_Home: lambda: player.seek(0),
            key.Key_End: lambda: player.seek(player.total - 1),
            key.Key_L: self.transport.loop.toggle,
            key.Key_R: self.request_reject,
            key.Key_T: lambda: self._name(self.trace_requested),
        }
        action = actions.get(key(event.key())) if plain else None
        if control and event.key() == key.Key_Period:
            action = self.request_stop
        if action is None:
            super().keyPressEvent(event)
        else:
            action()

    def menu(self) -> QMenu:
        """Return what can be seen of the job on stage."""
        menu = QMenu(self)
        menu.addAction("Open trace\tT", lambda: self._name(self.trace_requested))
        menu.addAction("Save report…", lambda: self._name(self.report_requested))
        for action in menu.actions():
            action.setEnabled(self._job is not None)
        return menu

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Show the menu of the job on stage."""
        menu = self.menu()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(event.globalPos())

    def _name(self, request: SignalInstance) -> None:
        if self._job is not None:
            request.emit(self._job.id)

    def showEvent(self, event: QShowEvent) -> None:
        """Let time go on."""
        super().showEvent(event)
        self.player.hold(False)

    def hideEvent(self, event: QHideEvent) -> None:
        """Stop the clock while nobody sees the picture."""
        super().hideEvent(event)
        self.player.hold(True)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the problem in the middle."""
        super().resizeEvent(event)
        # The picture's own size follows after this event.
        QTimer.singleShot(0, self, self._place_card)

    def minimumSizeHint(self) -> QSize:
        """Allow small windows."""
        return QSize(360, 300)

    # -- inside -----------------------------------------------------------

    def _reset(self, job: Job | None) -> None:
        self.player.pause()
        self.player.set_clip(0, 8.0)
        self.clip.clear()
        self.picture.forget()
        self.strip.set_frames([])
        self.strip.hide()
        self._job, self._output, self._sampled = job, None, None
        self._reading = self._preview = False
        self.transport.stop_button.setEnabled(True)
        self.transport.reject_button.setEnabled(True)
        self.transport.set_left("", 0.0, 0.0)
        self.transport.scrub.set_progress(0.0)
        self.transport.status.setText("")
        self.transport.set_place(0, 0, 8.0)

    def _enter(self, state: StageState) -> None:
        self.state = state
        done = state is StageState.DONE
        running = state in RUNNING
        self.transport.setVisible(state is not StageState.EMPTY)
        self.transport.show_for(clip=len(self.clip) > 0, running=running, done=done)
        self.card.setVisible(state is StageState.FAILED)
        self._place_card()
        if not running:
            self.transport.status.setText({"stopped": "stopped", "failed": "failed"}.get(state, ""))
        if done:
            self.transport.scrub.set_progress(0.0)
        if state is StageState.EMPTY:
            self.picture.set_message(
                "Nothing on stage yet",
                "Write a prompt and press Add to queue (Ctrl+⏎). "
                "The clip forms here, step by step.",
            )
        elif done or state is StageState.FAILED:
            self.picture.set_message("")
        self._badges()

    def _on_phase(self, phase: Phase) -> None:
        self._enter(STATES[phase])
        start = SHARES[phase][0]
        self._progress(start, DOING[phase])
        if len(self.clip) == 0 and self._job is not None:
            self.picture.set_message(DOING[phase], self._job.title, start)

    def _on_progress(self, event: Progressed) -> None:
        start, end = SHARES[event.phase]
        share = event.done / event.total if event.total else 0.0
        done = start + (end - start) * min(share, 1.0)
        text = event.text or f"{DOING[event.phase].rstrip('…')} · {event.done} of {event.total}"
        self._progress(done, text)
        if len(self.clip) == 0:
            self.picture.set_message(DOING[event.phase], event.text, share)

    def _on_sampled(self, event: Sampled) -> None:
        self._sampled = event
        start, end = SHARES[Phase.SAMPLE]
        done = start + (end - start) * event.step / max(event.steps, 1)
        self._progress(done, f"{round(done * 100)} % · {left_text(event.seconds_left)}")
        if len(self.clip) == 0 and self._job is not None:
            words = f"Step {event.step} of {event.steps}"
            self.picture.set_message(words, self._job.title, event.step / max(event.steps, 1))
        self._badges()

    def _progress(self, done: float, text: str) -> None:
        self.transport.show_progress(done, min(done, SHARES[Phase.LOAD][1]), text)

    def _on_frames(self, event: FramesPublished, ring: Ring) -> None:
        first = len(self.clip) == 0
        if not self.clip.add(event, ring):
            return
        self._preview = event.preview
        self.picture.set_message("")
        if first:
            self.transport.show_for(clip=True, running=True, done=False)
            self.player.set_clip(event.total, event.fps)
            self.player.play()
        self.player.set_clip(event.total, event.fps)
        if event.preview:
            self.picture.keep()
            self._refill_strip()
        else:
            frame = self.clip.frame(event.first)
            if frame is not None:
                self._thumb(event.first, frame)
        self._on_moved(self.player.index)
        self._badges()

    def _on_stopped(self) -> None:
        self.clip.detach()
        self._enter(StageState.STOPPED)
        if len(self.clip):
            self.picture.set_message("")
        else:
            self.picture.set_message("Stopped", "Nothing was kept. Retry it from the queue.")

    def _show_clip(self, index: int, image: QImage) -> None:
        fresh = self.player.total == 0
        self.player.set_clip(len(self.clip), self.clip.fps)
        if self.strip.isHidden():
            self._refill_strip()
        self._thumb(index, image)
        if fresh:
            self.transport.show_for(clip=True, running=False, done=True)
            self.player.play()
        self.picture.set_message("")
        self._on_moved(self.player.index)
        self._badges()

    def _refill_strip(self) -> None:
        frames = thumbnails(self.clip, MOST, _THUMB * self.devicePixelRatioF())
        self.strip.set_frames(frames)
        self.strip.setVisible(len(frames) > 0)
        self.strip.set_current(self.player.index)

    def _thumb(self, index: int, image: QImage) -> None:
        if index in self.strip.indices():
            small = image.scaled(
                _THUMB * self.devicePixelRatioF(),
                Qt.AspectRatioMode.KeepAspectRatioByExpanding,
                Qt.TransformationMode.SmoothTransformation,
            )
            self.strip.set_frame(index, small.copy())

    def _on_moved(self, index: int) -> None:
        self.picture.show_frame(index)
        self.strip.set_current(index)
        self.transport.set_place(index, len(self.clip), self.clip.fps)

    def _on_loop(self, on: bool) -> None:
        self.player.loop = on

    def _on_save_as(self) -> None:
        if self._output is not None:
            self.save_as_requested.emit(self._output.path)

    def _on_reveal(self) -> None:
        if self._output is not None:
            self.reveal_requested.emit(self._output.path)

    def _on_retry(self) -> None:
        if self._job is not None:
            self.retry_requested.emit(self._job.id)

    def _badges(self) -> None:
        if self._job is None or self.state is StageState.FAILED:
            self.picture.set_badges("", "")
            return
        if self._output is not None:
            left, right = badges_of_output(self._job, self._output)
        else:
            fps = self.clip.fps if len(self.clip) else None
            left, right = badges_of_run(self._job, self.state, self._sampled, fps, self._preview)
        self.picture.set_badges(left, right)

    def _place_card(self) -> None:
        if self.card.isHidden():
            return
        room = self.picture.size()
        width = max(200, min(room.width() - 32, MOST_WIDE))
        height = self.card.fit(width, room.height() - 8)
        left = (room.width() - width) // 2
        self.card.setGeometry(left, max(4, (room.height() - height) // 2), width, height)

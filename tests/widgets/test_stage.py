"""The stage: frames from a real ring, real keys, all states."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from core.errors import Category, Problem
from core.events import (
    Failed,
    Finished,
    FramesPublished,
    Output,
    PhaseStarted,
    Progressed,
    Sampled,
    Stopped,
)
from core.frames import Ring
from core.jobs import Phase
from tests.widgets.samples import FRAMES, HEIGHT, WIDTH, colour, job, pixels, publish
from widgets import player as players
from widgets import theme
from widgets.player import Clip, Player
from widgets.stage import StagePanel, StageState
from widgets.transport import clock, left_text

# Qt says so of every window on a display without a window manager.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ring():
    made = Ring.create(slots=4, slot_bytes=FRAMES * WIDTH * HEIGHT * 4)
    yield made
    made.close()


@pytest.fixture
def stage(qapp, qtbot):
    theme.apply(qapp, "dark")
    made = StagePanel()
    qtbot.addWidget(made)
    made.resize(800, 560)
    made.show()
    qtbot.waitExposed(made)
    yield made
    made.clear()


def sampling(stage: StagePanel, ring: Ring) -> None:
    stage.begin(job())
    stage.apply(PhaseStarted(job_id="job-1", phase=Phase.LOAD), ring)
    stage.apply(PhaseStarted(job_id="job-1", phase=Phase.SAMPLE), ring)
    stage.apply(
        Sampled(job_id="job-1", step=13, steps=20, seconds_per_step=6.8, seconds_left=84.0), ring
    )
    stage.apply(publish(ring), ring)


def output() -> Output:
    return Output("/clips/x.mp4", "", "", WIDTH, HEIGHT, FRAMES, 25.0, 1000, 0.1, 0.1)


def finished(stage: StagePanel, ring: Ring | None = None) -> None:
    event = Finished(
        job_id="job-1", output=output(), seed=7, seconds=1, peak_rss_bytes=1, peak_vram_bytes=None
    )
    stage.apply(event, ring)


def read_clip(stage: StagePanel) -> None:
    for index in range(FRAMES):
        stage.clip_frame(index, FRAMES, picture(index), 25.0)


def picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> QImage:
    data = pixels(index, width, height)
    return QImage(data, width, height, width * 4, QImage.Format.Format_RGB32).copy()


def middle(stage: StagePanel) -> QColor:
    image = stage.picture.grab().toImage()
    return image.pixelColor(image.width() // 2, image.height() // 2)


def expected(index: int) -> QColor:
    blue, green, red = colour(index)
    return QColor(red, green, blue)


def test_empty_says_what_to_do_first(stage) -> None:
    title, text = stage.picture.message()
    assert title
    assert "Add to queue" in text
    assert not stage.transport.isVisible()


def test_the_whole_clip_plays_from_the_ring_while_sampling(stage, ring, qtbot) -> None:
    sampling(stage, ring)
    assert stage.state is StageState.SAMPLING
    assert stage.clip.live
    seen = set()
    stage.player.moved.connect(seen.add)
    qtbot.waitUntil(lambda: len(seen) == FRAMES, timeout=5000)
    left, right = stage.picture.badges()
    assert "step 13 of 20" in left
    assert "6.8 s/step" in left
    assert "live preview 25 fps" in right
    assert stage.transport.status.text().endswith("1:24 left")
    assert "%" in stage.transport.status.text()
    assert 0.5 < stage.transport.scrub.progress() < 0.7
    stage.player.pause()
    for index in (0, 7, FRAMES - 1):
        stage.player.seek(index)
        assert middle(stage) == expected(index)
    assert stage.picture.torn == 0


def test_an_overwritten_frame_is_never_shown(stage, ring) -> None:
    sampling(stage, ring)
    stage.player.pause()
    stage.player.seek(3)
    stage.picture.keep()
    assert middle(stage) == expected(3)
    stale = publish(ring)
    for _ in range(8):  # Every slot that is not leased is written anew.
        ring.publish(bytes(FRAMES * WIDTH * HEIGHT * 4))
    assert not stage.clip.add(stale, ring)
    assert middle(stage) == expected(3)


def test_a_closed_ring_leaves_the_last_picture(stage, ring) -> None:
    sampling(stage, ring)
    stage.player.pause()
    stage.player.seek(5)
    stage.picture.keep()
    ring.close()
    assert middle(stage) == expected(5)
    stage.player.seek(9)
    assert middle(stage) == expected(5)
    stage.apply(
        Failed(job_id="job-1", problem=Problem(Category.UNKNOWN, "m", "h"), seconds=1), None
    )
    stage.picture.repaint()


def test_newer_previews_replace_older_ones(stage, ring) -> None:
    sampling(stage, ring)
    for _ in range(20):
        stage.apply(publish(ring), ring)
    assert stage.clip.live
    stage.player.pause()
    stage.player.seek(2)
    assert middle(stage) == expected(2)


def test_decoded_frames_come_in_place_of_the_preview(stage, ring) -> None:
    sampling(stage, ring)
    stage.player.pause()
    stage.apply(PhaseStarted(job_id="job-1", phase=Phase.DECODE), ring)
    slot, sequence = ring.publish(bytes((1, 2, 3, 255)) * (WIDTH * HEIGHT))
    event = FramesPublished(
        job_id="job-1",
        slot=slot,
        sequence=sequence,
        width=WIDTH,
        height=HEIGHT,
        first=4,
        count=1,
        total=FRAMES,
        fps=25.0,
        preview=False,
    )
    stage.apply(event, ring)
    stage.player.seek(4)
    assert middle(stage) == QColor(3, 2, 1)
    stage.player.seek(5)
    assert middle(stage) == expected(5)
    assert stage.clip.decoded == 1


def test_film_strip_shows_sixteen_and_a_click_jumps(stage, ring) -> None:
    sampling(stage, ring)
    stage.player.pause()
    shown = stage.strip.indices()
    assert len(shown) == 16
    assert (shown[0], shown[-1]) == (0, FRAMES - 1)
    assert shown == sorted(set(shown))
    right = QPoint(stage.strip.width() - 5, 20)
    box = stage.strip._box(15)
    QTest.mouseClick(stage.strip, Qt.MouseButton.LeftButton, pos=box.center())
    assert right.x() > 0
    assert stage.player.index == FRAMES - 1


def test_keys_drive_the_clip(stage, ring, qtbot) -> None:
    sampling(stage, ring)
    finished(stage)
    read_clip(stage)
    target = stage.picture
    target.setFocus()
    stage.player.play()
    QTest.keyClick(target, Qt.Key.Key_Space)
    assert not stage.player.playing
    QTest.keyClick(target, Qt.Key.Key_Home)
    assert stage.player.index == 0
    QTest.keyClick(target, Qt.Key.Key_Right)
    QTest.keyClick(target, Qt.Key.Key_Right)
    assert stage.player.index == 2
    QTest.keyClick(target, Qt.Key.Key_Left)
    assert stage.player.index == 1
    QTest.keyClick(target, Qt.Key.Key_End)
    assert stage.player.index == FRAMES - 1
    QTest.keyClick(target, Qt.Key.Key_L)
    assert not stage.player.loop
    QTest.keyClick(target, Qt.Key.Key_Space)
    assert stage.player.playing
    qtbot.waitUntil(lambda: not stage.player.playing, timeout=5000)
    assert stage.player.index == FRAMES - 1


def test_reject_and_stop_are_asked_once(stage, ring, qtbot) -> None:
    sampling(stage, ring)
    with qtbot.waitSignal(stage.reject_requested) as told:
        QTest.keyClick(stage.picture, Qt.Key.Key_R)
    assert told.args == ["job-1"]
    assert not stage.transport.reject_button.isEnabled()
    stage.begin(job())
    stage.apply(PhaseStarted(job_id="job-1", phase=Phase.SAMPLE), ring)
    with qtbot.waitSignal(stage.stop_requested) as told:
        QTest.keyClick(stage.picture, Qt.Key.Key_Period, Qt.KeyboardModifier.ControlModifier)
    assert told.args == ["job-1"]
    stage.apply(Stopped(job_id="job-1", seconds=2), ring)
    assert stage.state is StageState.STOPPED
    with qtbot.assertNotEmitted(stage.stop_requested):
        stage.request_stop()


def test_after_stopping_the_preview_stays_and_the_ring_is_free(stage, ring) -> None:
    sampling(stage, ring)
    stage.apply(Stopped(job_id="job-1", seconds=2), ring)
    assert not stage.clip.live
    for _ in range(8):
        ring.publish(bytes(64))
    stage.player.pause()
    stage.player.seek(6)
    assert middle(stage) == expected(6)


def test_done_asks_for_the_clip_and_plays_it(stage, ring, qtbot) -> None:
    sampling(stage, ring)
    with qtbot.waitSignal(stage.clip_wanted) as told:
        finished(stage, ring)
    assert told.args == ["/clips/x.mp4"]
    read_clip(stage)
    assert stage.state is StageState.DONE
    assert stage.clip.decoded == FRAMES
    assert "verified ✓" in stage.picture.badges()[1]
    with qtbot.waitSignal(stage.save_as_requested) as told:
        QTest.mouseClick(stage.transport.save_button, Qt.MouseButton.LeftButton)
    assert told.args == ["/clips/x.mp4"]
    with qtbot.waitSignal(stage.reveal_requested):
        QTest.mouseClick(stage.transport.reveal_button, Qt.MouseButton.LeftButton)
    assert not stage.transport.stop_button.isVisible()


def test_a_clip_from_the_queue_is_shown_on_an_empty_stage(stage, qtbot) -> None:
    with qtbot.waitSignal(stage.clip_wanted):
        stage.show_output(job("job-2"), output())
    read_clip(stage)
    assert stage.player.playing
    assert stage.job_id() == "job-2"


def test_failure_shows_the_problem_and_offers_retry(stage, ring, qtbot) -> None:
    sampling(stage, ring)
    problem = Problem(Category.INSUFFICIENT_VRAM, "No memory left.", "Use fewer frames.", "trace")
    stage.apply(Failed(job_id="job-1", problem=problem, seconds=3), ring)
    card = stage.card
    assert card.isVisible()
    assert card.message.text() == "No memory left."
    assert card.hint.text() == "Use fewer frames."
    QTest.mouseClick(card.copy, Qt.MouseButton.LeftButton)
    assert "trace" in QGuiApplication.clipboard().text()
    with qtbot.waitSignal(stage.retry_requested) as told:
        QTest.mouseClick(card.retry, Qt.MouseButton.LeftButton)
    assert told.args == ["job-1"]
    QApplication.processEvents()
    assert stage.picture.rect().contains(card.geometry())
    stage.begin(job())
    assert not card.isVisible()


def test_states_follow_the_phases(stage, ring) -> None:
    stage.begin(job())
    assert stage.state is StageState.LOADING
    done = []
    for phase, state in (
        (Phase.LOAD, StageState.LOADING),
        (Phase.SAMPLE, StageState.SAMPLING),
        (Phase.DECODE, StageState.DECODING),
        (Phase.ENCODE, StageState.ENCODING),
        (Phase.VERIFY, StageState.VERIFYING),
    ):
        stage.apply(PhaseStarted(job_id="job-1", phase=phase), ring)
        stage.apply(Progressed(job_id="job-1", phase=phase, done=1, total=2), ring)
        assert stage.state is state
        done.append(stage.transport.scrub.progress())
        assert stage.picture.message()[0]
    assert done == sorted(set(done))


def test_events_of_another_job_are_left_alone(stage, ring) -> None:
    sampling(stage, ring)
    stage.apply(Stopped(job_id="job-0", seconds=2), ring)
    assert stage.state is StageState.SAMPLING


def test_frames_kept_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(players, "MAX_BYTES", 200_000)
    clip = Clip()
    for index in range(50):
        clip.put(index, 50, picture(index, 64, 64), 8.0)
    assert clip.bytes_kept() <= 200_000
    assert clip.frame(49).pixelColor(1, 1) == expected(49)


def test_the_clock_keeps_its_rate_whatever_single_ticks_do(qtbot) -> None:
    player = Player()
    player.set_clip(1000, 50.0)
    start = perf_counter()
    player.play()
    for _ in range(4):
        qtbot.wait(120)
        blocked = perf_counter() + 0.07  # A busy event loop delays ticks.
        while perf_counter() < blocked:
            pass
    qtbot.wait(60)
    passed = perf_counter() - start
    player.pause()
    assert player.index == pytest.approx(passed * 50, abs=3)


def test_the_clock_rests_while_hidden(stage, ring, qtbot) -> None:
    sampling(stage, ring)
    stage.hide()
    place = stage.player.index
    qtbot.wait(200)
    assert stage.player.index == place
    assert stage.player.playing
    stage.show()
    qtbot.waitUntil(lambda: stage.player.index != place, timeout=2000)


def test_scrubbing_jumps(stage, ring) -> None:
    sampling(stage, ring)
    stage.player.pause()
    scrub = stage.transport.scrub
    QTest.mouseClick(scrub, Qt.MouseButton.LeftButton, pos=QPoint(scrub.width() - 7, 10))
    assert stage.player.index == FRAMES - 1
    QTest.mouseClick(scrub, Qt.MouseButton.LeftButton, pos=QPoint(7, 10))
    assert stage.player.index == 0


def test_words_of_time() -> None:
    assert clock(2.1) == "00:02.1"
    assert clock(81 / 16) == "00:05.0"
    assert clock(61.26) == "01:01.2"
    assert left_text(84) == "1:24 left"
    assert left_text(3730) == "1:02:10 left"


CUT = """
import sys
from PySide6.QtWidgets import QApplication, QLabel, QPushButton
from core.events import *
from core.jobs import Phase
from tests.widgets.samples import job
from widgets import theme
from widgets.parts import ElidedLabel
from widgets.stage import StagePanel
from core.errors import Category, Problem
app = QApplication([])
theme.apply(app, "dark")
cut = []
for width in (380, 520, 900):
    for kind in ("running", "done", "failed"):
        stage = StagePanel()
        stage.resize(width, 420)
        stage.show()
        stage.begin(job())
        stage.apply(PhaseStarted(job_id="job-1", phase=Phase.SAMPLE), None)
        stage.apply(Sampled(job_id="job-1", step=1, steps=2, seconds_per_step=1.0,
                            seconds_left=9.0), None)
        if kind == "failed":
            stage.show_problem(job(), Problem(Category.UNKNOWN, "Something " * 6, "Do it. " * 9))
        if kind == "done":
            stage.show_output(job(), Output("x", "", "", 1, 1, 1, 1.0, 1, 1.0, 1.0))
        for _ in range(8):
            app.processEvents()
        assert stage.width() == width, (stage.width(), width, kind)
        for w in stage.findChildren(QPushButton) + stage.findChildren(QLabel):
            if not w.isVisible() or isinstance(w, ElidedLabel):
                continue
            need = w.minimumSizeHint() if isinstance(w, QLabel) else w.sizeHint()
            height = w.heightForWidth(w.width()) if w.hasHeightForWidth() else need.height()
            if w.width() < need.width() or w.height() < height:
                cut.append((kind, width, w.text(), w.size().toTuple(), need.toTuple(), height))
print(cut)
sys.exit(bool(cut))
"""


def test_nothing_is_cut_at_150_percent() -> None:
    environment = {**os.environ, "QT_SCALE_FACTOR": "1.5", "QT_QPA_PLATFORM": "offscreen"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", CUT],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_button_of_the_row_below_is_cut_however_narrow(stage, qtbot) -> None:
    row = stage.transport
    row.show()
    row.show_for(clip=True, running=False, done=True)
    row.set_place(0, 15, 16.0)
    for width in range(380, 760, 3):
        stage.resize(width, 500)
        qtbot.wait(1)
        for part in (row.reveal_button, row.save_button, row.time):
            assert part.width() >= part.sizeHint().width()
            holder = part.parentWidget()
            assert part.geometry().right() < holder.width()
            assert holder.geometry().right() < row.width()

"""Paints one row of the queue: picture, title, state, line, time, progress."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from zlib import crc32

from PySide6.QtCore import QModelIndex, QPointF, QRect, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetrics,
    QImage,
    QImageReader,
    QLinearGradient,
    QPainter,
    QPainterPath,
    QPen,
    QPixmap,
    QPolygonF,
)
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from core.jobs import JobState
from core.queue import JobRow
from widgets import queue_words as words
from widgets.queue_model import Index, Role
from widgets.theme import Tokens, of

PICTURE = QSize(64, 40)
NARROW = 280
"""Rows narrower than this, pixels, give part of the picture's room to the text."""
PICTURES_KEPT = 256
PAD = 8
GAP = 10
SMALL = 0.85
"""Size of the second line and of headers, as a part of the title's."""


READ_AT_ONCE = 16

Aside = Callable[[Callable[[], Iterator[object]], str, Callable[[object], None]], None]
"""Runs a source, under a name, beside the window; each item is received in this thread."""


def in_place(
    source: Callable[[], Iterator[object]], name: str, receive: Callable[[object], None]
) -> None:
    """Run a source here and now, where nothing runs it aside."""
    del name
    for item in source():
        receive(item)


class Pictures(QWidget):
    """Posters at the size of a row, read beside the window, those in sight first.

    Attributes:
        aside: Runs what reads the disk.
    """

    arrived = Signal()
    """Another poster can be painted."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.hide()
        self.aside: Aside = in_place
        self._reading = False
        self._kept: OrderedDict[tuple[str, int], QPixmap | None] = OrderedDict()
        self._wanted: deque[tuple[str, int]] = deque(maxlen=64)
        self._timer = QTimer(self, interval=0, singleShot=True)
        self._timer.timeout.connect(self.on_idle)

    def get(self, path: str, attempt: int) -> QPixmap | None:
        """Return the poster at `path`, or None until it is read or when it cannot be."""
        key = (path, attempt)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._wanted:
            self._wanted.append(key)
            self._timer.start()
        return None

    def on_idle(self) -> None:
        """Have those read that were asked for last: they are in sight."""
        if not self._wanted or self._reading:
            return
        self._reading = True
        keys = [self._wanted.pop() for _ in range(min(READ_AT_ONCE, len(self._wanted)))]
        ratio = self.devicePixelRatioF()

        def read() -> Iterator[object]:
            try:
                for key in keys:
                    yield key, _poster(key[0], ratio)
            finally:
                yield None

        self.aside(read, "posters", self._take)

    def _take(self, item: object) -> None:
        if not isinstance(item, tuple):
            self._reading = False
            self.arrived.emit()
            if self._wanted:
                self._timer.start()
            return
        key, image = item
        pixmap = None
        if image is not None:
            pixmap = QPixmap.fromImage(image)
        self._kept[key] = pixmap
        if len(self._kept) > PICTURES_KEPT:
            self._kept.popitem(last=False)


def _poster(path: str, ratio: float) -> QImage | None:
    """Read a poster at the size of a row; None when it cannot be read. Touches the disk."""
    # Scaling while decoding is several times cheaper than afterwards.
    reader = QImageReader(path)
    full = reader.size()
    if full.isValid():
        aim = PICTURE * ratio
        reader.setScaledSize(full.scaled(aim, Qt.AspectRatioMode.KeepAspectRatioByExpanding))
    image = reader.read()
    if image.isNull():
        return None
    image.setDevicePixelRatio(ratio)
    return image


class QueueDelegate(QStyledItemDelegate):
    """Draws jobs and section headers in the colours of the theme."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.pictures = Pictures(parent)
        self._parent = parent

    def row_height(self) -> int:
        """Return the height of a job's row for the font in force, pixels."""
        title = QFontMetrics(self._parent.font()).height()
        return max(PICTURE.height() + 12, title + self._chip_height() + 22)

    def header_height(self) -> int:
        """Return the height of a section header, pixels."""
        return QFontMetrics(_small(self._parent.font())).height() + 14

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        """Return the height of a row or header; the width is the view's."""
        del option
        header = index.data(Role.JOB) is None
        return QSize(0, self.header_height() if header else self.row_height())

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Draw one row."""
        colours = of(self._parent)
        row = index.data(Role.JOB)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if row is None:
            folded = bool(index.data(Role.FOLDED))
            self._header(painter, option, colours, str(index.data() or ""), folded=folded)
        else:
            self._job(painter, option, colours, row, index.data(Role.PROGRESS))
        painter.restore()

    def action_area(self, rect: QRect, row: JobRow) -> QRect:
        """Return where a click opens (done) or retries (lost) the job; empty for others."""
        if row.state is JobState.DONE:
            return QRect(rect.right() - 34, rect.top(), 35, rect.height())
        if row.state is JobState.LOST:
            left = rect.left() + PAD + _picture_size(rect).width() + GAP
            return QRect(left, rect.center().y(), rect.right() - left, rect.height() // 2)
        return QRect()

    # -- parts -------------------------------------------------------------

    def _chip_height(self) -> int:
        return QFontMetrics(_small(self._parent.font())).height() + 2

    def _header(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        colours: Tokens,
        text: str,
        *,
        folded: bool,
    ) -> None:
        if option.state & QStyle.StateFlag.State_HasFocus:
            painter.setPen(QPen(QColor(colours.focus), 2))
            painter.drawRoundedRect(QRectF(option.rect).adjusted(1, 1, -1, -1), 5, 5)
        over = bool(option.state & QStyle.StateFlag.State_MouseOver)
        colour = QColor(colours.text if over else colours.muted)
        area = option.rect.adjusted(PAD, 4, -PAD, 0)
        x, y = area.left() + 4.0, area.center().y() + 0.5
        arrow = [(-2, -4), (2.5, 0), (-2, 4)] if folded else [(-4, -2), (0, 2.5), (4, -2)]
        painter.setPen(QPen(colour, 1.4))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF([QPointF(x + dx, y + dy) for dx, dy in arrow]))
        painter.setFont(_small(option.font))
        painter.setPen(colour)
        area.setLeft(area.left() + 15)
        fitting = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, area.width())
        painter.drawText(area, Qt.AlignmentFlag.AlignVCenter, fitting)

    def _job(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        colours: Tokens,
        row: JobRow,
        progress: words.Progress | None,
    ) -> None:
        running = row.state is JobState.RUNNING
        self._ground(painter, option, colours, running=running)
        area = option.rect.adjusted(PAD, 0, -PAD, 0)
        picture = QRect(area.topLeft(), _picture_size(option.rect))
        picture.moveTop(area.center().y() - picture.height() // 2)
        self._picture(painter, picture, row)
        area.setLeft(picture.right() + GAP)
        area.setRight(area.right() - self._right(painter, option, area, colours, row, progress))
        title = QFontMetrics(option.font).height()
        chip = self._chip_height()
        bar = 8 if running else 0
        top = area.center().y() - (title + 2 + chip + bar) // 2
        self._title(painter, option, QRect(area.left(), top, area.width(), title), colours, row)
        second = QRect(area.left(), top + title + 2, area.width(), chip)
        self._second(painter, option, second, colours, row, progress)
        if running:
            self._bar(
                painter, QRect(area.left(), second.bottom() + 5, area.width(), 4), colours, progress
            )

    def _ground(
        self, painter: QPainter, option: QStyleOptionViewItem, colours: Tokens, *, running: bool
    ) -> None:
        state = option.state
        selected = bool(state & QStyle.StateFlag.State_Selected)
        hovered = bool(state & QStyle.StateFlag.State_MouseOver)
        if not (selected or hovered or running):
            return
        fill = QColor(colours.selection if selected else colours.raised)
        if hovered and not selected and not running:
            fill.setAlphaF(0.6)
        focused = bool(state & QStyle.StateFlag.State_HasFocus)
        painter.setPen(QPen(QColor(colours.focus), 2) if focused else Qt.PenStyle.NoPen)
        painter.setBrush(fill)
        painter.drawRoundedRect(QRectF(option.rect).adjusted(1, 1, -1, -1), 5, 5)

    def _picture(self, painter: QPainter, area: QRect, row: JobRow) -> None:
        outline = QPainterPath()
        outline.addRoundedRect(QRectF(area), 4, 4)
        poster = None
        if row.output is not None and row.output.poster:
            poster = self.pictures.get(row.output.poster, row.attempt)
        if poster is None:
            painter.fillPath(outline, _gradient(area, row.job.id))
            return
        painter.save()
        painter.setClipPath(outline)
        wide, high = (round(side / poster.devicePixelRatio()) for side in poster.size().toTuple())
        painter.drawPixmap(area.center().x() - wide // 2, area.center().y() - high // 2, poster)
        painter.restore()

    def _title(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        area: QRect,
        colours: Tokens,
        row: JobRow,
    ) -> None:
        painter.setFont(option.font)
        painter.setPen(QColor(colours.text))
        metrics = painter.fontMetrics()
        text = metrics.elidedText(row.job.title, Qt.TextElideMode.ElideRight, area.width())
        painter.drawText(area, Qt.AlignmentFlag.AlignVCenter, text)

    def _second(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        area: QRect,
        colours: Tokens,
        row: JobRow,
        progress: words.Progress | None,
    ) -> None:
        painter.setFont(_small(option.font))
        metrics = painter.fontMetrics()
        # Why it waits says that it waits, and needs the room.
        waits = progress is not None and progress.waits and not progress.tone
        rest = QRect(area)
        if not waits:
            rest.adjust(self._chip(painter, area, colours, *words.chip(row, progress)) + 6, 0, 0, 0)
        if rest.width() < metrics.horizontalAdvance("…") * 2:
            return
        beside = progress is not None and progress.doing and not words.is_marked(row, progress)
        if progress is not None and beside:
            word = metrics.elidedText(progress.doing, Qt.TextElideMode.ElideRight, rest.width())
            painter.setPen(QColor(colours.tone(progress.tone or "muted")))
            painter.drawText(rest, Qt.AlignmentFlag.AlignVCenter, word)
            rest.adjust(metrics.horizontalAdvance(f"{word} "), 0, 0, 0)
            if rest.width() < metrics.horizontalAdvance("…") * 2:
                return
        failed = row.state in (JobState.FAILED, JobState.LOST)
        painter.setPen(QColor(colours.text if failed else colours.muted))
        # The offer to retry stands at the end and must stay in sight.
        lost = row.state is JobState.LOST
        mode = Qt.TextElideMode.ElideMiddle if lost else Qt.TextElideMode.ElideRight
        told = words.line(row, progress)
        if progress is not None and progress.waits and progress.tone:
            painter.setPen(QColor(colours.tone(progress.tone)))
        if beside and told:
            told = f"· {told}"
        line = metrics.elidedText(told, mode, rest.width())
        painter.drawText(rest, Qt.AlignmentFlag.AlignVCenter, line)

    @staticmethod
    def _chip(painter: QPainter, area: QRect, colours: Tokens, text: str, tone: str) -> int:
        """Draw the state's chip at the left; return its width."""
        wide = painter.fontMetrics().horizontalAdvance(text) + 14
        chip = QRect(area.topLeft(), QSize(wide, area.height()))
        colour = QColor(colours.tone(tone))
        edge = QColor(colour)
        edge.setAlphaF(0.7)
        painter.setPen(QPen(edge, 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        round_ = chip.height() / 2
        painter.drawRoundedRect(QRectF(chip).adjusted(0.5, 0.5, -0.5, -0.5), round_, round_)
        painter.setPen(colour)
        painter.drawText(chip, Qt.AlignmentFlag.AlignCenter, text)
        return wide

    def _right(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        area: QRect,
        colours: Tokens,
        row: JobRow,
        progress: words.Progress | None,
    ) -> int:
        """Draw the time or the triangle at the right end; return the room it takes."""
        if row.state is JobState.DONE:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(colours.muted))
            x, y = area.right() - 10.0, area.center().y() + 0.5
            corners = [QPointF(x, y - 6), QPointF(x + 10, y), QPointF(x, y + 6)]
            painter.drawPolygon(QPolygonF(corners))
            return 10 + GAP
        text = words.right(row, progress)
        if not text:
            return 0
        painter.setFont(option.font)
        painter.setPen(QColor(colours.muted))
        painter.drawText(area, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, text)
        return painter.fontMetrics().horizontalAdvance(text) + GAP

    def _bar(
        self, painter: QPainter, area: QRect, colours: Tokens, progress: words.Progress | None
    ) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colours.border))
        painter.drawRoundedRect(QRectF(area), 2, 2)
        if progress is None or progress.fraction is None:
            return
        done = QRectF(area)
        done.setWidth(max(4.0, area.width() * progress.fraction))
        painter.setBrush(QColor(colours.link))
        painter.drawRoundedRect(done, 2, 2)


def _picture_size(row: QRect) -> QSize:
    return PICTURE if row.width() >= NARROW else PICTURE * 0.7


def _small(font: QFont) -> QFont:
    small = QFont(font)
    if font.pointSizeF() > 0:
        small.setPointSizeF(font.pointSizeF() * SMALL)
    else:
        small.setPixelSize(max(1, round(font.pixelSize() * SMALL)))
    return small


def _gradient(area: QRect, job_id: str) -> QLinearGradient:
    """Return a quiet gradient that is always the same for one job."""
    number = crc32(job_id.encode())
    hue, turn = number % 360, 25 + number // 360 % 60
    gradient = QLinearGradient(QPointF(area.topLeft()), QPointF(area.bottomRight()))
    gradient.setColorAt(0, QColor.fromHsl(hue, 72, 128))
    gradient.setColorAt(1, QColor.fromHsl((hue + turn) % 360, 72, 68))
    return gradient


def index_job(index: QModelIndex) -> JobRow | None:
    """Return the job of `index`; None for a header or no row."""
    return index.data(Role.JOB) if index.isValid() else None

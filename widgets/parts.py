"""Small pieces that several panels share."""

from __future__ import annotations

from html import escape

from PySide6.QtCore import QEvent, QObject, QSize, Qt
from PySide6.QtGui import QIcon, QKeyEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import (
    QDoubleSpinBox,
    QFrame,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from widgets import theme

_NO_LIMIT = 16_777_215


def label(text: str, role: str, *, wrap: bool = False) -> QLabel:
    """Return a plain-text label in the style of `role` (see `stylesheet`)."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setProperty("role", role)
    made.setWordWrap(wrap)
    return made


def hint_page(head: str, text: str) -> QWidget:
    """Return what stands in the place of a list that is empty: what it is, and what to do."""
    page = QWidget()
    column = QVBoxLayout(page)
    column.setContentsMargins(8, 24, 8, 8)
    for shown in (label(head, "title", wrap=True), label(text, "muted", wrap=True)):
        shown.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        column.addWidget(shown)
    column.addStretch(1)
    return page


def set_tone(widget: QWidget, tone: str) -> None:
    """Give `widget` a tone ("success", "warning", "danger", "info" or "") and restyle it."""
    if widget.property("tone") != tone:
        widget.setProperty("tone", tone)
        theme.restyle(widget)


class _Iconed:
    """What buttons with a themed icon share; mixed into a Qt button."""

    _icon_name = ""

    def set_icon(self, name: str) -> None:
        """Show resources/icons/`name`.svg, following the theme."""
        if name != self._icon_name:
            self._icon_name = name
            self._draw_icon()

    def _draw_icon(self) -> None:
        shown = theme.icon(self._icon_name, theme.of(self)) if self._icon_name else QIcon()  # type: ignore[arg-type]
        self.setIcon(shown)  # type: ignore[attr-defined]


class IconButton(_Iconed, QToolButton):
    """A button that is only a picture; `name` is said aloud and in the tooltip."""

    def __init__(self, icon: str, name: str, tip: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setIconSize(QSize(16, 16))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(name)
        self.setToolTip(tip or name)
        self.set_icon(icon)

    def changeEvent(self, event: QEvent) -> None:
        """Redraw the icon when the theme changes."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._draw_icon()


class Button(_Iconed, QPushButton):
    """A text button; `kind` picks its style, `icon` a picture before the text."""

    def __init__(self, text: str, kind: str = "", icon: str = "", tip: str = "") -> None:
        super().__init__(text)
        if kind:
            self.setProperty("kind", kind)
        if tip:
            self.setToolTip(tip)
        self.setIconSize(QSize(14, 14))
        self.set_icon(icon)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Let Enter press the button that has the focus; Qt does so in some desktops only."""
        plain = not event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        if plain and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            event.accept()
            if not event.isAutoRepeat():
                self.click()
            return
        super().keyPressEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        """Redraw the icon when the theme changes."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and self._icon_name:
            self._draw_icon()


class ElidedLabel(QLabel):
    """One line that shortens itself with "…"; the whole text is in the tooltip.

    Attributes:
        squeezed: It asks for the room of its short text only.
    """

    def __init__(self, text: str = "", role: str = "", least: int = 40) -> None:
        super().__init__(text)
        self._least, self._short = least, ""
        self.squeezed = False
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Ask for room for all of the text; squeezed, for the short one."""
        hint = super().sizeHint()
        if self.squeezed and self._short:
            spare = self.fontMetrics().horizontalAdvance(self.text()) - hint.width()
            hint.setWidth(self.fontMetrics().horizontalAdvance(self._short) - spare)
        return hint

    def minimumSizeHint(self) -> QSize:
        """Allow shrinking to a few letters."""
        hint = super().minimumSizeHint()
        return QSize(min(hint.width(), self._least), hint.height())

    def setText(self, text: str, short: str = "") -> None:
        """Show `text`, or `short` where there is no room for all of it."""
        self._short = short
        super().setText(text)
        self._offer_whole()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Offer the whole text as a tooltip once it no longer fits."""
        super().resizeEvent(event)
        self._offer_whole()

    def _offer_whole(self) -> None:
        fits = self.fontMetrics().horizontalAdvance(self.text()) <= self.contentsRect().width()
        # A server's words are no markup, whatever they look like.
        words = f"<span>{escape(self.text())}</span>" if "<" in self.text() else self.text()
        self.setToolTip("" if fits else words)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw as much of the text as fits."""
        painter = QPainter(self)
        box, text, mode = self.contentsRect(), self.text(), Qt.TextElideMode.ElideRight
        if self._short and self.fontMetrics().horizontalAdvance(text) > box.width():
            # What it is about tells it from the others at both ends.
            text, mode = self._short, Qt.TextElideMode.ElideMiddle
        text = self.fontMetrics().elidedText(text, mode, box.width())
        painter.drawText(box, int(self.alignment()), text)
        painter.end()


class Card(QFrame):
    """A framed box with a vertical layout."""

    def __init__(self, tone: str = "", margins: tuple[int, int, int, int] = (10, 8, 10, 8)) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self.setProperty("tone", tone)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(*margins)
        self.column.setSpacing(4)


class FlowBox(QWidget):
    """Lays its children out like words, on as many lines as the width asks for."""

    def __init__(self, gap: int = 5) -> None:
        super().__init__()
        self._gap = gap
        self._items: list[QWidget] = []
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def add(self, widget: QWidget) -> None:
        """Append `widget`."""
        widget.setParent(self)
        self._items.append(widget)
        widget.show()
        # The size may be right already, and then nobody asks again.
        self._place(self.width(), move=True)
        self.updateGeometry()

    def clear(self) -> None:
        """Take all children out."""
        for item in self._items:
            item.hide()
            item.setParent(None)
            item.deleteLater()
        self._items = []
        self.updateGeometry()

    def heightForWidth(self, width: int) -> int:
        """Return the height needed at `width`."""
        return self._place(width, move=False)

    def sizeHint(self) -> QSize:
        """Ask for the height at the width there is now."""
        width = max((item.sizeHint().width() for item in self._items), default=0)
        return QSize(width, self._place(max(self.width(), width), move=False))

    def minimumSizeHint(self) -> QSize:
        """Allow one child per line, each shortened."""
        return QSize(60, 0)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Place the children anew."""
        super().resizeEvent(event)
        self._place(self.width(), move=True)

    def _place(self, width: int, *, move: bool) -> int:
        x = y = line = 0
        for item in self._items:
            hint = item.sizeHint()
            wide = min(hint.width(), width)
            if x and x + wide > width:
                x, y, line = 0, y + line + self._gap, 0
            if move:
                item.setGeometry(x, y, wide, hint.height())
            x += wide + self._gap
            line = max(line, hint.height())
        return y + line


class FittingScroll(QScrollArea):
    """A vertical scroll area no taller than what it holds."""

    def __init__(self, inside: QWidget) -> None:
        super().__init__()
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        inside.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the height of what is inside."""
        if watched is self.widget() and event.type() in (
            QEvent.Type.LayoutRequest,
            QEvent.Type.Resize,
        ):
            self._fit()
        return super().eventFilter(watched, event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Follow the width, which decides the height."""
        super().resizeEvent(event)
        self._fit()

    def sizeHint(self) -> QSize:
        """Ask for all of what is inside."""
        return QSize(super().sizeHint().width(), min(self._needed(), _NO_LIMIT))

    def minimumSizeHint(self) -> QSize:
        """Allow a short window."""
        return QSize(self.widget().minimumSizeHint().width(), 90)

    def _needed(self) -> int:
        layout = self.widget().layout()
        if layout is None:
            return self.widget().sizeHint().height()
        width = self.viewport().width()
        return (
            layout.totalHeightForWidth(width)
            if layout.hasHeightForWidth()
            else layout.totalSizeHint().height()
        )

    def _fit(self) -> None:
        height = self._needed()
        # Without this the form is squeezed before it scrolls.
        self.widget().setMinimumHeight(height)
        if self.maximumHeight() != height:
            self.setMaximumHeight(height)
            self.updateGeometry()


def number_field(value: float, limits: tuple[float, float], unit: str, name: str) -> QDoubleSpinBox:
    """Return a field for a number with its unit, such as " GB"; Up and Down change it.

    Args:
        value: What it holds.
        limits: Least and most.
        unit: Written behind the number.
        name: For who cannot see what stands beside it.
    """
    field = QDoubleSpinBox()
    field.setRange(*limits)
    field.setDecimals(1)
    field.setSuffix(unit)
    field.setValue(value)
    field.setAccessibleName(name)
    # WORKAROUND: style sheets do not move the text of a spin box away from its edge.
    field.lineEdit().setTextMargins(6, 0, 6, 0)
    return field

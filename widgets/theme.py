"""Dressing the application: palette, style sheet, font and icons."""

from __future__ import annotations

from dataclasses import fields
from typing import cast

from PySide6.QtCore import QByteArray, QObject, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontDatabase,
    QIcon,
    QPainter,
    QPalette,
    QPixmap,
)
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication, QWidget

from core.resources import path
from widgets.colours import DARK, LIGHT, Mode, Tokens, tokens
from widgets.stylesheet import stylesheet

__all__ = [
    "DARK",
    "LIGHT",
    "Mode",
    "Theme",
    "Tokens",
    "apply",
    "icon",
    "of",
    "stylesheet",
    "tokens",
]


class Theme(QObject):
    """The theme in force; lives on the QApplication it was applied to."""

    changed = Signal(object)
    """Carries the new `Tokens`."""

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self.mode: Mode = "system"
        self.tokens = tokens("system", app)
        self.icons: dict[tuple[str, str, str], QIcon] = {}
        self._busy = False
        self._dressed: Tokens | None = None
        app.styleHints().colorSchemeChanged.connect(self.on_scheme_changed)

    def set_mode(self, mode: Mode) -> Tokens:
        """Dress the application in `mode` and return its colours."""
        app = cast(QApplication, self.parent())
        self.mode = mode
        # Telling Qt keeps title bars and native dialogs in step with us; the
        # signal that this may send must not dress the window twice.
        self._busy = True
        scheme = {"dark": Qt.ColorScheme.Dark, "light": Qt.ColorScheme.Light}
        hints = app.styleHints()
        if hasattr(hints, "setColorScheme"):
            hints.setColorScheme(scheme.get(mode, Qt.ColorScheme.Unknown))
        self._busy = False
        return self._dress(app)

    def on_scheme_changed(self) -> None:
        """Follow the desktop when the person asked for that."""
        if self.mode == "system" and not self._busy:
            self._dress(cast(QApplication, self.parent()))

    def _dress(self, app: QApplication) -> Tokens:
        self.tokens = tokens(self.mode, app)
        if self.tokens is self._dressed:
            return self.tokens  # Dressing every widget again would cost and change nothing.
        self._dressed = self.tokens
        app.setPalette(_palette(self.tokens))
        app.setStyleSheet(stylesheet(self.tokens))
        self.changed.emit(self.tokens)
        return self.tokens


def apply(app: QApplication, mode: Mode) -> Tokens:
    """Dress `app` in `mode` ("system" goes on following the desktop) and return its colours."""
    theme = app.findChild(Theme)
    if theme is None:
        app.setStyle("Fusion")
        app.setFont(_font())
        theme = Theme(app)
    return theme.set_mode(mode)


def of(widget: QWidget) -> Tokens:
    """Return the colours in force, for widgets that paint themselves.

    Call it when painting, or again in `changeEvent` on StyleChange.
    """
    theme = _in_force()
    if theme is not None:
        return theme.tokens
    dark = widget.palette().color(QPalette.ColorRole.Window).lightness() < 128
    return DARK if dark else LIGHT


def _in_force() -> Theme | None:
    app = QApplication.instance()
    direct = Qt.FindChildOption.FindDirectChildrenOnly
    return app.findChild(Theme, options=direct) if app else None


def restyle(widget: QWidget) -> None:
    """Let the style sheet see a property of `widget` that changed."""
    style = widget.style()
    style.unpolish(widget)
    style.polish(widget)


def icon(name: str, tokens: Tokens, colour: str | None = None) -> QIcon:
    """Return resources/icons/`name`.svg drawn in `colour`, the text colour if none is given.

    Raises:
        FileNotFoundError: There is no such icon.
    """
    theme = _in_force()
    key = (name, colour or tokens.text, tokens.border)
    if theme is not None and key in theme.icons:
        return theme.icons[key]
    source = _source(name)
    made = QIcon()
    for size in (16, 32):
        made.addPixmap(_render(source, key[1], size))
        made.addPixmap(_render(source, key[2], size), QIcon.Mode.Disabled)
    if theme is not None:
        theme.icons[key] = made
    return made


def picture(name: str, colour: str, size: int) -> QPixmap:
    """Return resources/icons/`name`.svg in `colour`, `size` device pixels wide and high."""
    return _render(_source(name), colour, size)


def _source(name: str) -> str:
    return path(f"icons/{name}.svg").read_text("utf-8")


def _render(source: str, colour: str, size: int) -> QPixmap:
    drawing = QSvgRenderer(QByteArray(source.replace("currentColor", colour).encode()))
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    drawing.render(painter, QRectF(0, 0, size, size))
    painter.end()
    return pixmap


def colour_names() -> list[str]:
    """Return the names of all colours in `Tokens`."""
    return [field.name for field in fields(Tokens) if field.name != "name"]


def _font() -> QFont:
    # Inter where it is installed, else what the desktop uses; sizes in points
    # follow the person's scaling, and QSS sizes are relative to this one.
    font = QApplication.font()
    if QFontDatabase.hasFamily("Inter"):
        font.setFamily("Inter")
    font.setPointSizeF(10)
    return font


def _palette(t: Tokens) -> QPalette:
    role = QPalette.ColorRole
    palette = QPalette()
    for key, colour in (
        (role.Window, t.panel),
        (role.WindowText, t.text),
        (role.Base, t.field),
        (role.AlternateBase, t.raised),
        (role.Text, t.text),
        (role.PlaceholderText, t.muted),
        (role.Button, t.raised),
        (role.ButtonText, t.text),
        (role.BrightText, t.danger),
        (role.ToolTipBase, t.raised),
        (role.ToolTipText, t.text),
        (role.Highlight, t.accent),
        (role.HighlightedText, t.accent_text),
        (role.Link, t.link),
        (role.LinkVisited, t.link),
        (role.Light, t.border),
        (role.Midlight, t.border),
        (role.Mid, t.border),
        (role.Dark, t.border),
        (role.Shadow, t.background),
        (role.Accent, t.accent),
    ):
        palette.setColor(key, QColor(colour))
    for key in (role.WindowText, role.Text, role.ButtonText, role.HighlightedText):
        palette.setColor(QPalette.ColorGroup.Disabled, key, QColor(t.muted))
    return palette

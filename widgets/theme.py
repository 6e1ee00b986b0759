"""Colours, palette, style sheet and icons; no other file names a colour."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, cast

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
from widgets.stylesheet import stylesheet

Mode = Literal["light", "dark", "system"]

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


@dataclass(frozen=True, slots=True)
class Tokens:
    """Named colours of one theme, each "#rrggbb".

    Every name means the same in both themes. The phase and series colours
    differ in lightness as well as hue, so that they stay apart for
    colour-blind eyes; text never relies on colour alone.
    """

    name: str
    background: str
    panel: str
    raised: str
    field: str
    border: str
    text: str
    muted: str
    accent: str
    accent_hover: str
    accent_text: str
    link: str
    focus: str
    selection: str
    success: str
    success_panel: str
    warning: str
    warning_panel: str
    danger: str
    danger_panel: str
    info_panel: str
    stage: str
    badge: str
    badge_text: str
    phase_load: str
    phase_sample: str
    phase_decode: str
    phase_encode: str
    phase_verify: str
    series_worker: str
    series_panel: str
    series_other: str

    def phase(self, phase: str) -> str:
        """Return the colour of a `core.jobs.Phase`."""
        return cast(str, getattr(self, f"phase_{phase}"))

    def tone(self, tone: str) -> str:
        """Return the colour of "success", "warning", "danger", "info" or "muted"."""
        return {
            "success": self.success,
            "warning": self.warning,
            "danger": self.danger,
            "info": self.link,
        }.get(tone, self.muted)


DARK = Tokens(
    name="dark",
    background="#0e1014",
    panel="#191d24",
    raised="#242a34",
    field="#101319",
    border="#363d49",
    text="#e7eaef",
    muted="#9aa3b1",
    accent="#2b6cb0",
    accent_hover="#357bc4",
    accent_text="#ffffff",
    link="#6cb2f5",
    focus="#5aa9f5",
    selection="#263a52",
    success="#5fc184",
    success_panel="#15261d",
    warning="#e5b04a",
    warning_panel="#35290f",
    danger="#f2756d",
    danger_panel="#361a1b",
    info_panel="#152536",
    stage="#08090b",
    badge="#0c0e12",
    badge_text="#eef1f5",
    phase_load="#6a7382",
    phase_sample="#3f83cb",
    phase_decode="#d59a2e",
    phase_encode="#36a27b",
    phase_verify="#b98ad9",
    series_worker="#4a90d9",
    series_panel="#d488b8",
    series_other="#717a89",
)

LIGHT = Tokens(
    name="light",
    background="#e9ecf0",
    panel="#f7f8fa",
    raised="#ffffff",
    field="#ffffff",
    border="#c6ccd5",
    text="#1b2028",
    muted="#596372",
    accent="#2463a6",
    accent_hover="#1d548f",
    accent_text="#ffffff",
    link="#1c5fa8",
    focus="#1f6fc4",
    selection="#d3e4f7",
    success="#1d7a45",
    success_panel="#e3f4ea",
    warning="#8a5a00",
    warning_panel="#fdf1d4",
    danger="#b3261e",
    danger_panel="#fce8e6",
    info_panel="#e4eefa",
    stage="#14171c",
    badge="#0c0e12",
    badge_text="#eef1f5",
    phase_load="#a9b1bd",
    phase_sample="#3576bd",
    phase_decode="#cf8f1d",
    phase_encode="#1f7d5a",
    phase_verify="#c39be0",
    series_worker="#3576bd",
    series_panel="#bd639c",
    series_other="#aab2be",
)


class Theme(QObject):
    """The theme in force; lives on the QApplication it was applied to."""

    changed = Signal(object)
    """Carries the new `Tokens`."""

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self.mode: Mode = "system"
        self.tokens = tokens("system", app)
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


def tokens(mode: Mode, app: QApplication | None = None) -> Tokens:
    """Return the colours of `mode`; "system" asks the desktop of `app`, dark if it is silent."""
    if mode == "system" and app is not None:
        light = app.styleHints().colorScheme() is Qt.ColorScheme.Light
        return LIGHT if light else DARK
    return LIGHT if mode == "light" else DARK


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
    app = QApplication.instance()
    theme = app.findChild(Theme, options=Qt.FindChildOption.FindDirectChildrenOnly) if app else None
    if theme is not None:
        return theme.tokens
    dark = widget.palette().color(QPalette.ColorRole.Window).lightness() < 128
    return DARK if dark else LIGHT


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
    source = _source(name)
    made = QIcon()
    for size in (16, 32):
        made.addPixmap(_render(source, colour or tokens.text, size))
        made.addPixmap(_render(source, tokens.border, size), QIcon.Mode.Disabled)
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

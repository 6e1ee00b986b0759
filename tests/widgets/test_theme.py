"""Colours, icons and the style sheet."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PySide6.QtCore import QByteArray
from PySide6.QtGui import QColor, QImage, QPainter, QPalette
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication, QLabel, QPushButton

from core import resources
from widgets import theme

# Qt says so of every window on a display without a window manager.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)

NAMES = (
    *("framedeck", "play", "pause", "stop", "step-back", "step-forward", "loop", "save"),
    *("folder", "retry", "edit", "cancel", "top", "trash", "duplicate", "undo", "close"),
    *("warning", "info", "chip", "copy", "shuffle", "lock", "check"),
)


def luminance(colour: str) -> float:
    def linear(part: float) -> float:
        return part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4

    c = QColor(colour)
    parts = [linear(x) for x in (c.redF(), c.greenF(), c.blueF())]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: str, two: str) -> float:
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


# Brettel-like matrices on linear light, as simulated by Machado 2009, severity 1.
BLINDNESS = {
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
}


def seen(colour: str, matrix: tuple[tuple[float, ...], ...]) -> list[float]:
    c = QColor(colour)
    light = [x**2.2 for x in (c.redF(), c.greenF(), c.blueF())]
    out = [sum(m * x for m, x in zip(row, light, strict=True)) for row in matrix]
    return [max(0.0, min(1.0, x)) ** (1 / 2.2) for x in out]


@pytest.mark.parametrize("tokens", [theme.DARK, theme.LIGHT], ids=["dark", "light"])
def test_text_can_be_read(tokens: theme.Tokens) -> None:
    for ground in (tokens.background, tokens.panel, tokens.raised, tokens.field):
        assert contrast(tokens.text, ground) >= 7, ground
        assert contrast(tokens.muted, ground) >= 4.5, ground
        for tone in ("success", "warning", "danger", "info"):
            assert contrast(tokens.tone(tone), ground) >= 4.5, (tone, ground)
    assert contrast(tokens.accent_text, tokens.accent) >= 4.5
    assert contrast(tokens.focus, tokens.panel) >= 3
    for panel in ("success", "warning", "danger"):
        assert contrast(tokens.text, getattr(tokens, f"{panel}_panel")) >= 7


@pytest.mark.parametrize("kind", BLINDNESS)
@pytest.mark.parametrize("tokens", [theme.DARK, theme.LIGHT], ids=["dark", "light"])
def test_series_and_phases_stay_apart_for_colour_blind_eyes(
    tokens: theme.Tokens, kind: str
) -> None:
    series = [tokens.series_worker, tokens.series_panel, tokens.series_other]
    phases = [tokens.phase(p) for p in ("load", "sample", "decode", "encode", "verify")]
    for colours in (series, phases):
        for index, one in enumerate(colours):
            for two in colours[index + 1 :]:
                a, b = seen(one, BLINDNESS[kind]), seen(two, BLINDNESS[kind])
                apart = sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5
                assert apart > 0.10, (one, two, kind)


def test_every_token_is_a_colour() -> None:
    for tokens in (theme.DARK, theme.LIGHT):
        for name in theme.colour_names():
            assert re.fullmatch(r"#[0-9a-f]{6}", getattr(tokens, name)), name


@pytest.mark.parametrize("name", NAMES)
def test_icon_exists_and_parses(qapp: QApplication, name: str) -> None:
    source = resources.path(f"icons/{name}.svg").read_bytes()
    ElementTree.fromstring(source)
    drawing = QSvgRenderer(QByteArray(source))
    assert drawing.isValid()
    image = QImage(24, 24, QImage.Format.Format_ARGB32)
    image.fill(0)
    painter = QPainter(image)
    drawing.render(painter)
    painter.end()
    assert any(image.pixelColor(x, y).alpha() for x in range(24) for y in range(24))


def test_every_shipped_icon_parses(qapp: QApplication) -> None:
    files = sorted(resources.path("icons").glob("*.svg"))
    assert {f.stem for f in files} >= set(NAMES)
    for file in files:
        assert QSvgRenderer(str(file)).isValid(), file.name


def test_a_missing_resource_is_told() -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        resources.path("icons/nothing.svg")


def test_icon_takes_the_colour_asked_for(qapp: QApplication) -> None:
    image = theme.picture("stop", "#ff0000", 24).toImage()
    assert image.pixelColor(12, 12) == QColor("#ff0000")


def test_apply_dresses_and_changes(qapp: QApplication, qtbot) -> None:
    label = QLabel("x")
    qtbot.addWidget(label)
    theme.apply(qapp, "light")
    assert theme.apply(qapp, "dark") is theme.DARK
    assert qapp.palette().color(QPalette.ColorRole.Window) == QColor(theme.DARK.panel)
    assert theme.of(label) is theme.DARK
    told = []
    qapp.findChild(theme.Theme).changed.connect(told.append)
    assert theme.apply(qapp, "light") is theme.LIGHT
    assert told == [theme.LIGHT]
    assert theme.of(label) is theme.LIGHT
    assert len(qapp.findChildren(theme.Theme)) == 1


def test_system_theme_follows_the_desktop(qapp: QApplication) -> None:
    theme.apply(qapp, "light")
    follower = qapp.findChild(theme.Theme)
    told = []
    follower.changed.connect(told.append)
    hints = qapp.styleHints()
    hints.colorSchemeChanged.emit(hints.colorScheme())
    assert told == []  # Light was chosen: the desktop has no say.
    wanted = theme.tokens("system", qapp)
    theme.apply(qapp, "dark" if wanted is theme.LIGHT else "light")
    told.clear()
    follower.mode = "system"
    hints.colorSchemeChanged.emit(hints.colorScheme())
    assert told == [wanted]
    assert follower.tokens is wanted


def test_colours_are_named_in_one_file() -> None:
    folder = Path(theme.__file__).parent
    for file in folder.glob("*.py"):
        if file.name != "colours.py":
            found = re.findall(r"[\"']#[0-9a-fA-F]{3,8}[\"']", file.read_text("utf-8"))
            assert not found, (file.name, found)


def test_focus_can_be_seen(qapp: QApplication, qtbot) -> None:
    for mode in ("dark", "light"):
        theme.apply(qapp, mode)
        button = QPushButton("Go")
        qtbot.addWidget(button)
        button.show()
        qtbot.waitExposed(button)
        button.clearFocus()
        before = button.grab().toImage()
        button.setFocus()
        qtbot.waitUntil(button.hasFocus)
        assert button.grab().toImage() != before

"""The style sheet: a text made from colours, keyed by properties and object names.

Properties that widgets set:
    role   labels: "app-title", "section", "title", "label", "muted", "error", "badge", "value"
           frames: "panel", "card", "bar", "notice", "stage"
    kind   buttons: "primary", "quiet", "link", "danger", "chip"
    tone   frames, labels: "success", "warning", "danger", "info"
    invalid  fields: true while their value cannot be used
"""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING

from core.resources import path

if TYPE_CHECKING:
    from widgets.theme import Tokens

_SHEET = Template("""
QMainWindow, QDialog { background: $background; }
QDialogButtonBox, QMessageBox { dialogbuttonbox-buttons-have-icons: 0; }
QMainWindow::separator { background: $background; width: 5px; height: 5px; }
QMainWindow::separator:hover { background: $accent; }
QToolTip { background: $raised; color: $text; border: 1px solid $border; padding: 4px 6px; }
QWidget[role="panel"] { background: $panel; }
QWidget[role="stage-panel"] { background: $background; }
QScrollArea { background: transparent; border: none; }
QScrollArea > QWidget > QWidget[role="form"] { background: transparent; }

QLabel { background: transparent; }
QLabel[role="app-title"] { font-size: 12pt; font-weight: 700; }
QLabel[role="title"] { font-size: 12pt; font-weight: 600; }
QLabel[role="section"] { font-size: 8pt; font-weight: 700; color: $muted; letter-spacing: 1px; }
QLabel[role="label"] { font-size: 8.5pt; color: $muted; }
QLabel[role="muted"] { color: $muted; }
QLabel[role="small"] { font-size: 8.5pt; color: $muted; }
QLabel[role="error"] { font-size: 8.5pt; color: $danger; }
QLabel[role="value"] { font-size: 13pt; font-weight: 600; }
QLabel[tone="success"] { color: $success; }
QLabel[tone="warning"] { color: $warning; }
QLabel[tone="danger"] { color: $danger; }
QLabel[tone="info"] { color: $link; }
QLabel[tone="muted"] { color: $muted; }

QFrame[role="card"] { background: $raised; border: 1px solid $border; border-radius: 6px; }
QFrame[role="card"][tone="success"] { background: $success_panel; border-color: $success; }
QFrame[role="card"][tone="warning"] { background: $warning_panel; border-color: $warning; }
QFrame[role="card"][tone="danger"] { background: $danger_panel; border-color: $danger; }
QFrame[role="card"][tone="info"] { background: $info_panel; border-color: $link; }
QFrame[role="bar"] { background: $panel; border: none; border-bottom: 1px solid $border; }
QFrame[role="bar"][edge="top"] { border-bottom: none; border-top: 1px solid $border; }
QFrame[role="notice"] { background: $info_panel; border: none; border-bottom: 1px solid $border; }
QFrame[role="notice"][tone="warning"] { background: $warning_panel; }
QFrame[role="notice"][tone="danger"] { background: $danger_panel; }
QFrame[role="notice"][tone="success"] { background: $success_panel; }
QFrame[role="stage"] { background: $background; }
QFrame[role="engine-chip"] { background: $raised; border: 1px solid $border; border-radius: 13px; }

QPushButton { background: $raised; color: $text; border: 1px solid $border; border-radius: 5px;
    padding: 4px 11px; }
QPushButton:hover { border-color: $muted; }
QPushButton:pressed { background: $border; }
QPushButton:checked { background: $selection; border-color: $focus; }
QPushButton:focus { border: 2px solid $focus; padding: 3px 10px; }
QPushButton:disabled { color: $muted; background: $panel; }
QPushButton[kind="primary"] { background: $accent; color: $accent_text; border-color: $accent;
    font-weight: 600; padding: 6px 12px; }
QPushButton[kind="primary"]:hover { background: $accent_hover; }
QPushButton[kind="primary"]:pressed { background: $selection; color: $text; }
QPushButton[kind="primary"]:focus { border: 2px solid $text; padding: 5px 11px; }
QPushButton[kind="primary"]:disabled { background: $raised; color: $muted; border-color: $border; }
QPushButton[kind="side"] { padding: 6px 8px; }
QPushButton[kind="side"]:focus { padding: 5px 7px; }
QPushButton[kind="link"] { background: transparent; border: 2px solid transparent; color: $link;
    padding: 1px 3px; text-decoration: underline; }
QPushButton[kind="link"]:hover { color: $text; }
QPushButton[kind="link"]:focus { border: 2px solid $focus; padding: 1px 3px; }
QPushButton[kind="chip"] { border-radius: 9px; padding: 2px 9px; font-size: 8.5pt; }
QPushButton[kind="chip"]:focus { padding: 1px 8px; }
QPushButton::menu-indicator { image: none; width: 0; }
QToolButton { background: transparent; border: 2px solid transparent; border-radius: 5px;
    padding: 2px; color: $text; }
QToolButton:hover { background: $raised; }
QToolButton:pressed, QToolButton:checked { background: $selection; }
QToolButton:focus { border-color: $focus; }

QToolButton[kind="split"] { background: $raised; border: 1px solid $border;
    padding: 5px 24px 5px 9px; }
QToolButton[kind="split"]:hover { border-color: $muted; }
QToolButton[kind="split"]:focus { border: 2px solid $focus; padding: 4px 23px 4px 8px; }
QToolButton[kind="split"]:disabled { color: $muted; background: $panel; }
QToolButton[kind="split"]::menu-button { border: none;
    border-left: 1px solid $border; width: 18px; }
QToolButton[kind="split"]::menu-arrow { image: url("$chevron"); width: 11px; height: 11px; }

QLineEdit, QPlainTextEdit, QTextEdit, QAbstractSpinBox, QComboBox { background: $field;
    color: $text; border: 1px solid $border; border-radius: 5px; padding: 4px 7px;
    selection-background-color: $accent; selection-color: $accent_text; }
QLineEdit, QPlainTextEdit { placeholder-text-color: $muted; }
QPlainTextEdit, QTextEdit { padding: 2px 3px; }
QLineEdit:hover, QPlainTextEdit:hover, QAbstractSpinBox:hover, QComboBox:hover
    { border-color: $muted; }
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus, QAbstractSpinBox:focus, QComboBox:focus
    { border: 2px solid $focus; padding: 3px 6px; }
QPlainTextEdit:focus, QTextEdit:focus { padding: 1px 2px; }
QLineEdit[invalid="true"], QPlainTextEdit[invalid="true"], QAbstractSpinBox[invalid="true"],
QComboBox[invalid="true"] { border-color: $danger; }
QLineEdit[part="seed"] { padding-right: 1px; }
QLineEdit[part="seed"]:focus { padding-right: 0; }
QLineEdit:disabled, QPlainTextEdit:disabled, QAbstractSpinBox:disabled, QComboBox:disabled
    { color: $muted; }
QAbstractSpinBox QLineEdit { border: none; padding: 0; background: transparent; }
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button { subcontrol-origin: border; width: 0; }
QComboBox::drop-down { border: none; width: 20px; }
QComboBox::down-arrow { image: url("$chevron"); width: 12px; height: 12px; }
QComboBox QAbstractItemView { background: $raised; color: $text; border: 1px solid $border;
    selection-background-color: $accent; selection-color: $accent_text; outline: none; }
QCheckBox { spacing: 7px; padding: 2px; border: 2px solid transparent; border-radius: 5px; }
QCheckBox:focus { border-color: $focus; }
QCheckBox::indicator, QTableView::indicator, QListView::indicator { width: 14px; height: 14px;
    border: 1px solid $muted; border-radius: 3px; background: $field; }
QCheckBox::indicator:checked, QTableView::indicator:checked,
QListView::indicator:checked { background: $accent;
    border-color: $accent; image: url("$tick"); }

QMenuBar { background: $panel; color: $text; }
QMenuBar::item { padding: 4px 9px; background: transparent; }
QMenuBar::item:selected { background: $selection; border-radius: 4px; }
QMenu { background: $raised; color: $text; border: 1px solid $border; padding: 4px; }
QMenu::item { padding: 5px 24px 5px 12px; border-radius: 4px; }
QMenu::item:selected { background: $accent; color: $accent_text; }
QMenu::item:disabled { color: $muted; }
QMenu::separator { height: 1px; background: $border; margin: 4px 6px; }

QDockWidget { color: $muted; font-size: 8pt; font-weight: 700; }
QDockWidget::title { background: $panel; padding: 6px 10px; text-align: left; }
QDockWidget > QWidget { background: $panel; }
QTabBar::tab { background: $panel; color: $muted; border: none; padding: 6px 12px; }
QTabBar::tab:selected { color: $text; border-bottom: 2px solid $accent; }
QTabBar::tab:focus { color: $link; }
QTabWidget::pane { border: 1px solid $border; }
QStatusBar { background: $panel; color: $muted; }
QStatusBar::item { border: none; }

QTableView, QTreeView, QListView { background: $panel; color: $text; border: none;
    alternate-background-color: $raised; selection-background-color: $selection;
    selection-color: $text; outline: none; }
QHeaderView::section { background: $panel; color: $muted; border: none; padding: 4px 8px; }
QGroupBox { border: 1px solid $border; border-radius: 6px; margin-top: 8px; padding-top: 6px; }

QProgressBar { background: $raised; border: none; border-radius: 3px; max-height: 6px;
    min-height: 6px; color: transparent; }
QProgressBar::chunk { background: $link; border-radius: 3px; }

QScrollBar:vertical { background: transparent; width: 11px; margin: 0; }
QScrollBar:horizontal { background: transparent; height: 11px; margin: 0; }
QScrollBar::handle { background: $border; border-radius: 4px; margin: 2px; }
QScrollBar::handle:vertical { min-height: 28px; }
QScrollBar::handle:horizontal { min-width: 28px; }
QScrollBar::handle:hover { background: $muted; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
QSplitter::handle { background: $background; }
""")


def stylesheet(tokens: Tokens) -> str:
    """Return the whole application's style sheet in the colours of `tokens`."""
    values = {name: getattr(tokens, name) for name in tokens.__slots__}
    # Grey of its own, readable on both themes: style sheets cannot recolour.
    values["chevron"] = path("icons/chevron-down.svg").as_posix()
    values["tick"] = path("icons/tick.svg").as_posix()
    return _SHEET.substitute(values)

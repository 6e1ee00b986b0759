"""The dialog that shows what a report about a problem holds, before it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QFontDatabase, QIcon
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPlainTextEdit,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from widgets.parts import ElidedLabel, label

if TYPE_CHECKING:
    from core.report_file import Part

MOST_SHOWN = 100_000
"""So many characters of a part are shown; all of it goes into the report."""


class ReportDialog(QDialog):
    """Lists the parts of a report: each can be looked at, and left out.

    Signals:
        save_requested: The parts that are wanted, a list of Part.
        prompts_toggled: Whether prompts are to be in it; the parts come anew then.
    """

    save_requested = Signal(list)
    prompts_toggled = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Report a problem")
        self._parts: list[Part] = []
        self._chosen: dict[str, bool] = {}
        self._more = ""
        about = label(
            "This is put together on this computer, and sent nowhere: save it, and give it to "
            "whom you like. Names of folders, people, machines and servers, tokens and prompts "
            "were taken out; look at each part, and leave out what you do not want in it.",
            "muted",
            wrap=True,
        )
        self.list = QListWidget()
        self.list.setAccessibleName("Parts of the report")
        self.list.setSpacing(2)
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.currentRowChanged.connect(self._show)
        self.list.itemChanged.connect(self._on_ticked)
        self.about = ElidedLabel("", "title")
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setAccessibleName("What the part holds")
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.prompts = QCheckBox("Let &prompts and titles of jobs be in it")
        self.prompts.toggled.connect(self._on_prompts)
        self.total = label("Putting it together…", "muted")
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Save | kinds.Close)
        for button in buttons.buttons():
            button.setIcon(QIcon())
        self.save = buttons.button(kinds.Save)
        self.save.setText("&Save report…")
        self.save.setProperty("kind", "primary")
        self.save.setEnabled(False)
        self.save.clicked.connect(lambda: self.save_requested.emit(self.wanted()))
        buttons.rejected.connect(self.close)
        self._lay_out(about, buttons)

    def _lay_out(self, about: QWidget, buttons: QWidget) -> None:
        right = QWidget()
        side = QVBoxLayout(right)
        side.setContentsMargins(0, 0, 0, 0)
        side.addWidget(self.about)
        side.addWidget(self.text, 1)
        both = QSplitter(Qt.Orientation.Horizontal)
        both.addWidget(self.list)
        both.addWidget(right)
        both.setStretchFactor(1, 1)
        both.setChildrenCollapsible(False)
        both.setSizes([270, 560])
        foot = QHBoxLayout()
        foot.addWidget(self.total, 1)
        foot.addWidget(buttons)
        column = QVBoxLayout(self)
        column.addWidget(about)
        column.addWidget(both, 1)
        column.addWidget(self.prompts)
        column.addLayout(foot)
        self.resize(860, 560)
        self.setMinimumSize(520, 360)

    def sizeHint(self) -> QSize:
        """Ask for room to read in."""
        return QSize(860, 560)

    def show_parts(self, parts: Sequence[Part], more: str = "") -> None:
        """Show what there is; what was left out before stays so.

        Args:
            parts: What there is.
            more: What is still to come, in words.
        """
        self._more = more
        row = self.list.currentRow()
        shown = self._parts[row].name if row >= 0 else ""
        self._parts = list(parts)
        at = next((at for at, part in enumerate(self._parts) if part.name == shown), 0)
        self.list.blockSignals(True)
        self.list.clear()
        for part in self._parts:
            item = QListWidgetItem(f"{part.name}  ·  {size_words(part.size_bytes)}")
            item.setToolTip(part.about)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            on = self._chosen.get(part.name, part.wanted)
            item.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
            self.list.addItem(item)
        self.list.blockSignals(False)
        self.list.setCurrentRow(at)
        self._show(self.list.currentRow())
        self._count()

    def wanted(self) -> list[Part]:
        """Return the parts that go along."""
        return [
            part
            for row, part in enumerate(self._parts)
            if self.list.item(row).checkState() == Qt.CheckState.Checked
        ]

    def _on_prompts(self, on: bool) -> None:
        self.save.setEnabled(False)
        self.total.setText("Putting it together anew…")
        self.prompts_toggled.emit(on)

    def _on_ticked(self, item: QListWidgetItem) -> None:
        part = self._parts[self.list.row(item)]
        self._chosen[part.name] = item.checkState() == Qt.CheckState.Checked
        self._count()

    def _show(self, row: int) -> None:
        if not 0 <= row < len(self._parts):
            return
        part = self._parts[row]
        self.about.setText(part.about)
        more = len(part.text) - MOST_SHOWN
        rest = f"\n… and {more} more characters" if more > 0 else ""
        self.text.setPlainText(part.text[:MOST_SHOWN] + rest)

    def _count(self) -> None:
        wanted = self.wanted()
        count = "1 part" if len(wanted) == 1 else f"{len(wanted)} parts"
        size = size_words(sum(part.size_bytes for part in wanted))
        words = f"{count}, {size} before packing" if wanted else "Nothing is chosen"
        self.total.setText(f"{words}; {self._more}…" if self._more else words)
        self.save.setEnabled(bool(wanted))


def size_words(size_bytes: int) -> str:
    """Say how large a part is, such as "12 kB"."""
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1000:.0f} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"

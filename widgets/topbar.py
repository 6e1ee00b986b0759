"""The bar on top: name, engines, pausing the queue, giving memory back."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QMenu, QSizePolicy

from widgets.parts import Button, ElidedLabel, label, set_tone

_RESULT_MS = 12_000


class EngineChip(QFrame):
    """One engine's name and state with a dot."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "engine-chip")
        self.setFixedHeight(26)
        self._dot = label("●", "dot")
        self._words = ElidedLabel(least=48)
        row = QHBoxLayout(self)
        row.setContentsMargins(11, 0, 12, 0)
        row.setSpacing(6)
        row.addWidget(self._dot)
        row.addWidget(self._words, 1)

    def show_state(self, name: str, text: str, tone: str) -> None:
        """Show "name · text" with a dot in `tone`; without room the name alone."""
        words = f"{name} · {text}" if text else name
        self._words.setText(words, name)
        self.updateGeometry()
        self.setAccessibleName(words)
        set_tone(self._dot, tone)

    def squeeze(self, squeezed: bool) -> None:
        """Ask for the room of its name only, or of all its words."""
        if squeezed != self._words.squeezed:
            self._words.squeezed = squeezed
            self._words.updateGeometry()
            # Else the bar goes by the old width until the next turn of the event loop.
            self.updateGeometry()


class TopBar(QFrame):
    """Title, one chip per engine, Pause queue and Free VRAM."""

    pause_toggled = Signal(bool)
    free_requested = Signal()
    free_at_requested = Signal(str)

    def __init__(self, title: str = "Framedeck", free_text: str = "Free VRAM") -> None:
        super().__init__()
        self.setProperty("role", "bar")
        self._free_text = free_text
        self._chips: dict[str, EngineChip] = {}
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(14, 6, 12, 6)
        self._row.setSpacing(9)
        self._row.addWidget(label(title, "app-title"))
        self._row.addSpacing(8)
        # The result takes what room is left; chips are not shortened for it.
        self._result = ElidedLabel(role="muted", least=0)
        self._result.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._result.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._pause = Button("Pause queue", tip="The running job goes on; no new one starts")
        self._pause.setCheckable(True)
        self._pause.clicked.connect(self._on_pause)
        self.free_button = self._free = Button(
            free_text, "primary", tip="Give all memory back: the local engine's and the servers'"
        )
        self._free.clicked.connect(self.free_requested)
        self._row.addWidget(self._result, 1)
        self._row.addWidget(self._pause)
        self._row.addWidget(self._free)
        self._free_menu = QMenu(self)
        self._free_one = Button("", "side", "chevron-down", "Free the memory of one engine")
        self._free_one.setAccessibleName("Free the memory of one engine")
        self._free_one.setMenu(self._free_menu)
        self._free_one.hide()
        self._row.addWidget(self._free_one)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_RESULT_MS)
        self._timer.timeout.connect(lambda: self._result.setText(""))

    def set_engine(self, name: str, text: str, tone: str) -> None:
        """Show engine `name` as `text` ("idle", "running") with a dot in `tone`."""
        chip = self._chips.get(name)
        if chip is None:
            chip = self._chips[name] = EngineChip()
            self._row.insertWidget(1 + len(self._chips), chip)
        chip.show_state(name, text, tone)
        self._fit()

    def set_engines(self, names: Sequence[str]) -> None:
        """Keep the chips of these engines and add those that are missing, as idle."""
        for name in [name for name in self._chips if name not in names]:
            self.remove_engine(name)
        for name in names:
            if name not in self._chips:
                self.set_engine(name, "idle", "success")

    def set_places(self, places: Sequence[tuple[str, str]]) -> None:
        """Offer the memory of each place by itself: (key, title); with one there is no choice."""
        menu = self._free_menu
        menu.clear()
        for key, title in places:
            menu.addAction(title, lambda key=key: self.free_at_requested.emit(key))
        self._free_one.setVisible(len(places) > 1)

    def remove_engine(self, name: str) -> None:
        """Take the chip of engine `name` away."""
        chip = self._chips.pop(name, None)
        if chip is not None:
            self._row.removeWidget(chip)
            chip.deleteLater()
            self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Show states where there is room for those of all engines, else their names."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        for squeezed in (False, True):
            for chip in self._chips.values():
                chip.squeeze(squeezed)
            if self._row.sizeHint().width() <= self.width():
                return

    def set_paused(self, paused: bool) -> None:
        """Show whether the queue is paused."""
        self._pause.setChecked(paused)
        self._pause.setText("Resume queue" if paused else "Pause queue")

    def set_free_text(self, text: str) -> None:
        """Name what the button frees: VRAM, or memory where there is no GPU."""
        if text != self._free_text:
            self._free_text = text
            if self._free.isEnabled():
                self._free.setText(text)

    def set_freeing(self, busy: bool) -> None:
        """Show that memory is being given back."""
        self._free.setEnabled(not busy)
        self._free.setText("Freeing…" if busy else self._free_text)

    def set_free_result(self, text: str, tone: str = "success") -> None:
        """Show for a while what giving memory back achieved."""
        set_tone(self._result, tone)
        self._result.setText(text)
        self._timer.start()

    def _on_pause(self) -> None:
        paused = self._pause.isChecked()
        self.set_paused(paused)
        self.pause_toggled.emit(paused)

    def chip_label(self, name: str) -> QLabel:
        """Return the words of engine `name`'s chip."""
        return self._chips[name].findChild(ElidedLabel)

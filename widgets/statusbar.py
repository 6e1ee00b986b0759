"""The line at the bottom: health, queue, and what the machine is."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout

from widgets.parts import ElidedLabel, label, set_tone


class StatusLine(QFrame):
    """Health and queue on the left, memory and device on the right."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "bar")
        self.setProperty("edge", "top")
        self._dot = label("●", "dot")
        self._health = label("", "small")
        self._queue = ElidedLabel(role="small", least=60)
        self._extra = ElidedLabel(role="small", least=0)
        self._memory = ElidedLabel(role="small", least=60)
        self._device = ElidedLabel(role="small", least=60)
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 4, 14, 4)
        row.setSpacing(6)
        row.addWidget(self._dot)
        row.addWidget(self._health)
        for text in (self._queue, self._extra):
            row.addSpacing(12)
            row.addWidget(text)
        row.addStretch(1)
        for text in (self._memory, self._device):
            row.addSpacing(12)
            row.addWidget(text)
            text.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.set_health("Starting", "muted")

    def set_health(self, text: str, tone: str) -> None:
        """Show in one or two words whether all is well; `tone` colours the dot."""
        self._health.setText(text)
        set_tone(self._dot, tone)
        set_tone(self._health, tone)
        self._health.setAccessibleName(f"Health: {text}")

    def set_queue(self, text: str) -> None:
        """Show when the queue will be done, or that it is paused or empty."""
        self._queue.setText(text)

    def set_extra(self, text: str) -> None:
        """Show one more fact on the left."""
        self._extra.setText(text)

    def set_memory(self, text: str) -> None:
        """Show how much memory this window itself holds."""
        self._memory.setText(text)

    def set_device(self, text: str) -> None:
        """Show the device that makes the clips, and its driver."""
        self._device.setText(text)

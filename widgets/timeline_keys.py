"""What keys do in the memory timeline."""

from __future__ import annotations

from PySide6.QtCore import QPointF, Qt

from widgets.timeline_axes import LEFT, Scale

STEPS = {
    Qt.Key.Key_Left: -0.1,
    Qt.Key.Key_Right: 0.1,
    Qt.Key.Key_PageUp: -1.0,
    Qt.Key.Key_PageDown: 1.0,
}
"""Shares of the span that keys move by."""
ZOOMS = {Qt.Key.Key_Plus: 1 / 1.5, Qt.Key.Key_Equal: 1 / 1.5, Qt.Key.Key_Minus: 1.5}
TRACE_KEYS = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_T)


def moved(place: QPointF | None, share: float, scale: Scale, now: float) -> QPointF:
    """Return where the readout stands next: a tenth of `share` of the width on, not past now."""
    right = LEFT + (scale.columns - 1) / scale.ratio
    x = place.x() if place is not None else scale.x_of(now)
    x += share * 0.1 * (right - LEFT)
    x = min(max(float(LEFT), x), right, max(float(LEFT), scale.x_of(now)))
    return QPointF(x, scale.strip + 10)

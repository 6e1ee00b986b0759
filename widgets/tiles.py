"""Small figures beside the timeline: what is in use now, and what the job takes."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QFrame, QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from core.gpu.readings import DeviceReading, Reading, Role
from widgets.timeline_data import gigabytes

DASH = "–"
GPU_NAMES = ("In use", "Job peak", "Job average", "GPU load", "Temperature", "Power")
SYSTEM_NAMES = ("In use", "Job peak", "Job average", "Engine", "Panel", "CPU load")
TILE_WIDTH, TILE_HEIGHT, SPACING = 98, 44, 6
SHOWN_SECONDS = 0.45
"""Figures change at most this often: faster nobody reads them."""


class Tile(QFrame):
    """A name and a value, a dash while it is not known."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.setMinimumHeight(TILE_HEIGHT)
        self._name, self._value = QLabel(), QLabel(DASH)
        self._name.setProperty("role", "label")
        self._value.setProperty("role", "value")
        column = QVBoxLayout(self)
        column.setContentsMargins(9, 4, 6, 4)
        column.setSpacing(0)
        column.addStretch(1)
        column.addWidget(self._name)
        column.addWidget(self._value)
        column.addStretch(1)
        for label in (self._name, self._value):
            # A long value must not push the grid wider than its dock.
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.set(name, DASH)

    @property
    def name(self) -> str:
        """What the tile shows."""
        return self._name.text()

    @property
    def value(self) -> str:
        """The value with its unit."""
        return self._value.text()

    def set(self, name: str, value: str, tip: str = "") -> None:
        """Show a value; nothing is painted when it is the same."""
        if self._name.text() != name:
            self._name.setText(name)
        if self._value.text() != value:
            self._value.setText(value)
        text = tip or f"{name}: {value if value != DASH else 'not known'}"
        if self.accessibleName() != text:
            self.setAccessibleName(text)
            self.setToolTip(text)


class TilesPanel(QWidget):
    """Six tiles: of the busiest GPU, or of main memory when there is none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setAccessibleName("Memory figures")
        self._job: str | None = None
        self._peak: int | None = None
        self._sum, self._count = 0, 0
        self._shown_at = float("-inf")
        self._reading: Reading | None = None
        self._shape = (0, 0)
        self.tiles = [Tile(name) for name in GPU_NAMES]
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(10, 8, 10, 8)
        self._grid.setSpacing(SPACING)
        self.setMinimumSize(TILE_WIDTH + 20, TILE_HEIGHT + 16)
        self._arrange()

    def update_reading(self, reading: Reading) -> None:
        """Count a reading, and show it unless the last one was shown just before."""
        device, self._reading = _busiest(reading.devices), reading
        used = device.used_bytes if device else reading.system.worker_rss_bytes
        if self._job is not None and used is not None:
            self._peak = max(self._peak or 0, used)
            self._sum += used
            self._count += 1
        if not 0 <= reading.at_seconds - self._shown_at < SHOWN_SECONDS:
            self._show(reading, device)

    def _show(self, reading: Reading, device: DeviceReading | None) -> None:
        self._shown_at = reading.at_seconds
        figures = self._gpu(device) if device else self._system(reading)
        for tile, figure in zip(self.tiles, figures, strict=True):
            tile.set(*figure)

    def job_started(self, job_id: str) -> None:
        """Begin peak and average anew."""
        self._shown_at = float("-inf")
        self._job, self._peak, self._sum, self._count = job_id, None, 0, 0

    def job_ended(self, job_id: str) -> None:
        """Keep peak and average as they stand, unless another job has begun since."""
        if job_id == self._job:
            self._job = None
            if self._reading is not None:
                self._show(self._reading, _busiest(self._reading.devices))

    def _gpu(self, device: DeviceReading) -> list[tuple[str, str, str]]:
        values = (
            gigabytes(device.used_bytes),
            *self._of_job(),
            _text(device.utilisation_percent, "{:.0f} %"),
            _text(device.temperature_celsius, "{:.0f} °C"),
            _text(device.power_watts, "{:.0f} W"),
        )
        reserved = gigabytes(device.reserved_bytes, 2)
        tips = (
            f"In use on {device.name}: {values[0]} of {gigabytes(device.total_bytes)}; "
            f"reserved by the driver: {reserved}",
            "",
            "",
            f"GPU load: {values[3]}\n{_pace(device)}",
        )
        return _rows(GPU_NAMES, values, tips)

    def _system(self, reading: Reading) -> list[tuple[str, str, str]]:
        system = reading.system
        values = (
            gigabytes(system.used_bytes),
            *self._of_job(),
            gigabytes(system.worker_rss_bytes),
            gigabytes(system.panel_rss_bytes, 2),
            _text(system.load_percent, "{:.0f} %"),
        )
        tips = (
            f"System memory in use: {values[0]} of {gigabytes(system.total_bytes)}; "
            "no NVIDIA GPU was found",
            "Most that the engine held during the job: " + values[1],
            "What the engine held on average during the job: " + values[2],
            "Held by the engine: " + values[3],
            "Held by this window: " + values[4],
            "Processor load: " + values[5],
        )
        return _rows(SYSTEM_NAMES, values, tips)

    def _of_job(self) -> tuple[str, str]:
        average = self._sum / self._count if self._count else None
        return gigabytes(self._peak), gigabytes(average)

    def resizeEvent(self, event: Any) -> None:
        """Wrap the tiles to the width, and hide the last ones that have no room."""
        super().resizeEvent(event)
        self._arrange()

    def sizeHint(self) -> QSize:
        """Return the size of three columns and two rows."""
        return QSize(3 * (TILE_WIDTH + SPACING) + 14, 2 * (TILE_HEIGHT + SPACING) + 10)

    def _arrange(self) -> None:
        width, height = self.width() - 20 + SPACING, self.height() - 16 + SPACING
        columns = min(3, max(1, width // (TILE_WIDTH + SPACING)))
        rows = max(1, height // (self._tile_height() + SPACING))
        if (columns, rows) == self._shape:
            return
        self._shape = columns, rows
        for number, tile in enumerate(self.tiles):
            fits = number < columns * rows
            tile.setVisible(fits)
            if fits:
                self._grid.addWidget(tile, number // columns, number % columns)
        for row in range(len(self.tiles)):
            self._grid.setRowStretch(row, 0)
        # Tiles stay small and at the top in a high dock.
        self._grid.setRowStretch(len(self.tiles), 1)

    def _tile_height(self) -> int:
        return self.tiles[0].minimumSizeHint().height()


def _busiest(devices: tuple[DeviceReading, ...]) -> DeviceReading | None:
    """Return the GPU that holds most for the engine, else the one most in use, else the first."""

    def rank(device: DeviceReading) -> tuple[int, int]:
        held = [
            process.used_bytes or 0
            for process in device.processes or ()
            if process.role is Role.WORKER
        ]
        return sum(held), device.used_bytes or 0

    return max(devices, key=rank, default=None)


def _rows(
    names: tuple[str, ...], values: tuple[str, ...], tips: tuple[str, ...]
) -> list[tuple[str, str, str]]:
    padded = tips + ("",) * (len(names) - len(tips))
    return list(zip(names, values, padded, strict=True))


def _pace(device: DeviceReading) -> str:
    """Say how fast the GPU runs, what holds it back, and what goes over the bus."""
    core, memory = (
        _text(clock, "{:.0f} MHz") for clock in (device.core_clock_mhz, device.memory_clock_mhz)
    )
    held = DASH if device.throttle is None else ", ".join(device.throttle) or "nothing"
    ways = device.pcie_receive_bytes_per_second, device.pcie_send_bytes_per_second
    receive, send = (gigabytes(way) for way in ways)
    return (
        f"Clock: {core}, of its memory {memory}\nHeld back by: {held}\n"
        f"From main memory: {receive} a second, to it: {send}"
    )


def _text(value: float | None, form: str) -> str:
    return DASH if value is None else form.format(value)

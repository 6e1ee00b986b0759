"""Two short sounds: something is done, something went wrong."""

from __future__ import annotations

from PySide6.QtCore import QObject, QUrl
from PySide6.QtWidgets import QApplication

from core import resources

VOLUME = 0.6


class Sounds:
    """Plays a sound without waiting for it; the system's beep where there is no device.

    Source: Qt Multimedia, which is a part of PySide6.
    """

    def __init__(self, parent: QObject) -> None:
        self._parent = parent
        self._made: dict[bool, object] = {}

    def play(self, bad: bool) -> bool:
        """Play the sound of good or bad news; say whether there is a device for it."""
        from PySide6.QtMultimedia import QMediaDevices, QSoundEffect

        if QMediaDevices.defaultAudioOutput().isNull():
            QApplication.beep()
            return False
        effect = self._made.get(bad)
        if not isinstance(effect, QSoundEffect):
            name = "sounds/bad.wav" if bad else "sounds/good.wav"
            effect = self._made[bad] = QSoundEffect(self._parent)
            effect.setSource(QUrl.fromLocalFile(str(resources.path(name))))
            effect.setVolume(VOLUME)
        effect.play()
        return True

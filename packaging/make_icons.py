"""Draws packaging/icons from resources/icons/framedeck.svg: PNG in all sizes, and an .ico.

    python3 packaging/make_icons.py

Needs PySide6 and Pillow. The results are committed, so a build needs neither for them.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

SIZES = (16, 22, 24, 32, 48, 64, 128, 256, 512)
ICO_SIZES = (16, 24, 32, 48, 64, 128, 256)
ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "resources" / "icons" / "framedeck.svg"
TARGET = ROOT / "packaging" / "icons"


def drawn(size: int) -> bytes:
    """Return the icon as a PNG of `size` by `size` pixels."""
    from PySide6.QtCore import QBuffer, QIODevice
    from PySide6.QtGui import QImage, QPainter
    from PySide6.QtSvg import QSvgRenderer

    image = QImage(size, size, QImage.Format.Format_ARGB32)
    image.fill(0)
    painter = QPainter(image)
    QSvgRenderer(str(SOURCE)).render(painter)
    painter.end()
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")
    return bytes(buffer.data().data())


def main() -> None:
    """Write all of them."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PIL import Image
    from PySide6.QtGui import QGuiApplication

    app = QGuiApplication([])
    TARGET.mkdir(exist_ok=True)
    pictures = {}
    for size in sorted({*SIZES, *ICO_SIZES}):
        with Image.open(io.BytesIO(drawn(size))) as picture:
            picture.load()
        pictures[size] = picture
        if size in SIZES:
            # Written by Pillow, without the moment that Qt would put in.
            picture.save(TARGET / f"framedeck-{size}.png", optimize=True)
    largest = max(ICO_SIZES)
    pictures[largest].save(
        TARGET / "framedeck.ico",
        sizes=[(size, size) for size in ICO_SIZES],
        append_images=[pictures[size] for size in ICO_SIZES if size != largest],
    )
    del app


if __name__ == "__main__":
    main()

"""Binary frames of the socket, as a real server packs them."""

from __future__ import annotations

import json
import struct
from typing import Any

PREVIEW, PREVIEW_WITH_METADATA = 1, 4
JPEG, PNG = 1, 2


def preview(picture: bytes, form: int = JPEG) -> bytes:
    """Return a frame of a plain preview, or of a final picture as PNG."""
    return struct.pack(">II", PREVIEW, form) + picture


def preview_with_metadata(picture: bytes, node: str, prompt: str) -> bytes:
    """Return a frame that says whose preview it is."""
    about: dict[str, Any] = {
        "node_id": node,
        "prompt_id": prompt,
        "display_node_id": node,
        "parent_node_id": None,
        "real_node_id": node,
        "image_type": "image/jpeg",
    }
    words = json.dumps(about).encode()
    return struct.pack(">II", PREVIEW_WITH_METADATA, len(words)) + words + picture


def animated(picture: bytes, node: str, number: int) -> bytes:
    """Return a frame of VideoHelperSuite's moving preview; the picture begins at 32."""
    name = node.encode()[:15]
    head = struct.pack(">IIII", PREVIEW, JPEG, 1, number) + struct.pack("16p", name)
    return head + picture


def huge_picture(form: int = JPEG) -> bytes:
    """Return 100 bytes that say they were a picture of 30,000 × 30,000 pixels."""
    if form == PNG:
        size = struct.pack(">II", 30_000, 30_000)
        data = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + size + b"\x08\x02\0\0\0"
    else:
        size = struct.pack(">HH", 30_000, 30_000)
        parts = b"\x03\x01\x22\x00\x02\x11\x00\x03\x11\x00"
        data = b"\xff\xd8\xff\xc0\0\x11\x08" + size + parts
    return data.ljust(100, b"\0")

"""Wheels of a few hundred bytes, a lock file for them, and a server that can misbehave."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from core.engine_env import locks


def make_wheel(folder: Path, name: str, size: int = 400, body: str = "") -> Path:
    """Build a real wheel with one module and some bytes beside it."""
    stem = f"{name}-1.0"
    files = {
        f"{name}/__init__.py": (body or f'NAME = "{name}"\n').encode(),
        f"{name}/weights.bin": hashlib.shake_128(name.encode()).digest(size),
        f"{stem}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
        ),
        f"{stem}.dist-info/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: shop\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    rows = [f"{path},sha256={_b64(data)},{len(data)}" for path, data in files.items()]
    files[f"{stem}.dist-info/RECORD"] = "\n".join([*rows, f"{stem}.dist-info/RECORD,,"]).encode()
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, data in files.items():
            archive.writestr(inner, data)
    return path


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def make_lock(
    folder: Path, wheels: list[Path], base: str, *, tag: str = "cpu", unpacked: int | None = None
) -> Path:
    """Write the lock file of this platform for wheels that `base` serves."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ['lock-version = "1.0"', 'created-by = "shop"', 'requires-python = ">=3.11"']
    for wheel in wheels:
        name = wheel.name.split("-")[0]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines += [
            "[[packages]]",
            f'name = "{name}"',
            'version = "1.0"',
            f'wheels = [{{ name = "{wheel.name}", url = "{base}/{wheel.name}", '
            f'size = {wheel.stat().st_size}, hashes = {{ sha256 = "{digest}" }} }}]',
        ]
    names = ", ".join(f'"{wheel.name.split("-")[0]}"' for wheel in wheels)
    lines += ["[tool.framedeck]", f"imports = [{names}]", "[tool.framedeck.unpacked]"]
    lines += [f'"{wheel.name}" = {unpacked or 2 * wheel.stat().st_size}' for wheel in wheels]
    path = locks.path_of(folder, tag)
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass
class Manners:
    """How the server behaves.

    Attributes:
        status: Answers with this alone; None for the files.
        cut: Breaks off after so many bytes of each answer; None for never.
        lie: Turns over the last byte of every file so often.
        ranges: Sends the part that was asked for.
        pause: Waits so long before each piece.
        piece: Bytes of a piece.
        more: Sends so many bytes more than the file has.
    """

    status: int | None = None
    cut: int | None = None
    lie: int = 0
    ranges: bool = True
    pause: float = 0.0
    piece: int = 4096
    more: int = 0


@dataclass
class Shop:
    """A server of one folder, on loopback; also a proxy, which only ever refuses."""

    folder: Path
    manners: Manners = field(default_factory=Manners)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shop.answer(self)

            def do_CONNECT(self) -> None:
                shop.asked.append((self.path, "CONNECT"))
                self.send_error(407)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        manners, wanted = self.manners, request.headers.get("Range", "")
        self.asked.append((request.path, wanted))
        if manners.status is not None:
            request.send_error(manners.status)
            return
        path = self.folder / request.path.rpartition("/")[2]
        if not path.is_file():
            request.send_error(404)
            return
        data = path.read_bytes() + b"x" * manners.more
        if manners.lie > 0:
            manners.lie -= 1
            data = data[:-1] + bytes([data[-1] ^ 255])
        start = int(wanted[6:-1]) if wanted and manners.ranges else 0
        if start >= len(data):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        rest = data[start:]
        request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        for at in range(0, len(rest), manners.piece):
            if manners.cut is not None and at >= manners.cut:
                request.close_connection = True
                return
            time.sleep(manners.pause)
            try:
                request.wfile.write(rest[at : at + manners.piece])
                request.wfile.flush()
            except OSError:
                return

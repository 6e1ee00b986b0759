"""A publisher, a server that misbehaves on request, and bundles that really start."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

from core.updates import keys
from core.updates.program import Program

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """#!{python} -SE
import os, sys
here = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, {root!r})
sys.frozen, sys.executable = True, os.path.realpath(__file__)
sys._MEIPASS = os.path.join(here, "_internal")
def start(arguments):
    if os.path.exists(os.path.join(sys._MEIPASS, "crashes")):
        os._exit(70)
    if arguments[:1] == ["--again"]:
        return versions.start_again(arguments[1:])
    if arguments[-2:-1] == ["exit"]:
        sys.exit(int(arguments[-1]))
    print(open(os.path.join(sys._MEIPASS, "version.txt")).read(), *arguments, flush=True)
    return 0
from app import versions
raise SystemExit(versions.run(sys.argv[1:], start))
"""


@cache
def script(name: str) -> ModuleType:
    """Load a script of packaging/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "packaging" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_bundle(folder: Path, version: str, *, crashes: bool = False) -> Path:
    """Write a bundle that starts through the real hand-over and prints its version."""
    inside = folder / "_internal"
    inside.mkdir(parents=True)
    program = folder / "framedeck"
    program.write_text(PROGRAM.format(python=sys.executable, root=str(ROOT)))
    program.chmod(0o755)
    (inside / "version.txt").write_text(version)
    (inside / "lib").mkdir()
    (inside / "lib" / "part.bin").write_bytes(version.encode() * 4000)
    (inside / "libpart.so").symlink_to("lib/part.bin")
    if crashes:
        (inside / "crashes").touch()
    script("file_list").write_list(folder, version)
    return folder


@dataclass
class Manners:
    """How the server behaves.

    Attributes:
        status: For files of these names, instead of an answer.
        cut_after: Bytes of a file after which the connection is closed, once for each number.
        redirects: Where names are sent on to.
        files: Bytes of names instead of those in the folder.
        asked: (path, headers) of all requests.
    """

    status: dict[str, int] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


class World:
    """A folder that is published, the key that signs it, and who asks."""

    def __init__(self, root: Path) -> None:
        self.root, self.public = root, root / "public"
        self.public.mkdir(parents=True)
        self.tool = script("sign_update")
        self.key = root / "test.key"
        line = self.tool.make_key(self.key)
        self.trusted_file = root / "update_keys.json"
        self.trusted_file.write_text(json.dumps({"keys": [line]}))
        self.trusted = keys.load_keys(self.trusted_file)
        self.home = root / "home"
        self.app = self.home / "app"
        self.manners = Manners()
        self.address = ""
        self.installed = make_bundle(root / "installed", "0.1.0")
        self.program = Program("0.1.0", "0.1.0", "linux-x86_64", True)

    def publish(
        self, version: str, sequence: int, *, crashes: bool = False, **manifest: Any
    ) -> dict[str, Any]:
        """Pack a version and sign a manifest of it; returns its entry."""
        bundle = self.root / f"build-{version}"
        if not bundle.exists():
            make_bundle(bundle, version, crashes=crashes)
        entry = self.tool.pack(bundle, self.public, version, "linux-x86_64")
        self.sign([entry], version=version, sequence=sequence, **manifest)
        return dict(entry)

    def sign(self, entries: list[dict[str, Any]], **manifest: Any) -> None:
        """Sign a manifest of these entries."""
        data = self.tool.make_manifest(entries, **({"notes": "Faster starts."} | manifest))
        (self.public / "manifest.json").write_bytes(data)
        (self.public / "manifest.json.sig").write_bytes(self.tool.sign(data, self.key))

    def start(self, *arguments: str, program: Path | None = None) -> subprocess.CompletedProcess:
        """Start the installed program as its desktop entry would, and wait for its end."""
        return subprocess.run(
            [program or self.installed / "framedeck", *arguments],
            env={**os.environ, "FRAMEDECK_HOME": str(self.home)},
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip

    def version(self) -> str:
        """Return the version that a start comes to."""
        done = self.start()
        return done.stdout.strip() or f"exit {done.returncode} {done.stderr[-200:]}"


@contextmanager
def served(world: World) -> Iterator[World]:
    """Serve what the world publishes, over real sockets."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, world)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), name="server")
    thread.start()
    world.address = f"http://127.0.0.1:{server.server_address[1]}/manifest.json"
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, world: World) -> None:
    """Answer one request as the world's manners say."""
    manners, name = world.manners, handler.path.lstrip("/")
    manners.asked.append((handler.path, dict(handler.headers)))
    handler.close_connection = True
    if name in manners.redirects:
        handler.send_response(302)
        handler.send_header("Location", manners.redirects[name])
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    path = world.public / name
    if name in manners.status or not (name in manners.files or path.is_file()):
        handler.send_error(manners.status.get(name, 404))
        return
    data = manners.files[name] if name in manners.files else path.read_bytes()
    begin = 0
    asked = handler.headers.get("Range", "")
    if asked:
        begin = int(asked.removeprefix("bytes=").rstrip("-"))
        if begin >= len(data):
            handler.send_error(416)
            return
    handler.send_response(206 if asked else 200)
    if asked:
        handler.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
    handler.send_header("Content-Length", str(len(data) - begin))
    handler.send_header("Set-Cookie", "who=you")
    handler.end_headers()
    rest = data[begin:]
    if name.startswith("framedeck") and manners.cut_after:
        rest = rest[: manners.cut_after.pop(0)]
    handler.wfile.write(rest)


def day(count: float) -> float:
    """Return the moment so many days from now, Unix seconds."""
    return time.time() + count * 86_400

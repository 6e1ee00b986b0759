"""Updates a real bundle: installs a newer copy of it, starts it, breaks one, and goes back.

    python3 packaging/check_updates.py dist/framedeck

Takes two to six minutes for a bundle of 350 MB. Works in a folder of its own with a key of its own;
the bundle is copied, never changed. Needs the package cryptography, and three times its room.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
KEYS = "_internal/source/resources/update_keys.json"
VERSION = "_internal/version.txt"
PROVEN_SECONDS = 12
"""A window that has answered for five seconds proves its version; the start comes before that."""


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Check:
    """One installed bundle, a publisher, and what a person does."""

    def __init__(self, bundle: Path, root: Path) -> None:
        self.root, self.public, self.home = root, root / "public", root / "home"
        self.public.mkdir()
        self.tool, self.lists = _script("sign_update"), _script("file_list")
        self.key = root / "check.key"
        self.line = self.tool.make_key(self.key)
        self.bundle, self.sequence, self.address = bundle, 0, ""
        self.program = root / "installed" / "framedeck"

    def lay_out(self) -> None:
        """Install the bundle as 0.1.0 with the check's key and address."""
        shutil.copytree(self.bundle, self.root / "installed", symlinks=True)
        keys = {"address": self.address, "keys": [self.line]}
        (self.root / "installed" / KEYS).write_text(json.dumps(keys), "utf-8")
        (self.root / "installed" / VERSION).write_text("0.1.0", "utf-8")
        self.lists.write_list(self.root / "installed", "0.1.0")

    def publish(self, version: str, *, breaks: bool = False) -> None:
        """Offer a copy of the installed bundle as another version."""
        copy = self.root / "build"
        shutil.copytree(self.root / "installed", copy, symlinks=True)
        (copy / VERSION).write_text(version, "utf-8")
        if breaks:
            (copy / "_internal" / "base_library.zip").write_bytes(b"broken")
        self.lists.write_list(copy, version)
        began = time.monotonic()
        entry = self.tool.pack(copy, self.public, version, _platform(), preset=0)
        told(f"{version} packed: {entry['size'] >> 20} MiB, {time.monotonic() - began:.0f} s")
        self.sequence += 1
        data = self.tool.make_manifest(
            [entry], version=version, sequence=self.sequence, notes="A check."
        )
        (self.public / "manifest.json").write_bytes(data)
        (self.public / "manifest.json.sig").write_bytes(self.tool.sign(data, self.key))
        shutil.rmtree(copy)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the installed program."""
        return subprocess.run(
            [self.program, *words, "--home", self.home],
            capture_output=True, text=True, timeout=300, env=self._environment(), check=False,
        )  # fmt: skip

    def status(self) -> dict[str, str]:
        """Return what the program that starts says of itself."""
        done = self.run("update", "status", "--json")
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {"version": done.stderr}

    def install(self) -> float:
        """Install what is offered; return the seconds it took."""
        began = time.monotonic()
        done = self.run("update", "install", "--json")
        expect(done.returncode == 0, f"install: {done.stdout} {done.stderr}")
        return time.monotonic() - began

    def window(self) -> int:
        """Open the window without a screen, for as long as it takes to prove a version."""
        process = subprocess.Popen(
            [self.program, "--home", self.home],
            env={**self._environment(), "QT_QPA_PLATFORM": "offscreen"}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(PROVEN_SECONDS)
        process.send_signal(signal.SIGTERM)
        return process.wait(30)

    def active(self) -> dict[str, object]:
        """Return what is started next."""
        return dict(json.loads((self.home / "app" / "active.json").read_text("utf-8")))

    def _environment(self) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if not k.startswith("FRAMEDECK")}


def _platform() -> str:
    import platform

    system = {"win32": "windows"}.get(sys.platform, sys.platform)
    return f"{system}-{platform.machine().lower()}"


def told(text: str) -> None:
    """Say how far the check is."""
    print(text, flush=True)


def expect(good: bool, what: str) -> None:
    """End the check where something is not as it should be."""
    if not good:
        raise SystemExit(f"not so: {what}")


@contextlib.contextmanager
def _serve(folder: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/manifest.json"
        finally:
            server.shutdown()
            thread.join()


def check(one: Check) -> None:
    """Go through an update, a version that does not start, and going back."""
    one.lay_out()
    expect(one.status()["version"] == "0.1.0", "the bundle starts as 0.1.0")
    one.publish("0.2.0")
    told(f"0.2.0 installed in {one.install():.0f} s")
    expect(one.status()["version"] == "0.2.0", "the next start is 0.2.0")
    expect(one.active()["good"] is False, "asking for the status proves nothing")
    expect(one.window() == 0, "the window of 0.2.0 opens and ends")
    expect(one.active()["good"] is True, "its window proved 0.2.0")
    one.publish("0.3.0", breaks=True)
    told(f"0.3.0, which is broken, installed in {one.install():.0f} s")
    for number in (1, 2):
        expect(one.run("update", "status").returncode != 0, f"start {number} of 0.3.0 fails")
    found = one.status()
    expect(found["version"] == "0.2.0", f"0.2.0 runs again, not {found}")
    told(f"rolled back: {found['failed']}")
    expect(one.run("update", "rollback").returncode == 0, "going back")
    expect(one.status()["version"] == "0.1.0", "gone back to 0.1.0")
    expect(one.run("update", "rollback").returncode == 0, "going forth")
    (one.home / "app" / "0.2.0" / VERSION).unlink()
    expect(one.status()["version"] == "0.1.0", "a damaged 0.2.0 is never started")


def main(arguments: list[str]) -> int:
    """Run the check; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path, help="the folder with the program and _internal")
    bundle = parser.parse_args(arguments).bundle.resolve()
    with tempfile.TemporaryDirectory(prefix="framedeck-check-") as root:
        one = Check(bundle, Path(root))
        with _serve(one.public) as one.address:
            check(one)
    told("All is as it should be.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

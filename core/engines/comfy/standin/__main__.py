"""`python -m core.engines.comfy.standin`: a stand-in in a process of its own.

Its first line on standard output is JSON: {"port": …, "token": …, "folder": …}.
It ends with its standard input, so that it outlives nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import signal
import sys
import tempfile
import threading
from pathlib import Path

from core.engines.comfy.standin.script import Script
from core.engines.comfy.standin.server import StandIn


def main(arguments: list[str] | None = None) -> int:
    """Serve until the input ends or a signal comes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="core.engines.comfy.standin", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="where to listen; 0 takes a free one")
    parser.add_argument("--folder", type=Path, help="for output, input and temp; else a new one")
    parser.add_argument("--token", default="", help="opens the control endpoint; else a new one")
    parser.add_argument("--script", type=Path, help="JSON with fields of a script")
    parser.add_argument("--stay", action="store_true", help="do not end with the input")
    options = parser.parse_args(arguments)
    script = Script()
    if options.script is not None:
        try:
            script = Script.from_json(json.loads(options.script.read_text("utf-8")))
        except (OSError, ValueError) as error:
            parser.error(f"--script {options.script}: {error}")
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="standin-"))
        )
        token = options.token or secrets.token_hex(16)
        asyncio.run(_serve(StandIn(folder, script, options.port, token), stay=options.stay))
    return 0


async def _serve(server: StandIn, *, stay: bool) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, over.set)
    port = await server.start()
    first = {"port": port, "token": server.token, "folder": str(server.folder)}
    print(json.dumps(first), flush=True)
    if not stay:
        # A daemon: nothing wakes a read of standard input when the process shall end.
        threading.Thread(target=_until_the_input_ends, args=(loop, over), daemon=True).start()
    await over.wait()
    await server.stop()


def _until_the_input_ends(loop: asyncio.AbstractEventLoop, over: asyncio.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(over.set)


if __name__ == "__main__":
    raise SystemExit(main())

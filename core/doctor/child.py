"""`python -m core.doctor.child WHAT ARGUMENTS…`: looks at one thing and answers with JSON.

It runs in this program's Python and in the engine's, which may be an old one that must at least
tell its version: so nothing newer than Python 3.8 runs here, and what a look needs is imported
only then. The answer is one line on standard output, {"doctor": {"answer": …}}; progress is
{"doctor": {"share": 0.5, "doing": …}}.
"""

from __future__ import annotations

import json
import os
import sys

OWN = (
    "gpus", "drive", "keyring", "awake", "ledger", "settings", "comfy_folders", "comfy_server",
    "language_servers", "starter",
)  # fmt: skip
ENGINE = ("versions", "cuda", "codecs", "clip")


def main(arguments: list[str]) -> int:
    """Look at what the first argument names; returns the exit code."""
    words = list(arguments)
    if "--lifeline" in words:
        from core.engines.local.lifeline import obey

        place = words.index("--lifeline")
        obey(int(words[place + 1]))
        del words[place : place + 2]
    # Nothing but the answer may stand where it is read.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**said: object) -> None:
        out.write(json.dumps({"doctor": said}) + "\n")
        out.flush()

    what, rest = (words or [""])[0], words[1:]
    if what in OWN:
        from core.doctor import child_own

        look = getattr(child_own, what)
    elif what in ENGINE:
        from core.doctor import child_engine

        look = getattr(child_engine, what)
    else:
        sys.stderr.write(f"there is no look called {what!r}\n")
        return 2
    say(answer=look(rest, lambda share, doing: say(share=share, doing=doing)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Set up the real engine, kill it, mend it and make a clip: `python3 packaging/check_engine.py`.

It takes some minutes and, without `--wheels`, the whole download. It runs the commands that a
person runs, in a home of its own, and leaves nothing. Run it with a Python that has the
program's own packages; uv is used where it is found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

_HAND_OVER = """
import sys
from app.engine_cli import hand_over
raise SystemExit(hand_over(sys.argv[1:]))
"""


class Check:
    """One home, in which the engine is set up again and again.

    Args:
        home: An empty folder.
        wheels: Folder of wheels, or None.
        tag: Build of torch, "" for what fits.
    """

    def __init__(self, home: Path, wheels: Path | None, tag: str) -> None:
        self.home = home
        self.more = ["--wheels", str(wheels)] if wheels else []
        self.more += ["--tag", tag] if tag else []
        self.environment = {
            **os.environ, "FRAMEDECK_ENGINE": "managed", "FRAMEDECK_NO_SETUP": "1",
            "FRAMEDECK_HOME": str(home),
        }  # fmt: skip

    def command(self, *words: str) -> list[str]:
        """Return a command of Framedeck in this home."""
        start = [sys.executable, "-m", "app"]
        if words[0] in ("export", "bench"):  # As the packaged program runs them.
            start = [sys.executable, "-c", _HAND_OVER]
        return [*start, *words, "--json"]

    def run(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run it; return what it prints, or end with an error."""
        began = time.monotonic()
        done = subprocess.run(
            self.command(*words), cwd=ROOT, env=self.environment, text=True, capture_output=True
        )
        print(f"{' '.join(words[:2])}: {done.returncode} in {time.monotonic() - began:.1f} s")
        if done.returncode != code:
            raise SystemExit(f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])

    def install(self) -> dict[str, Any]:
        """Install, or go on with it."""
        return self.run("engine", "install", *self.more)

    def kill(self, after_seconds: float) -> None:
        """Begin to install, and kill it with all that it started."""
        child = subprocess.Popen(
            self.command("engine", "install", *self.more), cwd=ROOT, env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(after_seconds)
        child.send_signal(signal.SIGKILL)
        child.wait()
        found = self.run("engine", "status", code=0 if self.whole() else 1)
        print(f"  killed after {after_seconds:.1f} s: {found['state']}")

    def whole(self) -> bool:
        """Say whether an environment is in use by now."""
        folder = self.home / "engine"
        try:
            name = json.loads((folder / "active.json").read_text())["active"]
        except (OSError, ValueError, KeyError):
            return False
        return (folder / name / "framedeck-engine.json").is_file()


def main() -> int:
    """Do all of it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wheels", type=Path, help="folder with wheels")
    parser.add_argument("--tag", default="", help="build of torch")
    parser.add_argument("--kills", type=int, default=3, help="how often it is killed (3)")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    chance = random.Random(seed)
    print(f"seed {seed}")
    home = Path(tempfile.mkdtemp(prefix="framedeck-engine-"))
    try:
        check = Check(home, options.wheels, options.tag)
        print(check.run("engine", "plan", *check.more))
        began = time.monotonic()
        check.install()
        took = time.monotonic() - began
        for _ in range(options.kills):
            check.run("engine", "remove")
            check.kill(chance.uniform(1.0, took))
            check.install()
            check.run("engine", "check", "--deep")
        _damage(home, chance)
        check.run("engine", "check", "--deep", code=1)
        check.run("engine", "repair", *check.more)
        check.run("engine", "check", "--deep")
        clip = home / "clip.mp4"
        made = check.run("generate", "--prompt", "a red ball moves left", "--out", str(clip))
        print(f"a clip of {made['frames']} frames, decoded again and found whole")
        check.run("export", "--out", str(home / "clip.gif"), str(clip))
        judged = check.run("bench", "starter-fidelity", "--clips", "3")
        print(f"judged: {judged['right']} of {judged['judged']}")
        check.run("engine", "remove")
        return 0
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _damage(home: Path, chance: random.Random) -> None:
    """Take away one file of each of three packages."""
    for name in ("regex", "safetensors", "psutil"):
        found = sorted((home / "engine").glob(f"*-*/lib/python3*/site-packages/{name}/*.py"))
        chance.choice(found).unlink()


if __name__ == "__main__":
    raise SystemExit(main())

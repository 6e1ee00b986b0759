"""Process start to first paint of the packaged program, against the source checkout's.

    python3 tests/benchmarks/bench_frozen.py [BUNDLE] [--cold]

Whole processes, interleaved, medians of ratios, by one clock: from before the process is started
to what `--smoke` says of its window. BUNDLE is the folder with the program; by default what
packaging/build.py made. Promise: first paint at most 1.5 x the checkout's. `--cold` starts both
with empty caches of the system as well (root; slows all else on the machine); no promise there.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "packages" / "bundle" / "framedeck"
ROUNDS, COLD_ROUNDS = 9, 3
MOST = 1.5
CACHES = Path("/proc/sys/vm/drop_caches")
Moments = dict[str, float]


def start(command: list[str], home: str) -> Moments:
    """Start one window; return the milliseconds to its first paint and to all of it."""
    # Python keeps bytecode from the first start on, unless a variable forbids it.
    dropped = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    usual = {name: value for name, value in os.environ.items() if name not in dropped}
    given = {**usual, "QT_QPA_PLATFORM": "offscreen", "FRAMEDECK_NO_SETUP": "1"}
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--home", home, "--smoke"],
        cwd=ROOT, env=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    at = json.loads(done.stdout.splitlines()[-1])["monotonic"]
    return {name: (moment - began) * 1e3 for name, moment in at.items()}


def rounds(commands: dict[str, list[str]], count: int, *, cold: bool) -> dict[str, list[Moments]]:
    """Start each in turn, so many times."""
    found: dict[str, list[Moments]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands.items():
            start(command, f"{folder}/{name}")
        for number in range(count):
            # Who goes first warms Qt's files for nobody: but the order changes all the same.
            names = list(commands) if number % 2 else list(reversed(commands))
            for name in names:
                if cold:
                    os.sync()
                    CACHES.write_text("3\n")
                found[name].append(start(commands[name], f"{folder}/{name}"))
    return found


def tell(found: dict[str, list[Moments]], words: str) -> float:
    """Print medians; return the ratio of first paints."""
    for name, all_moments in found.items():
        paint, whole = (
            statistics.median(one[what] for one in all_moments)
            for what in ("first_paint", "interactive")
        )
        print(f"{name:8} {words:5} first paint {paint:6.0f} ms   interactive {whole:6.0f} ms")
    pairs = zip(found["frozen"], found["checkout"], strict=True)
    return statistics.median(one["first_paint"] / two["first_paint"] for one, two in pairs)


def tell_sizes(bundle: Path) -> None:
    """Print how large the bundle and the packages are."""
    files = [path for path in bundle.rglob("*") if path.is_file() and not path.is_symlink()]
    print(
        f"bundle   {sum(path.stat().st_size for path in files) / 1e6:6.1f} MB, {len(files)} files"
    )
    dist = ROOT / "dist"
    for path in sorted(dist.iterdir()) if dist.is_dir() else ():
        if path.stat().st_size > 1e6:
            print(f"         {path.stat().st_size / 1e6:6.1f} MB  {path.name}")


def main(arguments: list[str]) -> int:
    """Start both in turn and print the ratio. Returns 1 when the promise is missed."""
    wants_cold = "--cold" in arguments
    named = [word for word in arguments if word != "--cold"]
    bundle = Path(named[0]).resolve() if named else BUILT
    program = bundle / ("framedeck-cli.exe" if os.name == "nt" else "framedeck")
    if not program.is_file():
        print(f"There is no {program}: run python3 packaging/build.py --bundle-only first.")
        return 2
    commands = {"checkout": [sys.executable, "-m", "app"], "frozen": [str(program)]}
    tell_sizes(bundle)
    ratio = tell(rounds(commands, ROUNDS, cold=False), "warm")
    if wants_cold and not os.access(CACHES, os.W_OK):
        print(f"--cold left out: {CACHES} cannot be written")
    elif wants_cold:
        cold = tell(rounds(commands, COLD_ROUNDS, cold=True), "cold")
        print(f"       first paint {cold:.2f} x the checkout's with cold caches")
    good = ratio <= MOST
    words = f"first paint {ratio:.2f} x the checkout's (promise: at most {MOST})"
    print(("ok    " if good else "MISSED"), words)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

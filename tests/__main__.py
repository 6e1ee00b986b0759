"""`python3 -m tests`: sets up what is missing, then runs every check and every test.

`python3 -m tests [pytest arguments]` hands the arguments to pytest.
`python3 -m tests bench [names]` runs the benchmarks instead.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
# import-linter has no `python -m`, and its script need not be on the PATH.
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"
BESIDE: tuple[tuple[int, tuple[str, ...]], ...] = (
    (0, ("tests/comfy",)),
    (
        0,
        (
            "tests/app/test_bootstrap.py",
            "tests/app/test_fire_drill.py",
            "tests/app/test_lighter.py",
            "tests/app/test_watchdog.py",
            "tests/comfy/test_app_resume.py",
            "tests/comfy/test_app_watchdog.py",
            "tests/core/test_engine_env.py",
            "tests/core/test_engine_faults.py",
            "tests/test_e2e_kills.py",
            "tests/test_readme.py",
        ),
    ),
    (
        0,
        (
            "tests/core",
            "tests/widgets",
            "tests/packaging",
            "tests/app/test_bench_engine.py",
            "tests/app/test_engine_setup.py",
            "tests/app/test_exporting.py",
        ),
    ),
    (
        5,
        (
            "tests/core/test_starter.py",
            "tests/core/test_starter_training.py",
            "tests/core/test_decoding.py",
            "tests/core/test_dream_making.py",
            "tests/core/test_classify.py",
            "tests/core/test_formats.py",
            "tests/core/test_judge.py",
            "tests/core/test_ledger_model.py",
            "tests/core/test_moving_pictures.py",
            "tests/core/test_outputs.py",
            "tests/core/test_scheduling_nights.py",
            "tests/core/test_scheduling_states.py",
            "tests/core/test_timing_nights.py",
        ),
    ),
    (
        5,
        (
            "tests/core/test_animatediff.py",
            "tests/core/test_families.py",
            "tests/core/test_bench.py",
            "tests/core/test_caches.py",
            "tests/core/test_cancels.py",
            "tests/core/test_dream.py",
            "tests/core/test_image_prompt.py",
            "tests/core/test_lora.py",
            "tests/core/test_memory_faults.py",
            "tests/core/test_placement.py",
            "tests/core/test_placing.py",
            "tests/core/test_post.py",
            "tests/core/test_quantised.py",
            "tests/core/test_singles.py",
            "tests/core/test_speed.py",
            "tests/core/test_speed_fallback.py",
            "tests/core/test_starts.py",
            "tests/core/test_tiny.py",
        ),
    ),
)
"""Tests that run beside the rest, with the nice level of each share: what mostly waits for
servers and processes, what takes longest of that, what asks for few windows of the program,
and, in two halves, what only computes and is held to no time. What two shares name is run by
the one that names it more exactly."""

AHEAD = """
import contextlib
with contextlib.suppress(ImportError):
    import aiohttp, av, cv2, hypothesis, pyqtgraph, transformers
    from diffusers import AnimateDiffPipeline
"""
"""Imports what is slow to compile; shares that begin at once would each compile all of it."""
MOST_AGAIN = 8
"""Tests that may be run again alone; where more fail, it is not for want of time."""

CHECKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ruff check", ("-m", "ruff", "check")),
    ("ruff format", ("-m", "ruff", "format", "--check")),
    ("mypy", ("-m", "mypy")),
    ("lint-imports", ("-c", LINT_IMPORTS)),
)


def environment() -> dict[str, str]:
    """Return the environment of every stage: our rooms importable, no window on the screen.

    Bytecode is kept, whatever the variable says: without it each of the hundreds of windows and
    engines that tests start takes a third more of the processor.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": path, "QT_QPA_PLATFORM": "offscreen"}


def among_others() -> dict[str, str]:
    """Return the environment of a share: one thread for each computation.

    Two of one computation wait for each other, at full load, where others want the cores too.
    """
    return {**environment(), "OMP_NUM_THREADS": "1"}


def stage(
    name: str, arguments: Sequence[str], environ: Mapping[str, str] | None = None
) -> tuple[int, float]:
    """Run one stage in this Python; returns (exit code, seconds)."""
    print(f"\n== {name}", flush=True)
    started = time.perf_counter()
    code = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environ or environment(), check=False
    ).returncode
    return code, time.perf_counter() - started


def table(rows: Sequence[tuple[str, int, float]], good: str, bad: str) -> None:
    """Print the outcome of each stage, one line each."""
    width = max((len(name) for name, _, _ in rows), default=0)
    print()
    for name, code, seconds in rows:
        print(f"   {name:<{width}}  {good if code == 0 else bad:<6}  {seconds:7.1f} s")
    print(flush=True)


def run_tests(arguments: Sequence[str]) -> int:
    """Run all checks, then pytest, all of them even when one fails; returns the exit code.

    Without arguments the tests run in shares.
    """
    if not any(argument.startswith("-m") for argument in arguments):
        print("Left out: benchmarks (python3 -m tests bench) and what needs a GPU (… -m gpu).")
    # The last -m counts, so one given by hand wins.
    command = ["-m", "pytest", "-m", "not bench and not gpu"]
    if arguments:
        codes = [*checks(), stage("pytest", [*command, *arguments])[0]]
    else:
        codes = pytest_in_shares(command)
    return next((code for code in codes if code), 0)


def checks() -> list[int]:
    """Run all checks, one after the other; returns their exit codes."""
    rows = [(name, *stage(name, command)) for name, command in CHECKS]
    table(rows, "ok", "FAILED")
    return [code for _, code, _ in rows]


def pytest_in_shares(command: Sequence[str]) -> list[int]:
    """Run the tests in shares at once, and tell each in turn; returns the exit codes of all."""
    with contextlib.ExitStack() as stack:
        ahead = subprocess.Popen(
            [sys.executable, "-c", AHEAD], cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL
        )
        stack.callback(ahead.wait)
        stack.callback(ahead.kill)
        checked = checks()
        ahead.wait()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = [folder / str(number) for number in range(len(BESIDE) + 1)]
        environs = [{**among_others(), "FRAMEDECK_FAILED_TESTS": str(file)} for file in files]
        others = []
        for (level, paths), environ in zip(BESIDE, environs[1:], strict=True):
            told = stack.enter_context(tempfile.TemporaryFile())
            arguments = [*command, *paths, *(f"--ignore={path}" for path in left_out(paths))]
            process = _pytest_beside(arguments, level, told, environ)
            stack.callback(process.wait)
            stack.callback(process.kill)
            others.append((paths, process, told))
        left = [f"--ignore={path}" for _, paths in BESIDE for path in paths]
        codes = [stage("pytest", [*command, *left], environs[0])[0]]
        for paths, process, told in others:
            print(f"\n== pytest {' '.join(paths)}, which ran beside it", flush=True)
            codes.append(process.wait())
            told.seek(0)
            print(told.read().decode("utf-8", "replace"), flush=True)
        failed = [file.read_text("utf-8").splitlines() if file.is_file() else [] for file in files]
    return [*checked, *again_alone(command, codes, failed)]


def again_alone(
    command: Sequence[str], codes: Sequence[int], failed: Sequence[Sequence[str]]
) -> Sequence[int]:
    """Run the few tests that failed among others once more with nothing beside them.

    A bound in seconds says something of the program only there. What fails there fails.

    Args:
        command: Of pytest, without tests.
        codes: How the shares ended.
        failed: Names of the tests that failed, for each share.

    Returns:
        The exit codes that count.
    """
    names = list(dict.fromkeys(name for share in failed for name in share))
    # Anything but failed tests, such as a crash of Python, stays what it is.
    told = all(code == bool(share) for code, share in zip(codes, failed, strict=True))
    if not told or not 0 < len(names) <= MOST_AGAIN:
        return codes
    code, _ = stage("pytest, what failed beside others once more alone", [*command, *names])
    for name in names if code == 0 else []:
        print(f"   failed beside others, passed alone: {name}", flush=True)
    return [code]


def left_out(paths: Sequence[str]) -> list[str]:
    """Return what a share that names `paths` leaves to those which name it more exactly."""
    others = [path for _, theirs in BESIDE if theirs != paths for path in theirs]
    return [path for path in others if any(path.startswith(f"{one}/") for one in paths)]


def _pytest_beside(
    arguments: Sequence[str], level: int, told: IO[bytes], environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environ,
        stdout=told,
        stderr=subprocess.STDOUT,
    )
    if level and hasattr(os, "setpriority"):
        # What is timed in the other shares must not wait for it.
        os.setpriority(os.PRIO_PROCESS, process.pid, level)
    return process


def run_benchmarks(names: Sequence[str]) -> int:
    """Run the benchmark scripts whose file name holds one of `names` (all without names)."""
    rows = []
    for script in sorted((ROOT / "tests" / "benchmarks").glob("bench_*.py")):
        name = script.stem.removeprefix("bench_")
        if not names or any(part in name for part in names):
            rows.append((name, *stage(name, [str(script)])))
    if not rows:
        print("There is no such benchmark.")
        return 2
    table(rows, "kept", "MISSED")
    return max(min(code, 1) if code >= 0 else 1 for _, code, _ in rows)


def main(arguments: Sequence[str]) -> int:
    """Run the tests or the benchmarks; returns the exit code."""
    if arguments[:1] == ["bench"]:
        return run_benchmarks(arguments[1:])
    return run_tests(arguments)


if __name__ == "__main__":
    from app import bootstrap

    # The stages write it (see `environment`), so the set-up need not compile what nobody imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    bootstrap.ensure("tests")
    raise SystemExit(main(sys.argv[1:]))

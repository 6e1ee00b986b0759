"""How the packaged program starts; a checkout never comes here."""

from __future__ import annotations

import os
import sys

from core.frozen import OWN_MODULES, RUN_MODULE


def main(arguments: list[str]) -> int:
    """Run the program, or one of our modules in its place; returns the exit code."""
    have_streams()
    if arguments[:1] == [RUN_MODULE]:
        return run_module(arguments[1:])
    from app import versions

    return versions.run(arguments, _run)


def _run(arguments: list[str]) -> int:
    """Run this version, after it was settled that none else is to run."""
    from app import bytecode_folder
    from app.main import main as run

    bytecode_folder.offer(arguments)
    return run(arguments)


def have_streams() -> None:
    """Give what prints somewhere to print to: a program without a console has no streams."""
    for name, mode in (("stdout", "w"), ("stderr", "w"), ("stdin", "r")):
        if getattr(sys, name) is None:
            # Stays open as long as the program does.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def run_module(arguments: list[str]) -> int:
    """Run one of OWN_MODULES as `python -m` does, with the arguments after its name."""
    if not arguments or arguments[0] not in OWN_MODULES:
        named = arguments[0] if arguments else "nothing"
        sys.stderr.write(f"{RUN_MODULE} takes {', '.join(OWN_MODULES)}, not {named}.\n")
        return 2
    import runpy

    sys.argv = arguments[:]
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    return 0

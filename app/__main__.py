"""`python3 -m app`: sets up what is missing, then opens the window or runs the command."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run Framedeck where everything is installed already; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["desktop-entry"]:
        from app import launchers

        return launchers.main(arguments[1:])
    from app.main import main as run

    return run(arguments)


if __name__ == "__main__":
    if getattr(sys, "frozen", False):
        from app.frozen import main as frozen

        raise SystemExit(frozen(sys.argv[1:]))
    from app import bootstrap

    bootstrap.ensure("app")
    raise SystemExit(main())

"""Two short sounds: something is done, something went wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from core import resources

PLAYERS = (("pw-play",), ("paplay",), ("aplay", "-q"), ("afplay",))
"""Programs that sound servers of desktops bring along, the newest first."""
LONGEST_SECONDS = 3.0


def sound_of(*, bad: bool) -> Path:
    """Return the file of a sound."""
    return resources.path("sounds/bad.wav" if bad else "sounds/good.wav")


def play(*, bad: bool) -> bool:
    """Play the sound of good or bad news to its end; say whether anything played it.

    A player is a process of its own: Qt's would load its codecs into the window's, which
    stands still for 170 ms meanwhile.
    """
    file = str(sound_of(bad=bad))
    if sys.platform == "win32":
        import winsound

        winsound.PlaySound(file, winsound.SND_FILENAME | winsound.SND_NODEFAULT)
        return True
    for name, *more in PLAYERS:
        program = shutil.which(name)
        if program is not None and _plays([program, *more, file]):
            return True
    return False


def _plays(words: list[str]) -> bool:
    nothing = subprocess.DEVNULL
    try:
        done = subprocess.run(
            words, stdin=nothing, stdout=nothing, stderr=nothing, timeout=LONGEST_SECONDS,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0

"""`framedeck bench analyse FILE`: which part of a dream was slowest."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

NAME = "analyse"


def run(options: Namespace) -> int:
    """Read the file and tell; returns the exit code.

    Raises:
        ProblemError: There is no file, or it tells of no dream.
    """
    from core.engines.local.dream.analyse import analyse
    from core.errors import invalid

    if not options.named:
        raise invalid("file", "No file to analyse is named.", "Name the worker's log behind it.")
    found = analyse(Path(options.named[0]))
    if options.json:
        sys.stdout.write(json.dumps({"runs": [one.to_json() for one in found]}) + "\n")
    else:
        sys.stdout.write("\n\n".join(one.table() for one in found) + "\n")
    return 0

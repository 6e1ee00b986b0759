"""What a queue file is: names and limits that writing and reading share.

    queue.json              {"framedeck_queue": 1, "jobs": [...]}
    inputs/<digest>.png     a picture, named by what is in it

A job in it is {"state", "priority", "job": as the ledger keeps it, "inputs": {parameter:
name in the zip}}. Paths of the machine that wrote it are never used.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from core.errors import ProblemError, invalid

KEY, VERSION = "framedeck_queue", 1
MANIFEST = "queue.json"
INPUT = re.compile(r"inputs/([0-9a-f]{32})(\.[a-z0-9]{1,8})?")
MOST_JOBS = 10_000
MOST_INPUTS = 10_000
MOST_MANIFEST_BYTES = 64 * 2**20
MOST_TOTAL_BYTES = 3 * 2**30
"""All that may be unpacked of one file; below what would need the long form of a zip."""
MOST_DIRECTORY_BYTES = 4 * 2**20
"""The list of contents, which is read as a whole before anything of it can be looked at."""
MOST_RATIO = 200
"""Pictures hardly shrink, and text seldom more than fifty times; a bomb does a thousand times."""
SMALL_BYTES = 2**20
"""What may be packed tighter than that: it is little anyway."""
DIGEST_BYTES = 16
PIECE = 2**20


def digest() -> blake2b:
    """Return what names a picture by its bytes."""
    return blake2b(digest_size=DIGEST_BYTES)


def refused(
    message: str, hint: str = "Export the queue again, or get another copy."
) -> ProblemError:
    """Return the error for a queue file that is not taken."""
    return invalid("file", message, hint)

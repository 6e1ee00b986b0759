"""What the scheduler must not forget over a restart, in a file of its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.scheduling.limits import Rules
from core.scheduling.moment import Now
from core.scheduling.scheduler import Scheduler
from core.whole_files import write_whole

VERSION = 1
MOST_BYTES = 4_000_000
_log = logging.getLogger(__name__)


def load(path: Path, now: Now, rules: Rules | None = None) -> Scheduler:
    """Return the scheduler that `save` wrote; a new one where there is no file that can be read.

    A file that cannot be read is kept beside it, ending in ".bad".
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        data = json.loads(raw) if len(raw) <= MOST_BYTES else None
    except FileNotFoundError:
        return Scheduler(rules)
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("%s cannot be read: %s", path.name, error)
        data = None
    if not isinstance(data, Mapping):
        _set_aside(path)
        return Scheduler(rules)
    return Scheduler.from_json(data, now, rules)


def _set_aside(path: Path) -> None:
    try:
        path.replace(path.with_name(path.name + ".bad"))
    except OSError as error:
        _log.warning("%s was not set aside: %s", path.name, error)


def save(path: Path, data: Mapping[str, Any]) -> None:
    """Write what `Scheduler.to_json` returned, so that a crash leaves the old or the new file.

    Raises:
        OSError: The folder cannot be written.
    """
    write_whole(path, json.dumps({"version": VERSION, **data}, indent=1))

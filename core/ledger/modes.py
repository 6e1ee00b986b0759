"""What a person ordered for single places: paused, or drained. Kept in the ledger.

It stands there and not in the settings: `framedeck queue` and the window share it.
"""

from __future__ import annotations

from core.ledger.store import Store

PAUSED, DRAINING = "paused", "draining"
ALL = ""
"""The place that stands for the whole queue."""
_MODE = "mode "


def modes(store: Store) -> dict[str, str]:
    """Return PAUSED or DRAINING by place; a place that runs is left out.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    found = store.read(
        "SELECT name, value FROM meta WHERE name >= ? AND name < ?", (_MODE, _MODE + "\U0010ffff")
    )
    known = {name.removeprefix(_MODE): value for name, value in found}
    return {place: value for place, value in known.items() if value in (PAUSED, DRAINING)}


def set_mode(store: Store, place: str, mode: str) -> None:
    """Order something for a place; "" lets it run again. Durable.

    Args:
        store: The ledger's file.
        place: "local" or a server's address; ALL for the whole queue.
        mode: PAUSED, DRAINING or "".

    Raises:
        ProblemError: The ledger cannot be written.
    """
    with store.write() as database:
        if mode:
            database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_MODE + place, mode))
        else:
            database.execute("DELETE FROM meta WHERE name = ?", (_MODE + place,))

"""kill -9 of the program anywhere in the life of a job on a server: once, and nothing lost."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.engines.comfy.known import KnownServer
from core.engines.comfy.standin.process import StandInProcess
from core.jobs import JobState
from tests.comfy.app_bench import Driver, all_wrong, killed_at_random, rows, standin
from tests.comfy.app_driver import POINTS, POST, make

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
RANDOM = 3
LOST = ("after it began", "before the post")
"""Nobody can tell that these were not sent: they are offered again and never sent silently."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandInProcess]:
    with standin(tmp_path_factory.mktemp("standin"), step_seconds=0.03) as made:
        yield made


def reopen(qtbot: Any, home: Path, server: StandInProcess) -> None:
    """Open it again, here, and let all come to its end."""
    controller = make(home, [KnownServer(server.url)])
    try:
        controller.start()
        qtbot.waitUntil(lambda: controller.running is None, timeout=30_000)
        assert controller.ledger.next_waiting() is None
    finally:
        assert controller.close()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_chosen_point(
    qtbot: Any, tmp_path: Path, server: StandInProcess, point: str
) -> None:
    """Killed with one job there and one behind it; opened again, all of it comes to its end."""
    if point == POST:
        server.arm("late_reply", 1.0, path="/prompt", times=1)
    first = Driver(tmp_path, server.url, "--add", "2", "--kill", point)
    assert first.wait() == -signal.SIGKILL, first.said
    before = rows(tmp_path)
    reopen(qtbot, tmp_path, server)
    assert all_wrong(tmp_path, server) == []
    after = rows(tmp_path)
    assert set(after) == set(before)
    states = sorted(row.state.value for row in after.values())
    assert after
    if point in LOST:
        assert JobState.LOST in {row.state for row in after.values()}
        assert set(states) <= {"lost", "done"}
    else:
        assert set(states) == {"done"}


def test_killed_at_random(qtbot: Any, tmp_path: Path, server: StandInProcess) -> None:
    seed = int(os.environ.get("FRAMEDECK_SEED", random.randrange(2**32)))
    chance = random.Random(seed)
    wrong, at = killed_at_random(
        tmp_path, server, RANDOM, chance, lambda: reopen(qtbot, tmp_path, server)
    )
    assert wrong == [], f"seed {seed}"
    assert sum(at.values()) == RANDOM

"""The stand-in does as the recorded server did: same answers, same messages, same order."""

from __future__ import annotations

import pytest

from core.engines.comfy.standin.nodes import RAISE, SLEEP
from core.engines.comfy.standin.script import Script
from tests.comfy.contract import Player, Transcript
from tests.comfy.standin import running

SCRIPT = Script(step_seconds=0.015, pace=0.6, aliases={"RigSleep": SLEEP, "RigRaise": RAISE})

CHAINS = [
    ("01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12"),
    ("20", "21", "22", "23", "24", "25", "26"),
    ("27", "28"),
    ("29",),
    ("30",),
    ("31", "32"),
    ("34", "35"),
    ("44",),
    ("45",),
    ("55", "56", "57", "58"),
]
"""Recordings of one server, one after the other: what one leaves in the cache, the next finds."""


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "-".join((chain[0], chain[-1])))
def test_recordings_are_repeated(chain, tmp_path):
    def delete_before_58(http):
        if name == "58" and http["path"].startswith("/view"):
            (tmp_path / "output/rig/tiny_00005_.png").unlink()

    with running(tmp_path, SCRIPT) as server:
        for name in chain:
            transcript = Transcript(name)
            server.server.executor.output_order = transcript.output_order()
            player = Player(server.url, transcript, delete_before_58)
            try:
                player.play()
            except AssertionError as error:
                raise AssertionError(f"recording {name}: {error}") from error
            finally:
                player.close()

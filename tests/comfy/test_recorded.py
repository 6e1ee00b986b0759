"""The recordings are whole, small, and found by their names."""

from __future__ import annotations

import pytest

from tests.comfy import recorded


def test_everything_recorded_is_here():
    assert len(recorded.names("ws")) == 47
    assert len(recorded.rejections()) == 82
    assert len(recorded.object_info()) == 85
    assert len(recorded.object_info_summary()["all_node_names"]) == 570
    assert all(recorded.frame(name)[:3] == b"\0\0\0" for name in recorded.names("frames"))
    assert sum(path.stat().st_size for path in recorded.FOLDER.rglob("*.gz")) < 500_000


@pytest.mark.parametrize("name", recorded.names("ws"))
def test_every_transcript_runs_forward(name):
    times = [row["t"] for row in recorded.transcript(name)]
    assert times == sorted(times)
    assert recorded.messages(name) or recorded.exchanges(name)


def test_a_name_that_means_no_or_several_recordings_is_refused():
    with pytest.raises(FileNotFoundError):
        recorded.transcript("60")
    with pytest.raises(FileNotFoundError):
        recorded.http("nothing")

"""Leaves out what needs a real server, unless one is named."""

from __future__ import annotations

import os

import pytest

ADDRESS = "FRAMEDECK_COMFYUI"
COMMAND = "FRAMEDECK_COMFYUI_COMMAND"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, so that the last line of a run counts them."""
    left_out = [item for item in items if _lacks(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _lacks(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("comfyui")
    if marker is None:
        return False
    return not os.environ.get(COMMAND if marker.kwargs.get("own") else ADDRESS)

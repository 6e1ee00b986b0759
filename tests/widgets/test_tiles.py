"""The tiles beside the timeline: what is known stands there, what is not is a dash."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtWidgets import QApplication

from core.gpu.readings import DeviceReading
from tests.widgets.memory_samples import GB, card, reading
from widgets.tiles import DASH, TilesPanel

START = 5000.0


@pytest.fixture
def tiles(qtbot: object) -> TilesPanel:
    made = TilesPanel()
    qtbot.addWidget(made)
    made.resize(340, 200)
    made.show()
    return made


def shown(tiles: TilesPanel) -> dict[str, str]:
    return {tile.name: tile.value for tile in tiles.tiles}


def test_tiles_before_anything(tiles: TilesPanel) -> None:
    assert set(shown(tiles).values()) == {DASH}


def test_tiles_of_a_gpu(tiles: TilesPanel) -> None:
    tiles.update_reading(reading(START, card(used=20 * GB)))
    tiles.job_started("a")
    for number, used in enumerate((10, 14, 12)):
        tiles.update_reading(reading(START + number, card(used=used * GB)))
    tiles.job_ended("b")
    tiles.job_ended("a")
    tiles.update_reading(reading(START + 9, card(used=3 * GB)))
    assert shown(tiles) == {
        "In use": "3.0 GB",
        "Job peak": "14.0 GB",
        "Job average": "12.0 GB",
        "GPU load": "98 %",
        "Temperature": "71 °C",
        "Power": "342 W",
    }


def test_tiles_without_a_gpu(tiles: TilesPanel) -> None:
    tiles.job_started("a")
    tiles.update_reading(reading(START, worker=None))
    assert shown(tiles) == {
        "In use": "10.0 GB",
        "Job peak": DASH,
        "Job average": DASH,
        "Engine": DASH,
        "Panel": "2.00 GB",
        "CPU load": "55 %",
    }


def test_tiles_dash_what_is_unknown(tiles: TilesPanel) -> None:
    lost = DeviceReading(0, "card", None, None, None, None, None, None)
    tiles.job_started("a")
    tiles.update_reading(reading(START, lost))
    assert set(shown(tiles).values()) == {DASH}


def test_tiles_show_the_gpu_that_the_engine_uses(tiles: TilesPanel) -> None:
    idle = DeviceReading(0, "card", 24 * GB, 20 * GB, None, None, None, ())
    tiles.update_reading(reading(START, idle, card(1, used=9 * GB)))
    assert shown(tiles)["In use"] == "9.0 GB"


@pytest.mark.parametrize("size", [(120, 60), (130, 300), (230, 200), (340, 120), (900, 400)])
def test_tiles_fit_any_width(tiles: TilesPanel, size: tuple[int, int]) -> None:
    tiles.resize(*size)
    QApplication.processEvents()
    seen = [tile for tile in tiles.tiles if tile.isVisible()]
    assert seen
    assert seen[0].name == "In use"
    for tile in seen:
        assert tiles.rect().contains(tile.geometry()), tile.name
        assert tile.width() >= 90


def test_the_tip_of_the_load_says_what_holds_the_gpu_back(tiles: TilesPanel) -> None:
    load = tiles.tiles[3]
    slow = replace(
        card(used=GB), core_clock_mhz=900.0, memory_clock_mhz=9751.0, throttle=("temperature",),
        pcie_receive_bytes_per_second=10.4 * GB, pcie_send_bytes_per_second=0.0,
        reserved_bytes=GB // 2,
    )  # fmt: skip
    tiles.update_reading(reading(START, slow))
    assert load.toolTip().split("\n") == [
        "GPU load: 98 %",
        "Clock: 900 MHz, of its memory 9751 MHz",
        "Held back by: temperature",
        "From main memory: 10.4 GB a second, to it: 0.0 GB",
    ]
    assert tiles.tiles[0].toolTip().endswith("reserved by the driver: 0.50 GB")
    tiles.update_reading(reading(START + 1, replace(slow, throttle=())))
    assert "Held back by: nothing" in load.toolTip()
    tiles.update_reading(reading(START + 2, card(used=GB)))
    assert f"Held back by: {DASH}" in load.toolTip()
    assert f"From main memory: {DASH} a second, to it: {DASH}" in load.toolTip()


def test_figures_change_a_few_times_a_second_and_every_reading_counts(tiles: TilesPanel) -> None:
    tiles.job_started("a")
    for number, used in enumerate((1, 9, 2, 3)):
        tiles.update_reading(reading(START + number / 10, card(used=used * GB)))
    assert [tile.value for tile in tiles.tiles[:3]] == ["1.0 GB"] * 3
    tiles.update_reading(reading(START + 0.5, card(used=5 * GB)))
    assert [tile.value for tile in tiles.tiles[:3]] == ["5.0 GB", "9.0 GB", "4.0 GB"]
    tiles.update_reading(reading(START + 0.6, card(used=10 * GB)))
    assert tiles.tiles[0].value == "5.0 GB"
    # At its end the job's figures are whole at once.
    tiles.job_ended("a")
    assert [tile.value for tile in tiles.tiles[:3]] == ["10.0 GB", "10.0 GB", "5.0 GB"]

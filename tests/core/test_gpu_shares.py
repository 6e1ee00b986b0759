"""Who holds the memory, from lists that come rarely."""

from __future__ import annotations

from core.gpu.readings import DeviceReading, ProcessReading, Role, SystemReading
from core.gpu.shares import Shares, Splitter, split_system

Processes = tuple[ProcessReading, ...] | None


def device(used: int | None, processes: Processes) -> DeviceReading:
    return DeviceReading(0, "card", 100, used, None, None, None, processes)


def held(worker: int | None, other: int | None) -> Processes:
    return (
        ProcessReading(1, "python", Role.WORKER, worker),
        ProcessReading(2, "game", Role.OTHER, other),
    )


def test_between_lists_the_change_is_the_engines() -> None:
    splitter, first = Splitter(), held(20, 5)
    assert splitter.split(device(30, first)) == Shares(30, 20, 5, 5, 0, 0)
    assert splitter.split(device(70, first)) == Shares(70, 60, 5, 5, 0, 0)
    assert splitter.split(device(8, first)) == Shares(8, 0, 5, 3, 0, 0)
    assert splitter.split(device(3, first)) == Shares(3, 0, 3, 0, 0, 0)
    assert splitter.split(device(70, held(50, 15))) == Shares(70, 50, 15, 5, 0, 0)


def test_without_an_engine_the_change_is_the_rests() -> None:
    splitter = Splitter()
    only = (ProcessReading(2, "game", Role.OTHER, 5),)
    assert splitter.split(device(10, only)) == Shares(10, 0, 5, 5, 0, 0)
    assert splitter.split(device(40, only)) == Shares(40, 0, 5, 35, 0, 0)


def test_servers_have_shares_of_their_own() -> None:
    splitter = Splitter()
    first = (
        ProcessReading(1, "ComfyUI :8188", Role.COMFYUI, 30, 8188),
        ProcessReading(2, "ComfyUI :8189", Role.COMFYUI, 10, 8189),
        ProcessReading(3, "Ollama", Role.LLM, 15),
        ProcessReading(4, "Xorg", Role.DESKTOP, 5),
        ProcessReading(5, "Framedeck", Role.PANEL, 0),
    )
    assert splitter.split(device(62, first)) == Shares(62, 0, 5, 2, 40, 15)
    assert splitter.split(device(80, first)) == Shares(80, 0, 5, 2, 58, 15)
    assert splitter.split(device(12, first)) == Shares(12, 0, 5, 0, 0, 7)
    both = (*first, ProcessReading(6, "python", Role.WORKER, 10))
    assert splitter.split(device(75, both)) == Shares(75, 10, 5, 5, 40, 15)
    assert splitter.split(device(85, both)) == Shares(85, 20, 5, 5, 40, 15)
    silent = (*first, ProcessReading(7, "ComfyUI :8190", Role.COMFYUI, None, 8190))
    assert splitter.split(device(80, silent)) == Shares(80)


def test_what_is_not_told_is_none_and_not_zero() -> None:
    splitter = Splitter()
    assert splitter.split(device(30, None)) == Shares(30)
    assert splitter.split(device(None, held(1, 1))) == Shares(None)
    assert splitter.split(device(30, held(None, 4))) == Shares(30)
    assert splitter.split(device(30, held(4, None))) == Shares(30)


def test_main_memory_adds_up_even_when_shared_pages_count_twice() -> None:
    assert split_system(SystemReading(100, 60, 20, 10, None)) == Shares(60, 20, 10, 30, 0, 0)
    assert split_system(SystemReading(100, 60, None, 10, None)) == Shares(60, 0, 10, 50, 0, 0)
    assert split_system(SystemReading(100, 60, 55, 10, None)) == Shares(60, 55, 5, 0, 0, 0)

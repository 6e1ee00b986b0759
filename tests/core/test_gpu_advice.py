"""Advice: the right program, the right numbers, and none where none is due."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.gpu import traces
from core.gpu.advice import Action, Advice, Need, advise
from core.gpu.nvml import Nvml
from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
from core.gpu.sampler import Sampler
from core.gpu.simulated import SimulatedDriver

GB = 2**30
SYSTEM = SystemReading(32 * GB, 8 * GB, None, GB, None)


def need(median: float, what: str = "WAN", spread: float = 0.0) -> Need:
    return Need(what, (median - spread) * GB, median * GB, (median + spread) * GB)


def held(name: str, role: Role, gigabytes: float | None, port: int | None = None) -> ProcessReading:
    used = None if gigabytes is None else int(gigabytes * GB)
    return ProcessReading(hash(name) % 30000 + 2, name, role, used, port)


def reading(*processes: ProcessReading, total: float = 16, used: float | None = None) -> Reading:
    known = sum(item.used_bytes or 0 for item in processes)
    device = DeviceReading(
        0, "RTX 4080", int(total * GB), known if used is None else int(used * GB),
        None, None, None, processes,
    )  # fmt: skip
    return Reading(0.0, (device,), SYSTEM, "580")


STUDIO = held("LM Studio", Role.LLM, 5.2, 1234)


def given_advice(found: Advice | None) -> Advice:
    assert found is not None
    return found


def test_the_sentence_of_the_contention_trace() -> None:
    driver = SimulatedDriver(traces.load(traces.find("llm-contention-16gb")))
    sampler = Sampler(nvml=Nvml(lambda: driver), process_name=driver.process_name)
    found = given_advice(advise(sampler.read(), need(14.9)))
    assert found.text == "LM Studio holds 5.2 GB while WAN needs 14.9 of 16 GB: unload its model."
    assert found.action is Action.UNLOAD_MODEL
    assert (found.program, found.port, found.held_bytes) == ("LM Studio", 1234, 5325 * 2**20)
    assert found.enough
    assert found.sure
    # 16376 MB less 60 reserved and 6420 in use are free.
    assert found.missing_bytes == pytest.approx(14.9 * GB - (16376 - 60 - 6420) * 2**20)


def test_nothing_is_said_when_it_fits_or_cannot_be_told() -> None:
    assert advise(reading(STUDIO), need(10.7)) is None
    assert advise(reading(STUDIO), need(10.9)) is not None
    assert advise(Reading(0.0, (), SYSTEM, None), need(10)) is None
    blind = reading(STUDIO)
    for lost in ({"used_bytes": None}, {"total_bytes": None}):
        devices = (replace(blind.devices[0], **lost),)
        assert advise(replace(blind, devices=devices), need(15)) is None
    assert advise(reading(STUDIO), need(15), device_index=3) is None


def test_what_the_engine_holds_is_the_jobs() -> None:
    engine = held("Framedeck engine", Role.WORKER, 9.0)
    assert advise(reading(engine, STUDIO), need(10.7)) is None
    found = given_advice(advise(reading(engine, STUDIO), need(12)))
    assert found.missing_bytes == pytest.approx(1.2 * GB, rel=1e-6)


def test_reserved_memory_is_nobodys() -> None:
    full = reading(STUDIO)
    kept = (replace(full.devices[0], reserved_bytes=GB // 2),)
    assert advise(replace(full, devices=kept), need(10.7)) is not None


def test_who_is_asked_first() -> None:
    ollama = held("Ollama", Role.LLM, 3, 11434)
    comfy = held("ComfyUI :8188", Role.COMFYUI, 7, 8188)
    chrome = held("Chrome", Role.OTHER, 2)
    desktop = held("gnome-shell", Role.DESKTOP, 1)
    everyone = [chrome, desktop, comfy, ollama, STUDIO]
    expected = [
        (Action.UNLOAD_MODEL, "LM Studio"),
        (Action.UNLOAD_MODEL, "Ollama"),
        (Action.FREE_COMFYUI, "ComfyUI :8188"),
        (Action.CLOSE_PROGRAM, "Chrome"),
    ]
    for action, program in expected:
        found = given_advice(advise(reading(*everyone, total=24), need(23.5)))
        assert (found.action, found.program) == (action, program)
        everyone = [item for item in everyone if item.name != program]
    # Nobody is told to close the desktop.
    assert advise(reading(*everyone, total=24), need(23.5)) is None


def test_what_is_not_enough_says_what_is_missing() -> None:
    found = given_advice(advise(reading(STUDIO, held("x", Role.OTHER, 6)), need(12)))
    assert not found.enough
    assert found.text == (
        "LM Studio holds 5.2 GB while WAN needs 12 of 16 GB: unload its model. "
        "2 GB would still be missing at worst."
    )


def test_processes_of_one_program_count_together() -> None:
    runner = replace(held("Ollama", Role.LLM, 4.0, 11434), pid=9)
    found = given_advice(advise(reading(held("Ollama", Role.LLM, 0.5, 11434), runner), need(14)))
    assert found.text.startswith("Ollama holds 4.5 GB")


def test_what_the_driver_does_not_tell_is_no_number() -> None:
    silent = held("LM Studio", Role.LLM, None, 1234)
    found = given_advice(advise(reading(silent, used=6), need(14.9)))
    assert found.text == "LM Studio holds memory while WAN needs 14.9 of 16 GB: unload its model."
    assert (found.held_bytes, found.enough) == (None, False)


def test_too_large_for_the_card_is_nobodys_fault() -> None:
    found = given_advice(advise(reading(STUDIO), need(17)))
    assert found.action is Action.MAKE_SMALLER
    assert found.text == (
        "WAN needs 17 GB, and RTX 4080 has 16 GB with nothing else on it: "
        "use a smaller size or fewer frames."
    )


def test_tight_is_not_sure() -> None:
    found = given_advice(advise(reading(STUDIO), need(10.5, spread=1.0)))
    assert not found.sure
    assert given_advice(advise(reading(STUDIO), need(12.5, spread=1.0))).sure


def test_the_gpu_with_most_room_is_meant_unless_one_is_named() -> None:
    one = reading(STUDIO).devices[0]
    both = Reading(0.0, (one, replace(one, index=1, used_bytes=0, processes=())), SYSTEM, "580")
    assert advise(both, need(14)) is None
    assert given_advice(advise(both, need(14), device_index=0)).device_index == 0


amounts = st.none() | st.floats(0, 30)


@given(
    st.lists(st.tuples(st.sampled_from(["LM Studio", "Ollama", "vllm", "x"]),
                       st.sampled_from(list(Role)), amounts), max_size=6),
    amounts, st.floats(1, 48), st.floats(0.1, 60), st.floats(0, 5),
)  # fmt: skip
def test_any_reading_gives_sound_advice(
    processes: list[tuple[str, Role, float | None]],
    used: float | None,
    total: float,
    median: float,
    spread: float,
) -> None:
    listed = [held(*item) for item in processes]
    wanted = need(median, spread=spread)
    found = advise(reading(*listed, total=total, used=used), wanted)
    if found is None:
        return
    assert found.missing_bytes > 0
    assert found.text.endswith(".")
    assert "None" not in found.text
    assert "nan" not in found.text
    if found.action is not Action.MAKE_SMALLER:
        assert found.program in {item.name for item in listed}
    if found.sure and found.action is not Action.MAKE_SMALLER:
        assert wanted.low_bytes <= total * GB


def test_what_a_server_holds_is_its_own_jobs() -> None:
    comfy = held("ComfyUI :8188", Role.COMFYUI, 5.0, 8188)
    ours = replace(need(10.7), role=Role.COMFYUI)
    assert advise(reading(comfy, STUDIO), ours) is None
    assert given_advice(advise(reading(comfy, STUDIO), need(10.7))).program == "LM Studio"
    found = given_advice(advise(reading(comfy, STUDIO), replace(need(12), role=Role.COMFYUI)))
    assert found.missing_bytes == pytest.approx(1.2 * GB, rel=1e-6)
    # Nobody else holds anything: there is nothing to free.
    assert advise(reading(comfy, used=15), replace(need(12), role=Role.COMFYUI)) is None


def test_what_is_to_be_kept_free_is_no_room() -> None:
    free = reading(STUDIO)
    assert advise(free, need(10.7), reserve_bytes=0) is None
    found = given_advice(advise(free, need(10.7), reserve_bytes=2 * GB))
    assert found.text == (
        "LM Studio holds 5.2 GB while WAN needs 10.7 of 16 GB, 2 GB of it to be kept free: "
        "unload its model."
    )
    assert found.missing_bytes == pytest.approx(1.9 * GB, rel=1e-6)
    large = given_advice(advise(free, need(14.5), reserve_bytes=2 * GB))
    assert large.action is Action.MAKE_SMALLER
    assert large.text == (
        "WAN needs 14.5 GB, and RTX 4080 has 14 GB with nothing else on it beside the 2 GB "
        "to be kept free: use a smaller size or fewer frames."
    )
    assert given_advice(advise(free, need(1), reserve_bytes=99 * GB)).action is Action.MAKE_SMALLER

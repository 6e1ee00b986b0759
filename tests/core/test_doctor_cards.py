"""Driver, torch and CUDA: every way in which they do not fit, and the build that would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.doctor import asking, cards
from core.doctor.asking import NoAnswerError, Why, ask, engine_command
from core.doctor.findings import Finding, Repair, State
from core.engine_env.card import BUILDS, KERNELS
from tests.core.doctor_scripts import context, script, seen, torch


def never() -> bool:
    return False


def found(items: Any) -> list[Finding]:
    return [item for item in items if isinstance(item, Finding)]


@pytest.mark.parametrize(
    ("driver", "capabilities", "tag"),
    [
        (None, [], "cpu"),
        ((13, 0), [(8, 6)], "cu130"),
        ((13, 2), [(12, 0)], "cu130"),
        ((12, 9), [(8, 6)], "cu128"),
        ((12, 6), [(8, 9)], "cu126"),
        ((13, 0), [(6, 1)], "cu126"),
        ((12, 8), [(7, 0)], "cu126"),
        ((12, 4), [(8, 6)], "cpu"),
        ((13, 0), [(3, 5)], "cpu"),
        ((13, 0), [], "cu130"),
        ((13, 0), [(6, 1), (12, 0)], "cu130"),
        ((13, 0), [(6, 1), (8, 6)], "cu126"),
    ],
)
def test_the_build_that_fits(driver: Any, capabilities: Any, tag: str) -> None:
    assert cards.fitting_build(driver, capabilities) == tag


@given(
    st.tuples(st.integers(10, 14), st.integers(0, 9)),
    st.lists(st.tuples(st.integers(3, 13), st.integers(0, 9)), max_size=4),
)
def test_no_build_is_newer_than_the_driver(driver: Any, capabilities: Any) -> None:
    tag = cards.fitting_build(driver, capabilities)
    needs = {tag: needed for needed, tag in BUILDS}
    assert set(needs) == set(KERNELS) == set(cards.DRIVERS)
    assert tag == "cpu" or driver >= needs[tag]


@pytest.mark.parametrize(
    ("card", "torch_says", "state", "words", "repair"),
    [
        ({}, {}, State.OK, ("multiplied",), None),
        (
            {"cuda": [12, 6]},
            {"available": False, "devices": []},
            State.BROKEN,
            ("built for CUDA 13.0", "only CUDA 12.6", "cu126", "580"),
            Repair("switch", "cu126"),
        ),
        (
            {"cuda": [12, 8]},
            {"torch": "2.13.0+cu130", "available": False, "devices": []},
            State.BROKEN,
            ("cu128",),
            Repair("switch", "cu128"),
        ),
        (
            {},
            {"torch": "2.13.0+cpu", "cuda": None, "available": False, "arches": [], "devices": []},
            State.WARNING,
            ("build for the CPU", "RTX 3090 idles", "cu130"),
            Repair("switch", "cu130"),
        ),
        (
            {"cuda": [12, 2]},
            {"torch": "2.13.0+cpu", "cuda": None, "available": False, "devices": []},
            State.WARNING,
            ("CUDA 12.2", "560"),
            None,
        ),
        (
            {"gpus": [], "cards": 0, "cuda": None, "cuda_driver": None},
            {"available": False, "devices": []},
            State.NOTE,
            ("no NVIDIA GPU", "3.5 GB"),
            Repair("switch", "cpu"),
        ),
        (
            {"gpus": [], "cards": 0, "cuda": None, "cuda_driver": None},
            {"torch": "2.13.0+cpu", "cuda": None, "available": False, "devices": []},
            State.OK,
            ("on the CPU",),
            None,
        ),
        (
            {},
            {"available": False, "devices": [], "warnings": ["CUDA unknown error"]},
            State.BROKEN,
            ("sees no GPU", "CUDA unknown error", "Restart"),
            Repair("reinstall"),
        ),
        (
            {},
            {"processor": "it multiplies wrongly"},
            State.BROKEN,
            ("on the CPU",),
            Repair("reinstall"),
        ),
    ],
)
def test_what_is_said_of_driver_and_torch(
    card: Any, torch_says: Any, state: State, words: tuple[str, ...], repair: Repair | None
) -> None:
    told = cards.match(seen(**card), torch(**torch_says))
    assert (told.state, told.repair) == (state, repair)
    for word in words:
        assert word in f"{told.text} {told.fix}"


def test_a_gpu_that_nvidia_does_not_know_of_is_used() -> None:
    none = {"gpus": [], "cards": 0, "cuda": None, "cuda_driver": None}
    radeon = {"name": "Radeon RX 7900", "capability": [11, 0], "total_bytes": 1, "error": None}
    says = torch(torch="2.13.0+rocm7", cuda=None, hip="7.0", arches=[], devices=[radeon])
    told = cards.match(seen(**none), says)
    assert told.state is State.OK
    assert "Radeon" in told.text


def test_only_builds_that_can_be_had_are_offered() -> None:
    told = cards.match(seen(cuda=[12, 8]), torch(available=False, devices=[]))
    assert cards.offered(told, None) == told
    assert cards.offered(told, {"cpu", "cu128"}) == told
    left = cards.offered(told, {"cpu", "cu130"})
    assert left.repair is None
    assert "does not offer it" in left.fix
    assert "580 or later" in left.fix
    assert "580" not in cards.offered(told, {"cpu"}).fix


def test_a_card_without_kernels_and_one_that_fails() -> None:
    old = {"name": "GTX 1080", "capability": [6, 1], "total_bytes": 1, "error": None}
    gpu = {**seen()["gpus"][0], "capability": [6, 1]}
    told = cards.match(seen(gpus=[gpu]), torch(devices=[old]))
    assert (told.state, told.repair) == (State.BROKEN, Repair("switch", "cu126"))
    assert "6.1" in told.text
    bad = {**old, "capability": [8, 6], "error": "an illegal memory access was encountered"}
    told = cards.match(seen(), torch(devices=[bad]))
    assert told.state is State.BROKEN
    assert "illegal memory access" in told.text


@pytest.mark.parametrize(
    ("capability", "arches", "runs"),
    [
        ((8, 9), ["sm_80", "sm_86"], True),
        ((8, 0), ["sm_86"], False),
        ((12, 0), ["sm_90"], False),
        ((12, 1), ["sm_90", "compute_120"], True),
        ((9, 0), ["sm_90a"], True),
        ((7, 0), ["sm_75", "garbage"], False),
    ],
)
def test_which_kernels_a_card_runs(capability: Any, arches: Any, runs: bool) -> None:
    assert cards._has_kernels(capability, arches) is runs


def test_an_incompatible_torch_as_its_child_tells_it(tmp_path: Path) -> None:
    said = json.dumps({"doctor": {"answer": torch(available=False, devices=[])}})
    python = script(tmp_path, f"echo 'torch prints this'; echo '{said}'")
    asks = lambda what, arguments, seconds, *, engine: (  # noqa: E731
        ask(engine_command(python, what, *arguments), seconds, never)
        if engine
        else _given(seen(cuda=[12, 8]))
    )
    told = found(cards.check(context(tmp_path, {}, ask=asks)))
    assert [one.id for one in told] == ["driver", "vram.0", "torch"]
    assert told[-1].repair == Repair("switch", "cu128")


def _given(answer: dict[str, Any]) -> asking.Answering:
    yield 0.0, ""
    return answer


@pytest.mark.parametrize(
    ("changed", "state", "word"),
    [
        ({}, State.OK, "580.95, speaks CUDA 13.0"),
        ({"error": "Driver/library version mismatch", "gpus": []}, State.BROKEN, "Restart"),
        ({"driver": None, "gpus": [], "error": "no library"}, State.BROKEN, "no driver"),
        ({"driver": None, "gpus": [], "cards": 0}, State.NOTE, "no NVIDIA GPU"),
        ({"driver": None, "gpus": [], "cards": None}, State.NOTE, "no NVIDIA GPU"),
    ],
)
def test_what_is_said_of_the_driver(changed: Any, state: State, word: str) -> None:
    told = cards.driver(seen(**changed))
    assert told.state is state
    assert word in f"{told.text} {told.fix}"


def test_a_driver_that_hangs_is_told_and_nothing_else_waits(tmp_path: Path) -> None:
    told = context(tmp_path, {"gpus": NoAnswerError(Why.HUNG, "20 s")})
    (driver,) = cards.check(told)
    assert driver.state is State.BROKEN
    assert "hangs" in driver.text


def test_who_holds_the_memory(tmp_path: Path) -> None:
    full = {**seen()["gpus"][0], "used_bytes": 23 << 30}
    full["holders"] = [["LM Studio", 14 << 30], ["ComfyUI :8188", 8 << 30], ["x", 0]]
    unknown = {**full, "used_bytes": None}
    told = list(cards.cards(seen(gpus=[full, unknown]), 3000 << 20))
    assert [one.state for one in told] == [State.WARNING, State.NOTE]
    assert "Held by LM Studio 14.0 GB, ComfyUI :8188 8.0 GB." in told[0].text


def test_cards_that_torch_does_not_see() -> None:
    two = seen(gpus=[seen()["gpus"][0]] * 2)
    assert [one.id for one in cards.counted(two, torch())] == ["gpu.count"]
    assert list(cards.counted(seen(), torch())) == []


def _gpus(*capabilities: tuple[int, int]) -> list[dict[str, Any]]:
    names = {(6, 1): "GTX 1080", (8, 9): "RTX 4090", (12, 0): "RTX 5090"}
    usual = seen()["gpus"][0]
    return [{**usual, "name": names[one], "capability": list(one)} for one in capabilities]


def _devices(*gpus: dict[str, Any]) -> list[dict[str, Any]]:
    # torch multiplies on each, and on one without kernels that fails.
    old = "CUDA error: no kernel image is available"
    return [
        {**gpu, "total_bytes": 1, "error": old if gpu["capability"] == [6, 1] else None}
        for gpu in gpus
    ]


def test_a_card_that_no_build_serves_beside_the_newest_is_told() -> None:
    gpus = _gpus((12, 0), (6, 1))
    told = cards.match(seen(gpus=gpus), torch(devices=_devices(*gpus)))
    assert (told.state, told.repair) == (State.NOTE, None)
    assert "multiplied on RTX 5090 as it must" in told.text
    assert "no kernels for GTX 1080" in told.text
    assert "No build of torch" in told.fix
    # The same machine before it has a build for cards: which one it takes, and what that leaves.
    told = cards.match(
        seen(gpus=gpus),
        torch(torch="2.13.0+cpu", cuda=None, available=False, arches=[], devices=[]),
    )
    assert told.repair == Repair("switch", "cu130")
    assert told.fix.endswith("GTX 1080 will not be used: cu130 has no kernels for its generation.")


def test_a_build_that_serves_all_cards_is_taken_when_there_is_one() -> None:
    gpus = _gpus((8, 9), (6, 1))
    told = cards.match(seen(gpus=gpus), torch(devices=_devices(*gpus)))
    assert (told.state, told.repair) == (State.BROKEN, Repair("switch", "cu126"))
    assert "no kernels for GTX 1080" in told.text


def test_a_card_that_fails_beside_one_without_kernels_is_told() -> None:
    gpus = _gpus((12, 0), (6, 1))
    devices = _devices(*gpus)
    devices[0]["error"] = "an illegal memory access was encountered"
    told = cards.match(seen(gpus=gpus), torch(devices=devices))
    assert told.state is State.BROKEN
    assert "fails on RTX 5090" in told.text

"""Which torch for which driver, where it is looked for, what the requirements are."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from app import environment

ROOT = Path(__file__).resolve().parents[2]


class FakeDriver:
    """Answers as the CUDA driver library does."""

    def __init__(self, number: int, result: int = 0) -> None:
        self.number, self.result = number, result

    def cuDriverGetVersion(self, target: object) -> int:
        ctypes.cast(target, ctypes.POINTER(ctypes.c_int))[0] = self.number
        return self.result


@pytest.mark.parametrize(
    ("number", "tag"),
    [
        (13010, "cu130"),
        (13000, "cu130"),
        (12090, "cu128"),
        (12080, "cu128"),
        (12060, "cu126"),
        (12040, "cpu"),
        (11080, "cpu"),
    ],
)
def test_the_driver_chooses_the_build(number: int, tag: str) -> None:
    assert environment.torch_tag(environment.driver_version(lambda _: FakeDriver(number))) == tag


def test_no_driver_means_the_cpu_build() -> None:
    def nothing(name: str) -> ctypes.CDLL:
        return ctypes.CDLL("lib-that-is-not-there.so.1")

    assert environment.driver_version(nothing) is None
    assert environment.driver_version(lambda _: FakeDriver(13000, result=3)) is None
    assert environment.torch_tag(None) == "cpu"


@pytest.mark.skipif(os.name == "nt", reason="the fake Python is a shell script")
def test_torch_comes_from_its_own_index_and_else_from_the_usual(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    fake = tmp_path / "python"
    fake.write_text(
        f'#!/bin/sh\necho "$@" >> "{log}"\ncase "$*" in *index-url*) exit 1;; esac\nexit 0\n'
    )
    fake.chmod(0o755)
    environment.install_torch(fake, ["torch>=1"], "cu128", lambda _: None)
    calls = [line for line in log.read_text().splitlines() if "pip install" in line]
    assert calls == [
        "-m pip install --no-deps --retries 0 "
        "--index-url https://download.pytorch.org/whl/cu128 torch>=1",
        "-m pip install --no-deps torch>=1",
    ]


def test_the_real_requirements_are_read_whole() -> None:
    project = (ROOT / "pyproject.toml").read_bytes()
    torch, app = environment.requirements(project, "app")
    same_torch, tests = environment.requirements(project, "tests")
    assert torch == same_torch
    assert len(torch) == 1
    assert any(text.startswith("diffusers") for text in app)
    assert not any(text.startswith("pytest") for text in app)
    assert set(app) < set(tests)


def test_what_is_installed_is_judged_by_its_version() -> None:
    torch, _ = environment.requirements((ROOT / "pyproject.toml").read_bytes(), "tests")
    assert environment.satisfied([*torch, "pytest>=8", "fd-absent; python_version < '3'"])
    assert not environment.satisfied(["pytest>=8", "torch>=99"])
    assert not environment.satisfied(["fd-absent"])

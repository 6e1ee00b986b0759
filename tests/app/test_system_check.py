"""What the system lacks is named, installed as root on Debian, else told as one command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from app import bootstrap, system_check

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about Linux packages")


@LINUX
def test_the_sets_follow_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert bootstrap.system_sets("app") == ["qt"]
    monkeypatch.setenv("DISPLAY", ":0")
    assert bootstrap.system_sets("app") == ["qt", "xcb"]
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert bootstrap.system_sets("app") == ["qt"]
    assert bootstrap.system_sets("tests") == ["qt", "xcb", "xvfb"]
    known = {*system_check.LIBRARIES, *system_check.PROGRAMS}
    assert known == set(bootstrap.system_sets("tests"))


@LINUX
def test_this_machine_has_what_its_tests_need() -> None:
    assert system_check.missing(bootstrap.system_sets("tests")) == {}
    assert not system_check.loads("lib-that-is-not-there.so.1")


def test_what_is_missing_is_named_with_its_packages() -> None:
    gone = {"libEGL.so.1", "libxcb-cursor.so.0"}
    absent = system_check.missing(
        ["qt", "xcb", "xvfb"], lambda name: name not in gone, lambda name: name != "Xvfb"
    )
    assert {name: packages[0] for name, packages in absent.items()} == {
        "libEGL.so.1": "libegl1",
        "libxcb-cursor.so.0": "libxcb-cursor0",
        "Xvfb": "xvfb",
    }
    told = system_check.advice(absent, "apt-get", root=False)
    assert (
        "\n    sudo apt-get install -y --no-install-recommends libegl1 libxcb-cursor0 xvfb\n"
        in told
    )
    assert "sudo dnf install -y libglvnd-egl" in system_check.advice(absent, "dnf", root=False)
    assert "sudo pacman -S --needed" in system_check.advice(absent, "pacman", root=False)
    assert "libegl1 libxcb-cursor0 xvfb" in system_check.advice(absent, None, root=False)


@LINUX
@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("gets_it", [True, False])
def test_apt_get_runs_as_root_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: bool, gets_it: bool
) -> None:
    log = tmp_path / "calls"
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "fd-probe-program"
    makes_it = f'case "$1" in install) printf "" > {program}; chmod +x {program};; esac'
    fake = programs / "apt-get"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {log}\n{makes_it if gets_it else "exit 100"}\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(system_check, "is_root", lambda: root)
    monkeypatch.setitem(
        system_check.PROGRAMS, "probe", {"fd-probe-program": ("fd-package", "fd-rpm", "fd-arch")}
    )
    said: list[str] = []
    told = system_check.prepare(["probe"], said.append, with_venv=True)
    calls = log.read_text().splitlines() if log.exists() else []
    installs = [call for call in calls if call.startswith("install")]
    if not root:
        assert calls == []
        assert "sudo apt-get install -y --no-install-recommends fd-package" in told
    elif gets_it:
        assert told is None
        assert len(installs) == 1
        assert installs[0].endswith(" fd-package")
        assert said == ["      Installing with apt-get: fd-package"]
    else:
        assert len(installs) == 2  # once more after the lists were refreshed
        assert "update" in calls
        assert "apt-get install" in told

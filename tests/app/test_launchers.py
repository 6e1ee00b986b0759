"""The double-click ways in: a valid entry that really starts, and the Windows file."""

from __future__ import annotations

import configparser
import json
import os
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app import launchers

ROOT = Path(__file__).resolve().parents[2]
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="desktop entries")


def run_entry_command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
    return subprocess.run(
        [sys.executable, "-m", "app", "desktop-entry", *arguments],
        cwd=ROOT,
        env={**kept, "HOME": str(home), "FRAMEDECK_NO_SETUP": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@LINUX
def test_entries_are_written_and_removed(tmp_path: Path) -> None:
    (tmp_path / "Desktop").mkdir()
    paths = [
        tmp_path / ".local/share/applications/framedeck.desktop",
        tmp_path / "Desktop/framedeck.desktop",
    ]
    done = run_entry_command(tmp_path)
    assert done.returncode == 0, done.stderr
    for path in paths:
        assert str(path) in done.stdout
        assert os.access(path, os.X_OK)
        file = configparser.RawConfigParser(interpolation=None)
        file.optionxform = str
        file.read(path)
        entry = file["Desktop Entry"]
        assert entry["Path"] == str(ROOT)
        assert entry["StartupWMClass"] == "framedeck"
        assert entry["Icon"] == str(ROOT / "resources/icons/framedeck.svg")
    assert run_entry_command(tmp_path).returncode == 0  # again: replaced
    done = run_entry_command(tmp_path, "--remove")
    assert done.returncode == 0
    assert not any(path.exists() for path in paths)
    assert "no entry" in run_entry_command(tmp_path, "--remove").stdout


@LINUX
def test_the_packaged_program_starts_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "a program" / "framedeck"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(program.parent / "_internal"), raising=False)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert launchers.main([]) == 0
    lines = (tmp_path / "share" / "applications" / launchers.NAME).read_text().splitlines()
    assert f'Exec="{program}" %F' in lines
    assert f"Icon={program.parent}/_internal/source/resources/icons/framedeck.svg" in lines


def test_the_desktop_may_be_named_otherwise_or_absent(tmp_path: Path) -> None:
    menu = tmp_path / ".local/share/applications/framedeck.desktop"
    assert launchers.targets(tmp_path, {}) == [menu]
    (tmp_path / ".config").mkdir()
    names = tmp_path / ".config/user-dirs.dirs"
    names.write_text('# comment\nXDG_DESKTOP_DIR="$HOME/Schreibtisch"\n')
    (tmp_path / "Schreibtisch").mkdir()
    own = tmp_path / "Schreibtisch/framedeck.desktop"
    assert launchers.targets(tmp_path, {}) == [menu, own]
    names.write_text('XDG_DESKTOP_DIR="$HOME/"\n')  # how "no desktop" is written
    assert launchers.targets(tmp_path, {}) == [menu]


@LINUX
def test_the_entry_starts_from_an_awkward_path(tmp_path: Path) -> None:
    """GLib, which desktops use, must read back the very words that we meant."""
    root = tmp_path / 'it\'s 100% "my" $HOME `deck` \\ here'
    root.mkdir()
    out = tmp_path / "out.json"
    fake = root / "python"
    fake.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"with open({str(out)!r} + '.new', 'w') as file:\n"
        f"    json.dump([sys.argv, os.getcwd()], file)\n"
        f"os.rename({str(out)!r} + '.new', {str(out)!r})\n"
    )
    fake.chmod(0o755)
    path = tmp_path / "framedeck.desktop"
    launchers.write(path, launchers.entry(root, str(fake)))
    assert launchers.complaint(path) == ""
    if shutil.which("gio") is None:
        pytest.skip("gio (libglib2.0-bin) is not installed")
    subprocess.run(["gio", "launch", str(path)], check=True, timeout=30)
    deadline = time.monotonic() + 15  # gio does not wait for what it started
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert json.loads(out.read_text()) == [[str(fake), "-m", "app"], str(root)]


def test_windows_file_starts_the_app_with_the_fitting_python(tmp_path: Path) -> None:
    file = runpy.run_path(str(ROOT / "packaging/windows/Framedeck.pyw"))
    command = file["command"]
    for name in ("python.exe", "pythonw.exe"):
        (tmp_path / name).touch()
    for started_by in ("python.exe", "pythonw.exe"):
        python = tmp_path / started_by
        assert command(python, ready=True) == [str(tmp_path / "pythonw.exe"), "-m", "app"]
        assert command(python, ready=False) == [str(tmp_path / "python.exe"), "-m", "app"]
    assert file["ROOT"] == ROOT


def test_packaging_never_becomes_a_package() -> None:
    """With an __init__.py it would hide the `packaging` that pip, torch and pytest import."""
    assert not list((ROOT / "packaging").rglob("__init__.py"))
    import packaging.version

    assert ROOT not in Path(packaging.version.__file__).parents or ".venv" in packaging.__file__

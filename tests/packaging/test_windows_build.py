"""The build's steps as they go on Windows, with its folders, its refusals and its makensis."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from core.updates import bundle as bundles

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def windows(
    scripts: dict[str, ModuleType], made: object, monkeypatch: pytest.MonkeyPatch
) -> object:
    """A build as Windows makes it, of a few files."""
    monkeypatch.setattr(scripts["build"], "WINDOWS", True)
    monkeypatch.setattr(bundles, "program_name", lambda: "framedeck.exe")
    (made.bundle / "_internal" / "link").unlink()
    (made.bundle / "framedeck").unlink()
    for name in ("framedeck.exe", "framedeck-cli.exe", "_internal/uv.exe"):
        (made.bundle / name).write_bytes(b"MZ" + name.encode())
    return replace(made, system="windows-amd64")


def python_that_says(folder: Path, **said: object) -> Path:
    """Return a Python that runs nothing, and answers what it is asked of itself."""
    answer = folder / "answer.json"
    answer.write_text(json.dumps(said), "utf-8")
    program = folder / "python.exe"
    program.write_text(
        f'#!/bin/sh\ncase "$2" in\n*find_uv_bin*) echo "{folder}/uv.exe" ;;\n'
        f'*base_prefix*) echo "a warning first"; cat "{answer}" ;;\n*) exit 9 ;;\nesac\n'
    )
    program.chmod(0o755)
    return program


def test_its_python_stands_among_the_scripts(windows: object) -> None:
    assert windows.python == windows.env / "Scripts" / "python.exe"
    assert replace(windows, given=Path("C:/py/python.exe")).python == Path("C:/py/python.exe")


def test_another_python_is_taken_for_checks_and_named_so(
    scripts: dict[str, ModuleType], windows: object, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    build = scripts["build"]
    (tmp_path / "uv.exe").write_bytes(b"MZuv")
    given = replace(windows, given=python_that_says(tmp_path))
    build.run_steps(given, ["environment", "prepare"])
    assert "so this is not for release" in capsys.readouterr().out
    assert not windows.env.exists()
    assert (windows.prepared / "uv.exe").read_bytes() == b"MZuv"
    assert (windows.prepared / "version.txt").read_bytes() == b"1.2.3\n"
    with pytest.raises(build.BuildError, match="without --python"):
        build.run_steps(replace(windows, given=tmp_path / "none.exe"), ["environment"])


def test_help_says_that_another_python_makes_no_release(
    scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        scripts["build"].main(["--help"])
    assert "is not for release" in " ".join(capsys.readouterr().out.split())


@pytest.mark.skipif(sys.platform == "win32", reason="stands in for it with a shell script")
def test_freezing_writes_the_version_resource_and_leaves_nothing_half_made(
    scripts: dict[str, ModuleType], windows: object, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    build = scripts["build"]
    target = tmp_path / "version_info.txt"
    load = build._script

    def script(name: str) -> ModuleType:
        module = load(name)
        monkeypatch.setattr(module, "TARGET", target)
        return module

    monkeypatch.setattr(build, "_script", script)
    program = tmp_path / "python.exe"
    program.write_text(
        f'#!/bin/sh\n[ "$2" = PyInstaller ] && [ -f "{target}" ] || exit 9\n'
        'while [ "$1" != --distpath ]; do shift; done\n'
        'mkdir -p "$2/framedeck/_internal" && echo MZ > "$2/framedeck/framedeck.exe"\n'
    )
    program.chmod(0o755)
    windows.prepared.mkdir(parents=True)
    (windows.prepared / "version.txt").write_text("1.2.3\n")
    build.run_steps(replace(windows, given=program), ["bundle"])
    names = {path.relative_to(windows.bundle).as_posix() for path in windows.bundle.rglob("*")}
    assert names == {"framedeck.exe", "_internal"}, "what was there before is gone"
    assert not (windows.work / "new").exists()
    assert "VSVersionInfo(" in target.read_text("utf-8")


def test_licences_list_and_parts_are_those_of_its_folders(
    scripts: dict[str, ModuleType], windows: object, tmp_path: Path
) -> None:
    base = tmp_path / "Python311"
    site = base / "Lib" / "site-packages"
    info = site / "av-18.1.0.dist-info"
    (info / "licenses").mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: av\nVersion: 18.1.0\n")
    (info / "licenses" / "LICENSE.txt").write_text("of av")
    (base / "LICENSE.txt").write_text("of Python")
    library = "av.libs/avcodec-62-984de33114b7fa384296817dec999c9d.dll"
    for place in (library, "av/core.pyd"):
        (site / place).parent.mkdir(exist_ok=True)
        (site / place).write_bytes(b"MZ")
    for place in ("vcruntime140.dll", "DLLs/_ssl.pyd", "Lib/site-packages/nobodys.dll"):
        (base / place).parent.mkdir(exist_ok=True)
        (base / place).write_bytes(b"MZ")
    system = tmp_path / "System32" / "ucrtbase.dll"
    system.parent.mkdir()
    system.write_bytes(b"MZ")
    record = f"{library},,\nav/core.pyd,,\n{info.name}/METADATA,,\n"
    (info / "RECORD").write_text(record + f"{info.name}/licenses/LICENSE.txt,,\n")
    sources = [site / library, site / "av/core.pyd", site / "nobodys.dll",
               base / "vcruntime140.dll", base / "DLLs/_ssl.pyd", system]  # fmt: skip
    windows.carried.write_text(
        json.dumps({"files": [[path.name, str(path)] for path in sources], "modules": []})
    )
    given = python_that_says(tmp_path, packages=[str(site)] * 2, version="3.11.9", base=str(base))
    build = replace(windows, given=given)
    scripts["build"].run_steps(build, ["slim", "notices", "list", "sbom"])
    licences = build.bundle / "_internal" / "licenses"
    assert (licences / "python" / "LICENSE.txt").read_text() == "of Python"
    assert (licences / "av" / "licenses-LICENSE.txt").read_text() == "of av"
    told = (licences / "THIRD-PARTY.md").read_bytes().decode()
    assert "Python 3.11.9" in told
    assert "carries avcodec 62" in told
    assert "\r" not in told
    bill = json.loads((build.output / f"{build.name}.cdx.json").read_text("utf-8"))
    assert {part["purl"] for part in bill["components"]} == {
        "pkg:generic/python@3.11.9", "pkg:pypi/av@18.1.0", "pkg:generic/avcodec@62",
        "pkg:generic/nobodys.dll", "pkg:generic/ucrtbase.dll",
    }  # fmt: skip
    assert list(bundles.check_whole(build.bundle, "1.2.3"))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("C:/s/av.libs/libx264-165-f3a909470ddc2d85ed21eda3d0fb7954.dll", ("x264", "165")),
        ("C:/s/av.libs/libwebp-4bf4e57964c7a01c09ce39470d6b67ca.dll", ("webp", "")),
        ("C:/s/av.libs/libstdc++-6-2d5c346d47ad531ef9f5185db0e8cef3.dll", ("stdc++", "6")),
        ("C:/s/PySide6/Qt6Core.dll", ("Qt6Core", "6")),
        ("C:/s/PySide6/msvcp140.dll", None),
        ("C:/s/shiboken6/shiboken6.abi3.dll", None),
        ("/s/av.libs/libx264-1a2b3c4d.so.165", ("x264", "165")),
        ("/s/PySide6/Qt/lib/libQt6Core.so.6", ("Qt6Core", "6")),
        ("/s/av/core.so", None),
    ],
)
def test_libraries_within_wheels_are_known_by_their_names(
    scripts: dict[str, ModuleType], source: str, said: tuple[str, str] | None
) -> None:
    assert scripts["carried"].inner_library(source, source.rpartition("/")[2]) == said


def test_packing_twice_gives_the_same_archive_that_updates_take(
    scripts: dict[str, ModuleType], windows: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And hands makensis a list from outside of the bundle, dated as the bundle is."""
    build = scripts["build"]
    asked = []

    def makensis(command: list[str], **given: object) -> subprocess.CompletedProcess[str]:
        defines = dict(part[2:].split("=", 1) for part in command if part.startswith("-D"))
        names = Path(defines["LIST"])
        assert windows.bundle not in names.parents
        assert names.stat().st_mtime == windows.date
        assert "uv.exe" in names.read_bytes().decode("utf-16")
        Path(defines["OUTPUT"]).write_bytes(b"MZ setup")
        asked.append(given["env"]["SOURCE_DATE_EPOCH"])
        return subprocess.CompletedProcess(command, 0)

    load = build._script

    def script(name: str) -> ModuleType:
        module = load(name)
        monkeypatch.setattr(module, "find_makensis", lambda: "makensis")
        monkeypatch.setattr(module.subprocess, "run", makensis)
        return module

    monkeypatch.setattr(build, "_script", script)
    build.run_steps(windows, ["list"])
    archive = windows.output / f"{windows.name}.zip"
    bytes_of = []
    for _ in range(2):
        build.run_steps(windows, ["packages", "sums"])
        bytes_of.append(archive.read_bytes())
    assert bytes_of[0] == bytes_of[1]
    assert asked == [str(windows.date)] * 2
    assert set(build.sums_of(windows.output)) == {
        archive.name, f"{archive.name}.json", f"{windows.name}-setup.exe",
    }  # fmt: skip
    assert b"\r" not in (windows.output / f"{archive.name}.json").read_bytes()
    with zipfile.ZipFile(archive) as packed:
        assert {entry.create_system for entry in packed.infolist()} == {3}
        packed.extractall(windows.work / "unpacked")
    unpacked = windows.work / "unpacked" / "framedeck"
    (unpacked / "framedeck.exe").chmod(0o755)
    assert list(bundles.check_whole(unpacked, "1.2.3"))


def test_a_failing_installer_is_told_and_is_no_crash(
    scripts: dict[str, ModuleType], windows: object, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    build = scripts["build"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(build, "project_version", lambda root: windows.version)
    monkeypatch.setattr(build, "system_name", lambda: windows.system)
    places = ["--work", str(windows.work), "--output", str(windows.output)]
    assert build.main([*places, "--only", "list", "--only", "packages"]) == 1
    assert "Not built: makensis is not there" in capsys.readouterr().err


def test_a_work_folder_too_deep_for_windows_is_refused(scripts: dict[str, ModuleType]) -> None:
    facts = scripts["facts"]
    deepest = Path("C:/" + "x" * (facts.LONGEST - facts.DEEPEST - 4))
    facts.check_depth(deepest, windows=True)
    facts.check_depth(deepest / "y", windows=False)
    with pytest.raises(facts.BuildError, match="--work"):
        facts.check_depth(deepest / "y", windows=True)


def test_what_is_read_only_goes_too(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows removes no file that is read-only; here removing is refused as it does."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "LICENSE").write_text("")
    (folder / "LICENSE").chmod(0o444)
    unlink = os.unlink

    def refusing(path: object, *, dir_fd: int | None = None) -> None:
        if not os.stat(path, dir_fd=dir_fd).st_mode & 0o200:
            raise PermissionError(errno.EACCES, "is read-only", str(path))
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refusing)
    with pytest.raises(PermissionError):
        scripts["folders"].remove(folder, windows=False)
    scripts["folders"].remove(folder, windows=True)
    assert not folder.exists()
    scripts["folders"].remove(folder, windows=True)


def test_a_folder_that_is_looked_at_is_renamed_a_moment_later(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, source, target = scripts["folders"], tmp_path / "new", tmp_path / "bundle"
    source.mkdir()
    rename, waited = Path.rename, []
    refusals = [PermissionError(13, "in use")] * 3

    def busy(path: Path, other: Path) -> Path:
        if refusals:
            raise refusals.pop()
        return rename(path, other)

    monkeypatch.setattr(Path, "rename", busy)
    monkeypatch.setattr(folders.time, "sleep", waited.append)
    with pytest.raises(PermissionError):
        folders.move(source, target, windows=False)
    folders.move(source, target, windows=True)
    assert target.is_dir()
    assert waited == list(folders.WAITS[:2])
    refusals.extend([PermissionError(13, "in use")] * 99)
    with pytest.raises(PermissionError):
        folders.move(target, source, windows=True)

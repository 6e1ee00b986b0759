"""What makes Framedeck a Windows program, as far as it can be looked at on any system."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

from core import consoles, whole_files

ROOT = Path(__file__).resolve().parents[2]
WINDOWS = ROOT / "packaging" / "windows"
SCRIPT = (WINDOWS / "installer.nsi").read_text("utf-8")
WORKFLOW = (ROOT / ".github" / "workflows" / "build.yml").read_text("utf-8")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"windows_{name}", WINDOWS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


version_info, build = load("version_info"), load("build_windows")


def test_version_resource_is_the_projects() -> None:
    kept = (WINDOWS / "version_info.txt").read_text("utf-8")
    assert kept == version_info.text(), "run packaging/windows/version_info.py"
    assert f"StringStruct('FileVersion', '{VERSION}')" in kept
    compile(kept, "version_info.txt", "eval")


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("0.1.0", (0, 1, 0, 0)), ("1.2", (1, 2, 0, 0)), ("3.4.5rc1", (3, 4, 5, 0))],
)
def test_versions_become_four_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert version_info.four(version) == numbers


@pytest.mark.parametrize("version", ["", "next", "1.2.3.4", "70000.0.0"])
def test_what_windows_cannot_show_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="no version"):
        version_info.four(version)


def test_manifest_asks_for_long_paths_and_sharp_screens() -> None:
    tree = ElementTree.parse(WINDOWS / "framedeck.manifest")
    said = {item.tag.split("}")[1]: (item.text or "") for item in tree.iter()}
    assert said["longPathAware"] == "true"
    assert said["dpiAwareness"] == "PerMonitorV2"
    levels = [item.get("level") for item in tree.iter() if item.tag.endswith("ExecutionLevel")]
    assert levels == ["asInvoker"]
    systems = [item.get("Id") for item in tree.iter() if item.tag.endswith("supportedOS")]
    assert systems == ["{8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a}"]


def test_spec_takes_resource_and_manifest_and_packs_nothing() -> None:
    spec = (ROOT / "packaging" / "framedeck.spec").read_text("utf-8")
    for name in ("version_info.txt", "framedeck.manifest", "framedeck.ico"):
        assert name in spec
    assert "upx=True" not in spec
    assert "COLLECT(" in spec  # a folder, no file that unpacks itself at every start


def test_installer_stays_with_the_user() -> None:
    assert "RequestExecutionLevel user" in SCRIPT
    assert not re.search(r"HKLM|HKCR|HKEY_LOCAL|SetShellVarContext all|PROGRAMFILES", SCRIPT)
    assert not re.search(r"[\"'\s](/[a-z]+/[a-z]+|[A-Za-z]:\\)", SCRIPT), "a path of one machine"


def test_installer_removes_folders_of_ours_only() -> None:
    whole = re.findall(r"RMDir /r \"(.+?)\"", SCRIPT)
    assert sorted(set(whole)) == [
        "$R0\\$R2__pycache__", "${DATA}", "${DATA}\\app", "${DATA}\\engine",
    ]  # fmt: skip
    assert '!define DATA "$LOCALAPPDATA\\framedeck"' in SCRIPT
    # All of the data goes in one section only, and that one is off unless asked for.
    removing = re.search(r"Section /o \"un\.[^\n]+ UnData\n(.*?)SectionEnd", SCRIPT, re.DOTALL)
    assert removing is not None
    assert SCRIPT.count('RMDir /r "${DATA}"') == removing[1].count('RMDir /r "${DATA}"') == 1


def test_every_key_that_is_written_is_removed() -> None:
    written = re.findall(r"WriteReg\w+ HKCU \"([^\"]+)\" \"([^\"]*)\"", SCRIPT)
    removed = re.findall(r"DeleteRegKey HKCU \"([^\"]+)\"", SCRIPT)
    values = re.findall(r"DeleteRegValue HKCU \"([^\"]+)\" \"([^\"]+)\"", SCRIPT)
    assert len(written) > 12
    for key, name in written:
        below = any(key == gone or key.startswith(gone + "\\") for gone in removed)
        assert below or (key, name) in values, key
    for needed in ("DisplayName", "DisplayVersion", "DisplayIcon", "EstimatedSize",
                   "UninstallString", "QuietUninstallString", "InstallLocation"):  # fmt: skip
        assert ("${ENTRY}", needed) in written


def test_every_message_has_a_silent_answer() -> None:
    boxes = re.findall(r"MessageBox (?:[^\n]*\\\n)*[^\n]*", SCRIPT)
    assert len(boxes) == SCRIPT.count("MessageBox ") >= 3
    assert all("/SD ID" in box for box in boxes)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "a bundle"
    (folder / "_internal" / "source" / "ä").mkdir(parents=True)
    for name in ("framedeck.exe", "framedeck-cli.exe", "_internal/version.txt",
                 "_internal/source/ä/ö.py"):  # fmt: skip
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def test_list_names_all_files_then_the_deepest_folders(bundle: Path, tmp_path: Path) -> None:
    before = sorted(bundle.rglob("*"))
    data = build.write_list(bundle, tmp_path / "names.txt").read_bytes()
    assert sorted(bundle.rglob("*")) == before, "updates refuse what its own list does not name"
    lines = data.decode("utf-16").split("\r\n")
    assert data[:2] == b"\xff\xfe"
    assert lines.pop() == ""
    assert lines == [
        "_internal\\source\\ä\\ö.py", "_internal\\version.txt", "framedeck-cli.exe",
        "framedeck.exe", "_internal\\source\\ä\\", "_internal\\source\\", "_internal\\",
    ]  # fmt: skip


def test_installer_of_a_small_bundle(bundle: Path, tmp_path: Path) -> None:
    """Makes one where makensis is; elsewhere what it would be told is looked at."""
    icon = tmp_path / "an icon.ico"
    icon.write_bytes(_icon())
    output = tmp_path / "framedeck-setup.exe"
    if shutil.which("makensis") is None:
        command = build.nsis_command("makensis", bundle, tmp_path / "names.txt", icon, output)
        given = {part[2:].partition("=")[0] for part in command if part.startswith("-D")}
        assert given >= set(
            re.findall(r"\$\{(BUNDLE|LIST|VERSION4?|SIZE_KB|OUTPUT|ICON)\}", SCRIPT)
        )
        assert "-WX" in command
        with pytest.raises(build.BuildError, match="makensis is not there"):
            build.installer(bundle, output, icon)
        return
    assert build.installer(bundle, output, icon) == output
    made = output.read_bytes()
    assert made[:2] == b"MZ"
    for words in ("longPathAware", "requestedExecutionLevel"):
        assert words.encode() in made
    assert f"{VERSION}".encode("utf-16-le") in made


def _icon() -> bytes:
    """Return an icon of 16 × 16 black dots."""
    picture = (40).to_bytes(4, "little") + (16).to_bytes(4, "little") + (32).to_bytes(4, "little")
    picture += b"\1\0\x20\0" + bytes(24) + bytes(16 * 16 * 4) + bytes(64)
    entry = b"\x10\x10\0\0\1\0\x20\0" + len(picture).to_bytes(4, "little") + b"\x16\0\0\0"
    return b"\0\0\1\0\1\0" + entry + picture


def test_build_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["--bundle", str(tmp_path), "--dist", str(tmp_path)]) == 1
    assert "framedeck.exe is not there" in capsys.readouterr().err


def steps() -> list[str]:
    """Return the shell lines of the workflow."""
    return re.findall(r"^\s+(?:- run|run): (?!\|)(.+)$", WORKFLOW, re.MULTILINE) + [
        line.strip()
        for block in re.findall(r"run: \|\n((?:\s{10,}.+\n|\n)+)", WORKFLOW)
        for line in block.splitlines()
        if line.strip()
    ]


def test_workflow_names_only_files_that_are_there() -> None:
    named = set(re.findall(r"(?<![\w/])(?:packaging|app|core|tests)/[\w./-]+\.\w+", WORKFLOW))
    assert {"packaging/build.py", "packaging/check_sbom.py"} <= named
    missing = {name for name in named if not (ROOT / name).exists()}
    assert not missing, missing


def test_workflow_gives_the_scripts_arguments_that_they_know() -> None:
    asked = [line for line in steps() if re.search(r"packaging/[\w/]+\.py", line)]
    assert sum("packaging/build.py" in line for line in asked) == 2, "one build for both systems"
    for line in asked:
        words = shlex.split(line.partition(" > ")[0].partition("|")[0])
        options = [word for word in words[2:] if word.startswith("--")]
        helped = subprocess.run(
            [sys.executable, str(ROOT / words[1]), "--help"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert all(option in helped for option in options), line


def test_workflow_looks_at_nothing_whose_answer_it_lets_pass() -> None:
    """PowerShell prints what Test-Path finds and goes on: False fails no step."""
    lines = [line for line in steps() if "Test-Path" in line]
    assert len(lines) >= 3
    for line in lines:
        assert re.match(r"if \(|foreach |\$found = ", line), line


def test_workflow_pins_actions_and_no_checksum_is_made_up() -> None:
    uses = re.findall(r"uses: (\S+)", WORKFLOW)
    assert len(uses) >= 4
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", use) for use in uses), uses
    assert not re.search(r"[0-9a-f]{64}", WORKFLOW)
    assert "vars.APPIMAGETOOL_SHA256" in WORKFLOW


def test_no_console_comes_up_on_windows_and_nothing_changes_elsewhere() -> None:
    assert consoles.no_console("win32") == {"creationflags": 0x08000000}
    assert consoles.no_console("linux") == {}
    done = subprocess.run([sys.executable, "-c", ""], check=False, **consoles.no_console())
    assert done.returncode == 0


def test_file_that_is_looked_at_is_replaced_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, path = tmp_path / "new", tmp_path / "kept"
    part.write_text("new", "utf-8")
    path.write_text("old", "utf-8")
    replace, refusals = os.replace, [PermissionError(13, "in use")] * 2

    def busy(source: Path, target: Path) -> None:
        if refusals:
            raise refusals.pop()
        replace(source, target)

    monkeypatch.setattr(Path, "replace", busy)
    with pytest.raises(PermissionError):
        whole_files._put(part, path, "linux")
    whole_files._put(part, path, "win32")
    assert path.read_text("utf-8") == "new"
    part.write_text("newer", "utf-8")
    refusals.extend([PermissionError(13, "in use")] * 9)
    with pytest.raises(PermissionError):
        whole_files._put(part, path, "win32")
    assert path.read_text("utf-8") == "new"

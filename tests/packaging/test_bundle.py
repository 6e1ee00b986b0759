"""What the bundle carries and leaves out, and the steps that build it, without PyInstaller."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from app import frozen as start
from app.main import COMMANDS
from core.frozen import OWN_MODULES

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
PACKAGED = """
import json, sys
sys.frozen, sys._MEIPASS = True, sys.argv[2]
for name in json.loads(sys.argv[1]):
    sys.modules[name] = None
from app.main import main
sys.exit(main(sys.argv[3:]))
"""
"""A start as the packaged program has it, without the parts that only the engine carries."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_leaves_out_what_the_window_may_not_name(scripts: dict[str, ModuleType]) -> None:
    rules = scripts["bundle_rules"]
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    window = next(one for one in contracts if "names no torch" in one["name"])
    banned = PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"]
    assert {*window["forbidden_modules"], *banned} <= set(rules.EXCLUDES)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_tells_of_itself_before_there_is_an_engine(
    scripts: dict[str, ModuleType], tmp_path: Path, command: str
) -> None:
    """As the manual says; with nothing to import but what the bundle carries."""
    left_out = [name for name in scripts["bundle_rules"].EXCLUDES if not name.startswith("PySide6")]
    assert "torch" in left_out
    done = subprocess.run(
        [sys.executable, "-c", PACKAGED, json.dumps(left_out), str(ROOT), command, "--help"],
        cwd=ROOT, env={**os.environ, "FRAMEDECK_HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: framedeck {command} ")


def test_carries_every_package_that_the_window_needs(scripts: dict[str, ModuleType]) -> None:
    excluded = {name.lower() for name in scripts["bundle_rules"].EXCLUDES}
    for line in PROJECT["project"]["dependencies"]:
        name = re.split(r"[<>=;\[ ]", line)[0].replace("-", "_").lower()
        assert name not in excluded


def test_every_own_module_is_named(scripts: dict[str, ModuleType]) -> None:
    """Also those that are imported late, within functions, wherever they stand."""
    named = set(scripts["bundle_rules"].own_modules(ROOT))
    pattern = re.compile(r"^\s*from ((?:app|core|widgets|resources)[\w.]*) import (\w+)", re.M)
    wanted = set()
    for package in ("app", "core", "widgets"):
        for path in (ROOT / package).rglob("*.py"):
            for module, member in pattern.findall(path.read_text("utf-8")):
                wanted.add(module)
                if (ROOT / Path(*module.split(".")) / f"{member}.py").is_file():
                    wanted.add(f"{module}.{member}")
    assert len(wanted) > 200
    assert wanted <= named
    for name in OWN_MODULES:
        assert {name, f"{name}.__main__"} & named


def test_the_engines_plain_files_hold_all_it_imports(scripts: dict[str, ModuleType]) -> None:
    files = {path for path, _ in scripts["bundle_rules"].source_files(ROOT)}
    assert ROOT / "core" / "engines" / "local" / "worker.py" in files
    assert ROOT / "app" / "__init__.py" in files
    assert not [path for path in files if "widgets" in path.relative_to(ROOT).parts[:1]]
    assert not [path for path in files if path.suffix == ".pyc"]


@pytest.mark.parametrize(
    "name",
    [
        "PySide6/Qt/plugins/platforms/libqxcb.so",
        "PySide6/Qt/plugins/platforms/libqwayland.so",
        "PySide6/Qt/plugins/platforms/libqoffscreen.so",
        "PySide6/plugins/platforms/qwindows.dll",
        "PySide6/Qt/plugins/imageformats/libqsvg.so",
        "PySide6/Qt/plugins/iconengines/libqsvgicon.so",
        "PySide6/Qt/plugins/tls/libqopensslbackend.so",
        "PySide6/Qt/plugins/xcbglintegrations/libqxcb-glx-integration.so",
        "PySide6/Qt/plugins/wayland-shell-integration/libxdg-shell.so",
        "PySide6/Qt/lib/libQt6Network.so.6",
        "PySide6/Qt/lib/libQt6Svg.so.6",
        "PySide6/Qt/lib/libQt6OpenGL.so.6",
        "PySide6/Qt/lib/libQt6WaylandClient.so.6",
        "libX11.so.6",
        "libglib-2.0.so.0",
        "libxkbcommon.so.0",
        "libmd4c.so.0",
        "av.libs/libXau-1.so.6",
        "numpy/_core/_multiarray_umath.cpython-311-x86_64-linux-gnu.so",
        "source/core/engines/local/worker.py",
        "source/resources/icons/framedeck.svg",
        "certifi/cacert.pem",
        "uv",
    ],
)
def test_keeps_what_the_window_needs(scripts: dict[str, ModuleType], name: str) -> None:
    assert not scripts["bundle_rules"].dropped(name)


@pytest.mark.parametrize(
    "name",
    [
        "PySide6/Qt/lib/libQt6Quick.so.6",
        "PySide6\\Qt6Qml.dll",
        "PySide6/Qt/translations/qtbase_de.qm",
        "PySide6/Qt/plugins/platformthemes/libqgtk3.so",
        "PySide6/Qt/plugins/platforms/libqeglfs.so",
        "PySide6/opengl32sw.dll",
        "libgtk-3.so.0",
        "libcairo.so.2",
        "libmvec.so.1",
        "pyqtgraph/examples/Plotting.py",
        "numpy/_core/tests/test_umath.py",
    ],
)
def test_drops_what_no_window_uses(scripts: dict[str, ModuleType], name: str) -> None:
    assert scripts["bundle_rules"].dropped(name)


@pytest.mark.parametrize("name", ["os", "app.main", "core.engines.local.worker", ""])
def test_runs_no_module_but_ours(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert start.main(["--run-module", *([name] if name else [])]) == 2
    said = capsys.readouterr().err
    assert (name or "nothing") in said
    assert all(one in said for one in OWN_MODULES)


def test_the_build_installs_what_pyproject_names(scripts: dict[str, ModuleType]) -> None:
    plain = [
        line.split("#")[0].strip()
        for line in (PACKAGING / "build-requirements.in").read_text("utf-8").splitlines()
    ]
    for line in PROJECT["project"]["dependencies"]:
        wanted = line.partition(";")[0].strip()
        if wanted.startswith("pyside6") and ">= '3.12'" in line:
            continue  # Bundles are built from what an older Python can run as well.
        assert wanted in plain, "packaging/build-requirements.in is not like pyproject.toml"


def test_the_lock_names_a_hash_for_each_package(scripts: dict[str, ModuleType]) -> None:
    text = (PACKAGING / "build-requirements.txt").read_text("utf-8")
    blocks = re.split(r"\n(?=\S)", text.strip())
    names = [block.split("==")[0] for block in blocks]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert not {"torch", "diffusers", "transformers", "pyside6", "pyside6-addons"} & set(names)
    wanted = re.findall(
        r"^([\w-]+)", (PACKAGING / "build-requirements.in").read_text("utf-8"), re.M
    )
    assert {name for name in wanted if not name.startswith("#")} <= set(names)
    qt = next(block for block in blocks if block.startswith("pyside6-essentials"))
    assert tuple(map(int, re.findall(r"==(\d+)\.(\d+)", qt)[0])) < (6, 12)


def test_lists_dates_and_sums_up(scripts: dict[str, ModuleType], made: object) -> None:
    build = scripts["build"]
    build.run_steps(made, ["list"])
    listed = json.loads((made.bundle / "_internal" / "files.json").read_text("utf-8"))
    assert set(listed["files"]) == {"framedeck", "_internal/version.txt"}
    assert (made.bundle / "framedeck").stat().st_mode & 0o777 == 0o755
    dates = {path.stat().st_mtime for path in made.bundle.rglob("*") if not path.is_symlink()}
    assert dates == {made.date}
    made.output.mkdir()
    for name in ("b.deb", "a.run"):
        (made.output / name).write_bytes(name.encode())
    build.run_steps(made, ["sums"])
    assert build.sums_of(made.output) == {
        name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.run", "b.deb")
    }
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=made.output, capture_output=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("prepare", "step environment"),
        ("bundle", "step prepare"),
        ("packages", "step list"),
        ("sbom", "step bundle"),
        ("sums", "step packages"),
    ],
)
def test_a_step_names_the_one_it_misses(
    scripts: dict[str, ModuleType], made: object, step: str, says: str
) -> None:
    made.output.mkdir()
    with pytest.raises((scripts["build"].BuildError, ValueError), match=says):
        scripts["build"].run_steps(made, [step])


def test_what_changes_the_bundle_takes_its_list_away(
    scripts: dict[str, ModuleType], made: object
) -> None:
    scripts["build"].run_steps(made, ["list", "slim"])
    listed = made.bundle / "_internal" / "files.json"
    assert listed.is_file(), "in their order, whatever the order they are named in"
    scripts["build"].run_steps(made, ["slim"])
    assert not listed.exists()


def test_sums_name_no_file_elsewhere(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    digest = "0" * 64
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  ../../home\n{digest}  a.deb\n", "utf-8")
    assert scripts["build"].sums_of(tmp_path) == {"a.deb": digest}


def test_the_date_of_the_source(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = scripts["build"]
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert build.source_date(tmp_path) == scripts["facts"].UNDATED
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234")
    assert build.source_date(tmp_path) == 1234
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(build.BuildError, match="seconds since 1970"):
        build.source_date(tmp_path)


def test_a_failing_program_is_told_with_its_last_words(
    scripts: dict[str, ModuleType], made: object
) -> None:
    code = "print('first'); print('why it broke'); raise SystemExit(3)"
    with pytest.raises(scripts["build"].BuildError, match=r"exit code 3\)\.\n(.*\n)*why it broke"):
        scripts["build"].run(made, [sys.executable, "-c", code], what="A step")


def test_builds_know_nothing_of_their_surroundings(
    scripts: dict[str, ModuleType], made: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    given = made.environment()
    assert "/elsewhere" not in given.values()
    assert given["SOURCE_DATE_EPOCH"] == str(made.date)
    assert given["PYTHONHASHSEED"] == "0"


def test_parts_are_told_from_where_their_files_came(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    site = tmp_path / "site-packages"
    python = scripts["carried"].Environment((site,), "3.11.7", tmp_path / "base")
    for name, licence in (("thing", "MIT"), ("unused", "MIT"), ("uv", "MIT OR Apache-2.0")):
        info = site / f"{name}-1.0.dist-info"
        (info / "licenses").mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\nLicense-Expression: {licence}\n"
        )
        (info / "licenses" / "LICENSE").write_text(f"licence of {name}")
        (site / f"{name}.py").write_text("")
        record = f"{name}.py,,\n{info.name}/licenses/LICENSE,,\n{info.name}/METADATA,,\n"
        (info / "RECORD").write_text(record)
    listed = tmp_path / "carried.json"
    listed.write_text(json.dumps({"files": [], "modules": [str(site / "thing.py")]}))
    carried = scripts["carried"].Carried.read(listed, python)
    assert [part.name for part in carried.distributions] == ["thing", "uv"]
    folder = tmp_path / "licenses"
    assert scripts["notices"].write(folder, carried, ROOT) == 3
    told = (folder / "THIRD-PARTY.md").read_text("utf-8")
    assert "thing 1.0" in told
    assert "unused" not in told
    assert all(word in told for word in ("FFmpeg", "x264", "x265", "PySide6"))
    assert (folder / "thing" / "licenses-LICENSE").read_text() == "licence of thing"
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    bills = [tmp_path / name for name in ("one.json", "two.json")]
    for bill in bills:
        scripts["sbom"].write(bill, carried, version="1.2.3", date=1_700_000_000)
    assert bills[0].read_bytes() == bills[1].read_bytes()
    bill = json.loads(bills[0].read_text("utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert {part["purl"] for part in bill["components"]} >= {
        "pkg:pypi/thing@1.0",
        "pkg:pypi/uv@1.0",
    }
    references = [part["bom-ref"] for part in bill["components"]]
    assert len(set(references)) == len(references)


def test_two_builds_are_compared_file_by_file(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "same").write_text("same")
        (folder / "changed").write_bytes(b"abcd")
        (folder / "mode").write_text("m")
        (folder / "link").symlink_to("same")
    assert scripts["check_reproducible"].differences(one, other) == []
    (other / "changed").write_bytes(b"abxd")
    (other / "mode").chmod(0o755)
    (one / "more").write_text("")
    (other / "link").unlink()
    (other / "link").symlink_to("mode")
    found = dict(
        line.split(": ", 1) for line in scripts["check_reproducible"].differences(one, other)
    )
    assert set(found) == {"changed", "mode", "more", "link"}
    assert "1 of 4 bytes, from byte 2 on" in found["changed"]


@pytest.mark.skipif(sys.platform != "linux", reason="strips ELF files")
def test_strips_our_libraries_alone(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    import _ctypes

    inside = tmp_path / "_internal"
    library = Path(_ctypes.__file__).read_bytes()
    for place in ("lib-dynload/a.so", "av.libs/b.so", "PySide6/c.so"):
        (inside / place).parent.mkdir(parents=True, exist_ok=True)
        (inside / place).write_bytes(library)
    (inside / "text.so").write_text("no library")
    (tmp_path / "framedeck").write_bytes(library)
    named = [path.relative_to(inside).as_posix() for path in scripts["slim"].libraries(tmp_path)]
    assert named == ["lib-dynload/a.so"]
    scripts["slim"].slim(tmp_path)
    assert (tmp_path / "framedeck").read_bytes() == library
    assert (inside / "av.libs" / "b.so").read_bytes() == library
    once = (inside / "lib-dynload" / "a.so").read_bytes()
    assert scripts["slim"].slim(tmp_path) == 0, "the second time nothing is left to take"
    assert (inside / "lib-dynload" / "a.so").read_bytes() == once


@pytest.mark.skipif(sys.platform != "linux", reason="makes ELF files")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("tag", ["--enable-new-dtags", "--disable-new-dtags"])
@pytest.mark.parametrize(
    ("folder", "goes"), [("/home/builder/.made/lib", True), ("$ORIGIN/../libs", False)]
)
def test_forgets_the_folders_of_the_machine_that_builds(
    scripts: dict[str, ModuleType], tmp_path: Path, folder: str, goes: bool, tag: str
) -> None:
    made = tmp_path / "a.so"
    library(made, folder, tag)
    assert folder.encode() in made.read_bytes()
    assert scripts["slim"].forget_folders(made) is goes
    assert (folder.encode() in made.read_bytes()) is not goes
    assert (b"builder" in made.read_bytes()) is False
    once = made.read_bytes()
    assert scripts["slim"].forget_folders(made) is False
    assert made.read_bytes() == once
    said = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).lib())"
    done = subprocess.run([sys.executable, "-c", said, str(made)], capture_output=True, text=True)
    assert done.stdout == "7\n", done.stderr


def library(path: Path, folder: str, tag: str) -> None:
    """Make a library that names a folder; its one function is called as that folder ends."""
    source = path.with_suffix(".c")
    source.write_text("#include <math.h>\nint lib(void) { return (int)cbrt(343.5); }\n")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-fno-builtin", "-o", str(path), str(source), "-lm",
         f"-Wl,{tag},-rpath,{folder}"], check=True,
    )  # fmt: skip


def test_no_other_file_is_taken_for_a_library(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    other = tmp_path / "a.so"
    other.write_bytes(b"MZ" + bytes(200))
    assert scripts["slim"].forget_folders(other) is False
    assert other.read_bytes() == b"MZ" + bytes(200)

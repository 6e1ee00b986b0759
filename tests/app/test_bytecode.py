"""What the engine's Python compiles of our files is kept, of ours alone and for us alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app import bytecode_folder
from core.bytecode import VARIABLE

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners and modes of POSIX")
ROOT = Path(__file__).resolve().parents[2]
_SAY = """
import sys
import core.units
sys.path.append("../theirs")
import other
print(core.units.__file__)
"""
_COMPILED = """
from importlib.machinery import SourceFileLoader
first = SourceFileLoader.source_to_code
def compiled(self, *given, **more):
    print(self.name)
    return first(self, *given, **more)
SourceFileLoader.source_to_code = compiled
import core.units
"""


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make what is needed of a packaged program; return the folder with our plain files."""
    inside = tmp_path / "usr" / "_internal"
    source = inside / "source"
    shutil.copytree(ROOT / "core", source / "core", ignore=shutil.ignore_patterns("__pycache__"))
    (inside / "theirs").mkdir()
    (inside / "theirs" / "other.py").write_text("")
    (inside / "version.txt").write_text("1.2.3\n")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(inside), raising=False)
    monkeypatch.setenv("FRAMEDECK_HOME", str(tmp_path / "home ü"))
    monkeypatch.setenv(VARIABLE, "/nowhere")
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    return source


def worker(source: Path, code: str = _SAY) -> str:
    """Run a Python as a worker is run, whatever this one is allowed to write."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return done.stdout


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_second_start_uses_what_the_first_compiled(bundle: Path, tmp_path: Path) -> None:
    bytecode_folder.offer([])
    folder = tmp_path / "home ü" / "cache" / "bytecode" / "1.2.3"
    assert os.environ[VARIABLE] == str(folder)
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    worker(bundle)
    found = kept(folder)
    assert {path.name.split(".")[0] for path in found} >= {"units"}
    assert all(path.parts[-3] == "core" for path in found)  # None of the system's own.
    assert [path.name[:6] for path in bundle.parent.glob("theirs/*/*")] == ["other."]
    pycache = [path.name for path in bundle.rglob("*.pyc")]
    assert {name.split(".")[0] for name in pycache} <= {"__init__", "bytecode"}
    dates = {path: path.stat().st_mtime_ns for path in found}
    assert set(worker(bundle, _COMPILED).split()) <= {"core", "core.bytecode"}
    assert dates == {path: path.stat().st_mtime_ns for path in kept(folder)}


def test_another_source_of_the_same_date_and_size_is_run_and_not_the_old_one(bundle: Path) -> None:
    bytecode_folder.offer([])
    module = bundle / "core" / "probe.py"
    ask = "import core.probe; print(core.probe.A)"
    for answer in ("1", "2"):
        module.write_text(f"A = {answer}\n")
        os.utime(module, (1, 1))
        assert worker(bundle, ask).strip() == answer


def test_a_damaged_or_unwritable_cache_costs_nothing(bundle: Path) -> None:
    bytecode_folder.offer([])
    folder = Path(os.environ[VARIABLE])
    worker(bundle)
    for path in kept(folder):
        path.write_bytes(path.read_bytes()[:20])
    name = worker(bundle).strip()
    assert name == str(bundle / "core" / "units.py")
    shutil.rmtree(folder)
    folder.write_text("a file in its place")
    assert worker(bundle).strip() == name


def test_only_the_folder_of_this_version_stays(bundle: Path, tmp_path: Path) -> None:
    cache = tmp_path / "home ü" / "cache" / "bytecode"
    (cache / "0.9" / "core").mkdir(parents=True)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter").write_text("")
    (cache / "link").symlink_to(mine)
    bytecode_folder.offer([])
    assert [item.name for item in cache.iterdir()] == ["1.2.3"]
    assert (mine / "letter").exists()


@pytest.mark.parametrize("mode", [0o775, 0o707, 0o777])
@pytest.mark.parametrize(
    "place", ["home ü/cache/bytecode/1.2.3", "home ü/cache/bytecode", "home ü"]
)
def test_a_folder_that_others_can_write_is_not_used(
    bundle: Path, tmp_path: Path, mode: int, place: str
) -> None:
    bytecode_folder.offer([])
    assert VARIABLE in os.environ
    (tmp_path / place).chmod(mode)
    bytecode_folder.offer([])
    assert VARIABLE not in os.environ
    shutil.rmtree(tmp_path / "home ü" / "cache" / "bytecode" / "1.2.3")
    if place.endswith("1.2.3"):
        return
    bytecode_folder.offer([])  # Nor is anything made there.
    assert VARIABLE not in os.environ
    assert not (tmp_path / "home ü" / "cache" / "bytecode" / "1.2.3").exists()


def test_a_home_that_is_made_for_everybody_has_none(bundle: Path) -> None:
    before = os.umask(0)
    try:
        bytecode_folder.offer([])
    finally:
        os.umask(before)
    assert VARIABLE not in os.environ


def test_a_folder_of_somebody_else_is_not_used(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytecode_folder.offer([])
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    bytecode_folder.offer([])
    assert VARIABLE not in os.environ


def test_home_of_the_command_goes_first_and_a_checkout_has_none(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytecode_folder.offer(["engine", "status", "--home", str(tmp_path / "other")])
    assert os.environ[VARIABLE] == str(tmp_path / "other" / "cache" / "bytecode" / "1.2.3")
    (tmp_path / "file").write_text("")
    bytecode_folder.offer([f"--home={tmp_path / 'file'}"])
    assert VARIABLE not in os.environ
    monkeypatch.delattr(sys, "frozen")
    bytecode_folder.offer([])
    assert VARIABLE not in os.environ


def test_every_child_of_the_engines_python_gets_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.engines.local.process import worker_environment

    bytecode_folder.offer([])
    assert worker_environment()[VARIABLE] == os.environ[VARIABLE]

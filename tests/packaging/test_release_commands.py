"""The commands of a release that the README names, as a person types them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from core.updates import manifest as lists

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"


def ran(name: str, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PACKAGING / name, *map(str, words)],
        env={**os.environ, **more}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "framedeck"
    (folder / "_internal").mkdir(parents=True)
    (folder / "framedeck").write_text("#!/bin/sh\n")
    (folder / "framedeck").chmod(0o755)
    (folder / "_internal" / "version.txt").write_text("0.2.0")
    return folder


def test_an_update_is_listed_packed_and_signed_so_that_it_counts(
    bundle: Path, tmp_path: Path
) -> None:
    listed = ran("file_list.py", bundle, "0.2.0")
    assert listed.returncode == 0, listed.stderr
    named = json.loads(Path(listed.stdout.strip()).read_text("utf-8"))
    assert named["version"] == "0.2.0"
    assert "framedeck" in named["files"]

    key, dist, notes = tmp_path / "update.key", tmp_path / "dist", tmp_path / "notes.txt"
    dist.mkdir()
    notes.write_text("What is new.")
    line = json.loads(ran("sign_update.py", "key", key).stdout)
    assert json.loads(ran("sign_update.py", "public", key).stdout) == line
    if os.name == "posix":
        assert key.stat().st_mode & 0o077 == 0
    packed = ran(
        "sign_update.py", "pack", bundle, dist, "--version", "0.2.0", "--platform", "linux-x86_64"
    )
    assert packed.returncode == 0, packed.stderr
    (entry,) = dist.glob("*.tar.xz.json")
    signed = ran(
        "sign_update.py", "manifest", dist, "--key", key, "--version", "0.2.0",
        "--sequence", "7", "--notes", notes, entry,
    )  # fmt: skip
    assert signed.returncode == 0, signed.stderr
    data, mark = (dist / name for name in ("manifest.json", "manifest.json.sig"))
    trusted = {line["id"]: base64.b64decode(line["public"])}
    found = lists.read_signed(data.read_bytes(), mark.read_bytes(), trusted)
    assert (found.version, found.sequence) == ("0.2.0", 7)
    archive = entry.with_suffix("")
    assert [one.sha256 for one in found.artefacts] == [
        hashlib.sha256(archive.read_bytes()).hexdigest()
    ]


def test_what_a_release_cannot_be_made_of_is_told(tmp_path: Path) -> None:
    for name, words in (
        ("file_list.py", (tmp_path / "none", "0.2.0")),
        ("sign_update.py", ("public", tmp_path / "none")),
    ):
        done = ran(name, *words)
        assert done.returncode == 1
        assert "made" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder with one wheel, from which pip takes it."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    with zipfile.ZipFile(folder / "thing-1.0-py3-none-any.whl", "w") as wheel:
        facts = "thing-1.0.dist-info"
        wheel.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        wheel.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{facts}/RECORD", "")
    return folder


def test_wheels_are_fetched_for_a_machine_without_a_network(shelf: Path, tmp_path: Path) -> None:
    (made,) = shelf.iterdir()
    lock, wheels = tmp_path / "pylock.toml", tmp_path / "wheels"
    text = (
        '[[packages]]\nname = "thing"\nversion = "1.0"\n'
        f"wheels = [{{name = '{made.name}', hashes = {{sha256 = 'DIGEST'}}}}]\n"
        '[[packages]]\nname = "other"\nversion = "2"\n'
        "marker = \"python_version == '2.7'\"\nwheels = []\n"
    )
    lock.write_text(text.replace("DIGEST", hashlib.sha256(made.read_bytes()).hexdigest()))
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf)}
    done = ran("fetch_wheels.py", lock, wheels, **pip)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"1 wheels in {wheels}\n"
    assert [path.name for path in wheels.iterdir()] == [made.name]
    # What is there is not fetched again; what is not as in the lock is named.
    assert ran("fetch_wheels.py", lock, wheels, PIP_NO_INDEX="1").returncode == 0
    lock.write_text(text.replace("DIGEST", "0" * 64))
    done = ran("fetch_wheels.py", lock, wheels, **pip)
    assert done.returncode == 1
    assert "thing==1.0" in done.stderr

"""What the frozen program hands on to others, and what a checkout leaves as it is."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from core import frozen

ROOT = Path(__file__).resolve().parents[2]


def test_a_checkout_is_its_own_bundle() -> None:
    assert not frozen.is_frozen()
    assert frozen.worker_source() == frozen.bundle() == ROOT
    assert (frozen.worker_source() / "core" / "engines" / "local" / "__main__.py").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert frozen.version() == project["project"]["version"]
    assert frozen.own_module("core.engines.comfy.standin", "--port", "0") == [
        sys.executable, "-m", "core.engines.comfy.standin", "--port", "0",
    ]  # fmt: skip
    given = {"LD_LIBRARY_PATH": "/a", "PYTHONPATH": "/b", "HOME": "/c"}
    assert frozen.clean_environment(given) == given
    with pytest.raises(ValueError, match="os"):
        frozen.own_module("os")


def test_a_bundle_keeps_its_libraries_to_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "framedeck"
    inside = tmp_path / "_internal"
    inside.mkdir()
    (inside / "version.txt").write_text("1.2.3\n")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(inside), raising=False)
    monkeypatch.setattr(sys, "executable", str(program))
    assert frozen.version() == "1.2.3"
    assert frozen.worker_source() == inside / "source"
    assert frozen.uv() is None
    (inside / "uv").write_text("")
    assert frozen.uv() == inside / "uv"
    assert frozen.own_module("core.engines.comfy.standin")[:2] == [str(program), "--run-module"]
    given = {
        "HOME": "/c", "LD_LIBRARY_PATH": str(inside), "LD_LIBRARY_PATH_ORIG": "/theirs",
        "PYTHONPATH": str(inside), "_PYI_ARCHIVE_FILE": str(program), "_MEIPASS2": str(inside),
        "SSL_CERT_FILE": str(inside / "cacert.pem"), "SSL_CERT_DIR": "/etc/ssl/certs",
        "QT_PLUGIN_PATH": str(inside),
    }  # fmt: skip
    assert frozen.clean_environment(given) == {
        "HOME": "/c", "LD_LIBRARY_PATH": "/theirs", "SSL_CERT_DIR": "/etc/ssl/certs",
    }  # fmt: skip
    assert "LD_LIBRARY_PATH" not in frozen.clean_environment({"LD_LIBRARY_PATH": str(inside)})

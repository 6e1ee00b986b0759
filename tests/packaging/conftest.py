"""The scripts of packaging/ as they import one another, and a build that is a few files."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
NAMES = ("bundle_rules", "folders", "facts", "carried", "notices", "sbom", "slim", "file_list",
         "sign_update", "build", "check_reproducible", "check_sbom", "clean_debian")  # fmt: skip


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    """The scripts by their names, without leaving their folder on the path."""
    before = set(sys.modules)
    sys.path.insert(0, str(PACKAGING))
    try:
        found = {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path[:] = [entry for entry in sys.path if entry != str(PACKAGING)]
        for name in set(sys.modules) - before:
            if name in NAMES:
                del sys.modules[name]
    return found


@pytest.fixture
def made(scripts: dict[str, ModuleType], tmp_path: Path) -> object:
    """A build whose bundle is a few made-up files."""
    build = scripts["build"].Build(
        root=ROOT, work=tmp_path / "work", output=tmp_path / "dist", version="1.2.3",
        system="linux-x86_64", date=1_700_000_000, quick=True,
    )  # fmt: skip
    inside = build.bundle / "_internal"
    inside.mkdir(parents=True)
    (build.bundle / "framedeck").write_text("#!/bin/sh\n")
    (build.bundle / "framedeck").chmod(0o700)
    (inside / "version.txt").write_text("1.2.3\n")
    (inside / "link").symlink_to("version.txt")
    return build

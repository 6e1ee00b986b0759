"""The list of parts (SBOM): what its schema asks, from packages that say odd things."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / "packaging" / "check_sbom.py"
METADATA = {
    "plain": "License-Expression: MIT\nProject-URL: Homepage, https://example.org/a",
    "Under_Score.dot": "License: Apache 2.0\nHome-page: http://example.org",
    "wordy": "License: GPLv2 with a special exception\nHome-page: https://example.org/ä?x=[1]",
    "silent": "License: UNKNOWN",
    "either": "License-Expression: LGPL-3.0-only OR GPL-2.0-only",
}


@pytest.fixture
def bill(scripts: dict[str, ModuleType], tmp_path: Path) -> Path:
    """A list of all kinds of parts."""
    site = tmp_path / "site-packages"
    for number, (name, said) in enumerate(METADATA.items()):
        info = site / f"{name}-1.{number}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.{number}+cpu\n{said}\n", "utf-8"
        )
        (site / f"{name}.py").write_text("")
        (info / "RECORD").write_text(f"{name}.py,,\n{info.name}/METADATA,,\n")
    carried = scripts["carried"]
    listed = tmp_path / "carried.json"
    modules = [str(path) for path in site.glob("*.py")]
    listed.write_text(json.dumps({"files": [], "modules": modules}))
    python = carried.Environment((site,), "3.11.7", tmp_path)
    found = carried.Carried.read(listed, python)
    found.systems.append(carried.System("libstdc++6", "2:12.2.0-14+deb12u1~x", ("libstdc++.so",)))
    found.inner.append(("plain", "stdc++", ""))
    found.inner.append(("silent", "stdc++", ""))
    found.unknown.append("VCRUNTIME140 (1).dll")
    path = tmp_path / "made.cdx.json"
    assert scripts["sbom"].write(path, found, version="1.2.3rc1+x", date=1_700_000_000) == 10
    return path


def check(*files: Path) -> subprocess.CompletedProcess[str]:
    """Run the check as a person does: what its library warns of is none of ours."""
    return subprocess.run(
        [sys.executable, str(CHECK), *map(str, files)],
        capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip


def test_is_as_the_schema_wants_it(bill: Path) -> None:
    done = check(bill)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok     made.cdx.json: 10 parts" in done.stdout


CHANGES: dict[str, dict[str, object]] = {
    "specVersion is '9'": {"specVersion": "9"},
    "surplus": {"surplus": 1},
    "serialNumber": {"serialNumber": "7"},
    "date-time": {"metadata": {"timestamp": "yesterday"}},
    "'name' is a required": {"components": [{"type": "library"}]},
    "licenses": {
        "components": [
            {"type": "library", "name": "x", "licenses": [{"license": {"id": "No-Such-One"}}]}
        ]
    },
    "nobody leads nowhere": {"dependencies": [{"ref": "nobody", "dependsOn": []}]},
    "is written pkg:generic/x%2B%2B@1": {
        "components": [{"type": "library", "name": "x", "purl": "pkg:generic/x++@1"}]
    },
}
"""What is said of a list, and what is made wrong in it."""


def test_what_is_wrong_is_named(bill: Path, tmp_path: Path) -> None:
    whole = json.loads(bill.read_text("utf-8"))
    wrong = {tmp_path / f"{number}.json": says for number, says in enumerate(CHANGES)}
    for path, says in wrong.items():
        path.write_text(json.dumps({**whole, **CHANGES[says]}), "utf-8")
    done = check(*wrong)
    assert done.returncode == 1, done.stdout + done.stderr
    for path, says in wrong.items():
        mine = [line for line in done.stdout.splitlines() if f" {path.name}: " in line]
        assert any(says in line for line in mine if line.startswith("FAILED")), (says, mine)


def test_no_json_is_no_list(bill: Path, tmp_path: Path) -> None:
    (tmp_path / "other.cdx.json").write_text("[]")
    done = check(bill, tmp_path / "other.cdx.json", tmp_path / "missing.json")
    assert done.returncode == 1
    assert "FAILED other.cdx.json: no JSON" in done.stdout
    assert "FAILED missing.json" in done.stdout
    assert "ok     made.cdx.json" in done.stdout


def test_without_its_library_nothing_passes(bill: Path) -> None:
    code = "import sys; sys.modules['cyclonedx'] = None; sys.argv[:1] = []\n"
    code += "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(CHECK), str(bill)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Install cyclonedx-python-lib[json-validation]" in done.stderr

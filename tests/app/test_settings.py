"""Settings survive, and what cannot be read is reset alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import Settings, load, save


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    wanted = replace(Settings(), theme="dark", compose={"recipe": "starter"})
    save(path, wanted)
    assert load(path) == (wanted, [])
    assert [item.name for item in tmp_path.iterdir()] == ["settings.json"]


def test_missing_file_gives_defaults(tmp_path: Path) -> None:
    assert load(tmp_path / "none.json") == (Settings(), [])


def test_a_bad_field_is_reset_alone_after_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"version": 1, "theme": "mauve", "loop": False, "later": 1}))
    settings, bad = load(path)
    assert bad == ["theme"]
    assert settings == replace(Settings(), loop=False)
    assert json.loads((tmp_path / "settings.json.bad").read_text())["theme"] == "mauve"


@pytest.mark.parametrize("wanted", [0, 0.0, 3, 2.5, 1000])
def test_a_reserve_is_kept(tmp_path: Path, wanted: float) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"version": 1, "reserve_gb": wanted, "unload_first": "always"}))
    assert load(path) == (replace(Settings(), reserve_gb=wanted, unload_first="always"), [])


@pytest.mark.parametrize("wrong", [-1, 1001, "3", True, None, [3]])
def test_a_reserve_that_makes_no_sense_is_none(tmp_path: Path, wrong: object) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"version": 1, "reserve_gb": wrong, "unload_first": "never"}))
    settings, reset = load(path)
    assert (settings.reserve_gb, settings.unload_first) == (0.0, "ask")
    assert sorted(reset) == ["reserve_gb", "unload_first"]


@given(st.binary(max_size=200))
def test_any_bytes_give_settings(tmp_path_factory: object, data: bytes) -> None:
    path = tmp_path_factory.mktemp("s") / "settings.json"  # type: ignore[attr-defined]
    path.write_bytes(data)
    settings, _ = load(path)
    assert isinstance(settings, Settings)


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: object) -> None:
    path = tmp_path / "settings.json"
    save(path, Settings(theme="light"))

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.whole_files.os.fsync", full)  # type: ignore[attr-defined]
    try:
        save(path, Settings(theme="dark"))
    except OSError as error:
        assert error.errno == 28
    else:
        raise AssertionError("a full disk was not noticed")
    assert load(path)[0].theme == "light"
    assert [item.name for item in tmp_path.iterdir()] == ["settings.json"]


def test_limits_of_what_is_kept_must_be_more_than_nothing(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"readings_days": 0, "readings_gigabytes": -1}))
    settings, bad = load(path)
    assert sorted(bad) == ["readings_days", "readings_gigabytes"]
    assert (settings.readings_days, settings.readings_gigabytes) == (30.0, 2.0)

"""Secrets: in a keyring or in memory, in no file and in no text."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backends import fail, null
from keyring.errors import KeyringLocked

from core.vault import SERVICE, Vault, hidden, system_keyring
from tests.core.keyrings import FileKeyring, MemoryKeyring


def test_a_secret_is_kept_read_once_and_forgotten() -> None:
    ring = MemoryKeyring()
    assert Vault(ring).put("webhook address", "https://x/secret")
    assert ring.kept == {(SERVICE, "webhook address"): "https://x/secret"}
    ring.asked.clear()
    again = Vault(ring)
    assert [again.get("webhook address") for _ in range(5)] == ["https://x/secret"] * 5
    assert again.get("no such") == again.get("no such") == ""
    assert ring.asked == ["webhook address", "no such"], "each is asked for once"
    assert again.put("webhook address", "")
    assert ring.kept == {}
    assert again.put("webhook address", ""), "forgetting twice asks nobody"
    assert again.keeps()
    assert again.why == ""


def test_without_a_keyring_it_is_kept_for_this_run_alone(monkeypatch: Any) -> None:
    monkeypatch.setattr(keyring, "get_keyring", fail.Keyring)
    vault = Vault()
    assert not vault.put("ntfy token", "tk_1")
    assert vault.get("ntfy token") == "tk_1"
    assert not vault.keeps()
    assert "no keyring" in vault.why
    assert Vault().get("ntfy token") == ""


def test_a_locked_keyring_is_told_by_its_kind_alone(caplog: Any) -> None:
    ring = MemoryKeyring()
    ring.error = KeyringLocked("the secret is tk_1")
    vault = Vault(ring)
    with caplog.at_level(logging.INFO):
        assert not vault.put("ntfy token", "tk_1")
        assert vault.get("ntfy token") == "tk_1"
    assert "KeyringLocked" in vault.why
    assert "KeyringLocked" in caplog.text
    assert "tk_1" not in caplog.text + vault.why


@pytest.mark.parametrize("backend", [fail.Keyring, null.Keyring])
def test_backends_that_keep_nothing_are_none(backend: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(keyring, "get_keyring", backend)
    assert system_keyring() is None


def test_one_that_writes_plain_files_is_none(monkeypatch: Any, tmp_path: Path) -> None:
    class Plain(FileKeyring):
        priority = 0.5  # type: ignore[assignment]

    monkeypatch.setenv("FRAMEDECK_TEST_KEYRING", str(tmp_path / "ring"))
    monkeypatch.setattr(keyring, "get_keyring", Plain)
    assert system_keyring() is None
    assert not Vault().put("a", "b")
    assert not (tmp_path / "ring").exists()
    monkeypatch.setattr(keyring, "get_keyring", FileKeyring)
    assert Vault().put("a", "b")
    assert Vault().get("a") == "b"


def test_secrets_are_hidden_in_texts() -> None:
    said = hidden("no token tk_12345 at /hook/tk_12345678", "tk_12345", "tk_12345678", "", "no")
    assert said == "no token … at /hook/…"

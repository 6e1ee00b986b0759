"""Keyrings for tests: none of them is the system's."""

from __future__ import annotations

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend


class MemoryKeyring:
    """Keeps what it is told, and who asked for it; raises `error` when one is set."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.asked: list[str] = []
        self.error: Exception | None = None

    def get_password(self, service: str, username: str) -> str | None:
        self._ask(username)
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._ask(username)
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._ask(username)
        del self.kept[service, username]

    def _ask(self, username: str) -> None:
        self.asked.append(username)
        if self.error is not None:
            raise self.error


class FileKeyring(KeyringBackend):
    """One that processes of a test share: a file that FRAMEDECK_TEST_KEYRING names."""

    priority = 5.0  # type: ignore[assignment]

    @property
    def _path(self) -> Path:
        return Path(os.environ["FRAMEDECK_TEST_KEYRING"])

    def _all(self) -> dict[str, str]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def get_password(self, service: str, username: str) -> str | None:
        return self._all().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._path.write_text(json.dumps(self._all() | {f"{service} {username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        kept = self._all()
        del kept[f"{service} {username}"]
        self._path.write_text(json.dumps(kept))

"""Names and passwords of servers: in the vault, taken out of what older versions wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

# What knows of servers is loaded with the first of them.
if TYPE_CHECKING:
    from app.controller import Controller
    from core.engines.comfy.known import KnownServer
    from core.engines.comfy.sign_in import SignIn
    from core.places import Places
    from core.vault import Vault
    from widgets.notice import NoticeBar

LARGEST_FILE = 64_000_000


def _name_of(server: KnownServer) -> str:
    from core.engines.comfy.known import vault_name

    return vault_name(server.base)


def signed_by(vault: Vault, server: KnownServer) -> SignIn:
    """Return who signs in at a server; ask it in no thread of the window's."""
    if server.secret:
        return lambda: server.secret
    return partial(vault.get, _name_of(server)) if server.signed else lambda: ""


class Signatures:
    """Keeps and forgets what servers are signed in with, beside the window.

    Args:
        controller: Has the vault.
        notice: Says what is kept for this run alone.
    """

    def __init__(self, controller: Controller, notice: NoticeBar) -> None:
        self._controller, self._notice = controller, notice

    def keep(self, server: KnownServer, before: KnownServer | None = None) -> KnownServer:
        """Put what was entered for a server into the vault; return the server without it.

        Args:
            server: As it is from now on.
            before: As it was under the same address.
        """
        if not server.secret:
            if before is not None and not server.signed:
                self.forget(before)
            return server
        vault, name, secret = self._controller.vault, _name_of(server), server.secret
        # Whoever asks from now on gets it, however long the keyring takes.
        vault.know(name, secret)

        def put() -> Iterator[object]:
            yield "" if vault.put(name, secret) else vault.why

        self._controller.run_aside(put, "keep sign-in", partial(self._tell, server.name))
        return replace(server, secret="")

    def _tell(self, title: str, why: object) -> None:
        if why:
            self._notice.show_text(
                f"{why} Name and password of {title} are kept until Framedeck ends, and in no "
                "file.",
                kind="warning",
                key="sign-in",
            )

    def forget(self, server: KnownServer) -> None:
        """Take a server's name and password out of the keyring; this run still knows them."""
        if not server.signed:
            return
        vault, name = self._controller.vault, _name_of(server)

        def put() -> Iterator[object]:
            before = vault.get(name)
            vault.put(name, "")
            vault.know(name, before)
            yield None

        self._controller.run_aside(put, "forget sign-in", lambda _: None)

    def again(self, server: KnownServer) -> None:
        """Keep once more what was forgotten by mistake."""
        if not server.signed:
            return
        vault, name = self._controller.vault, _name_of(server)

        def put() -> Iterator[object]:
            secret = vault.get(name)
            if secret:
                vault.put(name, secret)
            yield None

        self._controller.run_aside(put, "keep sign-in", lambda _: None)

    def clean(
        self, servers: Sequence[KnownServer], places: Places, keep: Callable[..., None]
    ) -> list[KnownServer]:
        """Take what older versions wrote with an address out of the list of jobs and the files.

        Out of the list of jobs at once, before any of them begins: their servers have other
        keys now.

        Args:
            servers: As the settings held them.
            places: Where files are.
            keep: Changes the settings.

        Returns:
            The servers without secrets.
        """
        if not any(server.secret for server in servers):
            return list(servers)
        from core.ledger.scrub import scrub

        store = self._controller.ledger.store
        secrets = [f"{server.secret}@" for server in servers if server.secret]
        for secret in secrets:
            self._controller.guard(lambda secret=secret: scrub(store, secret))
        self._controller.run_aside(
            lambda: iter([overwrite(places, secrets)]), "clean files", lambda _: None
        )
        cleaned = [self.keep(server) for server in servers]
        keep(servers=[server.to_json() for server in cleaned])
        return cleaned


def overwrite(places: Places, secrets: Sequence[str]) -> int:
    """Write over secrets in our logs and notes, in place; return in how many files they stood.

    Stars of the same length: a log may be written to at this moment.
    """
    words = [(secret.encode(), b"*" * (len(secret.encode()) - 1) + b"@") for secret in secrets]
    folders = (places.logs, places.data / "servers", places.data / "nodes")
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    count = 0
    for path in (*files, *places.data.glob("settings.json*")):
        with suppress(OSError):
            count += _overwrite(path, words)
    return count


def _overwrite(path: Path, words: Sequence[tuple[bytes, bytes]]) -> bool:
    if path.stat().st_size > LARGEST_FILE:
        return False
    found = False
    with path.open("r+b") as file:
        text = file.read()
        for secret, stars in words:
            at = text.find(secret)
            while at >= 0:
                file.seek(at)
                file.write(stars)
                found, at = True, text.find(secret, at + 1)
    return found

"""Getting to know servers: the form, its checks, and the servers that run already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import shiboken6
from PySide6.QtCore import QObject

from app.signing_in import signed_by
from core.engines.comfy.arguments import ARGUMENTS, example, join, split
from core.engines.comfy.health import Doctor
from core.engines.comfy.install import install_of, installs, is_install, python_of
from core.engines.comfy.known import USUAL_PORT, KnownServer, checked
from core.engines.comfy.sign_in import SignIn, read, written
from core.engines.comfy.trees import Found, running
from core.errors import Problem, ProblemError, invalid
from widgets.servers_form import ArgumentHelp, ServerForm

if TYPE_CHECKING:
    from app.controller import Controller
    from app.servers import ServersDesk
    from app.window import MainWindow
    from widgets.notice import NoticeBar

PROBED_PORTS = (USUAL_PORT, 8189, 8190, 8000)
_PROBE_SECONDS = 0.5


class FormDesk(QObject):
    """One open form and the checks behind it; it goes with the form.

    Args:
        desk: Takes the server.
        window: Over which the form stands.
        controller: Runs what takes time.
        server: What is edited, None for a new one.
    """

    def __init__(
        self,
        desk: ServersDesk,
        window: MainWindow,
        controller: Controller,
        server: KnownServer | None,
    ) -> None:
        helps = [ArgumentHelp(example(argument), argument.help) for argument in ARGUMENTS]
        values: dict[str, object] = {}
        if server is not None:
            values = {**server.to_json(), "arguments": join(server.arguments)}
        form = ServerForm(values, helps, window)
        super().__init__(form)
        self._desk, self._controller, self._server, self._form = desk, controller, server, form
        form.saved.connect(self._on_save)
        form.folder_chosen.connect(self._look_for_python)
        form.open()
        self._signed = server is None or not server.signed
        """Whether the form shows how the server is signed in at."""
        if not self._signed and server is not None:
            sign_in = signed_by(controller.vault, server)
            controller.run_aside(
                lambda: iter([read(sign_in())]), "server sign-in", self._show_sign_in
            )
        controller.run_aside(_folders, "server folders", self._offer)
        self._look_for_python(form.folder.currentText())

    def _offer(self, found: object) -> None:
        if shiboken6.isValid(self._form) and isinstance(found, list):
            self._form.offer_folders(found)

    def _show_sign_in(self, found: object) -> None:
        if shiboken6.isValid(self._form) and isinstance(found, tuple):
            self._form.show_sign_in(*found)
            self._signed = True

    def _look_for_python(self, folder: str) -> None:
        def source() -> Iterator[object]:
            place = Path(folder).expanduser()
            found = python_of(place) if is_install(place) else None
            yield "" if found is None else str(found)

        def show(python: object) -> None:
            if shiboken6.isValid(self._form):
                self._form.offer_python(str(python))

        if folder:
            self._controller.run_aside(source, "server python", show)

    def _on_save(self, values: Mapping[str, object], anyway: bool) -> None:
        before = "" if self._server is None else self._server.base
        try:
            made = server_of(values)
            if made.base != before and made.base in {each.base for each in self._desk.servers}:
                hint = "Edit that one instead."
                raise invalid("base", f"{made.base} is on the list already.", hint)
        except ProblemError as error:
            self._form.show_problem(error.problem)
            return
        if not self._signed and not made.secret:
            made = replace(made, signed=True)
        if anyway:
            self._store(made)
            return
        self._form.set_busy(True)
        sign_in = signed_by(self._controller.vault, made)
        self._controller.run_aside(
            lambda: _checks(made, sign_in), "server check", lambda why: self._on_checked(made, why)
        )

    def _on_checked(self, made: KnownServer, why: object) -> None:
        if not shiboken6.isValid(self._form) or not self._form.isVisible():
            return
        if isinstance(why, Problem):
            self._form.show_problem(why, anyway=why.field == "base")
        else:
            self._store(made)

    def _store(self, made: KnownServer) -> None:
        desk, server = self._desk, self._server

        def store() -> None:
            if server is None:
                desk.add(made)
            else:
                desk.change(server.base, made)

        if self._controller.guard(store):
            self._form.accept()


def _folders() -> Iterator[object]:
    yield [str(place) for place in installs()]


def server_of(values: Mapping[str, object]) -> KnownServer:
    """Return the server that a form describes; raises ProblemError naming the field."""
    words = split(str(values["arguments"]))
    made = KnownServer.from_json({**values, "arguments": list(words)})
    secret = written(str(values.get("user", "")).strip(), str(values.get("password", "")))
    # What stands in the address was entered last.
    return checked(replace(made, secret=made.secret or secret))


def _checks(server: KnownServer, sign_in: SignIn) -> Iterator[object]:
    """Yield why a server cannot be used now, None when it can."""
    try:
        if server.folder:
            # It need not run: Framedeck can start it.
            install_of(server)
            yield None
            return
    except ProblemError as error:
        yield error.problem
        return
    health = Doctor(server.base, sign_in=sign_in).look()
    if health.problem is None or health.answers:
        yield None
        return
    why = health.problem
    yield Problem(why.category, why.message, why.hint, why.details, field="base")


def attach(desk: ServersDesk, notice: NoticeBar, controller: Controller) -> None:
    """Add the servers that run on this machine, whoever started them."""
    known = {server.base for server in desk.servers}

    def source() -> Iterator[object]:
        yield list(found_servers(known))

    def take(found: object) -> None:
        assert isinstance(found, list)
        added = [server for server in found if controller.guard(lambda s=server: desk.add(s))]
        if not added:
            more = " that is not on the list" if known else ""
            notice.show_text(
                f"No ComfyUI server runs on this machine{more}. "
                "Start one, or add one by its address or folder.",
                key="attached",
            )
            return
        names = ", ".join(server.name for server in added)

        def undo() -> None:
            for server in added:
                controller.guard(lambda s=server: desk.remove(s.base))
            notice.clear("attached")

        notice.show_text(f"Found {names}.", (("Undo", undo),), "success", key="attached")

    controller.run_aside(source, "server search", take)


def found_servers(known: set[str], ports: tuple[int, ...] = PROBED_PORTS) -> Iterator[KnownServer]:
    """Yield the servers of this machine that are not in `known`."""
    seen = set(known)
    for found in running():
        server = _attached(found)
        if not _is_among(server, seen):
            seen.add(server.base)
            yield server
    for port in ports:
        server = KnownServer(f"http://127.0.0.1:{port}")
        # One in a container, say, whose process is not seen.
        if not _is_among(server, seen) and Doctor(server.base).look(_PROBE_SECONDS).answers:
            seen.add(server.base)
            yield server


def _is_among(server: KnownServer, bases: set[str]) -> bool:
    return server.base in bases or f"http://localhost:{server.port}" in bases


def _attached(found: Found) -> KnownServer:
    base = f"http://127.0.0.1:{found.port}"
    plain = KnownServer(base, folder=found.folder, python=found.python, keep_running=True)
    try:
        return checked(
            KnownServer(
                base,
                folder=found.folder,
                python=found.python,
                arguments=found.arguments,
                keep_running=True,
            )
        )
    except ProblemError:
        return plain

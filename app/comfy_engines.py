"""The engines of ComfyUI servers, made when the first server is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.engines.comfy.client import ComfyEngine
    from core.engines.comfy.known import KnownServer
    from core.engines.comfy.making import Making
    from core.engines.comfy.rescue import Restart, Watch
    from core.engines.comfy.sign_in import SignIn


class ComfyEngines:
    """Makes the engines of servers, and loads what they need with the first of them.

    Args:
        workflows: Folder of the person's own workflows.
        cache: Folder in which the servers' lists of nodes are kept.

    Attributes:
        process_of: Returns the process of the server at an address, where it is known.
        restart_of: Returns what restarts the server at an address and waits for it;
            None for those that are not ours to restart.
        sign_in_of: Returns who signs in at a server.
        watch_of: Returns what tells a decode that stands still on a server.
    """

    def __init__(self, workflows: Path, cache: Path) -> None:
        self._workflows, self._cache = workflows, cache
        self._making: Making | None = None
        self.process_of: Callable[[str], int | None] = lambda _: None
        self.restart_of: Callable[[str], Restart | None] = lambda _: None
        self.sign_in_of: Callable[[KnownServer], SignIn] = lambda server: lambda: server.secret
        self.watch_of: Callable[[KnownServer], Watch] | None = None

    @property
    def making(self) -> Making:
        """What makes the graphs of jobs."""
        if self._making is None:
            from core.engines.comfy.making import Making, stored

            self._making = Making(stored(self._workflows), self._cache)
        return self._making

    def file_of(self, workflow: str) -> Path:
        """Return the file that holds a workflow, the person's own or one that ships."""
        from core import resources
        from core.engines.comfy.workflows_files import FOLDER

        own = self._workflows / f"{workflow}.json"
        return own if own.is_file() else resources.path(FOLDER) / own.name

    def __call__(self, server: KnownServer) -> ComfyEngine:
        """Return the engine of a server."""
        from core.engines.comfy.client import ComfyEngine, Options
        from core.engines.comfy.rescue import Watch

        options = Options(
            title=server.name,
            shared=Path(server.shared) if server.shared else None,
            process=lambda: self.process_of(server.base),
            restart=self.restart_of(server.base),
            watch=self.watch_of(server) if self.watch_of is not None else Watch(),
            seconds=self.making.seconds,
            sign_in=lambda: self.sign_in_of(server)(),
        )
        return ComfyEngine(server.base, self.making, options)

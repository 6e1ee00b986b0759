"""Where known servers meet the engines that run jobs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.engines import ComfyEngines

if TYPE_CHECKING:
    from app.controller import Controller
    from app.freeing import FreeDesk
    from app.servers import ServersDesk
    from core.engines.comfy.scan import Scan


def join(controller: Controller, servers: ServersDesk, freeing: FreeDesk) -> None:
    """Let jobs run on the servers that are known, with what was found out of them."""
    comfy = controller.engine.comfy_for
    if isinstance(comfy, ComfyEngines):
        comfy.process_of = servers.pid_of

    def scanned(scan: Scan) -> None:
        if isinstance(comfy, ComfyEngines):
            comfy.making.learn(scan.base, scan.info)

    servers.servers_changed.connect(controller.set_servers)
    servers.scanned.connect(scanned)
    freeing.can_restart = servers.can_restart
    freeing.restart = lambda base: controller.guard(lambda: servers.restart(base))
    if servers.servers:
        controller.set_servers(servers.servers)

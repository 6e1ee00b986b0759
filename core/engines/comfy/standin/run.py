"""One prompt while it runs, and what is said about it."""

from __future__ import annotations

from time import time
from typing import Any

from core.engines.comfy.standin.backlog import Item
from core.engines.comfy.standin.wires import Wires


class Interrupted(Exception):  # noqa: N818 - no error
    """Somebody asked for the end of the prompt."""


class Run:
    """A prompt, and the voice that tells of it.

    Whoever sent it hears all. Without a client's id everybody hears progress and
    frames, and nobody hears the rest: so it is on a real server.

    Args:
        item: What was queued.
        wires: Where messages go.
        results: Names of the nodes' results, by node.

    Attributes:
        executed: Nodes that ran.
        outputs: What output nodes told, by node.
        messages: What the history keeps.
    """

    def __init__(self, item: Item, wires: Wires, results: dict[str, str]) -> None:
        self.item = item
        self.results = results
        self.client: Any = (item[3] or {}).get("client_id")
        self.executed: list[str] = []
        self.outputs: dict[str, Any] = {}
        self.messages: list[Any] = []
        self._states: dict[str, dict[str, Any]] = {}
        self._wires = wires

    @property
    def id(self) -> str:
        """The prompt's id."""
        return self.item[1]

    @property
    def graph(self) -> dict[str, Any]:
        """Its nodes."""
        return self.item[2]

    @property
    def texts(self) -> dict[str, Any]:
        """What is kept inside the files that it makes."""
        return {"prompt": self.graph, **((self.item[3] or {}).get("extra_pnginfo") or {})}

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Say something that the history keeps too."""
        data = {"prompt_id": self.id, **data, "timestamp": int(time() * 1000)}
        self.messages.append([kind, data])
        if self.client is not None:
            self._wires.send(kind, data, self.client)

    def executing(self, name: str | None) -> None:
        """Say which node runs now; None when all is over."""
        if self.client is None:
            return
        about = {"node": name, "display_node": name, "prompt_id": self.id}
        if name is None:
            about.pop("display_node")
        else:
            self._wires.node = name
        self._wires.send("executing", about, self.client)

    def told(self, name: str, ui: dict[str, Any] | None) -> None:
        """Say what an output node has made."""
        if ui is None:
            return
        self.outputs[name] = ui
        if self.client is not None:
            about = {"node": name, "display_node": name, "output": ui, "prompt_id": self.id}
            self._wires.send("executed", about, self.client)

    def state(self, name: str, value: float, most: float, state: str) -> None:
        """Say how far all nodes are, after a change of one."""
        self._states[name] = {
            "value": value,
            "max": most,
            "state": state,
            "node_id": name,
            "prompt_id": self.id,
            "display_node_id": name,
            "parent_node_id": None,
            "real_node_id": name,
        }
        nodes = dict(self._states)
        self._wires.send("progress_state", {"prompt_id": self.id, "nodes": nodes}, self.client)

    def finished(self, name: str) -> None:
        """Say that a node is done, with the units that it counted in."""
        most = self._states[name]["max"]
        self.state(name, most, most, "finished")

    def step(self, name: str, value: int, most: int) -> None:
        """Say one step of a node, as a plain number."""
        told = {"value": value, "max": most, "prompt_id": self.id, "node": name}
        self._wires.send("progress", told, self.client)

    def progress(self, name: str, value: int, most: int) -> None:
        """Say one step of a node in both ways."""
        self.state(name, value, most, "running")
        self.step(name, value, most)

    def entry(self, *, good: bool) -> dict[str, Any]:
        """Return what the history keeps beside the prompt itself."""
        return {
            "outputs": self.outputs,
            "status": {
                "status_str": "success" if good else "error",
                "completed": good,
                "messages": self.messages,
            },
            "meta": {
                name: {
                    "node_id": name,
                    "display_node": name,
                    "parent_node": None,
                    "real_node_id": name,
                }
                for name in self.outputs
            },
        }

"""What every training stage shares: steps, averages of weights, checkpoints."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from team import MEET_EVERY, Team, gather

SAVE_EVERY = 100
LOG_EVERY = 20


def device() -> str:
    """Return where to train."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def rate(step: int, steps: int, top: float, warm: int = 60) -> float:
    """Return the learning rate at `step`: a short rise, a plain, a fall at the end.

    Only the fall depends on `steps`, so a run may be made longer or shorter
    while it goes.
    """
    fall = steps * 0.35
    return top * min(1.0, (step + 1) / warm, 0.02 + (steps - step) / fall)


@dataclass(slots=True)
class Run:
    """One stage of training.

    Attributes:
        name: Its checkpoint is NAME.pt in `work`.
        work: Folder for checkpoints.
        models: Parts that learn, by name; they get the averages in the end.
        loss_of: Gives the loss for a step and a draw; the draw decides the data.
        steps: Number of steps in all.
        top: Highest learning rate.
        decay: How much of the average of weights stays at each step.
        members: Processes that learn together.
        limit: Longest gradient.
    """

    name: str
    work: Path
    models: dict[str, Any]
    loss_of: Callable[[int, int], Any]
    steps: int
    top: float
    decay: float
    members: int = 1
    limit: float = 1.0

    def train(self) -> None:
        """Train from the last checkpoint to the end."""
        import torch

        found = [p for model in self.models.values() for p in model.parameters()]
        optimizer = torch.optim.AdamW(found, lr=self.top, betas=(0.9, 0.98), weight_decay=1e-3)
        average = {key: _copy(model) for key, model in self.models.items()}
        path = self.work / f"{self.name}.pt"
        first, spent = 0, 0.0
        if path.exists():
            kept = torch.load(path, map_location=device(), weights_only=True)
            first, spent = int(kept["step"]), float(kept.get("seconds", 0.0))
            for key, model in self.models.items():
                model.load_state_dict(kept["models"][key])
            average = kept["average"]
            optimizer.load_state_dict(kept["optimizer"])

        def learn(team: Team) -> None:
            self._learn(team, optimizer, average, first, spent)

        if first < self.steps:
            learn(gather(self.members, found, learn))
        for key, model in self.models.items():
            model.load_state_dict(average[key])

    def _learn(
        self, team: Team, optimizer: Any, average: dict[str, Any], first: int, spent: float
    ) -> None:
        import torch

        parameters = optimizer.param_groups[0]["params"]
        began, seen = time.monotonic(), 0.0
        for step in range(first, self.steps):
            draw = step * team.size + team.place
            torch.manual_seed(draw)
            optimizer.param_groups[0]["lr"] = rate(step, self.steps, self.top)
            loss = self.loss_of(step, draw)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, self.limit)
            optimizer.step()
            done = step + 1
            if done % MEET_EVERY == 0 or done == self.steps:
                team.meet(parameters)
            if team.place:
                continue
            seen += float(loss.detach())
            if done % MEET_EVERY == 0 or done == self.steps:
                _blend(average, self.models, min(self.decay**MEET_EVERY, done / (40 + done)))
            if done % LOG_EVERY == 0:
                each = (time.monotonic() - began) / (done - first)
                words = f"loss {seen / LOG_EVERY:.4f} {each:.3f} s"
                print(f"{self.name} {done}/{self.steps} {words}", flush=True)
                seen = 0.0
            if done % SAVE_EVERY == 0 or done == self.steps:
                state = {"step": done, "models": {k: _copy(m) for k, m in self.models.items()}}
                state |= {"average": average, "optimizer": optimizer.state_dict()}
                state["seconds"] = spent + time.monotonic() - began
                _save(state, self.work / f"{self.name}.pt")


def _copy(model: Any) -> dict[str, Any]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def _blend(average: dict[str, Any], models: dict[str, Any], decay: float) -> None:
    import torch

    for key, model in models.items():
        state = model.state_dict()
        names = [n for n, value in state.items() if value.is_floating_point()]
        old = [average[key][n] for n in names]
        torch._foreach_mul_(old, decay)
        torch._foreach_add_(old, [state[n].detach() for n in names], alpha=1 - decay)


def _save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that a kill leaves the old or the new one."""
    import torch

    draft = path.with_suffix(".part")
    torch.save(state, draft)
    os.replace(draft, path)  # noqa: PTH105


def told_of(path: Path) -> tuple[int, float]:
    """Return the steps and the seconds that a checkpoint took so far."""
    import torch

    if not path.exists():
        return 0, 0.0
    kept = torch.load(path, map_location="cpu", weights_only=True)
    return int(kept["step"]), float(kept.get("seconds", 0.0))


def average_of(path: Path, key: str) -> Any:
    """Return the averaged weights of one part in a checkpoint."""
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)["average"][key]


def to_tensor(clips: Iterable[Any]) -> Any:
    """Return frames (n, 3, h, w), -1 to 1, of byte arrays (f, h, w, 3)."""
    import numpy as np
    import torch

    frames = torch.from_numpy(np.concatenate(list(clips)))
    return frames.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()

"""What every training stage shares: steps, averages of weights, checkpoints."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

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


def run(
    name: str,
    work: Path,
    models: dict[str, Any],
    loss_of: Callable[[int], Any],
    *,
    steps: int,
    top: float,
    decay: float,
    limit: float = 1.0,
) -> None:
    """Train `models` and leave the averages of their weights in them.

    Args:
        name: Stage; its checkpoint is NAME.pt in `work`.
        work: Folder for checkpoints.
        models: Parts that learn, by name.
        loss_of: Gives the loss of a step; the step alone decides the data.
        steps: Number of steps in all.
        top: Highest learning rate.
        decay: How much of the average stays at each step.
        limit: Longest gradient.
    """
    import torch

    parameters = [p for model in models.values() for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=top, betas=(0.9, 0.98), weight_decay=1e-3)
    average = {key: _copy(model) for key, model in models.items()}
    path = work / f"{name}.pt"
    first = 0
    if path.exists():
        kept = torch.load(path, map_location=device(), weights_only=True)
        first = int(kept["step"])
        for key, model in models.items():
            model.load_state_dict(kept["models"][key])
        average = kept["average"]
        optimizer.load_state_dict(kept["optimizer"])
    began, seen = time.monotonic(), 0.0
    for step in range(first, steps):
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, top)
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, limit)
        optimizer.step()
        _blend(average, models, min(decay, (1 + step) / (10 + step)))
        seen += float(loss.detach())
        if (step + 1) % LOG_EVERY == 0:
            each = (time.monotonic() - began) / (step + 1 - first)
            print(f"{name} {step + 1}/{steps} loss {seen / LOG_EVERY:.4f} {each:.3f} s", flush=True)
            seen = 0.0
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            state = {"step": step + 1, "models": {k: m.state_dict() for k, m in models.items()}}
            _save({**state, "average": average, "optimizer": optimizer.state_dict()}, path)
    for key, model in models.items():
        model.load_state_dict(average[key])


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

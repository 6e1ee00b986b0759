"""The network that Real-ESRGAN and ESRGAN models hold, read from safetensors alone.

Source: Wang et al., ESRGAN (2018), and Real-ESRGAN (2021). The library that knows all
upscalers wants torchvision built for the very torch that is there; this is the one kind
that most such files are of.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from core.errors import Category, Problem, ProblemError

_BLOCK = re.compile(r"body\.(\d+)\.rdb(\d)\.conv(\d)\.(weight|bias)")
_OLD_BLOCK = re.compile(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.(weight|bias)")
_MOST_HEAD = 16 * 1024**2
_OLD = {
    "model.0": "conv_first",
    "model.3": "conv_up1",
    "model.6": "conv_up2",
    "model.8": "conv_hr",
    "model.10": "conv_last",
}
"""Names of older files whose factor is 4."""


def load(file: Path, device: str) -> tuple[Any, int]:
    """Return the network of a file, and how many pixels of a side it makes of one.

    Raises:
        ProblemError: The file is not there, is damaged, or holds another kind of network.
    """
    weights = _weights(file)
    try:
        net, scale = _built(_renamed(weights))
    except (KeyError, RuntimeError, ValueError) as error:
        raise _refused(file, "is no model of the Real-ESRGAN kind", error) from error
    import torch

    half = torch.float16 if device.startswith("cuda") else torch.float32
    net.dtype = half
    return net.to(device, half).eval(), scale


def check(file: Path) -> None:
    """Refuse what is surely no such model, by the head of the file alone: torch is not needed.

    Raises:
        ProblemError: The file is not there, is damaged, or holds another kind of network.
    """
    if file.suffix.lower() != ".safetensors":
        raise _refused(file, "is no safetensors file, and others can run code", None)
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            if size > _MOST_HEAD:
                raise ValueError(f"a head of {size} bytes")
            head = json.loads(opened.read(size))
        names = _renamed(dict.fromkeys(head))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise _refused(file, "cannot be read", error) from error
    if not {"conv_first.weight", "conv_last.weight", "body.0.rdb1.conv1.weight"} <= set(names):
        raise _refused(file, "is no model of the Real-ESRGAN kind", None)


def _weights(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check(file)
    try:
        found: dict[str, Any] = load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise _refused(file, "cannot be read", error) from error
    return found


def _renamed(weights: dict[str, Any]) -> dict[str, Any]:
    """Return weights under the newer of the two sets of names."""
    made = {}
    for name, value in weights.items():
        name = name.removeprefix("params_ema.").removeprefix("params.")
        old = _OLD_BLOCK.fullmatch(name)
        if old is not None:
            block, dense, conv, part = old.groups()
            name = f"body.{block}.rdb{dense}.conv{conv}.{part}"
        elif re.fullmatch(r"model\.1\.sub\.\d+\.(weight|bias)", name):
            name = "conv_body." + name.rsplit(".", 1)[1]
        else:
            head, _, part = name.rpartition(".")
            name = f"{_OLD.get(head, head)}.{part}"
        made[name] = value
    return made


def _built(weights: dict[str, Any]) -> tuple[Any, int]:
    blocks = 1 + max(
        (int(found[1]) for name in weights if (found := _BLOCK.fullmatch(name))), default=-1
    )
    if not blocks:
        raise ValueError("no blocks of the kind")
    first, dense = weights["conv_first.weight"], weights["body.0.rdb1.conv1.weight"]
    features, growth, given = int(first.shape[0]), int(dense.shape[0]), int(first.shape[1])
    # Models of a smaller factor see 2×2 or 4×4 pixels as so many colours of one.
    folds = {3: 1, 12: 2, 48: 4}
    fold = folds[given]
    net = _network(given, features, growth, blocks, fold)
    net.load_state_dict(weights, strict=True)
    return net, 4 // fold


def _network(given: int, features: int, growth: int, blocks: int, fold: int) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    def conv(inputs: int, outputs: int) -> Any:
        return nn.Conv2d(inputs, outputs, 3, padding=1)

    class Dense(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            for number in range(1, 6):
                inputs = features + (number - 1) * growth
                self.add_module(f"conv{number}", conv(inputs, growth if number < 5 else features))

        def forward(self, x: Any) -> Any:
            seen = [x]
            for number in range(1, 5):
                made = self.get_submodule(f"conv{number}")(torch.cat(seen, 1))
                seen.append(functional.leaky_relu(made, 0.2))
            return x + 0.2 * self.get_submodule("conv5")(torch.cat(seen, 1))

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rdb1, self.rdb2, self.rdb3 = Dense(), Dense(), Dense()

        def forward(self, x: Any) -> Any:
            return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))

    class Network(nn.Module):  # type: ignore[misc]
        dtype = torch.float32

        def __init__(self) -> None:
            super().__init__()
            self.conv_first = conv(given, features)
            self.body = nn.Sequential(*(Block() for _ in range(blocks)))
            self.conv_body = conv(features, features)
            self.conv_up1, self.conv_up2 = conv(features, features), conv(features, features)
            self.conv_hr, self.conv_last = conv(features, features), conv(features, 3)

        def forward(self, x: Any) -> Any:
            height, width = x.shape[-2:]
            if fold > 1:
                more = (-width % fold, -height % fold)
                x = functional.pixel_unshuffle(
                    functional.pad(x, (0, more[0], 0, more[1]), "replicate"), fold
                )
            seen = self.conv_first(x)
            seen = seen + self.conv_body(self.body(seen))
            for up in (self.conv_up1, self.conv_up2):
                larger = functional.interpolate(seen, scale_factor=2, mode="nearest")
                seen = functional.leaky_relu(up(larger), 0.2)
            made = self.conv_last(functional.leaky_relu(self.conv_hr(seen), 0.2))
            scale = 4 // fold
            return made[..., : height * scale, : width * scale]

    return Network()


def _refused(file: Path, why: str, error: Exception | None) -> ProblemError:
    return ProblemError(
        Problem(
            Category.INVALID_PARAMS,
            f"The upscale model {file.name} {why}.",
            "Choose a .safetensors file of a Real-ESRGAN or ESRGAN model, or leave it empty.",
            details=f"{file}\n{error!r:.500}" if error else str(file),
            field="upscaler",
        )
    )

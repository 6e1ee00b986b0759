"""The starter model: small, of diffusers' own classes, made on first use.

Every weight comes from the recipe's seed and the weight's own name, so the
model depends neither on the order nor on the rules by which a library fills
its layers: the same recipe gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

from core import resources
from core.engines.local import folders
from core.engines.local.quiet import hush
from core.errors import ProblemError

PREFIX = "starter-untrained-"
"""Model folders with this prefix are made by `ensure`."""

STALE_SECONDS = 900.0
"""A temporary folder this old belongs to nobody."""

Told = Callable[[int, int, str], None]
"""Gets (done, total, word); may raise to stop."""


def recipe_bytes() -> bytes:
    """Return the starter's recipe as it ships."""
    return resources.path("starter.json").read_bytes()


def folder_name() -> str:
    """Return the model folder's name, which changes with the recipe."""
    return PREFIX + hashlib.sha256(recipe_bytes()).hexdigest()[:8]


def ensure(folder: Path, told: Told | None = None) -> bool:
    """Make the starter model at `folder` unless a sound one is there.

    Any number of processes may do this at once, and any may be killed: the
    folder appears whole or not at all.

    Args:
        folder: Final model folder; its name must be `folder_name()`.
        told: Called before each part.

    Returns:
        Whether the model was made now.

    Raises:
        OSError: The folder cannot be written.
    """
    try:
        folders.check(folder)
        return False
    except ProblemError:
        pass
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    draft = folder.with_name(f".{folder.name}.{uuid4().hex}.part")
    try:
        build(draft, told)
        _put(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def _sweep(folder: Path) -> None:
    """Delete drafts that a killed process left behind."""
    for draft in folder.parent.glob(f".{folder.name}.*.part"):
        try:
            old = time.time() - draft.stat().st_mtime > STALE_SECONDS
        except OSError:
            continue
        if old:
            shutil.rmtree(draft, ignore_errors=True)


def _put(draft: Path, folder: Path) -> None:
    """Rename `draft` to `folder`, keeping a sound folder that came first."""
    for _ in range(3):
        try:
            draft.rename(folder)
        except OSError:
            try:
                folders.check(folder)
                return
            except ProblemError:
                # What stands there is broken, so it is moved out of the way.
                broken = folder.with_name(f".{folder.name}.{uuid4().hex}.part")
                if folder.exists():
                    folder.rename(broken)
                    shutil.rmtree(broken, ignore_errors=True)
        else:
            return
    draft.rename(folder)


def build(folder: Path, told: Told | None = None) -> None:
    """Write the whole model into the new folder `folder`, in diffusers' format."""
    hush()
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, MotionAdapter, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from core.engines.local import preview

    recipe: dict[str, Any] = json.loads(recipe_bytes())
    vocabulary, merges = vocabulary_of(recipe["words"])
    end = len(vocabulary) - 1

    def text_encoder() -> Any:
        config = CLIPTextConfig(
            vocab_size=len(vocabulary),
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
            **recipe["text_encoder"],
        )
        return CLIPTextModel(config)

    parts: dict[str, Callable[[], Any]] = {
        "text_encoder": text_encoder,
        "unet": lambda: UNet2DConditionModel(**recipe["unet"]),
        "motion_adapter": lambda: MotionAdapter(**recipe["motion_adapter"]),
        "vae": lambda: AutoencoderKL(**recipe["vae"]),
    }
    folder.mkdir(parents=True)
    _write_tokenizer(folder / "tokenizer", vocabulary, merges)
    DDIMScheduler(**recipe["scheduler"]).save_pretrained(folder / "scheduler")
    for done, (name, make) in enumerate(parts.items()):
        if told is not None:
            told(done, len(parts), name)
        model = make().eval()
        with torch.no_grad():
            fill(model, name, int(recipe["seed"]))
            if name == "vae":
                balance(model)
        model.save_pretrained(folder / name, safe_serialization=True)
        if name == "vae":
            preview.fit(model).save(folder)
    _write_index(folder)
    _settle(folder)


def fill(model: Any, component: str, seed: int) -> None:
    """Give every parameter of `model` its values, by name."""
    import torch

    for name, parameter in model.named_parameters():
        key = f"{component}/{name}"
        if parameter.ndim < 2:
            # Norms start neutral; biases of all other layers are nothing.
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            continue
        digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
        generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:7], "little"))
        fan_in = math.prod(parameter.shape[1:])
        values = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(values / math.sqrt(fan_in))


def balance(vae: Any, spread: float = 0.5) -> None:
    """Scale the last layer of `vae` so that its pictures are colourful.

    Random layers alone may paint everything in one tint. The measured values
    are rounded, so that the last bit of a sum changes nothing.
    """
    import torch

    generator = torch.Generator("cpu").manual_seed(2)
    channels = int(vae.config.latent_channels)
    latents = torch.randn((8, channels, 8, 8), generator=generator)
    last = vae.decoder.conv_out
    pictures = vae.decode(latents).sample
    deviation = pictures.std(dim=(0, 2, 3))
    gain = (spread / deviation * 64).round() / 64
    last.weight.mul_(gain[:, None, None, None])
    centre = vae.decode(latents).sample.mean(dim=(0, 2, 3))
    last.bias.sub_((centre * 64).round() / 64)


def byte_letters() -> list[str]:
    """Return the letters by which byte-level BPE writes bytes 0 to 255."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(spare)) for byte in range(256)]


def vocabulary_of(words: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Return CLIP's vocabulary and merges: all bytes, and `words` whole.

    Any text can be written with it; text outside `words` just takes more
    tokens. The last two tokens start and end a text.
    """
    letters = byte_letters()
    tokens = dict.fromkeys([*letters, *(letter + "</w>" for letter in letters)])
    merges: dict[tuple[str, str], int] = {}
    for word in words:
        # Later merges never change words that earlier ones already make whole.
        while len(pieces := split_word(word, merges)) > 1:
            merges[pieces[0], pieces[1]] = len(merges)
            tokens[pieces[0] + pieces[1]] = None
    tokens["<|startoftext|>"] = None
    tokens["<|endoftext|>"] = None
    numbered = {token: number for number, token in enumerate(tokens)}
    return numbered, [f"{left} {right}" for left, right in merges]


def split_word(word: str, merges: Mapping[tuple[str, str], int]) -> list[str]:
    """Return the tokens of `word`: the earliest merge that fits is made first."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    while True:
        pairs = [pair for pair in pairwise(pieces) if pair in merges]
        if not pairs:
            return pieces
        best = min(pairs, key=merges.__getitem__)
        merged: list[str] = []
        for piece in pieces:
            if merged and (merged[-1], piece) == best:
                merged[-1] += piece
            else:
                merged.append(piece)
        pieces = merged


def _write_tokenizer(folder: Path, vocabulary: dict[str, int], merges: list[str]) -> None:
    folder.mkdir()
    start, end = list(vocabulary)[-2:]
    _write_json(folder / "vocab.json", vocabulary)
    _write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    _write_json(folder / "special_tokens_map.json", special)
    config = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", **special}
    _write_json(folder / "tokenizer_config.json", config)


def _write_index(folder: Path) -> None:
    import diffusers

    index = {
        "_class_name": "AnimateDiffPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "motion_adapter": ["diffusers", "MotionAdapter"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    _write_json(folder / "model_index.json", index)


def _write_json(path: Path, data: object) -> None:
    _write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _settle(folder: Path) -> None:
    """Have every file on the disk before the folder gets its final name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())

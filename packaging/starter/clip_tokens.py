"""CLIP's tokenizer for a small vocabulary, and the index of a model folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path


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


def write_tokenizer(folder: Path, vocabulary: dict[str, int], merges: list[str]) -> None:
    folder.mkdir()
    start, end = list(vocabulary)[-2:]
    _write_json(folder / "vocab.json", vocabulary)
    _write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    _write_json(folder / "special_tokens_map.json", special)
    config = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", **special}
    _write_json(folder / "tokenizer_config.json", config)


def write_index(folder: Path) -> None:
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

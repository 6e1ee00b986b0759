"""The starter model as it ships: small, safe, and a clip of what was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import judge
from core.engines.local import fidelity, folders, preview, starter
from core.outputs import read_frames

Clip = np.ndarray[Any, np.dtype[np.uint8]]
ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 16_000_000


def test_it_is_small_and_safe() -> None:
    files = [path for path in starter.folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    kinds = {path.suffix for path in files}
    assert kinds <= {".json", ".safetensors", ".txt", ".md"}
    found = folders.check(starter.folder())
    assert found.pipeline == "AnimateDiffPipeline"
    assert folders.native_size(starter.folder()) == starter.SIZE


def test_its_weights_are_of_half_precision() -> None:
    for path in starter.folder().rglob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        kinds = {tensor["dtype"] for name, tensor in header.items() if name != "__metadata__"}
        assert kinds <= {"F16", "BF16", "I64"}, (path, kinds)


def test_its_card_says_what_it_is() -> None:
    text = (starter.folder() / "README.md").read_text(encoding="utf-8")
    for words in ("gpl-3.0", "object colour", "## Data", "## Training", "Hardware", "## Licence"):
        assert words in text
    assert "Not measured" not in text


def test_its_preview_colours_are_its_own() -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(starter.folder() / "vae", local_files_only=True).float()
    assert preview.for_model(starter.folder(), vae) is not None
    assert (starter.folder() / "preview.json").is_file()


def framedeck(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *words],
        cwd=ROOT,
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1", "FRAMEDECK_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_the_command_makes_a_clip_of_what_was_asked_for(tmp_path: Path) -> None:
    out, prompt = tmp_path / "clip.mp4", "a big red ball moves right on a white background"
    done = framedeck(
        "generate", "--prompt", prompt, "--seed", "1", "--out", str(out), home=tmp_path / "home"
    )
    assert done.returncode == 0, done.stderr
    seen = judge.look(frames_of(out))
    assert (seen.colours, seen.background, seen.motion) == (("red",), "plain white", "right")


def frames_of(path: Path) -> Clip:
    frames = []
    for frame in read_frames(path, 10**9):
        pixels = np.frombuffer(frame.bgra, np.uint8).reshape(frame.height, frame.width, 4)
        frames.append(pixels[..., 2::-1])
    return np.stack(frames)


@pytest.fixture(scope="module")
def maker() -> Iterator[fidelity.Maker]:
    made = fidelity.Maker(starter.folder())
    yield made
    made.close()


@pytest.mark.parametrize(
    ("prompt", "colour", "background", "motion"),
    [
        ("a yellow square grows over the night sky", "yellow", "night", "grows"),
        ("a white ball falls on a green field", "white", "field", "down"),
    ],
)
def test_the_clip_shows_what_was_asked_for(
    maker: fidelity.Maker, prompt: str, colour: str, background: str, motion: str
) -> None:
    seen = judge.look(maker.clip(prompt, 1))
    assert (seen.colours, seen.background, seen.motion) == ((colour,), background, motion)


@pytest.mark.timeout(900)
def test_prompts_it_never_saw_are_followed() -> None:
    """The bars over 200 clips are those of `bench starter`."""
    report = fidelity.run(starter.folder(), clips=12)
    told = report.table() + "\n" + "\n".join(report.missed)
    for what, least in (
        ("object colour", 0.9),
        ("background", 0.9),
        ("motion", 0.85),
        ("shape", 0.75),
        ("steady colour", 0.85),
        ("steady size", 0.85),
    ):
        assert report.share(what) >= least, told


@pytest.mark.parametrize("frames", [8, 12, 24, 32])
def test_other_lengths_move_just_so(maker: fidelity.Maker, frames: int) -> None:
    clip = maker.clip("a big red ball moves left on a white background", 5, frames=frames)
    assert len(clip) == frames
    seen = judge.look(clip)
    assert (seen.colours, seen.motion) == (("red",), "left")


def test_a_seed_gives_its_clip_again(maker: fidelity.Maker) -> None:
    first = maker.clip("a blue star spins on a white background", 3)
    other = maker.clip("a blue star spins on a white background", 4)
    assert (maker.clip("a blue star spins on a white background", 3) == first).all()
    assert (other != first).any()


def test_a_negative_prompt_keeps_a_colour_out(maker: fidelity.Maker) -> None:
    def reds(negative: str) -> int:
        clips = (
            maker.clip("a big ball on a white background", seed, negative_prompt=negative, frames=8)
            for seed in range(8)
        )
        return sum(judge.look(clip).colours == ("red",) for clip in clips)

    wanted = maker.clip("a big red ball on a white background", 0)
    assert judge.look(wanted).colours == ("red",)
    kept_out = maker.clip(
        "a big red ball on a white background", 0, negative_prompt="a red ball", guidance_scale=5.0
    )
    assert judge.look(kept_out).colours != ("red",)
    assert reds("a red ball") == 0


def test_the_guidance_scale_says_how_much_the_words_count(maker: fidelity.Maker) -> None:
    """Words against each other: without guidance the prompt alone counts, with much the other."""

    def reds(scale: float) -> int:
        clips = (
            maker.clip(
                "a big red ball on a white background",
                seed,
                negative_prompt="a red ball",
                guidance_scale=scale,
                frames=8,
            )
            for seed in range(6)
        )
        return sum(judge.look(clip).colours == ("red",) for clip in clips)

    assert reds(1.0) == 6
    assert reds(4.0) <= 2
    assert reds(7.0) == 0


def test_single_pictures_come_from_the_same_weights() -> None:
    """Keyframes and start frames are made so; no motion modules are in between."""
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionImg2ImgPipeline,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = starter.folder()
    parts = {
        "vae": AutoencoderKL.from_pretrained(folder / "vae", local_files_only=True),
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder").float(),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler"),
        "safety_checker": None,
        "feature_extractor": None,
    }
    pipe = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": 10, "guidance_scale": 2.5}
    picture = pipe(
        "a big red ball on a white background",
        width=64,
        height=64,
        generator=torch.Generator().manual_seed(1),
        **given,
    ).images[0]
    assert colours_of(picture) == ("red",)
    again = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    again.set_progress_bar_config(disable=True)
    changed = again(
        "a big green ball on a white background",
        image=picture.convert("RGB"),
        strength=0.9,
        generator=torch.Generator().manual_seed(1),
        **given,
    ).images[0]
    assert colours_of(changed) == ("green",)
    kept = again(
        "a big red ball on a white background", image=picture, strength=0.2, **given
    ).images[0]
    assert colours_of(kept) == ("red",)


def colours_of(picture: Any) -> tuple[str, ...]:
    return judge.look(np.repeat(np.asarray(picture.convert("RGB"))[None], 8, 0)).colours

"""Write a trained starter as a model folder in diffusers' format."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import card
import clip_tokens
import parts
import runs
from stage_diffusion import vocabulary

from core.engines.local import preview


def unets(work: Path) -> tuple[Any, Any, Any]:
    """Return image UNet, motion modules and text encoder of the latest checkpoint."""
    image, motion = parts.make_unet(), parts.make_motion()
    text = parts.make_text(len(vocabulary()[0]))
    if (work / "clip.pt").exists():
        state = runs.average_of(work / "clip.pt", "unet")
        text.load_state_dict(runs.average_of(work / "clip.pt", "text"))
        moving = {key: value for key, value in state.items() if "motion_modules" in key}
        image.load_state_dict({k: value for k, value in state.items() if k not in moving})
        motion.load_state_dict(moving)
    elif (work / "image.pt").exists():
        import torch

        image.load_state_dict(runs.average_of(work / "image.pt", "unet"))
        text.load_state_dict(runs.average_of(work / "image.pt", "text"))
        for name, parameter in motion.named_parameters():
            if ".proj_out." in name:
                torch.nn.init.zeros_(parameter)
    return image, motion, text


def export(work: Path, out: Path) -> None:
    """Write the model of the latest checkpoints in `work` to the folder `out`."""
    from diffusers import AutoencoderKL, DDIMScheduler

    for name in ("unet", "motion_adapter", "text_encoder", "vae", "tokenizer", "scheduler"):
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    made = [work / name for name in ("vae-sharp", "vae") if (work / name).exists()]
    if made:
        vae = AutoencoderKL.from_pretrained(made[0]).eval()
    else:
        vae = parts.make_vae().eval()
    preview.fit(vae).save(out)
    image, motion, text = unets(work)
    found = {"unet": image, "motion_adapter": motion, "text_encoder": text, "vae": vae}
    for name, model in found.items():
        parts.write_half(model.eval(), out / name)
    write_tokenizer(out)
    DDIMScheduler(**parts.SCHEDULER).save_pretrained(out / "scheduler")
    clip_tokens.write_index(out)
    card.write(work, out)


def write_tokenizer(out: Path) -> None:
    """Write the tokenizer; it fills prompts up to the length that was trained."""
    words, merges = vocabulary()
    clip_tokens.write_tokenizer(out / "tokenizer", words, merges)
    config = out / "tokenizer" / "tokenizer_config.json"
    text = config.read_text(encoding="utf-8")
    length = f'"model_max_length": {parts.TOKENS}'
    config.write_text(text.replace('"model_max_length": 77', length), encoding="utf-8")

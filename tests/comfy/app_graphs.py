"""Small graphs that the stand-in runs, for tests of the whole program."""

from __future__ import annotations

from typing import Any

STEPS = 6


def graph(
    makes: str = "image", steps: int = STEPS, prefix: str = "drill", seed: int = 1
) -> dict[str, Any]:
    """A graph that samples for STEPS steps and saves a picture, or a clip of 8 frames."""

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    links = {
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["6", 0],
        "latent_image": ["5", 0],
    }
    sampling = {"seed": seed, "steps": steps, "cfg": 7.0, "denoise": 1.0}
    names = {"sampler_name": "euler", "scheduler": "normal"}
    count = 8 if makes == "video" else 1
    found = {
        "3": node("KSampler", **sampling, **names, **links),
        "4": node("CheckpointLoaderSimple", ckpt_name="drill.safetensors"),
        "5": node("EmptyLatentImage", width=128, height=128, batch_size=count),
        "6": node("CLIPTextEncode", text="a drill", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    }
    if makes == "image":
        return found | {"9": node("SaveImage", filename_prefix=prefix, images=["8", 0])}
    return found | {
        "9": node("CreateVideo", images=["8", 0], fps=8.0),
        "10": node("SaveVideo", video=["9", 0], filename_prefix=prefix, format="mp4", codec="h264"),
    }


def script(**more: Any) -> dict[str, Any]:
    """How the stand-in shall be: each step takes a moment."""
    words: dict[str, Any] = {
        "step_seconds": 0.05,
        "model_bytes_each": 2**31,
        "models": {"checkpoints": ["drill.safetensors"]},
    }
    return {**words, **more}

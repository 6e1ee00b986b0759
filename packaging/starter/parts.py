"""The starter model's parts: their sizes, how they are made and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LATENT = 8
"""Channels of a latent."""

TOKENS = 40
"""Length to which every prompt is filled up."""

TEXT_WIDTH = 128

VAE: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": LATENT,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [16, 32, 48, 64],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "scaling_factor": 1.0,
}
UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": LATENT,
    "out_channels": LATENT,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [80, 128],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
}
MOTION: dict[str, Any] = {
    "block_out_channels": UNET["block_out_channels"],
    "motion_layers_per_block": 1,
    "motion_num_attention_heads": 4,
    "motion_norm_num_groups": 8,
    "motion_max_seq_length": 32,
    "use_motion_mid_block": False,
}
TEXT: dict[str, Any] = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": TOKENS,
    "projection_dim": TEXT_WIDTH,
}
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


def make_vae() -> Any:
    """Return a fresh autoencoder."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**VAE)


def make_unet() -> Any:
    """Return a fresh image UNet."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**UNET)


def make_motion() -> Any:
    """Return fresh motion modules."""
    from diffusers import MotionAdapter

    return MotionAdapter(**MOTION)


def make_text(words: int) -> Any:
    """Return a fresh text encoder for a vocabulary of `words` tokens."""
    from transformers import CLIPTextConfig, CLIPTextModel

    end = words - 1
    marks = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    return CLIPTextModel(CLIPTextConfig(vocab_size=words, **marks, **TEXT))


def with_motion(unet: Any, motion: Any) -> Any:
    """Return a UNet for clips, filled from an image UNet and motion modules."""
    from diffusers import UNetMotionModel

    return UNetMotionModel.from_unet2d(unet, motion)


def centre(vae: Any, pictures: Any) -> None:
    """Shift and scale the latents of `vae` so that each channel is 0 on average, spread 1.

    The pipeline knows one factor for all channels and no shift, so both are
    folded into the layers on either side of the latent.

    Args:
        vae: Autoencoder to change in place.
        pictures: Tensor (n, 3, h, w), -1 to 1.
    """
    import torch

    with torch.no_grad():
        means = torch.cat([vae.encode(part).latent_dist.mean for part in pictures.split(64)])
        shift, spread = means.mean((0, 2, 3)), means.std((0, 2, 3))
        into, out = vae.quant_conv, vae.post_quant_conv
        into.weight[:LATENT] /= spread[:, None, None, None]
        into.bias[:LATENT] = (into.bias[:LATENT] - shift) / spread
        into.bias[LATENT:] -= 2 * spread.log()
        out.bias += (out.weight[:, :, 0, 0] * shift).sum(1)
        out.weight *= spread[None, :, None, None]


def write_half(model: Any, folder: Path) -> None:
    """Write `model` in half precision to `folder`."""
    import torch

    model.to(torch.float16).save_pretrained(folder, safe_serialization=True)

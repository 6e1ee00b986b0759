"""Model folders of every family: diffusers' own classes, a few channels, random weights.

Pictures of random weights are noise; that they differ, fit and repeat is what is tested.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@contextmanager
def alone() -> Iterator[None]:
    """Let tests of a module compute on one thread, and drop models without looking at the rest.

    More threads wait for each other on a busy machine. To walk through all that a process of
    tests has imported takes longer than a job here: what a drop frees is tested in the worker.
    """
    import torch

    from core.engines.local import warm

    light = SimpleNamespace(collect=gc.collect, freeze=gc.freeze, unfreeze=lambda: None)
    before, whole = torch.get_num_threads(), warm.gc
    torch.set_num_threads(1)
    setattr(warm, "gc", light)  # noqa: B010 - a module's own name
    gc.freeze()
    try:
        yield
    finally:
        setattr(warm, "gc", whole)  # noqa: B010
        torch.set_num_threads(before)


def _seeded() -> Any:
    import torch

    torch.manual_seed(7)
    return torch


def _index(folder: Path, pipeline: str, **parts: Any) -> Path:
    """Save parts and write the index by hand, as diffusers does."""
    entries: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": "0.35.0"}
    for name, part in parts.items():
        if part is None or isinstance(part, bool | float):
            entries[name] = [None, None] if part is None else part
            continue
        part.save_pretrained(folder / name)
        library = "transformers" if "transformers" in type(part).__module__ else "diffusers"
        entries[name] = [library, type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(entries))
    _colours(folder, parts["vae"])
    return folder


def _colours(folder: Path, vae: Any) -> None:
    """Write factors for the live picture: to fit them takes longer than a job does here."""
    from core.engines.local import pieces, preview

    rows = [[0.3 / (1 + row), 0.1, -0.2 / (1 + row)] for row in range(pieces.channels_of(vae))]
    (folder / preview.FILE).write_text(json.dumps({"factors": rows, "bias": [0.0, 0.0, 0.0]}))


def clip_tokenizer() -> Any:
    import transformers

    letters = [*LETTERS, *(letter + "</w>" for letter in LETTERS)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters]
    vocab = {word: number for number, word in enumerate(words)}
    return transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=16)


def t5_tokenizer() -> Any:
    import transformers

    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    words += [(letter, -2.0) for letter in LETTERS]
    return transformers.T5Tokenizer(vocab=words, extra_ids=0, model_max_length=16)


def _clip_text(*, projected: bool = False) -> Any:
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=54, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, projection_dim=8, bos_token_id=0,
        eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(config).eval()


def _t5(kind: str) -> Any:
    import transformers

    config = getattr(transformers, kind.replace("EncoderModel", "Config"))(
        vocab_size=32, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2,
    )  # fmt: skip
    return getattr(transformers, kind)(config).eval()


def _vision(kind: str, side: int) -> Any:
    import transformers

    config = transformers.CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        image_size=side, patch_size=side // 2, projection_dim=8,
    )  # fmt: skip
    return getattr(transformers, kind)(config).eval()


def _preparation(side: int) -> Any:
    import transformers

    kind = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    return kind(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def _unet(**more: Any) -> Any:
    import diffusers

    sizes = {
        "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4,
        "attention_head_dim": 4,
    }  # fmt: skip
    return diffusers.UNet2DConditionModel(
        sample_size=8, cross_attention_dim=8, **{**sizes, **more},
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def _picture_vae() -> Any:
    import diffusers

    kinds = ("DownEncoderBlock2D",) * 4
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 8, 8), norm_num_groups=2, layers_per_block=1,
        down_block_types=kinds, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


def stable_diffusion(folder: Path, *, scheduler: Any = None, **unet: Any) -> Path:
    """Stable Diffusion 1.5's parts."""
    import diffusers

    _seeded()
    return _index(
        folder, "StableDiffusionPipeline", vae=_picture_vae(), unet=_unet(**unet),
        text_encoder=_clip_text(), tokenizer=clip_tokenizer(), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
        scheduler=scheduler or diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
    )  # fmt: skip


def stable_diffusion_xl(folder: Path, *, scheduler: Any = None) -> Path:
    """Stable Diffusion XL's parts: two text encoders, sizes as a condition."""
    import diffusers

    _seeded()
    unet = _unet(
        addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 8,
    )  # fmt: skip
    # Both encoders stand side by side.
    import transformers

    one = _clip_text()
    two = _clip_text(projected=True)
    config = {**dict(unet.config), "cross_attention_dim": 16}
    unet = diffusers.UNet2DConditionModel.from_config(config)
    assert isinstance(one, transformers.CLIPTextModel)
    return _index(
        folder, "StableDiffusionXLPipeline", vae=_picture_vae(), unet=unet, text_encoder=one,
        text_encoder_2=two, tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(),
        scheduler=scheduler or diffusers.EulerDiscreteScheduler(), image_encoder=None,
        feature_extractor=None, force_zeros_for_empty_prompt=True,
    )  # fmt: skip


def svd(folder: Path) -> Path:
    """Stable Video Diffusion's parts."""
    import diffusers

    _seeded()
    unet = diffusers.UNetSpatioTemporalConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, num_frames=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        addition_time_embed_dim=32, projection_class_embeddings_input_dim=96,
        cross_attention_dim=8, num_attention_heads=(2, 4),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
    )  # fmt: skip
    scheduler = diffusers.EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True,
        timestep_spacing="leading", sigma_min=0.002, sigma_max=700.0,
    )  # fmt: skip
    return _index(
        folder, "StableVideoDiffusionPipeline", unet=unet, vae=vae, scheduler=scheduler,
        image_encoder=_vision("CLIPVisionModelWithProjection", 224),
        feature_extractor=_preparation(224),
    )  # fmt: skip


def _wan_vae() -> Any:
    import diffusers

    return diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )  # fmt: skip


def _small_wan_vae() -> Any:
    """The one of WAN 2.2's 5B model: twice as small latents, of patches of 2 pixels."""
    import diffusers

    return diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, in_channels=12,
        out_channels=12, patch_size=2, is_residual=True, scale_factor_spatial=16,
        temperal_downsample=[False, True, True],
    )  # fmt: skip


def _wan_transformer(**more: Any) -> Any:
    import diffusers

    return diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, text_dim=8, freq_dim=16, ffn_dim=16,
        num_layers=2, rope_max_seq_len=64, **{"in_channels": 16, "out_channels": 16, **more},
    )  # fmt: skip


def wan(folder: Path, *, picture: bool = False, two: bool = False, small: bool = False) -> Path:
    """WAN's parts: 2.1 for text or for a start picture; 2.2 as `two` models or the `small` one."""
    import diffusers

    _seeded()
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    common = {
        "vae": _small_wan_vae() if small else _wan_vae(), "tokenizer": t5_tokenizer(),
        "text_encoder": _t5("UMT5EncoderModel"),
        "scheduler": scheduler,
    }  # fmt: skip
    if not picture:
        more: dict[str, Any] = {"expand_timesteps": True} if small else {}
        more |= {"transformer_2": _wan_transformer(), "boundary_ratio": 0.875} if two else {}
        return _index(folder, "WanPipeline", transformer=_wan_transformer(), **common, **more)
    transformer = _wan_transformer(in_channels=36, image_dim=8, added_kv_proj_dim=24)
    return _index(
        folder, "WanImageToVideoPipeline", transformer=transformer, transformer_2=None,
        image_encoder=_vision("CLIPVisionModel", 32), image_processor=_preparation(32), **common,
    )  # fmt: skip


def ltx(folder: Path, *, conditioned: bool = False) -> Path:
    """LTX-Video's parts."""
    import diffusers

    _seeded()
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8), layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1), timestep_conditioning=conditioned,
    )  # fmt: skip
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=8,
        cross_attention_dim=16, num_layers=1, caption_channels=8,
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_image_seq_len=1024, max_image_seq_len=4096,
        base_shift=0.95, max_shift=2.05, shift_terminal=0.1,
    )  # fmt: skip
    return _index(
        folder, "LTXPipeline", vae=vae, transformer=transformer, scheduler=scheduler,
        text_encoder=_t5("T5EncoderModel"), tokenizer=t5_tokenizer(),
    )  # fmt: skip


def animatediff(folder: Path, **unet: Any) -> Path:
    """AnimateDiff's parts: Stable Diffusion 1.5's and motion modules."""
    import diffusers

    _seeded()
    adapter = diffusers.MotionAdapter(
        block_out_channels=unet.get("block_out_channels", (8, 16)),
        motion_layers_per_block=unet.get("layers_per_block", 1), motion_num_attention_heads=8,
        motion_norm_num_groups=4, motion_max_seq_length=16, use_motion_mid_block=False,
    )  # fmt: skip
    # As they come, the modules leave everything still.
    for name, weight in adapter.named_parameters():
        if "proj_out" in name and weight.ndim > 1:
            weight.data.normal_(0, 0.3)
    return _index(
        folder, "AnimateDiffPipeline", vae=_picture_vae(), unet=_unet(**unet),
        motion_adapter=adapter, text_encoder=_clip_text(), tokenizer=clip_tokenizer(),
        scheduler=diffusers.DDIMScheduler(clip_sample=False), image_encoder=None,
        feature_extractor=None,
    )  # fmt: skip


def tiny_autoencoder(folder: Path, *, channels: int = 4) -> Path:
    """A tiny autoencoder for latents of so many channels."""
    import diffusers

    _seeded()
    made = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(4, 4, 4, 4), decoder_block_out_channels=(4, 4, 4, 4),
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=channels,
    )  # fmt: skip
    made.save_pretrained(folder)
    return folder

"""Turns tiny model folders into the single files that models are handed around as.

The reverse of what diffusers does when it reads them, written down for tests.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
_VAE_ATTENTION = {
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
}  # fmt: skip
_WAN = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "attn2": "cross_attn", "attn1": "self_attn", ".to_out.0.": ".o.", ".to_q.": ".q.",
    ".to_k.": ".k.", ".to_v.": ".v.", "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2",
    "proj_out": "head.head",
}  # fmt: skip
_LTX = {
    "proj_in": "patchify_proj", "time_embed": "adaln_single", "norm_q": "q_norm",
    "norm_k": "k_norm",
}  # fmt: skip
_ADAPTER = {
    ".norm1": ".norms.0", ".norm2": ".norms.1", ".norm3": ".ff_norm",
    ".attn1": ".attention_blocks.0", ".attn2": ".attention_blocks.1",
}  # fmt: skip


def stable_diffusion(folder: Path, file: Path, *, levels: int = 2, layers: int = 1) -> Path:
    """Write the file of a Stable Diffusion 1.5 or XL folder."""
    tensors = {
        "model.diffusion_model." + _unet(key, levels, layers): tensor
        for key, tensor in _read(folder / "unet").items()
    }
    for key, tensor in _read(folder / "vae").items():
        linear = ".attentions." in key and tensor.ndim == 2
        # Once they were convolutions of a single pixel.
        tensors["first_stage_model." + _vae(key)] = tensor[..., None, None] if linear else tensor
    large = (folder / "text_encoder_2").is_dir()
    begin = "conditioner.embedders.0." if large else "cond_stage_model."
    for key, tensor in _read(folder / "text_encoder").items():
        tensors[f"{begin}transformer.text_model.{key.removeprefix('text_model.')}"] = tensor
    if large:
        tensors |= _open_clip(_read(folder / "text_encoder_2"))
    return _write(tensors, file)


def wan(folder: Path, file: Path) -> Path:
    """Write the file of a WAN folder's transformer."""
    tensors = {}
    for key, tensor in _read(folder / "transformer").items():
        name = key.replace("norm2", "norm_").replace("norm3", "norm2").replace("norm_.", "norm3.")
        if name == "scale_shift_table":
            name = "head.modulation"
        tensors[_renamed(name.replace("scale_shift_table", "modulation"), _WAN)] = tensor
    return _write(tensors, file)


def ltx(folder: Path, file: Path) -> Path:
    """Write the file of an LTX-Video folder's transformer."""
    parts = _read(folder / "transformer").items()
    return _write({f"model.diffusion_model.{_renamed(k, _LTX)}": v for k, v in parts}, file)


def motion_adapter(folder: Path, file: Path, *, length: int = 16) -> Path:
    """Write the file of an AnimateDiff folder's motion modules."""
    import torch

    tensors: dict[str, Any] = {}
    for key, tensor in _read(folder / "motion_adapter").items():
        if "pos_embed" in key:
            continue
        name = re.sub(r"(motion_modules\.\d+)\.", r"\1.temporal_transformer.", key)
        tensors[_inside(name)] = tensor
        if name.endswith("attn1.to_q.weight"):
            place = _inside(name.removesuffix("to_q.weight")) + "pos_encoder.pe"
            tensors[place] = torch.zeros((1, length, tensor.shape[0]))
    return _write(tensors, file)


def _inside(name: str) -> str:
    head, mark, tail = name.partition(".transformer_blocks.0")
    return head + mark + _renamed(tail, _ADAPTER)


def _renamed(name: str, table: dict[str, str]) -> str:
    for new, old in table.items():
        name = name.replace(new, old)
    return name


def _unet(key: str, levels: int, layers: int) -> str:
    for new, old in _UNET_ENDS.items():
        if key.startswith(f"{new}."):
            return key.replace(new, old, 1)
    side, rest = key.split(".", 1)
    if side == "mid_block":
        kind, number, tail = rest.split(".", 2)
        place = 1 if kind == "attentions" else 2 * int(number)
        return f"middle_block.{place}.{_tail(kind, tail)}"
    block, kind, number, tail = rest.split(".", 3)
    place = int(block) * (layers + 1) + int(number)
    if side == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{(int(block) + 1) * (layers + 1)}.0.op.{tail.split('.')[-1]}"
        return f"input_blocks.{place + 1}.{int(kind == 'attentions')}.{_tail(kind, tail)}"
    if kind == "upsamplers":
        place = int(block) * (layers + 1) + layers
        # It stands behind the attention, where there is one: in the first block here.
        return f"output_blocks.{place}.{2 if block == '0' else 1}.{tail}"
    return f"output_blocks.{place}.{int(kind == 'attentions')}.{_tail(kind, tail)}"


def _tail(kind: str, tail: str) -> str:
    if kind == "attentions":
        return tail
    first, _, rest = tail.partition(".")
    return f"{_RESNET[first]}.{rest}"


def _vae(key: str) -> str:
    key = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    found = re.fullmatch(r"(encoder|decoder)\.(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", key)
    if found:
        side, way, block, kind, number, tail = found.groups()
        level = 3 - int(block) if way == "up" else int(block)
        if kind == "resnets":
            return f"{side}.{way}.{level}.block.{number}.{tail}"
        return f"{side}.{way}.{level}.{way}sample.{tail}"
    found = re.fullmatch(r"(encoder|decoder)\.mid_block\.(\w+)\.(\d)\.(.+)", key)
    if found:
        side, kind, number, tail = found.groups()
        if kind == "resnets":
            return f"{side}.mid.block_{int(number) + 1}.{tail}"
        return f"{side}.mid.attn_1.{_renamed(tail, _VAE_ATTENTION)}"
    return key


def _open_clip(parts: dict[str, Any]) -> dict[str, Any]:
    import torch

    names = {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
    }
    blocks = {
        "layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    }  # fmt: skip
    found: dict[str, Any] = {}
    for key, tensor in parts.items():
        begin = "conditioner.embedders.1.model."
        if key == "text_projection.weight":
            found[begin + "text_projection"] = tensor.T.contiguous()
        elif key in names:
            found[begin + names[key]] = tensor
        elif ".q_proj." in key:
            three = [parts[key.replace(".q_proj.", f".{one}_proj.")] for one in "qkv"]
            stem, kind = key.split(".self_attn.q_proj.")
            place = stem.replace("text_model.encoder.layers", "transformer.resblocks")
            found[f"{begin}{place}.attn.in_proj_{kind}"] = torch.cat(three)
        elif ".k_proj." not in key and ".v_proj." not in key:
            place = key.replace("text_model.encoder.layers", "transformer.resblocks")
            found[begin + _renamed(place, blocks)] = tensor
    return found


def _read(part: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    (weights,) = part.glob("*.safetensors")
    return dict(load_file(weights))


def _write(tensors: dict[str, Any], file: Path) -> Path:
    from safetensors.torch import save_file

    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, file)
    return file

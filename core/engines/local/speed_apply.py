"""What the switches do to a pipeline of diffusers, and how it is undone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from core.engines.local import speed_fallback

if TYPE_CHECKING:
    from core.engines.local.speed_switches import Target

FEW_STEPS = 4


# ---- what a switch needs


def moved(target: Target) -> str:
    """Return why weights must be left as they are, "" where they need not."""
    for part in target.denoisers:
        hooked = getattr(part, "_hf_hook", None) is not None or any(
            getattr(getattr(one, "_diffusers_hook", None), "hooks", None) for one in part.modules()
        )
        if hooked:
            return "parts of the model wait elsewhere, or lie in another type than they compute in"
        if getattr(part, "hf_quantizer", None) is not None:
            return "the weights have fewer bits"
    return ""


def has_adapters(target: Target) -> str:
    """Return why projections must stay apart: what a LoRA adds stands in each."""
    from diffusers.models.attention_processor import Attention

    for part in target.denoisers:
        if getattr(part, "peft_config", None):
            return "a LoRA stands in the projections"
        if getattr(part, "encoder_hid_proj", None) is not None:
            return "its attention reads pictures beside words"
        for one in part.modules():
            if isinstance(one, Attention) and getattr(one, "add_k_proj", None) is not None:
                return "its attention reads pictures beside words"
    return ""


def _half_here(target: Target) -> bool:
    import torch

    if target.kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def _type_of(part: Any) -> Any:
    return next(iter(part.parameters())).dtype


def no_half(target: Target) -> str:
    """Return why computing in bf16 gives nothing."""
    import torch

    if not _half_here(target):
        return "bf16 is not computed faster here"
    full = all(_type_of(part) is torch.float32 for part in target.denoisers)
    return "" if full else "the weights are in half precision already"


def no_half_decode(target: Target) -> str:
    """Return why decoding in bf16 gives nothing."""
    import torch

    if not _half_here(target):
        return "bf16 is not computed faster here"
    full = _type_of(target.pipe.vae) is torch.float32
    return "" if full else "the autoencoder is in half precision already"


def not_distilled(target: Target) -> str:
    """Return why the model needs its many steps."""
    config = target.pipe.scheduler.config
    embedded = any(part.config.get("time_cond_proj_dim") for part in target.denoisers)
    own = target.kept.get("scheduler") or config
    made_so = own.get("_class_name") == "LCMScheduler" or own.get("timestep_spacing") == "trailing"
    flows = str(own.get("_class_name", "")).startswith("FlowMatch")
    return "" if embedded or (made_so and not flows) else "the model was not made for few steps"


# ---- memory layout and projections


@contextmanager
def channels_last(target: Target) -> Iterator[None]:
    """Let weights of convolutions lie channels last; afterwards as they lay before."""
    import torch

    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    before = []
    for part in (*target.denoisers, target.pipe.vae):
        for weight in part.parameters():
            if weight.dim() in formats:
                before.append((weight, weight.data.stride()))
                weight.data = weight.data.contiguous(memory_format=formats[weight.dim()])
    try:
        yield
    except GeneratorExit:
        before.clear()  # The model itself is let go of: nothing is worth moving any more.
        raise
    finally:
        for weight, stride in before:
            # Not `contiguous`: a side of one pixel counts as either layout.
            plain = torch.empty_strided(
                weight.shape, stride, dtype=weight.dtype, device=weight.device
            )
            weight.data = plain.copy_(weight.data)


@contextmanager
def fuse_qkv(target: Target) -> Iterator[None]:
    """Fuse the projections of each attention; the originals stay and come back."""
    try:
        for part in target.denoisers:
            part.fuse_qkv_projections()
        yield
    finally:
        for part in target.denoisers:
            part.unfuse_qkv_projections()
            for one in part.modules():
                # Of a UNet's, the fused copies would stay, and grow old.
                if getattr(one, "fused_projections", False):
                    one.fused_projections = False
                    for name in ("to_qkv", "to_kv", "to_added_kv"):
                        if hasattr(one, name):
                            delattr(one, name)


# ---- attention


def attention(switch: str, backend: str) -> Callable[[Target], AbstractContextManager[None]]:
    """Return what lets attention be computed by one of diffusers' backends, for a switch."""

    @contextmanager
    def applied(target: Target) -> Iterator[None]:
        from diffusers.models.attention_dispatch import attention_backend

        parts = target.denoisers
        with contextlib.ExitStack() as stack:
            # What a part is set to is set for all the program too, and stays when it is reset.
            stack.enter_context(attention_backend(backend))
            for part in parts:
                stack.callback(part.reset_attention_backend)
                part.set_attention_backend(backend)
            with speed_fallback.until_it_fails(target, parts, switch, stack.close):
                yield

    return applied


@contextmanager
def xformers(target: Target) -> Iterator[None]:
    """Let xFormers compute attention; afterwards the processors that were there."""
    with contextlib.ExitStack() as stack:
        for part in target.denoisers:
            stack.callback(part.set_attn_processor, dict(part.attn_processors))
            part.enable_xformers_memory_efficient_attention()
        with speed_fallback.until_it_fails(target, target.denoisers, "xformers", stack.close):
            yield


# ---- precision


@contextmanager
def _in_half(module: Any, kind: str) -> Iterator[None]:
    """Let a module compute in bf16 and answer in the type that it was asked in."""
    import torch

    plain, own = module.forward, "forward" in vars(module)

    @functools.wraps(plain)
    def forward(first: Any, *args: Any, **options: Any) -> Any:
        with torch.autocast(kind, torch.bfloat16):
            answer = plain(first, *args, **options)
        return _as_type(answer, first.dtype)

    @functools.wraps(plain)
    def named(*args: Any, **options: Any) -> Any:
        if args:
            return forward(*args, **options)
        first = options.pop("sample" if "sample" in options else "hidden_states")
        return forward(first, **options)

    module.forward = named
    try:
        yield
    finally:
        if own:
            module.forward = plain
        else:
            del module.forward


def _as_type(answer: Any, dtype: Any) -> Any:
    import torch

    if isinstance(answer, torch.Tensor):
        return answer.to(dtype)
    if isinstance(answer, tuple) and type(answer) is tuple:
        return tuple(_as_type(one, dtype) for one in answer)
    if hasattr(answer, "sample"):
        answer.sample = answer.sample.to(dtype)
    return answer


@contextmanager
def autocast(target: Target) -> Iterator[None]:
    """Compute the sampler's model in bf16; latents stay as they are."""
    with contextlib.ExitStack() as stack:
        for part in target.denoisers:
            stack.enter_context(_in_half(part, target.kind))
        yield


@contextmanager
def decode_half(target: Target) -> Iterator[None]:
    """Compute the decoder in bf16."""
    with _in_half(target.pipe.vae.decoder, target.kind):
        yield


# ---- fewer steps


@contextmanager
def few_steps(target: Target) -> Iterator[None]:
    """Take at most so many steps as distilled models were made for."""
    target.steps, before = min(target.steps, FEW_STEPS), target.steps
    try:
        yield
    finally:
        target.steps = before

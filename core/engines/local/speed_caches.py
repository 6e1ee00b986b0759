"""Caches over steps, by the hooks of diffusers: what is reused instead of computed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.engines.local.speed_switches import Target

FIRST_BLOCK_THRESHOLD = 0.08
"""Relative change of the first block below which the others are not computed."""
_WARM_STEPS = 2
"""Steps that are always computed: there the picture takes shape."""


def few_blocks(target: Target) -> str:
    """Return why there is nothing behind the first block to be left out."""
    counts = [len(_blocks(part)) for part in target.denoisers]
    return "" if min(counts, default=0) > 1 else "the model has a single block"


def few_cached_steps(target: Target) -> str:
    """Return why no step can be left out."""
    enough = target.steps > _WARM_STEPS + 2
    return "" if enough else f"{target.steps} steps are too few to leave any out"


def nothing_to_foretell(target: Target) -> str:
    """Return why no inner block can be foretold."""
    unets = all(hasattr(part, "mid_block") for part in target.denoisers)
    if few := few_cached_steps(target):
        return few
    if not unets:
        return few_blocks(target)
    if any(_waits_in_groups(part) for part in target.denoisers):
        # The last block would compute without having been fetched.
        return "a block that waits elsewhere is fetched by the one before it"
    return ""


def _waits_in_groups(part: Any) -> bool:
    hooks = getattr(getattr(part, "_diffusers_hook", None), "hooks", {})
    return any("group_offloading" in name for name in hooks)


def _blocks(part: Any) -> list[Any]:
    names = ("transformer_blocks", "blocks")
    return list(next((getattr(part, name) for name in names if hasattr(part, name)), []))


@contextmanager
def first_block_cache(target: Target) -> Iterator[None]:
    """Leave out the blocks behind the first where that changes little."""
    from diffusers.hooks import FirstBlockCacheConfig

    with contextlib.ExitStack() as stack:
        for part in target.denoisers:
            part.enable_cache(FirstBlockCacheConfig(threshold=FIRST_BLOCK_THRESHOLD))
            stack.callback(part.disable_cache)
        yield


@contextmanager
def taylor_cache(target: Target) -> Iterator[None]:
    """Foretell inner blocks in every other step."""
    import torch
    from diffusers.hooks import TaylorSeerCacheConfig, apply_taylorseer_cache

    config: dict[str, Any] = {
        "cache_interval": 2,
        "disable_cache_before_step": _WARM_STEPS,
        "disable_cache_after_step": max(_WARM_STEPS + 1, target.steps - 1),
        "max_order": 1,
        "taylor_factors_dtype": torch.float32,
    }
    with contextlib.ExitStack() as stack:
        for part in target.denoisers:
            patterns = _inner_blocks(part)
            apply_taylorseer_cache(
                part, TaylorSeerCacheConfig(**config, cache_identifiers=patterns)
            )
            stack.callback(_unhook, part, "taylorseer_cache")
            if not hasattr(part, "cache_context"):
                _one_context(part)  # Both halves of the guidance are one call there.
        yield


@contextmanager
def attention_cache(target: Target) -> Iterator[None]:
    """Reuse attention in every other step, where the picture has taken shape."""
    from diffusers import PyramidAttentionBroadcastConfig
    from diffusers.hooks import apply_pyramid_attention_broadcast

    with contextlib.ExitStack() as stack:
        for part in target.denoisers:
            calls = itertools.count()
            step = [0]

            def count(_module: Any, _args: Any, calls: Any = calls, step: Any = step) -> None:
                step[0] = next(calls)

            handle = part.register_forward_pre_hook(count)
            stack.callback(handle.remove)

            def now(step: Any = step) -> int:
                late = _WARM_STEPS <= step[0] < target.steps - 1
                return 500 if late else 0

            config = PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=2,
                cross_attention_block_skip_range=2,
                current_timestep_callback=now,
            )
            apply_pyramid_attention_broadcast(part, config)
            stack.callback(_unhook, part, "pyramid_attention_broadcast")
        yield


def _inner_blocks(part: Any) -> list[str]:
    if hasattr(part, "mid_block"):
        last = len(part.up_blocks) - 1
        outer = "|".join(map(str, range(last))) or "none"
        inside = (
            r"resnets\.\d+|motion_modules\.\d+|"
            r"attentions\.\d+\.(?:temporal_)?transformer_blocks\.\d+"
        )
        return [
            "mid_block",
            rf"up_blocks\.(?:{outer})",
            rf"down_blocks\.[1-9]\d*\.(?:{inside})",
        ]
    return [r"(?:transformer_)?blocks\.(?!0$)\d+"]


def _unhook(part: Any, name: str) -> None:
    from diffusers.hooks import HookRegistry

    HookRegistry.check_if_exists_or_initialize(part).remove_hook(name, recurse=True)


def _one_context(part: Any) -> None:
    try:
        from diffusers.hooks.hooks import CacheContext, _set_cache_context
    except ImportError:
        # WORKAROUND: before 0.42 the registry took the name itself.
        from diffusers.hooks import HookRegistry

        HookRegistry.check_if_exists_or_initialize(part)._set_context("all")
        return
    _set_cache_context(part, CacheContext("all"))

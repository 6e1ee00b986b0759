"""What a server says of its card, and which graphs need the same models."""

from __future__ import annotations

import pytest

from core.engines.comfy.models import model_key
from core.scheduling.reading import of_stats
from core.scheduling.snapshot import Lane

GB = 2**30


@pytest.mark.parametrize(
    ("total", "free", "held", "unused", "room"),
    [
        (24 * GB, 4 * GB, 0, 0, 4 * GB),
        (24 * GB, 4 * GB, 12 * GB, 0, 16 * GB),
        # What torch holds unused is counted as free already.
        (24 * GB, 4 * GB, 12 * GB, 2 * GB, 14 * GB),
        # Figures of different instants are never more than there is.
        (24 * GB, 20 * GB, 12 * GB, 0, 24 * GB),
        (24 * GB, None, 0, 0, None),
        (None, 4 * GB, 0, 0, None),
        # Who does not tell what is its own would be kept waiting for its own models.
        (24 * GB, 1 * GB, None, None, None),
    ],
)
def test_the_room_at_a_server_is_what_is_free_and_what_it_uses_again(
    total: int | None, free: int | None, held: int | None, unused: int | None, room: int | None
) -> None:
    assert of_stats(Lane("a", "A"), total, free, held, unused).room_bytes == room


def test_models_are_what_decides_and_not_the_workflow() -> None:
    def graph(checkpoint: str, prompt: str = "a fox") -> dict[str, object]:
        return {
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
            "2": {"class_type": "CLIPTextEncode", "inputs": {"text": prompt, "clip": ["1", 1]}},
        }

    one = model_key(graph("a.safetensors"), {})
    assert one == model_key(graph("a.safetensors", "a cat"), {})
    assert one != model_key(graph("b.safetensors"), {})
    # What a job puts in counts, not what the file of the workflow held.
    assert one == model_key(graph("b.safetensors"), {("1", "ckpt_name"): "a.safetensors"})
    assert model_key(graph("none"), {}) == ""

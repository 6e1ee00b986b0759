"""Words of a prompt that a small model never learned."""

from __future__ import annotations

import re
from typing import Any

SMALL = 5000
"""A vocabulary of fewer tokens holds whole words; larger ones spell out any word."""

_WORD = re.compile(r"[^\W\d_]+")


def unknown_words(tokenizer: Any, text: str) -> tuple[str, ...]:
    """Return the words of `text` that the model does not know, each once.

    Args:
        tokenizer: A model's CLIP tokenizer.
        text: A prompt.

    Returns:
        Words in the order of the text; none for a tokenizer that was made for
        any text.
    """
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) >= SMALL:
        return ()
    found = dict.fromkeys(_WORD.findall(text.lower()))
    return tuple(word for word in found if word + "</w>" not in vocabulary)

"""A choice of one word, or of several switches together."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import invalid
from core.jobs import Parameter, Value

JOINT = "+"
"""Between switches that are on together."""


@dataclass(frozen=True, repr=False)
class Several(Parameter):
    """A CHOICE that takes one of its words, or switches by hand, as "one+another".

    Attributes:
        switches: What can be switched by hand, in its order.
        named: How they are shown, each unlike the others.
        told: One sentence for each.
    """

    switches: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    def taken(self, value: object) -> tuple[str, ...]:
        """Return the switches in `value`, in their order; of a word alone, none."""
        words = {word.strip() for word in str(value).replace(",", JOINT).split(JOINT)}
        return tuple(word for word in self.switches if word in words)

    def parse(self, given: object) -> Value:
        """Return a word, or switches in their order.

        Raises:
            ProblemError: A word is no switch; the problem names it and those that are.
        """
        text = str(given if given is not None else "").strip()
        if text in self.choices:
            return text
        if text in self.titles:
            return self.chosen(text)
        words = [word.strip() for word in text.replace(",", JOINT).split(JOINT) if word.strip()]
        unknown = [word for word in words if word not in self.switches]
        if unknown or not words:
            shown = repr(unknown[0][:60] if unknown else text)
            raise invalid(self.name, f"{self.label} knows no {shown}.", self.range_text())
        return JOINT.join(self.taken(text))

    def range_text(self) -> str:
        """Say in words what can be chosen."""
        words = Parameter.range_text(self).rstrip(".")
        if not self.switches:
            return f"{words}."
        joined = f" {JOINT} ".join(self.switches[:2])
        return f"{words}; or switches such as {joined}: {', '.join(self.switches)}."

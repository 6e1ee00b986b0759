"""Which field edits which kind of parameter."""

from __future__ import annotations

from core.jobs import Kind, Parameter
from core.several import Several
from widgets.fields import (
    ChoiceField,
    Field,
    NumberField,
    OpenChoiceField,
    SeedField,
    SwitchField,
    TextField,
)
from widgets.picture_field import PictureField
from widgets.several_field import SeveralField


def field_for(parameter: Parameter) -> Field:
    """Return the field that edits `parameter`, showing its default."""
    classes: dict[Kind, type[Field]] = {
        Kind.TEXT: TextField,
        Kind.INTEGER: NumberField,
        Kind.NUMBER: NumberField,
        Kind.CHOICE: OpenChoiceField if parameter.open else ChoiceField,
        Kind.SEED: SeedField,
        Kind.SWITCH: SwitchField,
        Kind.IMAGE: PictureField,
    }
    several = isinstance(parameter, Several)
    field = SeveralField(parameter) if several else classes[parameter.kind](parameter)
    field.set_raw(parameter.default)
    return field

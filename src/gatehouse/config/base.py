"""What all models of the config file have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Model(BaseModel):
    """Frozen, strict about unknown keys and types; its attribute docstrings become schema and reference."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
        # A value may be a secret in the wrong place.
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty(cls, value: Any) -> Any:
        """Let a key with nothing behind it be as one that is not there: all its options may be comments."""
        if not isinstance(value, dict):
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: given for key, given in value.items() if given is not None or key not in known}


def exactly_one(*values: Any) -> bool:
    """Tell whether one of the values is given, and only one."""
    return sum(value not in (None, ()) for value in values) == 1

"""Defines a reference to a secret as a value of the config file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, InstanceOf

from gatehouse.config.base import invalid_value, text_schema
from gatehouse.config.hints import secret_hint
from gatehouse.config.secrets import REFERENCE, SecretRef


def parse_secret_ref(value: Any) -> Any:
    """Convert `env:NAME` or `file:/path` to a `SecretRef`."""
    if isinstance(value, str) and (reference := SecretRef.parse(value)) is not None:
        return reference
    # The value may be the secret itself, so the message repeats no part of it, not even the text before a
    # colon.
    if isinstance(value, str) and value.startswith("env:"):
        raise invalid_value("env: without the name of a variable", "write it as in env:MANDATO_SECRET")
    hint = secret_hint(value) or "write env:NAME or file:/path, never the secret itself"
    raise invalid_value("not a reference to a secret", hint)


SecretReference = Annotated[
    InstanceOf[SecretRef],
    BeforeValidator(parse_secret_ref),
    text_schema("secret", REFERENCE, "env:STRIPE_SECRET", "file:/run/secrets/stripe"),
]

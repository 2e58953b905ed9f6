"""Reads secrets from the environment or from files, and recognizes headers that carry credentials."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BeforeValidator, InstanceOf

from gatehouse.config.base import in_words, wrong
from gatehouse.config.hints import secret_hint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_REFERENCE = r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)"


class SecretRef(NamedTuple):
    """Where a secret is kept. The secret itself is never in the config."""

    #: `env` or `file`.
    kind: str
    #: The variable's name, or the file's path.
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_secret_ref(value: Any) -> Any:
    """Turn `env:NAME` or `file:/path` into a `SecretRef`."""
    if isinstance(value, str) and value.isprintable() and re.fullmatch(_REFERENCE, value):
        kind, _, name = value.partition(":")
        return SecretRef(kind, name)
    # The value itself may be the secret: no piece of it is repeated, not even what stands before a colon.
    if isinstance(value, str) and value.startswith("env:"):
        raise wrong("env: without the name of a variable", "letters, digits and _, as in env:MANDATO_SECRET")
    hint = secret_hint(value) or "env:NAME or file:/path; never the secret itself"
    raise wrong("not a reference to a secret", hint)


SecretReference = Annotated[
    InstanceOf[SecretRef],
    BeforeValidator(parse_secret_ref),
    in_words("secret", _REFERENCE, "env:STRIPE_SECRET", "file:/run/secrets/stripe"),
]


#: No provider issues a secret longer than this; a longer file is not a secret.
_MAX_BYTES = 16 * 1024
_MARK = b"\xef\xbb\xbf"


class SecretError(ValueError):
    """A secret that can't be used. The message names where it should be, never what it is."""


class Secrets:
    """Looks secrets up: `env:NAME` in an environment, `file:path` from a directory."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._environment = os.environ if environment is None else environment

    def resolve(self, reference: SecretRef, minimum: int = 1) -> bytes:
        """Return a secret of at least `minimum` bytes. Raises `SecretError`.

        White space at its end is no part of it: editors, `echo` and forms leave it there.
        """
        secret = self._read(reference)
        if not secret:
            raise SecretError(f"{reference} is empty")
        if len(secret) < minimum:
            raise SecretError(f"{reference} is shorter than {minimum} bytes")
        return secret

    def oddity(self, reference: SecretRef) -> str | None:
        """Say what around a secret is hardly part of it; None when nothing is, or when it can't be read."""
        try:
            secret = self._read(reference)
        except SecretError:
            return None
        if secret.startswith(_MARK):
            return "a byte order mark in front of it"
        if secret[:1].isspace():
            return "white space in front of it"
        is_quoted = len(secret) > 1 and secret[0] == secret[-1] and secret[:1] in (b'"', b"'", b"`")
        return "quotes around it" if is_quoted else None

    def resolve_all(self, references: Sequence[SecretRef], minimum: int = 1) -> list[bytes]:
        """Return every secret of a list: all are live."""
        return [self.resolve(reference, minimum) for reference in references]

    def _read(self, reference: SecretRef) -> bytes:
        if reference.kind == "env":
            value = self._environment.get(reference.name)
            if value is None:
                raise SecretError(f"{reference} is not set")
            return value.encode("utf-8", "surrogateescape").rstrip()
        try:
            with (self._directory / reference.name).open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise SecretError(f"{reference} can't be read: {error.strerror}") from error
        if len(content) > _MAX_BYTES:
            raise SecretError(f"{reference} is longer than a secret can be")
        return content.rstrip()


_WORDS = (
    "auth",
    "cookie",
    "signature",
    "secret",
    "token",
    "hmac",
    "password",
    "api-key",
    "apikey",
)


def names_credential(name: str) -> bool:
    """Tell whether a header's name (lower case), or a pattern of names, says "credential"."""
    return any(word in name for word in _WORDS)

"""Reads secrets from the environment or from files, and recognizes headers that carry credentials."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: What a reference to a secret looks like.
REFERENCE: Final = r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)"


class SecretRef(NamedTuple):
    """A reference to a secret. The config never contains the secret itself."""

    #: `env` or `file`.
    kind: str
    #: The name of the variable, or the path of the file.
    name: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse `env:NAME` or `file:/path`. Return None for any other text."""
        if not text.isprintable() or not re.fullmatch(REFERENCE, text):
            return None
        kind, _, name = text.partition(":")
        return cls(kind, name)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


#: No provider issues longer secrets. A longer file is not a secret.
_MAX_BYTES = 16 * 1024
_BOM = b"\xef\xbb\xbf"


class SecretError(ValueError):
    """A secret that cannot be used. The message names its reference, never its value."""


class Secrets:
    """Reads secrets: `env:NAME` from an environment, and `file:PATH` relative to a directory."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._environment = os.environ if environment is None else environment

    def resolve(self, reference: SecretRef, minimum: int = 1) -> bytes:
        """Return a secret of at least `minimum` bytes. Raises `SecretError`.

        Removes white space at the end, which editors, `echo` and forms add.
        """
        secret = self._read(reference)
        if not secret:
            raise SecretError(f"{reference} is empty")
        if len(secret) < minimum:
            raise SecretError(f"{reference} is shorter than {minimum} bytes")
        return secret

    def likely_mistake(self, reference: SecretRef) -> str | None:
        """Return what around a secret is probably a mistake, or None.

        Also None if the secret cannot be read.
        """
        try:
            secret = self._read(reference)
        except SecretError:
            return None
        if secret.startswith(_BOM):
            return "a byte order mark before it"
        if secret[:1].isspace():
            return "white space before it"
        is_quoted = len(secret) > 1 and secret[0] == secret[-1] and secret[:1] in (b'"', b"'", b"`")
        return "quotes around it" if is_quoted else None

    def resolve_all(self, references: Sequence[SecretRef], minimum: int = 1) -> list[bytes]:
        """Return every secret of a list. All of them are valid."""
        return [self.resolve(reference, minimum) for reference in references]

    def path(self, name: str) -> Path:
        """Return the path of a file that the config names."""
        return self._directory / name

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
    """Return whether the name of a header (lower case), or a pattern of names, indicates credentials.

    Such a header is never stored or forwarded.
    """
    return any(word in name for word in _WORDS)

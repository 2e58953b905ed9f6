"""Phrases that several findings use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.config.model import BasicConfig, JwtConfig, TokenConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import VerifyEntry

#: What to do about a body that is not the one that was signed.
BODY_CHANGED = (
    "A proxy in front of Gatehouse, or the tool that saved the request, changed the body. Forward and save "
    "bodies byte for byte."
)


def matches(entry: VerifyEntry) -> str:
    """Return the start of a sentence about proof that matches."""
    subject, is_plural = _proof(entry)
    return f"{subject} match" if is_plural else f"{subject} matches"


def does_not_match(entry: VerifyEntry) -> str:
    """Return the start of a sentence about proof that does not match."""
    subject, is_plural = _proof(entry)
    return f"{subject} {'do' if is_plural else 'does'} not match"


def _proof(entry: VerifyEntry) -> tuple[str, bool]:
    if isinstance(entry, BasicConfig):
        return "The credentials", True
    return "The token" if isinstance(entry, TokenConfig | JwtConfig) else "The signature", False


def listed(texts: Sequence[str]) -> str:
    """Join texts: `a, b and c`."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: `1 byte`, `2 bytes`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def as_sentence(message: str) -> str:
    """Make a sentence of the message of an error."""
    return f"{message[:1].upper()}{message[1:]}" + ("" if message.endswith((".", "?")) else ".")

"""Dedupe keys made by hand, and the keys without their scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.events.dedupe import SCOPE_LENGTH, DedupeKey

if TYPE_CHECKING:
    from collections.abc import Iterable


def dedupe_keys(*keys: bytes | None, until: float = 4e9) -> tuple[DedupeKey | None, ...]:
    """Make keys. The scope of each is its position."""
    return tuple(
        None if key is None else DedupeKey(b"%0*d" % (SCOPE_LENGTH, place) + key, until)
        for place, key in enumerate(keys)
    )


def values(keys: Iterable[DedupeKey | None]) -> tuple[bytes | None, ...]:
    """Return the keys without their scopes."""
    return tuple(None if key is None else key.key for key in keys)

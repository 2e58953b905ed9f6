"""Event ids: ULIDs, which sort by the time they were made.

The format is that of the ULID specification (github.com/ulid/spec): 48 bits of unix milliseconds and 80
random bits in Crockford's base32, 26 characters.
"""

from __future__ import annotations

import os
from functools import lru_cache

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
#: From a random byte to a character: each comes from as many bytes as any other.
_FROM_BYTE = (_ALPHABET * 8).encode()
_RANDOM_CHARACTERS = 16
_TIME_SHIFTS = range(45, -1, -5)


def new_id(now: float) -> str:
    """Make the id of an event that was received at `now` (unix seconds)."""
    # From the system: a seeded generator would repeat itself in a forked process.
    random = os.urandom(_RANDOM_CHARACTERS).translate(_FROM_BYTE).decode()
    return _time_part(int(now * 1000)) + random


@lru_cache(maxsize=16)
def _time_part(milliseconds: int) -> str:
    return "".join([_ALPHABET[milliseconds >> shift & 31] for shift in _TIME_SHIFTS])

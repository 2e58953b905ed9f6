"""Event ids: ULIDs, which sort by the time they were made.

The format is that of the ULID specification (github.com/ulid/spec): 48 bits of unix milliseconds and 80
random bits in Crockford's base32, 26 characters.
"""

from __future__ import annotations

import os
from functools import lru_cache

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
#: Two characters at once: half as many steps on the way of every event.
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)

_SHIFTS = tuple(range(70, -1, -10))


def new_id(now: float) -> str:
    """Make the id of an event that was received at `now` (unix seconds)."""
    # From the system: a seeded generator would repeat itself in a forked process.
    number = int.from_bytes(os.urandom(10), "big")
    return _time_part(int(now * 1000)) + "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


@lru_cache(maxsize=16)
def _time_part(milliseconds: int) -> str:
    return "".join([_PAIRS[milliseconds >> shift & 1023] for shift in range(40, -1, -10)])

"""Event ids: ULIDs, which sort by the time they were made.

The format is that of the ULID specification (github.com/ulid/spec): 48 bits of unix milliseconds and 80
random bits in Crockford's base32, 26 characters.
"""

from __future__ import annotations

import os

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
#: Two characters at once: half as many steps on the way of every event.
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)


def new_id(now: float) -> str:
    """Make the id of an event that was received at `now` (unix seconds)."""
    number = int(now * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])

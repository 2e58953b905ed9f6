"""What is kept of a destination's reply, for the person who asks why an attempt failed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gatehouse.delivery.http_client import Reply

#: The most bytes that follow the first one of a character in UTF-8.
_MAX_FOLLOWING: Final = 3
_FOLLOWING_BITS, _FOLLOWING = 0b1100_0000, 0b1000_0000
#: The first byte of a character of two, three and four bytes is at least this.
_FIRST_OF: Final = ((0xF0, 4), (0xE0, 3), (0xC0, 2))


def start_of(reply: Reply, limit: int) -> bytes | None:
    """Return the start of the body of a reply, at most `limit` bytes; None if there is nothing to keep.

    Compressed bytes are not kept, because they tell a person nothing.
    """
    if not limit or (reply.encoding or "identity").lower() != "identity":
        return None
    if reply.body is not None and len(reply.body) <= limit:
        return reply.body or None
    start = reply.body if reply.body is not None else b"".join(reply.partial)
    return without_cut_character(start[:limit]) or None


def without_cut_character(start: bytes) -> bytes:
    """Return the start of a text without the character at its end that was cut, if it is UTF-8."""
    for following in range(min(_MAX_FOLLOWING, len(start) - 1) + 1):
        byte = start[-1 - following]
        if byte & _FOLLOWING_BITS != _FOLLOWING:
            length = next((length for first, length in _FIRST_OF if byte >= first), 1)
            return start[: -1 - following] if length > following + 1 else start
    return start

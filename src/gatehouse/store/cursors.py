"""Where in a list a page ended, as text that operators hand back. What is in it is nobody's business."""

from __future__ import annotations

import base64
from typing import Final, NamedTuple

import msgspec

#: Sorts behind every destination, and behind every id.
LAST_NAME: Final = "\U0010ffff"
#: Larger than any row's number.
LAST_SEQ: Final = 2**63 - 1


class Position(NamedTuple):
    """The row that a page ended with. The list goes on behind it."""

    #: An event's id, or its number in the file: lists are in the order of the one or the other.
    event: str | int
    #: In a list of deliveries; "" in a list of events.
    destination: str


def encode(position: Position) -> str:
    """Make a cursor."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode(cursor: str, kind: type[str | int]) -> Position:
    """Read a cursor of a list in the order of events' ids (`str`) or numbers (`int`).

    Raises `ValueError` for anything else.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        position = msgspec.json.decode(raw, type=Position)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError("no cursor of this list") from error
    if not isinstance(position.event, kind) or (kind is int and not 0 <= int(position.event) <= LAST_SEQ):
        raise ValueError("no cursor of this list")
    return position

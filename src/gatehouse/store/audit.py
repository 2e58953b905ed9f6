"""What both stores share about audit entries: their columns, and their pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from gatehouse.store.listing import LAST_SEQ, Position, decode_cursor, encode_cursor
from gatehouse.store.records import AuditEntry, Page
from gatehouse.store.rows import milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.store.records import Action

COLUMNS: Final = "at_ms, who, role, action, what, count"


def to_row(entry: AuditEntry) -> tuple[Any, ...]:
    """Return the values of `COLUMNS`."""
    what = msgspec.json.encode(entry.what).decode()
    return milliseconds(entry.at), entry.who, entry.role, entry.action, what, entry.count


def from_row(row: Sequence[Any]) -> AuditEntry:
    """Return the entry with these values of `COLUMNS`."""
    at_ms, who, role, action, what, count = row
    return AuditEntry(
        at=at_ms / 1000,
        who=who,
        role=role,
        action=cast("Action", action),
        what=msgspec.json.decode(what, type=dict[str, Any]),
        count=count,
    )


def before(cursor: str | None) -> int:
    """Return the number that all entries of a page are below. Raises `ValueError` for an invalid cursor."""
    return LAST_SEQ if cursor is None else int(decode_cursor(cursor, int).event)


def make_page(rows: Sequence[Sequence[Any]], limit: int) -> Page[AuditEntry]:
    """Make a page of at most `limit` rows, each a number and the values of `COLUMNS`.

    One row more means that there is another page.
    """
    shown = rows[:limit]
    cursor = encode_cursor(Position(shown[-1][0], "")) if len(rows) > limit else None
    return Page(tuple(from_row(row[1:]) for row in shown), cursor)

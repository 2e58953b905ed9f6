"""Lists the events of the database from old to new, one page at a time, for those who catch up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from gatehouse.store.listing import SCAN_ROWS, first_id, last_id, make_page_onward
from gatehouse.store.postgres.filters import Conditions, add_event_filters, can_match
from gatehouse.store.postgres.rows import is_storable, text_with_marks, text_with_marks_or_none
from gatehouse.store.records import EventFacts, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.store.postgres.connection import Connection
    from gatehouse.store.records import EventQuery

_RANGE: Final = f"""
SELECT max(id), count(*) FROM (
  SELECT id FROM events WHERE id > $1 AND id <= $2 ORDER BY id LIMIT {SCAN_ROWS}
) AS scanned
"""  # noqa: S608 - of a constant
_EVENTS: Final = """
SELECT id, source, type, external_id, subject, account, received_ms,
  array(SELECT destination FROM deliveries WHERE event_id = events.id ORDER BY destination COLLATE "C")
FROM events WHERE {conditions} ORDER BY id LIMIT {limit}
"""


async def events_onward(
    connection: Connection, query: EventQuery, *, destination: str | None, limit: int, cursor: str | None
) -> Page[EventFacts]:
    """Return a page of events, from old to new. `cursor` is the id after which it begins."""
    if not can_match(query) or not is_storable(destination):
        return Page((), None)
    after = first_id(query) if cursor is None else cursor
    end, scanned = await connection.fetchrow(_RANGE, after, last_id(query)) or (None, 0)
    if end is None:
        return Page((), None)
    wanted = Conditions()
    wanted.add("events.id > {}", after)
    wanted.add("events.id <= {}", end)
    if destination is not None:
        query = msgspec.structs.replace(query, destination=destination)
    add_event_filters(wanted, query)
    sql = _EVENTS.replace("{conditions}", str(wanted)).replace("{limit}", wanted.parameter(limit))
    rows = await connection.fetch(sql, *wanted.parameters)
    return make_page_onward(
        [_facts(tuple(row)) for row in rows], limit, end if scanned == SCAN_ROWS else None
    )


def _facts(columns: Sequence[Any]) -> EventFacts:
    event_id, source, event_type, external_id, subject, account, received_ms, destinations = columns
    return EventFacts(
        id=event_id,
        source=source,
        type=text_with_marks(event_type),
        external_id=text_with_marks(external_id),
        subject=text_with_marks_or_none(subject),
        account=text_with_marks_or_none(account),
        received=received_ms / 1000,
        destinations=tuple(destinations),
    )

"""Lists the events of the SQLite file from old to new, one page at a time, for those who catch up.

Each statement is a read transaction of its own, and scans a bounded number of rows by the events' ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from gatehouse.store.listing import LAST_NAME, SCAN_ROWS, first_id, last_id, make_page_onward
from gatehouse.store.records import EventFacts
from gatehouse.store.sqlite.filters import event_filters, filter_parameters
from gatehouse.store.sqlite.queries import with_filters
from gatehouse.store.sqlite.rows import fetch, text_with_marks

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gatehouse.store.records import EventQuery, Page

_RANGE: Final = """
SELECT max(id), count(*) FROM (
  SELECT id FROM events WHERE id > :after AND id <= :last ORDER BY id LIMIT :scan_rows
)
"""
_EVENTS: Final = """
SELECT id, source, type, external_id, subject, account, received_ms,
  (SELECT json_group_array(destination) FROM deliveries WHERE event_seq = events.seq)
FROM events INDEXED BY events_search
WHERE id > :after AND id <= :end AND {filters}
ORDER BY id LIMIT :limit
"""


def events_onward(
    connection: sqlite3.Connection,
    query: EventQuery,
    *,
    destination: str | None,
    limit: int,
    cursor: str | None,
) -> Page[EventFacts]:
    """Return a page of events, from old to new. `cursor` is the id after which it begins."""
    if destination is not None:
        query = msgspec.structs.replace(query, destination=destination)
    parameters = filter_parameters(query) | {
        "after": first_id(query) if cursor is None else cursor,
        "last": last_id(query),
        "scan_rows": SCAN_ROWS,
        "limit": limit,
    }
    end, scanned = connection.execute(_RANGE, parameters).fetchone()
    parameters["end"] = LAST_NAME if end is None else end
    rows = fetch(connection, with_filters(_EVENTS, event_filters(query)), parameters, text_with_marks)
    return make_page_onward(list(map(_facts, rows)), limit, end if scanned == SCAN_ROWS else None)


def _facts(columns: Sequence[Any]) -> EventFacts:
    event_id, source, event_type, external_id, subject, account, received_ms, destinations = columns
    return EventFacts(
        id=event_id,
        source=source,
        type=event_type,
        external_id=external_id,
        subject=subject,
        account=account,
        received=received_ms / 1000,
        destinations=tuple(sorted(msgspec.json.decode(destinations, type=list[str]))),
    )

"""The statements of lists. See listing.py for how they work together.

`{conditions}` stands for those of filters.py. The joins are LATERAL with LIMIT, so that PostgreSQL starts
with the rows of the scan, whatever it knows about the tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.store.listing import SCAN_ROWS
from gatehouse.store.postgres.rows import CHECKED_COLUMNS

if TYPE_CHECKING:
    from gatehouse.store.postgres.filters import Conditions


class Driver(NamedTuple):
    """The rows that a step scans to find events, by an index in the order of the events' ids."""

    table: str
    column: str
    #: The conditions of the index, each with its value, if it has one.
    conditions: tuple[tuple[str, str | int | None], ...] = ()

    def add_to(self, conditions: Conditions) -> None:
        """Add the conditions of the index."""
        for text, value in self.conditions:
            conditions.add(text, *(() if value is None else (value,)))


COUNT_UP_TO_LIMIT: Final = f"""
SELECT count(*) FROM (SELECT 1 FROM {{table}} WHERE {{conditions}} LIMIT {SCAN_ROWS}) AS few
"""  # noqa: S608 - of a constant
#: Where a step ends. There is no row if the list ends before.
END: Final = """
SELECT {column} FROM {table} WHERE {conditions} ORDER BY {column} DESC OFFSET {rows} - 1 LIMIT 1
"""
#: The same for few rows, which are sorted: OFFSET 0 keeps PostgreSQL from looking for them among all rows in
#: the order of the ids.
END_OF_FEW: Final = """
SELECT {column} FROM (SELECT {column} FROM {table} WHERE {conditions} OFFSET 0) AS few
ORDER BY {column} DESC OFFSET {rows} - 1 LIMIT 1
"""

_WITH_EVENTS: Final = (
    "CROSS JOIN LATERAL (SELECT * FROM events WHERE id = deliveries.event_id LIMIT 1) AS events"
)
_DELIVERIES: Final = f"""
SELECT events.id, events.source, events.type, deliveries.destination, deliveries.status, deliveries.attempts,
  deliveries.received_ms, deliveries.due_ms, deliveries.leased_until_ms, deliveries.last_reason,
  deliveries.last_http_status, deliveries.updated_ms, deliveries.last_duration_ms,
  CASE WHEN deliveries.status = 'discarded' THEN deliveries.note END,
  CASE WHEN deliveries.status = 'discarded' THEN deliveries.discarded_by END
FROM deliveries {_WITH_EVENTS}
"""  # noqa: S608 - of a constant
DELIVERIES: Final = f"""
{_DELIVERIES}
WHERE {{conditions}} ORDER BY deliveries.event_id DESC, deliveries.destination DESC LIMIT {{limit}}
"""
#: Deliveries that have a row of the driver's table, which is that of attempts.
DELIVERIES_FOUND: Final = DELIVERIES.replace(
    "FROM deliveries",
    """FROM (SELECT DISTINCT event_id, destination FROM {table} WHERE {found}) AS found
CROSS JOIN LATERAL (
  SELECT * FROM deliveries WHERE event_id = found.event_id AND destination = found.destination LIMIT 1
) AS deliveries""",
)
#: Needs no row of events. The position is no condition on the primary key, so that PostgreSQL has no reason
#: to scan it instead of the index of dead deliveries. OFFSET keeps it from choosing the index of destinations
#: for its order, which would scan all of them.
DEAD_GROUPS: Final = """
SELECT destination, last_reason, last_http_status, count(*), min(received_ms), max(received_ms)
FROM (
  SELECT deliveries.destination, deliveries.last_reason, deliveries.last_http_status, deliveries.received_ms
  FROM deliveries WHERE {conditions} OFFSET 0
) AS found
GROUP BY 1, 2, 3
"""
DEAD_GROUPS_OF_EVENTS: Final = DEAD_GROUPS.replace("FROM deliveries", f"FROM deliveries {_WITH_EVENTS}")
DELIVERIES_OF_EVENT: Final = f"""
{_DELIVERIES}
WHERE deliveries.event_id = $1 ORDER BY deliveries.destination
"""
#: Events that have a row of the driver's table.
_EVENTS_FOUND: Final = """
(SELECT DISTINCT event_id FROM {table} WHERE {found}) AS found
  CROSS JOIN LATERAL (SELECT * FROM events WHERE id = found.event_id LIMIT 1) AS events
"""
#: Counts the deliveries only of the events on the page.
_PAGE: Final = """
SELECT page.*, numbers.*
FROM (
  SELECT events.id, source, provider, external_id, type, time, received_ms, subject, account
  FROM {events} WHERE {conditions} ORDER BY events.id DESC LIMIT {limit}
) AS page
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'delivered'),
    count(*) FILTER (WHERE status = 'dead'), count(*) FILTER (WHERE status = 'discarded')
  FROM deliveries WHERE event_id = page.id
) AS numbers
ORDER BY page.id DESC
"""
EVENTS: Final = _PAGE.replace("{events}", "events")
EVENTS_FOUND: Final = _PAGE.replace("{events}", _EVENTS_FOUND)
EVENT: Final = f"""
SELECT verified_by, stored_ms, {CHECKED_COLUMNS} FROM events WHERE id = $1
"""  # noqa: S608 - of a constant

"""The statements of lists. See listing.py for how they work together.

`{filters}` stands for the conditions of filters.py.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class NumberIndex(NamedTuple):
    """An index of deliveries or attempts, and the condition of its rows. Lists scan it by events' numbers."""

    table: str
    condition: str

    def apply_to(self, template: str) -> str:
        """Return a statement that reads from this index."""
        return template.replace("{table}", self.table).replace("{condition}", self.condition)


def with_filters(template: str, filters: str) -> str:
    """Return a statement with these conditions."""
    return template.replace("{filters}", filters)


DEAD: Final = NumberIndex("deliveries INDEXED BY deliveries_dead_by_event", "deliveries.status = 'dead'")
DEAD_OF_DESTINATION: Final = NumberIndex(
    "deliveries INDEXED BY deliveries_dead",
    "deliveries.status = 'dead' AND deliveries.destination = :destination",
)
#: Not in the order of the numbers: for as long as they are few enough to be sorted in each step.
PENDING: Final = NumberIndex("deliveries INDEXED BY deliveries_pending", "deliveries.due_ms IS NOT NULL")
PENDING_OF_DESTINATION: Final = NumberIndex(
    "deliveries INDEXED BY deliveries_pending",
    "deliveries.due_ms IS NOT NULL AND deliveries.destination = :destination",
)
#: When many are pending: scans the whole table, because each range of it contains plenty of them.
PENDING_IN_TABLE: Final = NumberIndex("deliveries", "deliveries.status = 'pending'")
ATTEMPTED_WITH_REASON: Final = NumberIndex(
    "attempts INDEXED BY attempts_by_reason", "attempts.reason = :reason"
)
ATTEMPTED_WITH_HTTP_STATUS: Final = NumberIndex(
    "attempts INDEXED BY attempts_by_http_status", "attempts.http_status = :http_status"
)

COUNT_UP_TO_LIMIT: Final = """
SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT :scan_rows)
"""
RANGE_OF_NUMBERS: Final = """
SELECT min(event_seq), count(*) FROM (
  SELECT event_seq FROM {table} WHERE {condition} AND event_seq <= :event
  ORDER BY event_seq DESC LIMIT :scan_rows
)
"""
RANGE_OF_ALL_NUMBERS: Final = """
SELECT min(event_seq), count(*) FROM (
  SELECT event_seq FROM deliveries WHERE event_seq <= :event ORDER BY event_seq DESC LIMIT :scan_rows
)
"""
RECEIVED: Final = "SELECT received_ms FROM events WHERE seq = ?"
#: Where a step ends. There is no row if the list ends before.
END_OF_IDS: Final = """
SELECT id FROM events INDEXED BY events_search WHERE id >= :first AND id <= :event
ORDER BY id DESC LIMIT 1 OFFSET :scan_rows - 1
"""

_DELIVERY_COLUMNS: Final = """
events.id, events.source, events.type, deliveries.destination, deliveries.status, deliveries.attempts,
  deliveries.received_ms, deliveries.due_ms, deliveries.last_reason, deliveries.last_http_status,
  deliveries.updated_ms, deliveries.event_seq, deliveries.last_duration_ms,
  iif(deliveries.status = 'discarded', deliveries.note, NULL),
  iif(deliveries.status = 'discarded', deliveries.discarded_by, NULL)
"""
#: Where in a row of deliveries the event's number is.
DELIVERY_SEQ: Final = 11
#: SQLite sorts the deliveries of one event at a time, because the index does not tell it that ids are unique.
DELIVERIES_BY_ID: Final = """
SELECT {columns}
FROM events INDEXED BY events_search CROSS JOIN deliveries ON deliveries.event_seq = events.seq
WHERE events.id >= :end AND events.id <= :event
  AND (events.id < :event OR deliveries.destination < :destination_before)
  AND {filters}
ORDER BY events.id DESC, deliveries.destination DESC LIMIT :limit
""".replace("{columns}", _DELIVERY_COLUMNS)
DELIVERIES_BY_NUMBER: Final = """
SELECT {columns}
FROM {table} CROSS JOIN events ON events.seq = deliveries.event_seq
WHERE {condition} AND deliveries.event_seq >= :end AND deliveries.event_seq <= :event
  AND (deliveries.event_seq < :event OR deliveries.destination < :destination_before)
  AND {filters}
ORDER BY deliveries.event_seq DESC, deliveries.destination DESC LIMIT :limit
""".replace("{columns}", _DELIVERY_COLUMNS)
#: The index is one of attempts.
DELIVERIES_ATTEMPTED: Final = DELIVERIES_BY_NUMBER.replace("{table}", "deliveries").replace(
    "{condition}",
    """
deliveries.event_seq IN (
    SELECT event_seq FROM {table} WHERE {condition} AND event_seq >= :end AND event_seq <= :event
  )""",
)
DELIVERIES_OF_EVENT: Final = """
SELECT {columns}
FROM events CROSS JOIN deliveries ON deliveries.event_seq = events.seq
WHERE events.seq = (SELECT seq FROM events WHERE id = ?) ORDER BY deliveries.destination
""".replace("{columns}", _DELIVERY_COLUMNS)

#: Needs no row of events.
DEAD_GROUPS: Final = """
SELECT deliveries.destination, deliveries.last_reason, deliveries.last_http_status, count(*),
  min(deliveries.received_ms), max(deliveries.received_ms)
FROM {table}
WHERE {condition} AND deliveries.event_seq >= :end AND deliveries.event_seq <= :event
  AND (deliveries.event_seq < :event OR deliveries.destination < :destination_before)
  AND {filters}
GROUP BY 1, 2, 3
"""
DEAD_GROUPS_OF_EVENTS: Final = DEAD_GROUPS.replace(
    "{table}", "{table} CROSS JOIN events ON events.seq = deliveries.event_seq"
)

#: Counts the deliveries only of the events on the page.
_WITH_COUNTS: Final = """
SELECT page.*,
  (SELECT count(*) FROM deliveries WHERE event_seq = page.seq AND status = 'pending'),
  (SELECT count(*) FROM deliveries WHERE event_seq = page.seq AND status = 'delivered'),
  (SELECT count(*) FROM deliveries WHERE event_seq = page.seq AND status = 'dead'),
  (SELECT count(*) FROM deliveries WHERE event_seq = page.seq AND status = 'discarded')
FROM ({page}) AS page
"""
_EVENT_COLUMNS: Final = """
events.id, events.source, events.provider, events.external_id, events.type, events.time, events.received_ms,
  events.subject, events.account, events.seq
"""
#: Where in a row of events the event's number is.
EVENT_SEQ: Final = 9
EVENTS_BY_ID: Final = _WITH_COUNTS.replace(
    "{page}",
    """
SELECT {columns} FROM events INDEXED BY events_search
WHERE events.id >= :end AND events.id < :event
  AND {filters}
ORDER BY events.id DESC LIMIT :limit
""".replace("{columns}", _EVENT_COLUMNS),
)
EVENTS_BY_NUMBER: Final = _WITH_COUNTS.replace(
    "{page}",
    """
SELECT {columns} FROM events
WHERE events.seq < :event AND events.seq IN (
    SELECT event_seq FROM {table}
    WHERE {condition} AND event_seq >= :end AND event_seq < :event
  )
  AND {filters}
ORDER BY events.seq DESC LIMIT :limit
""".replace("{columns}", _EVENT_COLUMNS),
)

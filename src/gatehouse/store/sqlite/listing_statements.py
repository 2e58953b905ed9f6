"""The statements of lists. See listing.py for how they work together."""

from __future__ import annotations

from typing import Final, NamedTuple

from gatehouse.store.sqlite.filters import OF_DELIVERIES, OF_EVENTS


class Source(NamedTuple):
    """Where in the table of deliveries a list finds its own, in the order of the events' numbers."""

    indexed_by: str
    condition: str

    def within(self, template: str) -> str:
        """Return a statement that reads from here."""
        return template.replace("{index}", self.indexed_by).replace("{condition}", self.condition)


DEAD: Final = Source("INDEXED BY deliveries_dead_by_event", "deliveries.status = 'dead'")
DEAD_OF_ONE: Final = Source(
    "INDEXED BY deliveries_dead", "deliveries.status = 'dead' AND deliveries.destination = :destination"
)
#: In no order: for when they are few enough to be sorted.
PENDING: Final = Source("INDEXED BY deliveries_pending", "deliveries.due_ms IS NOT NULL")
PENDING_OF_ONE: Final = Source(
    "INDEXED BY deliveries_pending",
    "deliveries.due_ms IS NOT NULL AND deliveries.destination = :destination",
)
#: When many are pending: through the whole table, of which a stretch has plenty of them.
PENDING_AMONG_ALL: Final = Source("", "deliveries.status = 'pending'")

HOW_MANY: Final = """
SELECT count(*) FROM (SELECT 1 FROM deliveries {index} WHERE {condition} LIMIT :stretch)
"""
STRETCH_OF_NUMBERS: Final = """
SELECT min(event_seq), count(*) FROM (
  SELECT event_seq FROM deliveries {index} WHERE {condition} AND event_seq <= :event
  ORDER BY event_seq DESC LIMIT :stretch
)
"""
STRETCH_OF_ALL_NUMBERS: Final = """
SELECT min(event_seq), count(*) FROM (
  SELECT event_seq FROM deliveries WHERE event_seq <= :event ORDER BY event_seq DESC LIMIT :stretch
)
"""
STRETCH_OF_IDS: Final = """
SELECT min(id), count(*) FROM (
  SELECT id FROM events WHERE id >= :first AND id <= :event ORDER BY id DESC LIMIT :stretch
)
"""

_DELIVERY_COLUMNS: Final = """
events.id, events.source, events.type, deliveries.destination, deliveries.status, deliveries.attempts,
  deliveries.received_ms, deliveries.due_ms, deliveries.last_reason, deliveries.last_http_status,
  deliveries.updated_ms, deliveries.event_seq
"""
DELIVERIES_BY_ID: Final = """
SELECT {columns}
FROM events INDEXED BY events_id CROSS JOIN deliveries ON deliveries.event_seq = events.seq
WHERE events.id >= :end AND events.id <= :event
  AND (events.id < :event OR deliveries.destination < :destination_before)
  AND {filters}
ORDER BY events.id DESC, deliveries.destination DESC LIMIT :limit
""".replace("{columns}", _DELIVERY_COLUMNS).replace("{filters}", OF_DELIVERIES)
DELIVERIES_BY_NUMBER: Final = """
SELECT {columns}
FROM deliveries {index} CROSS JOIN events ON events.seq = deliveries.event_seq
WHERE {condition} AND deliveries.event_seq >= :end AND deliveries.event_seq <= :event
  AND (deliveries.event_seq < :event OR deliveries.destination < :destination_before)
  AND {filters}
ORDER BY deliveries.event_seq DESC, deliveries.destination DESC LIMIT :limit
""".replace("{columns}", _DELIVERY_COLUMNS).replace("{filters}", OF_DELIVERIES)
DELIVERIES_OF_EVENT: Final = """
SELECT {columns}
FROM events CROSS JOIN deliveries ON deliveries.event_seq = events.seq
WHERE events.id = ? ORDER BY deliveries.destination
""".replace("{columns}", _DELIVERY_COLUMNS)

#: Counted for what is on the page only.
_WITH_COUNTS: Final = """
SELECT page.*,
  (SELECT count(*) FROM deliveries WHERE event_seq = page.seq AND status = 'pending'),
  (SELECT count(*) FROM deliveries WHERE event_seq = page.seq AND status = 'delivered'),
  (SELECT count(*) FROM deliveries WHERE event_seq = page.seq AND status = 'dead')
FROM ({page}) AS page
"""
_EVENT_COLUMNS: Final = """
events.id, events.source, events.provider, events.external_id, events.type, events.time, events.received_ms,
  events.subject, events.account, events.seq
"""
EVENTS_BY_ID: Final = _WITH_COUNTS.replace(
    "{page}",
    """
SELECT {columns} FROM events INDEXED BY events_id
WHERE events.id >= :end AND events.id < :event
  AND (:status IS NULL OR EXISTS (SELECT 1 FROM deliveries WHERE event_seq = seq AND status = :status))
  AND {filters}
ORDER BY events.id DESC LIMIT :limit
""".replace("{columns}", _EVENT_COLUMNS).replace("{filters}", OF_EVENTS),
)
EVENTS_BY_NUMBER: Final = _WITH_COUNTS.replace(
    "{page}",
    """
SELECT {columns} FROM events
WHERE events.seq < :event AND events.seq IN (
    SELECT event_seq FROM deliveries {index}
    WHERE {condition} AND event_seq >= :end AND event_seq < :event
  )
  AND {filters}
ORDER BY events.seq DESC LIMIT :limit
""".replace("{columns}", _EVENT_COLUMNS).replace("{filters}", OF_EVENTS),
)

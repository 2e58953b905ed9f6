"""The statements of lists. See listing.py for how they work together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.postgres.rows import CHECKED_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.store.base import Status

#: How many rows a page looks at.
STRETCH: Final = 5000

#: As the indexes have it: a pending one has a time when it is due.
WITH_STATUS: Final[Mapping[Status, str]] = {
    "pending": "deliveries.due_ms IS NOT NULL",
    "delivered": "deliveries.status = 'delivered'",
    "dead": "deliveries.status = 'dead'",
}
HOW_MANY: Final = f"""
SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE {{conditions}} LIMIT {STRETCH}) AS few
"""  # noqa: S608 - of a constant
STRETCH_OF_DELIVERIES: Final = f"""
SELECT min(event_id), count(*) FROM (
  SELECT event_id FROM deliveries WHERE {{conditions}} ORDER BY event_id DESC LIMIT {STRETCH}
) AS stretch
"""  # noqa: S608 - of a constant
STRETCH_OF_EVENTS: Final = f"""
SELECT min(id), count(*) FROM (
  SELECT id FROM events WHERE {{conditions}} ORDER BY id DESC LIMIT {STRETCH}
) AS stretch
"""  # noqa: S608 - of a constant

_DELIVERIES: Final = """
SELECT events.id, events.source, events.type, deliveries.destination, deliveries.status, deliveries.attempts,
  deliveries.received_ms, deliveries.due_ms, deliveries.leased_until_ms, deliveries.last_reason,
  deliveries.last_http_status, deliveries.updated_ms
FROM deliveries JOIN events ON events.id = deliveries.event_id
"""
DELIVERIES: Final = f"""
{_DELIVERIES}
WHERE {{conditions}} ORDER BY deliveries.event_id DESC, deliveries.destination DESC LIMIT {{limit}}
"""
DELIVERIES_OF_EVENT: Final = f"""
{_DELIVERIES}
WHERE deliveries.event_id = $1 ORDER BY deliveries.destination
"""
#: The deliveries are counted for what is on the page only.
EVENTS: Final = """
SELECT page.*, numbers.*
FROM (
  SELECT id, source, provider, external_id, type, time, received_ms, subject, account
  FROM events WHERE {conditions} ORDER BY id DESC LIMIT {limit}
) AS page
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'delivered'),
    count(*) FILTER (WHERE status = 'dead')
  FROM deliveries WHERE event_id = page.id
) AS numbers
ORDER BY page.id DESC
"""
EVENT: Final = f"SELECT {CHECKED_COLUMNS} FROM events WHERE id = $1"  # noqa: S608 - of a constant

"""The SQL of lists: the conditions of an operator's filters, and the statements that apply them.

Filters name their tables `events` and `deliveries`. See listing.py for how the statements work together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gatehouse.store.listing import SCAN_ROWS
from gatehouse.store.postgres.rows import CHECKED_COLUMNS, encode, is_storable
from gatehouse.store.rows import milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.store.records import DeliveryQuery, EventQuery, Status


class Conditions:
    """Conditions of a WHERE clause, and the values of their numbered parameters."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.parameters: list[Any] = []

    def parameter(self, value: object) -> str:
        """Add a value. Returns the name of its parameter, such as `$1`."""
        self.parameters.append(value)
        return f"${len(self.parameters)}"

    def add(self, text: str, *values: object) -> None:
        """Add a condition, which contains a `{}` for each of its values."""
        names = [self.parameter(value) for value in values]
        self._texts.append(text.format(*names))

    def __str__(self) -> str:
        return " AND ".join(self._texts) or "true"


def can_match(query: DeliveryQuery | EventQuery) -> bool:
    """Tell whether any row can match: a text column can't contain everything that a query can."""
    names = (getattr(query, "destination", None), getattr(query, "event_id", None))
    return is_storable(query.source, query.type, *names)


def add_filters(conditions: Conditions, query: DeliveryQuery | EventQuery) -> None:
    """Add a query's conditions on events."""
    if query.source is not None:
        conditions.add("events.source = {}", query.source)
    if query.type is not None:
        conditions.add("events.type LIKE {}::bytea", like(query.type))
    if query.since is not None:
        conditions.add("events.received_ms >= {}", milliseconds(query.since))
    if query.until is not None:
        conditions.add("events.received_ms < {}", milliseconds(query.until))


def like(pattern: str) -> bytes:
    """Translate a pattern, in which only the star is special, to LIKE."""
    for special in "\\%_":
        pattern = pattern.replace(special, f"\\{special}")
    return encode(pattern.replace("*", "%"))


#: As the partial indexes have it: a delivery is pending if it has a time when it is due.
HAS_STATUS: Final[Mapping[Status, str]] = {
    "pending": "deliveries.due_ms IS NOT NULL",
    "delivered": "deliveries.status = 'delivered'",
    "dead": "deliveries.status = 'dead'",
}
COUNT_UP_TO_LIMIT: Final = f"""
SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE {{conditions}} LIMIT {SCAN_ROWS}) AS few
"""  # noqa: S608 - of a constant
RANGE_OF_DELIVERIES: Final = f"""
SELECT min(event_id), count(*) FROM (
  SELECT event_id FROM deliveries WHERE {{conditions}} ORDER BY event_id DESC LIMIT {SCAN_ROWS}
) AS scanned
"""  # noqa: S608 - of a constant
RANGE_OF_EVENTS: Final = f"""
SELECT min(id), count(*) FROM (
  SELECT id FROM events WHERE {{conditions}} ORDER BY id DESC LIMIT {SCAN_ROWS}
) AS scanned
"""  # noqa: S608 - of a constant

_DELIVERIES: Final = """
SELECT events.id, events.source, events.type, deliveries.destination, deliveries.status, deliveries.attempts,
  deliveries.received_ms, deliveries.due_ms, deliveries.leased_until_ms, deliveries.last_reason,
  deliveries.last_http_status, deliveries.updated_ms, deliveries.last_duration_ms
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
#: Counts the deliveries only of the events on the page.
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

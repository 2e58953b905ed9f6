"""The conditions of an operator's filters, in SQL, and the values of their parameters.

Filters name their tables `events` and `deliveries`. The conditions on columns of `events_search` have the
form of its expressions, so that PostgreSQL checks them in the index and visits only rows that can match.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gatehouse.store.postgres.rows import encode, is_storable
from gatehouse.store.rows import milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.store.records import DeliveryQuery, EventQuery, Status


class Conditions:
    """Conditions of a WHERE clause, and the values of their numbered parameters."""

    def __init__(self, parameters: list[Any] | None = None) -> None:
        """Two clauses of one statement share a list of `parameters`."""
        self._texts: list[str] = []
        self.parameters: list[Any] = [] if parameters is None else parameters

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
    return is_storable(query.source, query.type, query.reason, *names)


def add_event_filters(conditions: Conditions, query: EventQuery) -> None:
    """Add the conditions on events: one delivery of the event has to meet all those on deliveries."""
    add_filters(conditions, query)
    of_deliveries = Conditions(conditions.parameters)
    add_delivery_filters(of_deliveries, query)
    if str(of_deliveries) != "true":
        conditions.add(_HAS_DELIVERY.replace("{conditions}", str(of_deliveries)))
    if query.contains is not None:
        conditions.add("position({}::bytea IN events.body) > 0", query.contains)


def add_delivery_filters(conditions: Conditions, query: DeliveryQuery | EventQuery) -> None:
    """Add the conditions on deliveries."""
    if query.status is not None:
        conditions.add(HAS_STATUS[query.status])
    if query.destination is not None:
        conditions.add("deliveries.destination = {}", query.destination)
    add_attempt_filters(conditions, query)


def add_attempt_filters(conditions: Conditions, query: DeliveryQuery | EventQuery) -> None:
    """Add the conditions on an attempt of a delivery.

    The row of a delivery tells about its last attempt. Those before it are stored, and the last one too,
    unless it was the first and was accepted.
    """
    last, stored = Conditions(conditions.parameters), Conditions(conditions.parameters)
    for name in ("reason", "http_status"):
        value = getattr(query, name)
        if value is not None:
            last.add(f"deliveries.last_{name} = {{}}", value)
            stored.add(f"attempts.{name} = {{}}", value)
    if str(stored) != "true":
        conditions.add(_HAS_ATTEMPT.replace("{last}", str(last)).replace("{stored}", str(stored)))


def add_filters(conditions: Conditions, query: DeliveryQuery | EventQuery) -> None:
    """Add a query's conditions on events, except those on their deliveries and bodies."""
    if query.source is not None:
        conditions.add("events.source = {}", query.source)
    if query.type is not None:
        _add_pattern(conditions, query.type)
    for name in ("external_id", "subject", "account"):
        value = getattr(query, name, None)
        if value is not None:
            _add_equal(conditions, name, encode(value))
    if query.since is not None:
        conditions.add("events.received_ms >= {}", milliseconds(query.since))
    if query.until is not None:
        conditions.add("events.received_ms < {}", milliseconds(query.until))


def _add_equal(conditions: Conditions, column: str, value: bytes) -> None:
    """Add a condition on the index, and one on the row if the index has only the start of its value."""
    conditions.add(f"substr(events.{column}, 1, {_INDEXED}) = {{}}", value[:_INDEXED])
    if len(value) >= _INDEXED:
        conditions.add(f"events.{column} = {{}}", value)


def _add_pattern(conditions: Conditions, pattern: str) -> None:
    literal, star, rest = pattern.partition("*")
    if not star:
        _add_equal(conditions, "type", encode(pattern))
        return
    prefix = encode(literal)[:_INDEXED]
    if prefix:
        conditions.add(f"substr(events.type, 1, {_INDEXED}) >= {{}}", prefix)
        # No byte of UTF-8 is the largest one.
        conditions.add(f"substr(events.type, 1, {_INDEXED}) < {{}}", prefix[:-1] + bytes([prefix[-1] + 1]))
    if rest or len(prefix) == _INDEXED:
        conditions.add("events.type LIKE {}::bytea", like(pattern))


def like(pattern: str) -> bytes:
    """Translate a pattern, in which only the star is special, to LIKE."""
    for special in "\\%_":
        pattern = pattern.replace(special, f"\\{special}")
    return encode(pattern.replace("*", "%"))


#: How many bytes of a value the index for searches has.
_INDEXED: Final = 64
_HAS_ATTEMPT: Final = """
({last} OR EXISTS (
  SELECT 1 FROM attempts
  WHERE attempts.event_id = deliveries.event_id AND attempts.destination = deliveries.destination
    AND {stored}
))
"""
_HAS_DELIVERY: Final = """
EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event_id = events.id AND {conditions})
"""
#: As the partial indexes have it: a delivery is pending if it has a time when it is due.
HAS_STATUS: Final[Mapping[Status, str]] = {
    "pending": "deliveries.due_ms IS NOT NULL",
    "delivered": "deliveries.status = 'delivered'",
    "dead": "deliveries.status = 'dead'",
    "discarded": "deliveries.status = 'discarded'",
}

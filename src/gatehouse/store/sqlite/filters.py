"""The conditions of an operator's filters, in SQL, and the values of their parameters.

Filters name their tables `events` and `deliveries`. A statement contains only the conditions that a query
has, because a scan evaluates them for each row.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from gatehouse.store.records import EventQuery
from gatehouse.store.rows import milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.store.records import DeliveryQuery

Parameters: TypeAlias = dict[str, str | bytes | int | None]

#: By the name of the filter. SQLite evaluates those first that need only the index of the scan. The body is
#: the last, because it takes longest.
_OF_EVENTS: Final[Mapping[str, str]] = {
    "source": "events.source = :source",
    "type": "events.type GLOB :type",
    "external_id": "events.external_id = :external_id",
    "subject": "events.subject = :subject",
    "account": "events.account = :account",
    "since": "events.received_ms >= :since",
    "until": "events.received_ms < :until",
}
_CONTAINS: Final = "instr(events.body, :contains) > 0"
_OF_DELIVERIES: Final[Mapping[str, str]] = {
    "destination": "deliveries.destination = :destination",
    "status": "deliveries.status = :status",
}
_OF_ATTEMPTS: Final[Mapping[str, str]] = {
    "reason": "attempts.reason = :reason",
    "http_status": "attempts.http_status = :http_status",
}
#: The row of a delivery tells about its last attempt. Those before it are stored, and the last one too unless
#: it was the first and was accepted.
_HAS_ATTEMPT: Final = """
({last} OR EXISTS (
  SELECT 1 FROM attempts
  WHERE attempts.event_seq = deliveries.event_seq AND attempts.destination = deliveries.destination
    AND {stored}
))
"""
_HAS_DELIVERY: Final = """
EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event_seq = events.seq AND {conditions})
"""
_FILTERS: Final = (*_OF_EVENTS, *_OF_DELIVERIES, *_OF_ATTEMPTS, "contains")
#: Characters other than the star that are special in GLOB.
_SPECIAL: Final = re.compile(r"[?\[]")


def filter_parameters(query: DeliveryQuery | EventQuery) -> Parameters:
    """Return the values of a query's filters."""
    return {
        **{name: getattr(query, name, None) for name in _FILTERS},
        "type": None if query.type is None else glob(query.type),
        "since": None if query.since is None else milliseconds(query.since),
        "until": None if query.until is None else milliseconds(query.until),
    }


def glob(pattern: str) -> str:
    """Translate a pattern, in which only the star is special, to GLOB."""
    return _SPECIAL.sub(r"[\g<0>]", pattern)


def event_filters(query: EventQuery) -> str:
    """Return the conditions on a row of events: one of its deliveries has to meet all those on deliveries."""
    conditions = _given(query, _OF_EVENTS)
    if of_deliveries := _delivery_conditions(query):
        conditions.append(_HAS_DELIVERY.replace("{conditions}", _all_of(of_deliveries)))
    if query.contains is not None:
        conditions.append(_CONTAINS)
    return _all_of(conditions)


def delivery_filters(query: DeliveryQuery) -> str:
    """Return the conditions on a delivery and its event."""
    return _all_of([*_given(query, _OF_EVENTS), *_delivery_conditions(query)])


def own_delivery_filters(query: EventQuery) -> str:
    """Return those conditions on an event that one of its deliveries has to meet, for that delivery."""
    return _all_of(_delivery_conditions(query))


def _delivery_conditions(query: DeliveryQuery | EventQuery) -> list[str]:
    conditions = _given(query, _OF_DELIVERIES)
    if stored := _given(query, _OF_ATTEMPTS):
        text = _all_of(stored)
        last = text.replace("attempts.", "deliveries.last_")
        conditions.append(_HAS_ATTEMPT.replace("{last}", last).replace("{stored}", text))
    return conditions


def _given(query: DeliveryQuery | EventQuery, conditions: Mapping[str, str]) -> list[str]:
    return [text for name, text in conditions.items() if getattr(query, name, None) is not None]


def _all_of(conditions: list[str]) -> str:
    return " AND ".join(conditions) or "true"

"""The conditions of operators' queries, for statements that name their tables `events` and `deliveries`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from gatehouse.store.rows import milliseconds

if TYPE_CHECKING:
    from gatehouse.store.base import DeliveryQuery, EventQuery

Parameters: TypeAlias = dict[str, str | int | None]

OF_EVENTS: Final = """
(:source IS NULL OR events.source = :source)
AND (:type IS NULL OR events.type GLOB :type)
AND (:since IS NULL OR events.received_ms >= :since)
AND (:until IS NULL OR events.received_ms < :until)
"""
OF_DELIVERIES: Final = f"""
(:destination IS NULL OR deliveries.destination = :destination)
AND (:status IS NULL OR deliveries.status = :status)
AND {OF_EVENTS}
"""
#: What GLOB takes for more than itself, but for the star.
_SPECIAL: Final = re.compile(r"[?\[]")


def parameters(query: DeliveryQuery | EventQuery) -> Parameters:
    """Return the values of a query's conditions."""
    return {
        "source": query.source,
        "type": None if query.type is None else glob(query.type),
        "status": query.status,
        "since": None if query.since is None else milliseconds(query.since),
        "until": None if query.until is None else milliseconds(query.until),
    }


def glob(pattern: str) -> str:
    """Write a pattern, in which only the star is special, for GLOB."""
    return _SPECIAL.sub(r"[\g<0>]", pattern)

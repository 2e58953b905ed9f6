"""The conditions of operators' queries, for statements that name their tables `events` and `deliveries`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.store.postgres.rows import encode, is_storable
from gatehouse.store.rows import milliseconds

if TYPE_CHECKING:
    from gatehouse.store.base import DeliveryQuery, EventQuery


class Conditions:
    """Conditions with their parameters, in the order that they are numbered."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.parameters: list[Any] = []

    def parameter(self, value: object) -> str:
        """Return the place of a value in the statement."""
        self.parameters.append(value)
        return f"${len(self.parameters)}"

    def add(self, text: str, *values: object) -> None:
        """Add a condition, with a `{}` for each of its values. Without values it has to hold none."""
        places = [self.parameter(value) for value in values]
        self._texts.append(text.format(*places))

    def __str__(self) -> str:
        return " AND ".join(self._texts) or "true"


def is_possible(query: DeliveryQuery | EventQuery) -> bool:
    """Tell whether any row can be asked for: no text in the database holds what these may."""
    names = (getattr(query, "destination", None), getattr(query, "event_id", None))
    return is_storable(query.source, query.type, *names)


def add_filters(conditions: Conditions, query: DeliveryQuery | EventQuery) -> None:
    """Add what a query says of events."""
    if query.source is not None:
        conditions.add("events.source = {}", query.source)
    if query.type is not None:
        conditions.add("events.type LIKE {}::bytea", like(query.type))
    if query.since is not None:
        conditions.add("events.received_ms >= {}", milliseconds(query.since))
    if query.until is not None:
        conditions.add("events.received_ms < {}", milliseconds(query.until))


def like(pattern: str) -> bytes:
    """Write a pattern, in which only the star is special, for LIKE."""
    for special in "\\%_":
        pattern = pattern.replace(special, f"\\{special}")
    return encode(pattern.replace("*", "%"))

"""Parses which events an operator wants to replay or retry, and how fast. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from pydantic_core import PydanticCustomError

from gatehouse.config.quantities import parse_rate
from gatehouse.language.times import rfc3339
from gatehouse.operator import queries
from gatehouse.operator.operation_types import DEFAULT_RATE, OperationBody
from gatehouse.operator.queries import BadQueryError
from gatehouse.operator.request_types import MAX_NAMES, EventFilters
from gatehouse.store.records import EventQuery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.store.operations import Kind

_SECONDS = {"s": 1, "m": 60, "h": 3600}
#: The longest time per event, in seconds. A slower rate is a typing error, and would hardly ever end.
_SLOWEST = 86_400


class OperationRequest(NamedTuple):
    """A replay or a retry that an operator asks for."""

    query: EventQuery
    to: tuple[str, ...] | None
    #: Events per second.
    rate: float
    #: Only count.
    dry_run: bool


def operation_request(kind: Kind, given: Mapping[str, Any], now: float) -> OperationRequest:
    """Parse the body of a request. Raises `BadQueryError`.

    Without a filter, `all` is required. Otherwise a request that lost its filter would replay every event.
    """
    if given.keys() - OperationBody.__annotations__.keys():
        names = ", ".join(OperationBody.__annotations__)
        raise BadQueryError(f"unknown member; the members are: {names}")
    filters = given.get("filter", {})
    if not isinstance(filters, dict):
        raise BadQueryError("filter must be an object")
    query = _query(kind, filters, now)
    if not filters and not queries.flag(given, "all"):
        raise BadQueryError('give a filter, or {"all": true} for every event')
    return OperationRequest(query, _names(given), _rate(given), queries.flag(given, "dry_run"))


def _query(kind: Kind, filters: Mapping[str, Any], now: float) -> EventQuery:
    if filters.keys() - EventFilters.__annotations__.keys():
        names = ", ".join(sorted(EventFilters.__annotations__))
        raise BadQueryError(f"unknown filter; the filters are: {names}")
    query = queries.event_query({name: queries.as_text(name, value) for name, value in filters.items()}, now)
    if kind == "retry":
        if query.status not in (None, "dead"):
            raise BadQueryError("only dead deliveries are retried")
        query = msgspec.structs.replace(query, status="dead")
    # What is received later is not included, however long the operation runs.
    until = now if query.until is None else min(query.until, now)
    return msgspec.structs.replace(query, until=until)


def _names(given: Mapping[str, Any]) -> tuple[str, ...] | None:
    if "to" not in given:
        return None
    names = given["to"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise BadQueryError("to must be a list of names")
    if len(names) > MAX_NAMES:
        raise BadQueryError(f"to must have at most {MAX_NAMES} names")
    return tuple(dict.fromkeys(names))


def _rate(given: Mapping[str, Any]) -> float:
    try:
        rate = float(parse_rate(given.get("rate", DEFAULT_RATE)))
    except PydanticCustomError as error:
        raise BadQueryError('rate must be a number per s, m or h: "50/s"') from error
    if rate * _SLOWEST < 1:
        raise BadQueryError('rate must be at least one event per day: "0.05/h" or more')
    return rate


def format_rate(rate: float) -> str:
    """Format a rate in the first unit in which it is at least one: `50/s`, `2/m`."""
    unit = next((unit for unit, seconds in _SECONDS.items() if rate * seconds >= 1), "h")
    return f"{round(rate * _SECONDS[unit], 3):g}/{unit}"


def shown_filter(kind: Kind, query: EventQuery) -> dict[str, str]:
    """Return the filters of an operation as text. A retry has no status, because it is always `dead`."""
    given = {name: value for name, value in msgspec.structs.asdict(query).items() if value is not None}
    if kind == "retry":
        given.pop("status", None)
    return {name: _as_shown(name, value) for name, value in given.items()}


def _as_shown(name: str, value: object) -> str:
    if name in ("since", "until") and isinstance(value, float):
        return rfc3339(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

"""Which events or dead letters a person has chosen: filters with fixed times, and the same in words. Pure."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final, Literal

from gatehouse.language.times import parse_time, rfc3339
from gatehouse.operator.page.filters import given
from gatehouse.operator.page.wording import precisely
from gatehouse.operator.queries import parse_point_in_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: What is chosen, and how a sentence begins.
Chosen = Literal["events", "dead letters"]
_ABOUT_EVENTS: Final = {
    "source": "from {}",
    "type": "of type {}",
    "external_id": "with the provider's id {}",
    "subject": "with the subject {}",
    "account": "of the account {}",
    "contains": "with “{}” in the body",
    "since": "received since {}",
    "until": "received before {}",
}
_STATUSES: Final = {
    "dead": "a dead letter",
    "pending": "a pending delivery",
    "delivered": "a delivery that has succeeded",
    "discarded": "a discarded delivery",
}


def fixed(query: Mapping[str, str], names: Iterable[str], now: float) -> dict[str, str]:
    """Return the filters of a query, with times that mean the same later: `1h` would move on.

    `until` is `now` at the latest, so that what is received later is not chosen. A time that the API would
    refuse stays as it is.
    """
    filters = given(query, names)
    times = {
        name: parse_point_in_time(filters[name], now, UTC) for name in ("since", "until") if name in filters
    }
    filters |= {name: rfc3339(time) for name, time in times.items() if time is not None}
    until = times.get("until", now)
    return filters if until is None else filters | {"until": rfc3339(min(until, now))}


def in_words(filters: Mapping[str, str], chosen: Chosen) -> str:
    """Say which events or dead letters filters choose: `Events from shop, of type invoice.*`."""
    shown = {
        name: _to_the_second(value) if name in ("since", "until") else value
        for name, value in filters.items()
    }
    if "since" in shown and "until" in shown:
        shown["since"] = f"{shown.pop('since')} and before {shown.pop('until')}"
    parts = [text.format(shown[name]) for name, text in _ABOUT_EVENTS.items() if name in shown]
    parts += _about_deliveries(shown, chosen)
    head = "Events" if chosen == "events" else "Dead letters"
    if chosen == "dead letters" and "destination" in shown:
        return ", ".join([f"{head} of {shown['destination']}", *parts])
    if not parts:
        head = "All events" if chosen == "events" else "All dead letters"
    return f"{head} {', '.join(parts)}".strip()


def _to_the_second(time: str) -> str:
    at = parse_time(time)
    return time if at is None else precisely(rfc3339(int(at)))


def _about_deliveries(shown: Mapping[str, str], chosen: Chosen) -> list[str]:
    parts = []
    if chosen == "events" and ("destination" in shown or "status" in shown):
        delivery = _STATUSES.get(shown.get("status", ""), "a delivery")
        parts.append(f"with {delivery}" + (f" to {shown['destination']}" if "destination" in shown else ""))
    results = [shown[name] for name in ("reason",) if name in shown]
    results += [f"HTTP {shown[name]}" for name in ("http_status",) if name in shown]
    if results:
        parts.append(f"with an attempt that ended with {' and '.join(results)}")
    return parts

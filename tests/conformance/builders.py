"""Input for a store, with defaults for every value that is irrelevant to a test."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from doubles.dedupe import dedupe_keys
from gatehouse.events.event import Event, new_id
from gatehouse.store.base import Arrival, Assignment, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.store.base import Delivery, Receipt, Reply, Store

#: When the tests begin (unix seconds).
NOW = 1_750_000_000.0
WINDOW = 7 * 86400.0
#: For tests that do not care about the commit deadline.
NEVER = math.inf


def event(
    body: bytes = b'{"id":"evt_1"}',
    *,
    source: str = "mandato",
    received: float = NOW,
    content_type: str | None = "application/json",
    headers: tuple[tuple[str, str], ...] = (),
    event_type: str = "invoice.accepted",
    subject: str | None = None,
    data_span: tuple[int, int] | None = None,
    data_is_json: bool = True,
) -> Event:
    return Event(
        id=new_id(received),
        source=source,
        path=f"/webhooks/{source}",
        provider="mandato",
        external_id="evt_1",
        type=event_type,
        time="2025-06-15T15:06:40Z",
        received=received,
        subject=subject,
        account=None,
        content_type=content_type,
        headers=headers,
        body=body,
        data_span=data_span,
        data_is_json=data_is_json,
    )


def arrival(
    *keys: bytes | None,
    to: Sequence[str] = ("billing",),
    leased: bool = False,
    until: float = NOW + WINDOW,
    of: Event | None = None,
    order: bytes | None = None,
    reply: Reply | None = None,
    verified_by: str | None = None,
) -> Arrival:
    """Make an arrival for these destinations with these dedupe keys, whose scopes are their positions."""
    assignments = tuple(Assignment(destination, leased, order) for destination in to)
    return Arrival(of or event(), dedupe_keys(*keys, until=until), assignments, reply, verified_by)


def result(
    delivery: Delivery,
    status: str = "delivered",
    *,
    due_at: float = 0.0,
    reason: str = "ok",
    at: float = NOW,
) -> Result:
    """Make the result of an attempt."""
    assert status in {"pending", "delivered", "dead"}
    attempts = delivery.attempts + 1
    return Result(delivery, status, attempts, reason, 200, due_at, at)  # type: ignore[arg-type]


async def accept(store: Store, *arrivals: Arrival) -> list[Receipt]:
    return await store.accept(arrivals, deadline=NEVER)


async def lease(
    store: Store,
    destination: str = "billing",
    *,
    now: float = NOW,
    until: float | None = None,
    limit: int = 5000,
) -> list[Delivery]:
    """Lease what is due at `now`, for 30 s unless told otherwise."""
    return await store.lease(destination, now=now, until=now + 30 if until is None else until, limit=limit)


async def accept_and_lease(store: Store, *arrivals: Arrival) -> list[Delivery]:
    await accept(store, *arrivals)
    return await lease(store)


def past() -> float:
    """Return a commit deadline that has passed."""
    return time.monotonic() - 1

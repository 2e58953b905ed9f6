"""What operators look for in a store, and what they get: queries, rows of lists, and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import msgspec

if TYPE_CHECKING:
    from gatehouse.events.event import Event

T = TypeVar("T")

Status = Literal["pending", "delivered", "dead"]


class DeliveryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries: all conditions that are given have to hold."""

    destination: str | None = None
    status: Status | None = None
    event_id: str | None = None
    source: str | None = None
    #: A pattern, as routes have them: `invoice.*`.
    type: str | None = None
    #: Received at or after, and before (unix seconds).
    since: float | None = None
    until: float | None = None


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: all conditions that are given have to hold."""

    source: str | None = None
    type: str | None = None
    #: Events with at least one delivery of this status.
    status: Status | None = None
    since: float | None = None
    until: float | None = None


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as operators see it."""

    event_id: str
    source: str
    type: str
    destination: str
    status: Status
    attempts: int
    received: float
    #: When a pending one is due; None for others, and for one that is held back behind another.
    due: float | None
    last_reason: str | None
    last_http_status: int | None
    #: When the last attempt ended, or the status changed.
    updated: float


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event in a list: what tells it apart, without its body."""

    id: str
    source: str
    provider: str
    external_id: str
    type: str
    time: str
    received: float
    subject: str | None
    account: str | None
    #: How many of its deliveries have each status.
    pending: int
    delivered: int
    dead: int


class StoredEvent(msgspec.Struct, frozen=True):
    """One event with all that is known of it."""

    event: Event
    deliveries: tuple[DeliveryRow, ...]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Part of a list, the newest first."""

    items: tuple[T, ...]
    #: Asks for what follows; None at the end.
    cursor: str | None


class Retried(msgspec.Struct, frozen=True):
    """What one step of a retry changed."""

    #: How many deliveries are due again, by destination.
    destinations: dict[str, int]
    #: False: the step met its limit, so another one has more to do.
    done: bool

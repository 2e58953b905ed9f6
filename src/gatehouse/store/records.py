"""The queries that operators ask a store, and the rows and pages that it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import msgspec

if TYPE_CHECKING:
    from gatehouse.events.event import Event

T = TypeVar("T")

Status = Literal["pending", "delivered", "dead", "discarded"]
#: What an operator can change.
Action = Literal[
    "replay", "retry", "discard", "pause", "resume", "probe", "test", "reload", "verify", "sweep", "forget"
]


class DeliveryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries to return: those that meet all given conditions."""

    destination: str | None = None
    status: Status | None = None
    event_id: str | None = None
    source: str | None = None
    #: A pattern as in a route: `invoice.*`.
    type: str | None = None
    #: The provider's id of the event.
    external_id: str | None = None
    #: One attempt of the delivery meets both: its reason, and the HTTP status of its reply.
    reason: str | None = None
    http_status: int | None = None
    #: Received at or after `since`, and before `until` (unix seconds).
    since: float | None = None
    until: float | None = None


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to return: those that meet all given conditions.

    One delivery of the event has to meet all conditions on deliveries.
    """

    source: str | None = None
    type: str | None = None
    external_id: str | None = None
    subject: str | None = None
    account: str | None = None
    #: Bytes that the body contains.
    contains: bytes | None = None
    since: float | None = None
    until: float | None = None
    #: Conditions on deliveries.
    destination: str | None = None
    status: Status | None = None
    #: One attempt of the delivery meets both.
    reason: str | None = None
    http_status: int | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt of a delivery."""

    #: Counted from 1 for each delivery. Numbers are missing if an attempt was not recorded.
    number: int
    #: When it ended.
    at: float
    #: One of `gatehouse.delivery.outcome.OUTCOME_REASONS`.
    reason: str
    http_status: int | None
    #: In seconds; None if it is not known.
    duration: float | None
    #: One line that TLS, the name service or the connection reported.
    error: str | None = None
    #: The start of the body of the destination's reply; None if it was not kept.
    reply: bytes | None = None


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery in a list."""

    event_id: str
    source: str
    type: str
    destination: str
    status: Status
    attempts: int
    received: float
    #: When the delivery is due; None if it is not pending, or held behind another one.
    due: float | None
    last_reason: str | None
    last_http_status: int | None
    #: When the last attempt ended or the status changed.
    updated: float
    #: How long the last attempt took (seconds).
    last_duration: float | None = None
    #: Of a discarded delivery: why an operator discarded it, and who did.
    note: str | None = None
    discarded_by: str | None = None


class DeadGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Dead deliveries to one destination whose last attempts had the same result, and their number."""

    destination: str
    #: Of the last attempt.
    reason: str | None
    http_status: int | None
    count: int
    #: When their first and their last event was received (unix seconds).
    oldest: float
    newest: float


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event in a list, without its body."""

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
    discarded: int


class EventFacts(msgspec.Struct, frozen=True):
    """What identifies an event, in a list from old to new."""

    id: str
    source: str
    type: str
    external_id: str
    subject: str | None
    account: str | None
    received: float
    #: Those that have a delivery, in the order of their names.
    destinations: tuple[str, ...]


class StoredEvent(msgspec.Struct, frozen=True):
    """An event with its body, its deliveries and their attempts."""

    event: Event
    deliveries: tuple[DeliveryRow, ...]
    #: By destination, each in the order in which they were made. Of many, the first and the last ones.
    attempts: dict[str, tuple[Attempt, ...]]
    #: How its request was verified (see `gatehouse.verify.verified_by`). This and the next value are None if
    #: version 0.1 stored the event.
    verified_by: str | None = None
    #: When the transaction that holds the event was written (unix seconds, by the clock of `event.received`).
    stored: float | None = None


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a list."""

    items: tuple[T, ...]
    #: Asks for the next page; None at the end.
    cursor: str | None
    #: The search has reached events that were received at this time (unix seconds); None at the end.
    searched_to: float | None = None


class Retried(msgspec.Struct, frozen=True):
    """What one step of a retry changed."""

    #: The number of deliveries that are due again, by destination.
    destinations: dict[str, int]
    #: False: the step reached its limit, and another one is needed.
    done: bool


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A change that an operator made."""

    #: Unix seconds.
    at: float
    #: The name of the operator's token, or who else it was: `local`, `SIGHUP`.
    who: str
    role: str
    action: Action
    #: What was changed: names, ids and filters.
    what: dict[str, Any]
    #: How many things of the kind were changed.
    count: int


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which audit entries to return: those that meet all given conditions."""

    who: str | None = None
    action: Action | None = None
    #: Changed at or after `since`, and before `until` (unix seconds).
    since: float | None = None
    until: float | None = None

"""What the gateway asks of a store. Every backend runs the same conformance suite (tests/conformance).

Times are unix seconds as floats; the store keeps milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.event import Event

#: How long a delivery that is leased on arrival stays leased (seconds).
LEASE: Final = 30.0


class Assignment(msgspec.Struct, frozen=True, gc=False):
    """A destination that an arriving event goes to."""

    destination: str
    #: True: the lane in this process takes the delivery from memory, so it is stored as leased.
    leased: bool


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """An event on its way in: what `accept` needs to know about it."""

    event: Event
    #: Dedupe keys by their place in `dedupe.by`; None where the template did not resolve.
    keys: tuple[bytes | None, ...]
    #: Until when the keys make a duplicate (unix seconds).
    keep_keys_until: float
    assignments: tuple[Assignment, ...] = ()


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What became of an arrival."""

    #: accepted: stored now. duplicate: a key was known. conflict: known, but with other bytes.
    status: Literal["accepted", "duplicate", "conflict"]
    #: The event's id, or for a duplicate the id of the first one.
    event_id: str
    #: For a new event with leased assignments: the `leased_until` of their deliveries. Otherwise 0.0.
    leased_until: float = 0.0


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One event for one destination, leased to this process."""

    event: Event
    destination: str
    #: How many attempts were made, or may have been made before a crash.
    attempts: int
    #: Until when it is leased. Also the fencing token: `record` needs it unchanged.
    leased_until: float


class Result(msgspec.Struct, frozen=True, gc=False):
    """What an attempt made of a delivery."""

    delivery: Delivery
    status: Literal["pending", "delivered", "dead"]
    #: Attempts made by now.
    attempts: int
    #: One of `gatehouse.delivery.outcome.OUTCOME_REASONS`.
    reason: str
    #: The destination's HTTP status, when it gave one.
    http_status: int | None
    #: When a pending one is due again (unix seconds).
    due_at: float
    at: float


class Counts(msgspec.Struct, frozen=True):
    """Deliveries of one destination, for the gauges."""

    pending: int
    dead: int
    #: When the oldest pending delivery's event was received (unix seconds); None when none is pending.
    oldest_pending: float | None


class Purged(msgspec.Struct, frozen=True):
    """What one purge step removed."""

    events: int
    keys: int
    #: False: the step met its limit, so another one has more to do.
    done: bool


class Store(Protocol):
    """Events, their dedupe keys and their deliveries, durable.

    Any method raises `StoreUnavailableError` when the store can't answer; it then changed nothing.
    """

    async def accept(self, arrivals: Sequence[Arrival], *, deadline: float) -> list[Receipt]:
        """Store what is new of a batch, in ONE transaction, and return a receipt per arrival, in order.

        An arrival of which any key is known (same source, same place, not expired) is a duplicate, also of an
        earlier arrival in the same batch. Its unknown keys are not recorded: one of them may be an unsigned
        id that a replay made up, and would make a duplicate of the genuine event that carries it later. A new
        event is stored with all its keys and one delivery per assignment; without keys it is always new. Its
        leased deliveries are leased for `LEASE` seconds. When this returns, it is on disk (fsync).

        Under load it is called again before it has returned, each time with a full batch.

        `deadline` is in `time.monotonic()`: a transaction that would commit later is rolled back and
        `StoreUnavailableError` raised.
        """

    async def lease(self, destination: str, *, now: float, until: float, limit: int) -> list[Delivery]:
        """Take up to `limit` pending deliveries that are due and not leased, the longest due first."""

    async def record(self, results: Sequence[Result]) -> list[bool]:
        """Write results in one transaction. False where the lease was lost: that delivery is unchanged.

        A delivery recorded as pending is no longer leased.
        """

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back leases without an attempt having been made: due at once, attempts unchanged."""

    async def next_due(self, destination: str) -> float | None:
        """Return when the next pending delivery of this destination can be leased; None without any."""

    async def counts(self) -> dict[str, Counts]:
        """Count the deliveries by destination. May take long; never stalls `accept`."""

    async def purge(self, *, now: float, events_before: float, dead_before: float, limit: int) -> Purged:
        """Remove at most about `limit` rows of what has expired: one small step, to be repeated until `done`.

        Expired: dedupe keys past their time; events received before `events_before` whose deliveries are all
        delivered; events received before `dead_before` with dead ones and none pending. Never one with a
        pending delivery.
        """

    async def ping(self) -> None:
        """Answer if the store can write; raise `StoreUnavailableError` if not."""

    def size(self) -> int:
        """Return the bytes on disk, without touching the database."""

    async def close(self) -> None:
        """Finish what was asked for and let go of the store. Idempotent."""

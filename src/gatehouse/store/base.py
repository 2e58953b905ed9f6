"""What the gateway asks of a store. Every backend runs the same conformance suite (tests/conformance).

Times are unix seconds as floats; the store keeps milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.events.event import Event
    from gatehouse.store.records import (
        DeliveryQuery,
        DeliveryRow,
        EventQuery,
        EventRow,
        Page,
        Retried,
        StoredEvent,
    )

#: Of each source, for each place of `dedupe.by`: the scopes that its key may have.
Places: TypeAlias = "Mapping[str, Sequence[Sequence[bytes]]]"

#: How long a delivery that is leased on arrival stays leased (seconds).
LEASE: Final = 30.0


class Assignment(msgspec.Struct, frozen=True, gc=False):
    """A destination that an arriving event goes to."""

    destination: str
    #: True: the lane in this process takes the delivery from memory, so it is stored as leased.
    leased: bool
    #: Those to one destination with the same key are delivered one after the other, in the order accepted.
    order_key: bytes | None = None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What a destination answered to an event that was relayed within its request."""

    status: int
    content_type: str | None
    body: bytes


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """An event on its way in: what `accept` needs to know about it."""

    event: Event
    #: A dedupe key for each entry of `dedupe.by`; None where its template did not resolve.
    keys: tuple[DedupeKey | None, ...]
    assignments: tuple[Assignment, ...] = ()
    #: The event was delivered already, within its request: its deliveries are stored as delivered, and this
    #: with the event, for a duplicate of it.
    reply: Reply | None = None


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What became of an arrival."""

    #: accepted: stored now. duplicate: a key was known. conflict: known, but with other bytes.
    status: Literal["accepted", "duplicate", "conflict"]
    #: The event's id, or for a duplicate the id of the first one.
    event_id: str
    #: For a new event with leased assignments: the `leased_until` of their deliveries. Otherwise 0.0.
    leased_until: float = 0.0
    #: Destinations whose delivery is held back behind an earlier one with the same order key: not leased.
    held: tuple[str, ...] = ()
    #: For a duplicate of a relayed event: what its destination answered.
    reply: Reply | None = None
    #: With `leased_until`: the fencing token of those leases.
    token: int = 0
    #: For a duplicate of an event with dead deliveries: when one was last asked for again (unix seconds), or
    #: 0.0 for never. Otherwise None.
    dead: float | None = None


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One event for one destination, leased to this process."""

    event: Event
    destination: str
    #: How many attempts were made, or may have been made before a crash or in a lease that ran out.
    attempts: int
    #: Until when it is leased.
    leased_until: float
    #: From when `give_up_after` counts (unix seconds): when the event was received, unless a person asked for
    #: the delivery again since.
    since: float = -1.0
    #: How many of the attempts were made before `since`: the pauses between attempts begin anew after them.
    earlier: int = 0
    #: The fencing token of the lease: `record` and `release` need it unchanged.
    token: int = 0

    def __post_init__(self) -> None:
        if self.since < 0:
            msgspec.structs.force_setattr(self, "since", self.event.received)


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


#: Which deliveries to lease. `due`: those that are due, the longest due first. `new`: of those, the ones that
#: were never attempted. `newest`: the same, the last due first. `next`: those that are due first, even later.
Which = Literal["due", "new", "newest", "next"]


class Counts(msgspec.Struct, frozen=True):
    """Deliveries of one destination, for the gauges."""

    pending: int
    dead: int
    #: When the oldest pending delivery's event was received (unix seconds); None when none is pending.
    oldest_pending: float | None


class Cutoffs(NamedTuple):
    """Before which times things have expired (unix seconds)."""

    #: Dedupe keys that expire up to now.
    now: float
    events_before: float
    dead_before: float


class Purged(msgspec.Struct, frozen=True):
    """What one purge step removed."""

    events: int
    keys: int
    #: False: the step met its limit, so another one has more to do.
    done: bool


class Store(Protocol):
    """Events, their dedupe keys and their deliveries, durable.

    Any method raises `StoreUnavailableError` when the store can't answer; it then changed nothing, as far as
    can be told: of a server that is lost amid a commit nobody knows.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes use it at the same time."""

    @property
    def poll_every(self) -> float:
        """How often to look when nothing is known to be due (seconds): another process may know."""

    async def use_legacy_places(self, places: Callable[[], Places]) -> None:
        """Know the keys that version 0.1 recorded, which stand in the store by their place in `dedupe.by`.

        Before anything is accepted. `places` says which key had which place; it is only asked where there may
        be such keys, and for sources of which that is not in the store yet.
        """

    async def accept(self, arrivals: Sequence[Arrival], *, deadline: float) -> list[Receipt]:
        """Store what is new of a batch, in ONE transaction, and return a receipt per arrival, in order.

        An arrival of which any key is known (same source, same scope, not expired) is a duplicate, also of an
        earlier arrival in the same batch. Its unknown keys are not recorded: one of them may be an unsigned
        id that a replay made up, and would make a duplicate of the genuine event that carries it later. A new
        event is stored with all its keys and one delivery per assignment; without keys it is always new. Its
        leased deliveries are leased for `LEASE` seconds. When this returns, it is on disk (fsync). A delivery
        with an order key behind a pending one of the same destination and key is held: not due before that
        one is delivered or dead, and then at once.

        Under load it is called again before it has returned, each time with a full batch.

        `deadline` is in `time.monotonic()`: a transaction that would commit later is rolled back and
        `StoreUnavailableError` raised.
        """

    async def lease(
        self,
        destination: str,
        *,
        now: float,
        until: float,
        limit: int,
        which: Which = "due",
        other_than: str | None = None,
    ) -> list[Delivery]:
        """Take up to `limit` pending deliveries that are not leased, in the order that `which` says.

        With `next`, `other_than` is the id of an event whose delivery is not taken.

        One whose event is damaged on the disk is never returned: it is dead, with the reason `corrupt`. What
        another process leased and neither recorded nor gave back counts as attempted: it may have been.
        """

    async def record(self, results: Sequence[Result]) -> list[bool]:
        """Write results in one transaction. False where the lease was lost: that delivery is unchanged.

        A delivery recorded as pending is no longer leased. One with an order key holds back the next of its
        key until it is delivered or dead; in that same transaction the next one becomes due.
        """

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back leases without an attempt having been made: due at once, attempts unchanged."""

    async def free_held(self, destination: str, *, limit: int) -> int:
        """Make at most `limit` held deliveries due, and free of their order key. Returns how many.

        For a destination that is in no order any more: what was held back for another delivery goes at once.
        """

    async def next_due(self, destination: str) -> float | None:
        """Return when the next pending delivery of this destination can be leased; None without any."""

    async def known(self, source: str, keys: Sequence[DedupeKey | None], *, now: float) -> Receipt | None:
        """Return the receipt that an arrival with these keys would get as a duplicate; None for a new one."""

    async def events(self, query: EventQuery, *, limit: int, cursor: str | None = None) -> Page[EventRow]:
        """List events, the newest first. Raises `ValueError` for a cursor that is none.

        A page may be short, or empty, and yet not the last: how much one call looks at is bounded.
        """

    async def event(self, event_id: str) -> StoredEvent | None:
        """Return an event with its body and its deliveries; None when there is none, or no longer.

        Raises `StoreError` for one that is damaged on the disk.
        """

    async def deliveries(
        self, query: DeliveryQuery, *, limit: int, cursor: str | None = None
    ) -> Page[DeliveryRow]:
        """List deliveries, the newest first. Pages and errors are as with `events`."""

    async def retry(self, query: DeliveryQuery, *, now: float, limit: int) -> Retried:
        """Make dead deliveries pending and due at once: at most `limit` in one step, repeated until `done`.

        Only dead ones, whatever `query.status` says: a second call finds nothing left to do. Only those that
        were dead at `now`: when it stays the same in all steps, what dies again meanwhile is not made due
        over and over. The oldest first; those with an order key one after the other, as on arrival. Each has
        the whole of its `give_up_after` again, counted from `now`.
        """

    async def revive(
        self, events: Mapping[str, Sequence[str]], *, now: float, asked_before: float
    ) -> dict[str, int]:
        """Make dead deliveries due at once, as `retry` does: of these events, to the destinations of each.

        Only those that nobody asked for again since `asked_before`. Returns how many, by destination.
        """

    async def replay(self, event_id: str, destinations: Sequence[str], *, now: float) -> list[str] | None:
        """Deliver an event again, or for the first time, to these destinations: due at once.

        Returns those for which something changed: a delivery that is pending already stays as it is, so that
        asking twice is asking once. None when there is no such event. It counts attempts on, ignores order
        keys, and gives up no sooner than a new delivery would (the caller's `now` counts as received).
        """

    async def pause(self, destination: str, *, paused: bool) -> None:
        """Remember that a destination is paused, or no longer. Survives a restart."""

    async def paused(self) -> frozenset[str]:
        """Return the destinations that are paused."""

    def watch(self, changed: Callable[[str], None]) -> None:
        """Call `changed(destination)` when another process made something due, or paused or resumed it.

        Only a hint, and it may be one's own: what it would tell is found by looking, too.
        """

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
        """Return the bytes on disk, without touching the database: those of the last `counts` at least."""

    async def close(self) -> None:
        """Finish what was asked for and let go of the store. Idempotent."""

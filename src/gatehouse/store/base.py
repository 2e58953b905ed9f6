"""Defines `Store`, the protocol that both stores implement, and the data that it passes.

Times are unix seconds as floats, and stores keep milliseconds. The same conformance tests run on every store
(tests/conformance).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from gatehouse.store.operations import OperationStore
from gatehouse.store.searching import GROUPS_TIME, PAGE_TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.events.event import Event
    from gatehouse.store.records import (
        Attempt,
        AuditEntry,
        AuditQuery,
        DeadGroup,
        DeliveryQuery,
        DeliveryRow,
        EventFacts,
        EventQuery,
        EventRow,
        Page,
        Retried,
        StoredEvent,
    )

#: For each source, and for each place in its `dedupe.by`: the scopes that a key may have there.
Places: TypeAlias = "Mapping[str, Sequence[Sequence[bytes]]]"

#: How long a delivery stays leased that is leased on arrival (seconds).
LEASE: Final = 30.0


class Assignment(msgspec.Struct, frozen=True, gc=False):
    """A destination of an arriving event."""

    destination: str
    #: True: a lane of this process takes the delivery from memory, so it is stored as leased.
    leased: bool
    #: Deliveries to one destination with the same key are delivered one after the other, in the order of
    #: arrival.
    order_key: bytes | None = None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The reply of a destination to an event that was relayed during its request."""

    status: int
    content_type: str | None
    body: bytes


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A new event, and what `accept` needs to know about it."""

    event: Event
    #: A dedupe key for each entry of `dedupe.by`; None if its template did not resolve.
    keys: tuple[DedupeKey | None, ...]
    assignments: tuple[Assignment, ...] = ()
    #: Set if the event was already delivered, during its request. Its deliveries are stored as delivered, and
    #: the reply is stored for duplicates of the event.
    reply: Reply | None = None
    #: How its request was verified (see `gatehouse.verify.verified_by`).
    verified_by: str | None = None


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The result of an arrival."""

    #: accepted: the event is new and stored. duplicate: a key was known. conflict: a key was known for
    #: another body.
    status: Literal["accepted", "duplicate", "conflict"]
    #: The event's id; for a duplicate, the id of the first event.
    event_id: str
    #: For a new event with leased assignments, the `leased_until` of their deliveries; otherwise 0.0.
    leased_until: float = 0.0
    #: Destinations whose delivery is held behind an earlier one with the same order key, and not leased.
    held: tuple[str, ...] = ()
    #: For a duplicate of a relayed event, the reply of its destination.
    reply: Reply | None = None
    #: The fencing token of the leases, if there are any.
    token: int = 0
    #: For a duplicate of an event with dead deliveries: when one of them was last retried by request (unix
    #: seconds), or 0.0 for never. Otherwise None.
    dead: float | None = None


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """An event for one destination, leased to this process."""

    event: Event
    destination: str
    #: The number of attempts, including those that may have been made before a crash or in a lease that ran
    #: out.
    attempts: int
    #: When the lease ends (unix seconds).
    leased_until: float
    #: When `give_up_after` starts (unix seconds): when the event was received, or later when the delivery was
    #: last retried or replayed by request.
    since: float = -1.0
    #: The number of attempts before `since`. The backoff starts over after them.
    earlier: int = 0
    #: The fencing token of the lease. `record` and `release` compare it.
    token: int = 0
    #: Attempts that were made in this lease and repeated at once. `record` stores them with the last one.
    unrecorded: tuple[Attempt, ...] = ()

    def __post_init__(self) -> None:
        if self.since < 0:
            msgspec.structs.force_setattr(self, "since", self.event.received)


class Result(msgspec.Struct, frozen=True, gc=False):
    """The result of an attempt of a delivery."""

    delivery: Delivery
    status: Literal["pending", "delivered", "dead"]
    #: The number of attempts up to now.
    attempts: int
    #: One of `gatehouse.delivery.outcome.OUTCOME_REASONS`.
    reason: str
    #: The HTTP status of the destination's reply, if there was one.
    http_status: int | None
    #: When a pending delivery is due again (unix seconds).
    due_at: float
    at: float
    #: How long the attempt took (seconds).
    duration: float = 0.0
    #: One line that TLS, the name service or the connection reported.
    error: str | None = None
    #: The start of the body of the destination's reply.
    reply: bytes | None = None


#: Which deliveries to lease. `due`: those that are due, starting with the longest due. `new`: due deliveries
#: that were never attempted, in the same order. `newest`: the same deliveries in reverse order. `next`: the
#: next ones that are due, even in the future.
Which = Literal["due", "new", "newest", "next"]


class Counts(msgspec.Struct, frozen=True):
    """The numbers of a destination's deliveries, for the gauges."""

    pending: int
    dead: int
    #: When the event of the oldest pending delivery was received (unix seconds); None if none is pending.
    oldest_pending: float | None


class Cutoffs(NamedTuple):
    """The times before which data has expired (unix seconds)."""

    #: Dedupe keys have expired up to now.
    now: float
    events_before: float
    dead_before: float
    audit_before: float = 0.0


class Purged(msgspec.Struct, frozen=True):
    """What one step of a purge removed."""

    events: int
    keys: int
    #: False: the step reached its limit, and another one is needed.
    done: bool
    audit: int = 0


class Store(OperationStore, Protocol):
    """Stores events, their dedupe keys and their deliveries durably.

    Each method raises `StoreUnavailableError` if the store can't answer. It has then changed nothing, with
    one exception: if the connection to a server is lost during a commit, nobody knows whether the commit
    happened.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes use the store at the same time."""

    @property
    def poll_every(self) -> float:
        """How often to poll for due deliveries that this process does not know of (seconds)."""

    async def use_legacy_places(self, places: Callable[[], Places]) -> None:
        """Recognize the dedupe keys of version 0.1, which are stored by their place in `dedupe.by`.

        Call it before anything is accepted. `places` returns the scopes at each place. It is only called if
        there may be such keys, and used only for sources whose places are not in the store yet.
        """

    async def accept(self, arrivals: Sequence[Arrival], *, deadline: float) -> list[Receipt]:
        """Store the new events of a batch in ONE transaction, and return one receipt per arrival, in order.

        An arrival is a duplicate if one of its keys is known (same source, same scope, not expired). That
        includes keys of an earlier arrival in the same batch. The unknown keys of a duplicate are not
        recorded: one of them may be an unsigned id that a replay made up, and the genuine event that has this
        id later would then be taken for a duplicate.

        A new event is stored with all its keys and one delivery per assignment. An event without keys is
        always new. Its leased deliveries are leased for `LEASE` seconds. When this returns, the events are on
        the disk (fsync). A delivery with an order key is held while another delivery of the same destination
        and key is pending: it becomes due when that one has been delivered or is dead, and then at once.

        Under load it is called again before it has returned, each time with a full batch.

        `deadline` is in `time.monotonic()`. A transaction that would commit later is rolled back, and
        `StoreUnavailableError` is raised.
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
        """Lease up to `limit` pending deliveries that are not leased, in the order that `which` says.

        With `next`, `other_than` is the id of an event whose delivery is skipped.

        A delivery whose event is damaged on the disk is not returned: it becomes dead with the reason
        `corrupt`. A delivery that another process leased, and neither recorded nor released, counts as
        attempted.
        """

    async def record(self, results: Sequence[Result]) -> list[bool]:
        """Record results in one transaction. Returns False for each lost lease: its delivery is unchanged.

        In the same transaction it stores the attempts, except of deliveries that were delivered at the first
        one. Of a delivery with many attempts, it keeps the first and the last ones. A delivery that is
        recorded as pending is no longer leased. When a delivery with an order key is
        recorded as delivered or dead, the next one of its key becomes due in the same transaction.
        """

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Release leases without an attempt: the deliveries are due at once, and attempts stay the same."""

    async def free_held(self, destination: str, *, limit: int) -> int:
        """Make at most `limit` held deliveries due, and remove their order key. Returns how many.

        It is for a destination that no longer keeps an order: what was held is then delivered at once.
        """

    async def next_due(self, destination: str) -> float | None:
        """Return when the next pending delivery of a destination can be leased; None if there is none."""

    async def known(self, source: str, keys: Sequence[DedupeKey | None], *, now: float) -> Receipt | None:
        """Return the receipt that an arrival with these keys would get as a duplicate; None if it is new."""

    async def events(
        self,
        query: EventQuery,
        *,
        limit: int,
        cursor: str | None = None,
        page_time: float = PAGE_TIME,
    ) -> Page[EventRow]:
        """List events, from new to old. Raises `ValueError` for an invalid cursor.

        A page that is short or empty need not be the last one, because a call ends after `page_time` seconds.
        """

    async def events_onward(
        self, query: EventQuery, *, destination: str | None = None, limit: int, cursor: str | None = None
    ) -> Page[EventFacts]:
        """List events in the order of their ids, which is from old to new. `query.status` is ignored.

        With `destination`, only events that have a delivery to it. `cursor` is the cursor of the page before,
        which is the id of an event. A page can be short, as those of `events`.
        """

    async def event(self, event_id: str) -> StoredEvent | None:
        """Return an event with its body, deliveries and attempts; None if the store does not have it.

        Raises `StoreError` if the event is damaged on the disk.
        """

    async def deliveries(
        self, query: DeliveryQuery, *, limit: int, cursor: str | None = None
    ) -> Page[DeliveryRow]:
        """List deliveries, from new to old. Pages and errors are the same as those of `events`."""

    async def dead_groups(
        self, query: DeliveryQuery, *, cursor: str | None = None, page_time: float = GROUPS_TIME
    ) -> Page[DeadGroup]:
        """Count dead deliveries by destination, last reason and last HTTP status, from new to old.

        Only dead deliveries are counted, whatever `query.status` says. `query.event_id` is ignored. A page
        has the numbers of the deliveries that the call scanned: the sum over all pages is the whole. It
        ends after `page_time` seconds. Errors are those of `events`.
        """

    async def retry(self, query: DeliveryQuery, *, now: float, limit: int) -> Retried:
        """Make dead deliveries pending and due at once, at most `limit` in one step. Repeat it until `done`.

        Only dead deliveries are retried, whatever `query.status` says, so a second call finds none. They must
        have been dead at `now`: pass the same `now` in all steps, so that deliveries which die again in the
        meantime are not retried over and over. The oldest are retried first, and those with an order key one
        after the other, as on arrival. Each has its whole `give_up_after` again, from `now` on.
        """

    async def discard(self, query: DeliveryQuery, *, note: str, by: str, now: float, limit: int) -> Retried:
        """Give up dead deliveries for good, at most `limit` in one step. Repeat it until `done`.

        They are no longer dead letters, and a retry leaves them alone. A replay can still deliver their
        events. The note and the name of who discarded them stay with the deliveries. `now` is as in `retry`.
        """

    async def revive(
        self, events: Mapping[str, Sequence[str]], *, now: float, asked_before: float
    ) -> dict[str, int]:
        """Make dead deliveries of these events due at once, as `retry` does, to the given destinations.

        Deliveries that were retried by request since `asked_before` are skipped. Returns how many are due, by
        destination.
        """

    async def replay(self, event_id: str, destinations: Sequence[str], *, now: float) -> list[str] | None:
        """Deliver an event to these destinations, again or for the first time, at once.

        Returns the destinations for which something changed: a delivery that is already pending stays the
        same, so a second call changes nothing. Returns None if there is no such event. The attempts continue
        to count, order keys are ignored, and `give_up_after` counts from `now`.
        """

    async def pause(self, destination: str, *, paused: bool) -> None:
        """Store that a destination is paused or resumed. It survives a restart."""

    async def paused(self) -> frozenset[str]:
        """Return the destinations that are paused."""

    def watch(self, changed: Callable[[str], None]) -> None:
        """Call `changed(destination)` when another process made deliveries due, or paused or resumed it.

        The call is only a hint, because polling finds the same changes. It may also come for a change of this
        process.
        """

    async def counts(self) -> dict[str, Counts]:
        """Count the deliveries by destination. It may take long, and never delays `accept`."""

    async def add_audit(self, entry: AuditEntry) -> None:
        """Store an audit entry."""

    async def audit(self, query: AuditQuery, *, limit: int, cursor: str | None = None) -> Page[AuditEntry]:
        """List audit entries, from new to old. Raises `ValueError` for an invalid cursor."""

    async def purge(
        self,
        *,
        now: float,
        events_before: float,
        dead_before: float,
        limit: int,
        audit_before: float = 0.0,
    ) -> Purged:
        """Remove at most about `limit` expired rows, in one small step. Repeat it until `done`.

        Dedupe keys expire at their own time. An event expires if all its deliveries were delivered and it was
        received before `events_before`, or if some are dead and it was received before `dead_before`. An
        event with a pending delivery never expires. Audit entries from before `audit_before` have expired.
        """

    async def ping(self) -> None:
        """Return if the store can write. Raise `StoreUnavailableError` otherwise."""

    def size(self) -> int:
        """Return the bytes on the disk without a query. They may be as old as the last call of `counts`."""

    async def close(self) -> None:
        """Finish the running calls, and close the store. Idempotent."""

"""Operations: replays and retries of many events, which run in steps and survive a restart.

An operation is a row in the store. A gateway takes it with a lease and runs it in steps. A step is one
transaction: it checks the lease, makes the deliveries of a few events due, and stores how far the operation
has come. So a crash neither repeats nor skips a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeAlias, cast

import msgspec

from gatehouse.store.listing import SCATTERED_ROWS
from gatehouse.store.records import EventQuery
from gatehouse.store.rows import milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

Kind: TypeAlias = Literal["replay", "retry"]
State: TypeAlias = Literal["running", "done", "cancelled"]

#: How many operations may run at the same time.
MAX_RUNNING: Final = 16
#: How many rows one scan for events reads, and how many if it reads their bodies.
_SCAN_ROWS: Final = 2000
_SCAN_BODIES: Final = 100
#: The columns of an operation, without its lease.
COLUMNS: Final = (
    "id, kind, filter, destinations, rate, state, total, done, failed, requested_by, started_ms, ended_ms,"
    " position"
)

#: Where in `COLUMNS` the filter is.
_FILTER: Final = 2

_decode_query = msgspec.json.Decoder(EventQuery).decode


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A replay or a retry of many events."""

    id: str
    kind: Kind
    #: Which events. Its `until` is not after the start, so nothing that was received later is included.
    query: EventQuery
    #: The destinations; None for those that had the event.
    to: tuple[str, ...] | None
    #: Events per second, at most.
    rate: float
    state: State = "running"
    #: How many events matched at the start.
    total: int = 0
    #: How many events were made due again, and how many could not be.
    done: int = 0
    failed: int = 0
    #: The operator who started it.
    by: str
    started: float
    ended: float | None = None
    #: How far the store has processed it; "" at the start. Each store has positions of its own.
    position: str = ""


class Candidate(NamedTuple):
    """An event that an operation has to process."""

    event_id: str
    #: The position of the operation when this event has been processed.
    position: str


class Candidates(NamedTuple):
    """The events that one scan found, the oldest first."""

    events: tuple[Candidate, ...]
    #: The position after all of them.
    position: str
    #: Whether nothing is left to scan.
    done: bool


class PlanStep(NamedTuple):
    """What one scan counted."""

    #: Events by source and type.
    events: dict[tuple[str, str], int]
    #: Deliveries by destination.
    deliveries: dict[str, int]
    position: str
    done: bool


class Step(NamedTuple):
    """The events of one step, and what the operation is like after it."""

    event_ids: tuple[str, ...]
    position: str
    #: Whether the operation is done with this step.
    is_last: bool
    #: Unix seconds.
    now: float
    #: When the lease ends after this step.
    until: float
    #: The destinations of the config. Deliveries to others are left alone.
    configured: frozenset[str]


class Due(NamedTuple):
    """How many deliveries a step made due, and how many of them were dead."""

    pending: int = 0
    dead: int = 0


class StepResult(NamedTuple):
    """What a step changed."""

    #: By destination.
    destinations: dict[str, Due]
    done: int
    failed: int


class OperationStore(Protocol):
    """The part of a store that keeps operations. Its methods raise the errors of `Store`."""

    async def add_operation(self, operation: Operation) -> bool:
        """Store a new operation. Returns False if `MAX_RUNNING` are running already."""

    async def operation(self, operation_id: str) -> Operation | None:
        """Return an operation; None if the store does not have it."""

    async def operations(self, kind: Kind, *, limit: int) -> list[Operation]:
        """Return the latest operations of a kind, the newest first."""

    async def take_operations(self, owner: str, *, now: float, until: float) -> list[Operation]:
        """Lease the running operations that nobody else has leased. Includes those of `owner`.

        An operation with a filter that this version does not know is left to a newer version, which may use
        the same database. Without the filter, the operation would process more events than it should.
        """

    async def keep_operation(self, operation_id: str, owner: str, *, until: float) -> bool:
        """Extend a lease. Returns False if it is lost, or the operation does not run any more."""

    async def release_operations(self, owner: str) -> None:
        """Give up all leases of `owner`, so that others can take its operations at once."""

    async def plan(self, operation: Operation, position: str, configured: Collection[str]) -> PlanStep:
        """Count what an operation would process. Scans a bounded number of rows; repeat it until `done`.

        `configured` are the destinations of the config. The operation need not be stored.
        """

    async def candidates(
        self, operation: Operation, position: str, configured: Collection[str], *, limit: int
    ) -> Candidates:
        """Find the next events, at most `limit`. Scans a bounded number of rows; repeat it until `done`."""

    async def step(self, operation: Operation, owner: str, step: Step) -> StepResult | None:
        """Run a step in ONE transaction. Returns None, and changes nothing, if the lease is lost.

        The lease is lost when another owner has taken the operation, or when the operation was cancelled. A
        replay leaves pending deliveries alone. A retry makes deliveries due that are dead, and were dead when
        the operation started. An event has failed if it is no longer stored, or if one of its destinations is
        not in the config.
        """

    async def cancel_operation(self, operation_id: str, *, now: float) -> bool:
        """Stop an operation if it is running: no step of it is committed afterwards.

        Returns False if it was not running.
        """

    async def forget_operations(self, *, before: float) -> None:
        """Remove the operations that ended before this time (unix seconds), a bounded number."""


def to_row(operation: Operation, to_ms: Callable[[float], int] = milliseconds) -> tuple[Any, ...]:
    """Return the values of `COLUMNS`. `to_ms` converts unix seconds to the milliseconds of the store."""
    return (
        operation.id,
        operation.kind,
        msgspec.json.encode(operation.query).decode(),
        None if operation.to is None else msgspec.json.encode(operation.to).decode(),
        operation.rate,
        operation.state,
        operation.total,
        operation.done,
        operation.failed,
        operation.by,
        to_ms(operation.started),
        None if operation.ended is None else to_ms(operation.ended),
        operation.position,
    )


def from_ms(value: int) -> float:
    """Convert the milliseconds of a store on this machine to unix seconds."""
    return value / 1000


def from_row(row: Sequence[Any], to_seconds: Callable[[int], float] = from_ms) -> Operation:
    """Return the operation with these values of `COLUMNS`. `to_seconds` undoes the `to_ms` of `to_row`."""
    operation_id, kind, query, to, rate, state, total, done, failed, by, started_ms, ended_ms, position = row
    return Operation(
        id=operation_id,
        kind=cast("Kind", kind),
        query=_decode_query(query),
        to=None if to is None else msgspec.json.decode(to, type=tuple[str, ...]),
        rate=rate,
        state=cast("State", state),
        total=total,
        done=done,
        failed=failed,
        by=by,
        started=to_seconds(started_ms),
        ended=None if ended_ms is None else to_seconds(ended_ms),
        position=position,
    )


def is_known(row: Sequence[Any]) -> bool:
    """Return whether this version knows all filters of the operation with these values of `COLUMNS`."""
    return set(msgspec.json.decode(row[_FILTER], type=dict[str, Any])) <= set(EventQuery.__struct_fields__)


def scan_rows(operation: Operation) -> int:
    """Return how many rows one scan reads."""
    rows = _SCAN_ROWS if operation.query.contains is None else _SCAN_BODIES
    return min(rows, SCATTERED_ROWS) if operation.kind == "retry" else rows


def allowed(operation: Operation, configured: Collection[str]) -> list[str]:
    """Return the destinations of the config that an operation may deliver to.

    A filter for a destination also says where to, unless other destinations are named.
    """
    only = operation.query.destination
    if operation.to is not None:
        names = set(operation.to) & set(configured)
        only = only if operation.kind == "retry" else None
    else:
        names = set(configured)
    return sorted(name for name in names if only in (None, name))


class KnownDelivery(NamedTuple):
    """A delivery of an event of a step, before the step."""

    event_id: str
    destination: str
    status: str
    #: When its status changed, in the milliseconds of the store.
    updated_ms: int


class StepPlan(NamedTuple):
    """What a step has to change."""

    #: Event ids and destinations.
    wanted: list[tuple[str, str]]
    #: How many events are due again, and how many can't be. An event of a retry that is not dead any more is
    #: neither: something else was first.
    done: int
    failed: int


def plan_step(
    operation: Operation, step: Step, stored: Collection[str], known: Sequence[KnownDelivery], started_ms: int
) -> StepPlan:
    """Decide what a step changes. Pure: the stores share it.

    `stored` are the ids of the events that still exist, and `started_ms` is the start of the operation by the
    clock of the store.
    """
    names = set(allowed(operation, step.configured))
    is_incomplete = operation.to is not None and not set(operation.to) <= step.configured
    chosen: dict[str, list[str]] = {event_id: [] for event_id in step.event_ids if event_id in stored}
    if operation.kind == "retry":
        for each in known:
            if each.destination in names and each.status == "dead" and each.updated_ms <= started_ms:
                chosen[each.event_id].append(each.destination)
        failed = len(step.event_ids) - len(chosen)
        done = sum(1 for destinations in chosen.values() if destinations)
    elif operation.to is None:
        for each in known:
            if each.destination in names:
                chosen[each.event_id].append(each.destination)
        done = sum(1 for destinations in chosen.values() if destinations)
        failed = len(step.event_ids) - done
    else:
        chosen = {event_id: sorted(names) for event_id in chosen}
        done = 0 if is_incomplete else len(chosen)
        failed = len(step.event_ids) - done
    wanted = [(event_id, name) for event_id, found in chosen.items() for name in found]
    return StepPlan(wanted, done, failed)


def count_due(changed: Sequence[tuple[str, str]], known: Sequence[KnownDelivery]) -> dict[str, Due]:
    """Count the deliveries that a step made due, by destination."""
    dead = {(each.event_id, each.destination) for each in known if each.status == "dead"}
    found: dict[str, Due] = {}
    for row in changed:
        before = found.get(row[1], Due())
        found[row[1]] = Due(before.pending + 1, before.dead + (row in dead))
    return found

"""Fills a SQLite store with rows of every kind, for tests that convert or copy it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from conformance.builders import accept, arrival, event, lease, result
from gatehouse.events.event import new_id
from gatehouse.store.base import Reply
from gatehouse.store.operations import Operation
from gatehouse.store.records import AuditEntry, DeliveryQuery, EventQuery
from gatehouse.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.events.event import Event
    from gatehouse.store.base import Store
    from gatehouse.store.operations import Kind
    from gatehouse.store.records import Action, DeliveryRow, StoredEvent

#: Text that not every database accepts: bytes that are not UTF-8, and NUL.
ODD = "caf\udce9\x00"


class Filled(NamedTuple):
    """The stored events, by their state."""

    pending: list[str]
    leased: str
    #: Events with the same order key. The first one is active.
    ordered: list[str]
    delivered: str
    dead: str
    replayed: str
    relayed: str
    retried_later: str


def change(action: Action, what: dict[str, Any], at: float) -> AuditEntry:
    """Return what an operator changed, as an audit entry."""
    return AuditEntry(at=at, who="alice", role="operate", action=action, what=what, count=1)


async def fill(path: Path, *, now: float | None = None, plain: int = 3) -> Filled:
    """Fill a store as a gateway does, and end as in a crash: one delivery stays leased."""
    now = time.time() - 100 if now is None else now
    store = await SqliteStore.open(path, clock=lambda: now)
    try:
        return await _fill(store, now, plain)
    finally:
        await store.close()


async def _fill(store: SqliteStore, now: float, plain: int) -> Filled:
    delivered = await _ended(store, "delivered", b"k-delivered", now)
    dead = await _ended(store, "dead", b"k-dead", now)
    replayed = await _ended(store, "delivered", b"k-replayed", now)
    later = await _ended(store, "pending", b"k-later", now, due_at=now + 86400)
    await store.replay(replayed, ["billing"], now=now)
    relayed = event(b"relayed", received=now)
    reply = Reply(201, "text/plain; x=\udce9", b"\x00answer")
    by = "HMAC-SHA256 with file:/run/caf\u00e9"
    await accept(
        store,
        arrival(b"k-relayed", of=relayed, to=["relay"], until=now + 1e6, reply=reply, verified_by=by),
    )
    ordered = [event(b"%d" % number, received=now) for number in range(4)]
    for number, each in enumerate(ordered):
        key = b"k-ordered-%d" % number
        await accept(store, arrival(key, of=each, to=["ledger"], order=b"\xff\x00key", until=now + 1e6))
    leased = event(b"leased", received=now)
    await accept(store, arrival(b"k-leased", of=leased, to=["slow"], until=now + 1e6))
    await lease(store, "slow", now=now)
    pending = [_odd(number, now) for number in range(plain)]
    for start in range(0, plain, 64):
        await accept(
            store,
            *(
                arrival(b"k-%d" % number, b"s\x00-%d" % number, of=pending[number], until=now + 1e6)
                for number in range(start, min(start + 64, plain))
            ),
        )
    await store.pause("archive", paused=True)
    await store.add_audit(change("pause", {"destination": "archive"}, now))
    await store.add_audit(change("replay", {"event_id": replayed, "destinations": ["billing"]}, now))
    await store.add_operation(operation("replay", now))
    await store.add_operation(operation("retry", now))
    ids = [each.id for each in pending]
    return Filled(ids, leased.id, [each.id for each in ordered], delivered, dead, replayed, relayed.id, later)


def operation(kind: Kind, now: float) -> Operation:
    """Return a replay or a retry of many events that is running."""
    query = EventQuery(source="mandato", until=now)
    return Operation(id=new_id(now), kind=kind, query=query, to=("billing",), rate=5.0, by="ci", started=now)


def _odd(number: int, now: float) -> Event:
    return event(
        b"\x00\xff%d" % number,
        received=now,
        content_type=f"text/x; name={ODD}",
        headers=(("X-Odd", ODD), ("X-Number", str(number))),
        subject="nul \x00 inside" if number % 2 else None,
        data_span=(0, 1),
        data_is_json=False,
    )


async def _ended(store: Store, status: str, key: bytes, now: float, *, due_at: float = 0.0) -> str:
    one = event(key, received=now)
    await accept(store, arrival(key, of=one, until=now + 1e6))
    (delivery,) = await lease(store, now=now)
    ended = result(delivery, status, reason="http_5xx", due_at=due_at, at=now)
    await store.record([replace(ended, duration=0.25, error="Connection refused", reply=b"\x00\xff")])
    return one.id


async def everything(store: Store) -> tuple[list[StoredEvent], list[DeliveryRow]]:
    """Return everything that operators can see of a store, in the same order for every store."""
    events, cursor = [], None
    while True:
        page = await store.events(EventQuery(), limit=500, cursor=cursor)
        events += [await store.event(row.id) for row in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    rows: list[DeliveryRow] = []
    while True:
        found = await store.deliveries(DeliveryQuery(), limit=500, cursor=cursor)
        rows += found.items
        cursor = found.cursor
        if cursor is None:
            break
    known = [each for each in events if each is not None]
    known.sort(key=lambda each: each.event.id)
    return known, sorted(rows, key=lambda row: (row.event_id, row.destination))

"""What became of deliveries, written only where the lease is still held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gatehouse.store.postgres import ordering
from gatehouse.store.postgres.leasing import ORDERED
from gatehouse.store.postgres.statements import arrays, columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.store.base import Delivery, Result
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connecting import Connection

_TYPES: Final = (
    *("text", "text", "bigint", "integer"),
    *("text", "integer", "bigint", "text", "integer", "bigint"),
)
#: In the order of the arrays, which is that of all gateways. A lease that is lost has another token, or has
#: ended: where somebody else was at the row, it is looked at once more when that is over.
_RECORD: Final = """
UPDATE deliveries SET leased_until_ms = 0, status = result.status, attempts = result.attempts,
  due_ms = result.due_ms, last_reason = result.reason, last_http_status = result.http_status,
  updated_ms = result.updated_ms
FROM unnest({arrays}) AS result
  (event_id, destination, token, number, status, attempts, due_ms, reason, http_status, updated_ms)
WHERE deliveries.event_id = ANY ($1::text[])
  AND deliveries.event_id = result.event_id AND deliveries.destination = result.destination
  AND deliveries.token = result.token AND deliveries.leased_until_ms > 0
RETURNING result.number, deliveries.order_key
""".replace("{arrays}", arrays(1, _TYPES))
#: `due_ms` did not change with the lease, so it is due at once.
_RELEASE: Final = """
UPDATE deliveries SET leased_until_ms = 0
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS lease (event_id, destination, token)
WHERE deliveries.event_id = ANY ($1::text[])
  AND deliveries.event_id = lease.event_id AND deliveries.destination = lease.destination
  AND deliveries.token = lease.token AND deliveries.leased_until_ms > 0
"""


async def record(connection: Connection, results: Sequence[Result], *, clock: DatabaseClock) -> list[bool]:
    """Write results in one transaction, and make due what waits behind those that ended."""
    if not results:
        return []
    rows = columns(_rows(results, clock), _TYPES)
    if not any(result.delivery.token & ORDERED for result in results):
        return _held(results, await connection.fetch(_RECORD, *rows))
    await connection.execute(ordering.BEGIN)
    found = await connection.fetch(_RECORD, *rows)
    ended = {
        (results[number].delivery.destination, key)
        for number, key in found
        if key is not None and results[number].status != "pending"
    }
    await ordering.free(connection, ended, now_ms=clock.now())
    await connection.execute("COMMIT")
    return _held(results, found)


def _rows(results: Sequence[Result], clock: DatabaseClock) -> list[tuple[Any, ...]]:
    """Return a row for each lease: it can be used once, also by two results of one batch."""
    now_ms = clock.now()
    rows: dict[tuple[str, str, int], tuple[Any, ...]] = {}
    for number, result in enumerate(results):
        delivery = result.delivery
        lease = (delivery.event.id, delivery.destination, delivery.token)
        if lease not in rows:
            due_ms = max(clock.to_database(result.due_at), now_ms) if result.status == "pending" else None
            last = (result.reason, result.http_status, clock.to_database(result.at))
            rows[lease] = (*lease, number, result.status, result.attempts, due_ms, *last)
    return sorted(rows.values())


def _held(results: Sequence[Result], found: Sequence[Any]) -> list[bool]:
    held = [False] * len(results)
    for number, _ in found:
        held[number] = True
    return held


async def release(connection: Connection, deliveries: Sequence[Delivery]) -> None:
    """Give back leases."""
    leases = sorted((each.event.id, each.destination, each.token) for each in deliveries)
    await connection.execute(_RELEASE, *columns(leases, ("text", "text", "bigint")))

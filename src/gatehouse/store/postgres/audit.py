"""Stores, lists and purges audit entries in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store import audit
from gatehouse.store.postgres.filters import Conditions
from gatehouse.store.rows import milliseconds

if TYPE_CHECKING:
    from gatehouse.store.postgres.connection import Connection
    from gatehouse.store.records import AuditEntry, AuditQuery, Page

_INSERT: Final = f"INSERT INTO audit ({audit.COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)"  # noqa: S608
_SELECT: Final = "SELECT seq, {columns} FROM audit WHERE {conditions} ORDER BY seq DESC LIMIT {rows}"
_PURGE: Final = """
WITH gone AS (
  DELETE FROM audit WHERE seq = ANY (ARRAY(
    SELECT seq FROM audit WHERE at_ms < $1 ORDER BY at_ms LIMIT $2
  )) RETURNING 1
)
SELECT count(*) FROM gone
"""


async def add(connection: Connection, entry: AuditEntry) -> None:
    """Store an entry."""
    await connection.execute(_INSERT, *audit.to_row(entry))


async def entries(connection: Connection, query: AuditQuery, *, limit: int, before: int) -> Page[AuditEntry]:
    """Return a page of the entries below a number."""
    conditions = Conditions()
    conditions.add("seq < {}", before)
    if query.who is not None:
        conditions.add("who = {}", query.who)
    if query.action is not None:
        conditions.add("action = {}", query.action)
    if query.since is not None:
        conditions.add("at_ms >= {}", milliseconds(query.since))
    if query.until is not None:
        conditions.add("at_ms < {}", milliseconds(query.until))
    rows = conditions.parameter(limit + 1)
    statement = _SELECT.format(columns=audit.COLUMNS, conditions=conditions, rows=rows)
    found = [tuple(row) for row in await connection.fetch(statement, *conditions.parameters)]
    return audit.make_page(found, limit)


async def purge(connection: Connection, *, before: float, limit: int) -> int:
    """Remove at most `limit` entries from before a time. Returns how many."""
    number: int = await connection.fetchval(_PURGE, milliseconds(before), limit)
    return number

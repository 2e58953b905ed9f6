"""Runs a copy of a SQLite store to PostgreSQL, and checks that everything has arrived."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from gatehouse.store.accepting import Key
from gatehouse.store.copying import operations
from gatehouse.store.copying.comparison import (
    Comparison,
    compare_audit,
    compare_batch,
    compare_keys,
    compare_operations,
    compare_paused,
)
from gatehouse.store.copying.rows import convert_batch
from gatehouse.store.copying.source import copy_source
from gatehouse.store.copying.target import CopyTarget
from gatehouse.store.postgres import legacy_keys
from gatehouse.store.postgres.clock import DatabaseClock
from gatehouse.store.postgres.connection import DRIVER_ERRORS, SLOW, Connector, store_error
from gatehouse.store.postgres.schema import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from gatehouse.store.copying.source import CopySource, KeyRow, SourceBatch, SourceTotals
    from gatehouse.store.postgres.connection import Connection, PostgresSettings

#: For a copy, because no request waits for it, and a busy database may be slow.
_PATIENT: Final = {**SLOW, "statement_timeout": "300s"}
_AGAIN: Final = "run it again: it continues where it stopped"


class Report(Protocol):
    """Receives the progress of a copy."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


class Copy(NamedTuple):
    """The result of a copy."""

    #: True: nothing was copied, because an earlier run had copied and checked everything.
    was_finished: bool
    comparison: Comparison
    #: Whether it continued where an earlier run had ended.
    is_resumed: bool = False


async def copy_store(
    path: Path, settings: PostgresSettings, *, into_used_store: bool, report: Report
) -> Copy:
    """Copy a SQLite store. Raises `StoreError`. It can be called again after any failure."""
    async with copy_source(path) as source:
        try:
            async with _connected(settings) as connection:
                return await _copy(source, connection, into_used_store=into_used_store, report=report)
        except DRIVER_ERRORS as error:
            fault = store_error(error)
            fault.hint = fault.hint or _AGAIN
            raise fault from error


@asynccontextmanager
async def _connected(settings: PostgresSettings) -> AsyncIterator[Connection]:
    connector = Connector(settings)
    # On a connection of its own, because the lock on migrations is held until the connection is closed.
    migrating = await connector.connect(SLOW)
    try:
        await migrate(migrating)
    finally:
        migrating.terminate()
    connection = await connector.connect(_PATIENT)
    try:
        yield connection
    finally:
        connection.terminate()


async def _copy(source: CopySource, connection: Connection, *, into_used_store: bool, report: Report) -> Copy:
    clock = DatabaseClock(time.time)
    await clock.measure(connection)
    target = CopyTarget(connection, clock, await source.state())
    await target.begin(source.path, into_used_store=into_used_store)
    if target.is_finished:
        return Copy(was_finished=True, comparison=Comparison(lenient=True), is_resumed=True)
    totals = await source.totals()
    await target.pause(await source.paused())
    await target.add_audit(await source.audit())
    await legacy_keys.write_places(connection, await source.places())
    done = await source.up_to(target.event_seq, target.key)
    await _copy_events(source, target, report, done.events, totals.events)
    await _copy_keys(source, target, report, done.keys, totals.keys)
    await operations.add(connection, await source.operations(), clock)
    await target.free_and_analyze()
    comparison = await _compare(source, target, totals, report)
    if comparison.is_equal:
        await target.finish()
    return Copy(was_finished=False, comparison=comparison, is_resumed=target.is_resumed)


async def _copy_events(source: CopySource, target: CopyTarget, report: Report, done: int, total: int) -> None:
    async for batch in _batches(source, target.event_seq):
        await target.write(convert_batch(batch), batch.last)
        done += len(batch.events)
        report("copying events", done, total)


async def _copy_keys(source: CopySource, target: CopyTarget, report: Report, done: int, total: int) -> None:
    async with aclosing(_key_batches(source, target.key)) as batches:
        async for rows in batches:
            await target.write_keys(rows)
            done += len(rows)
            report("copying dedupe keys", done, total)


async def _compare(
    source: CopySource, target: CopyTarget, totals: SourceTotals, report: Report
) -> Comparison:
    found = Comparison(lenient=target.is_used_store)
    async for batch in _batches(source, 0):
        await compare_batch(target.connection, batch, found)
        report("checking events", found.source["events"], totals.events)
    async with aclosing(_key_batches(source, None)) as batches:
        async for rows in batches:
            await compare_keys(target.connection, rows, found)
            report("checking dedupe keys", found.source["dedupe keys"], totals.keys)
    await compare_operations(target.connection, await source.operations(), found)
    await compare_audit(target.connection, await source.audit(), found)
    await compare_paused(target.connection, await source.paused(), found)
    return found


async def _batches(source: CopySource, after: int) -> AsyncGenerator[SourceBatch]:
    """Read one batch after the other. The next one is read while this one is written."""
    reading = asyncio.create_task(source.batch(after))
    try:
        while (batch := await reading) is not None:
            reading = asyncio.create_task(source.batch(batch.last))
            yield batch
    finally:
        # The task must not read from a file that is closed.
        await asyncio.gather(reading, return_exceptions=True)


async def _key_batches(source: CopySource, after: Key | None) -> AsyncGenerator[list[KeyRow]]:
    while rows := await source.keys(after):
        yield rows
        after = rows[-1][:3]

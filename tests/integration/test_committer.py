"""Group commit: its limits on number, bytes and time, and what shares a commit."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from doubles.dedupe import dedupe_keys
from gatehouse.errors import UnavailableError
from gatehouse.events.event import Event, new_id
from gatehouse.ingest.committer import MAX_BATCH, MAX_WAITING, MAX_WAITING_BYTES, Committer
from gatehouse.store.base import Arrival, Assignment, Delivery
from gatehouse.store.sqlite import SqliteStore
from gatehouse.telemetry.metrics import Metrics


class Lanes:
    """Records the deliveries."""

    def __init__(self) -> None:
        self.taken: list[Delivery] = []
        self.in_store: list[str] = []

    def hand_over(self, delivery: Delivery) -> None:
        self.taken.append(delivery)

    def delivery_stored(self, destination: str, received: float) -> None:
        self.in_store.append(destination)


class Setting:
    """A committer on a real store that the test can lock."""

    def __init__(self, store: SqliteStore, path: Path) -> None:
        self.lanes = Lanes()
        self.metrics = Metrics()
        self.committer = Committer(store, self.lanes, self.metrics, deadline=0.4)
        self.lock = sqlite3.connect(path, isolation_level=None)

    def commits(self) -> float:
        return self.metrics.registry.get_sample_value("gatehouse_commit_batch_events_count") or 0.0


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    store = await SqliteStore.open(tmp_path / "gatehouse.db")
    made = Setting(store, tmp_path / "gatehouse.db")
    yield made
    made.lock.close()
    await made.committer.drain()
    await store.close()


def arrival(number: int, *assignments: Assignment, size: int = 10) -> Arrival:
    now = time.time()
    event = Event(
        id=new_id(now),
        source="s",
        path="/webhooks/s",
        provider="p",
        external_id=str(number),
        type="t",
        time="2026-01-01T00:00:00Z",
        received=now,
        body=b"x" * size,
    )
    return Arrival(event, dedupe_keys(str(number).encode(), until=now + 60), assignments)


async def test_requests_that_wait_during_a_commit_share_the_next_one(setting: Setting) -> None:
    receipts = await asyncio.gather(*(setting.committer.accept([arrival(n)]) for n in range(MAX_BATCH * 2)))

    assert {receipt.status for (receipt,) in receipts} == {"accepted"}
    assert setting.commits() <= 3


async def test_the_events_of_one_request_are_answered_together(setting: Setting) -> None:
    await setting.committer.accept([arrival(1)])
    receipts = await setting.committer.accept([arrival(0), arrival(1), arrival(2)])

    assert [receipt.status for receipt in receipts] == ["accepted", "duplicate", "accepted"]


async def test_only_new_deliveries_go_to_their_lane_or_to_the_store(setting: Setting) -> None:
    goes = (Assignment("hot", leased=True), Assignment("cold", leased=False))
    await setting.committer.accept([arrival(1, *goes)])
    await setting.committer.accept([arrival(1, *goes)])

    (taken,) = setting.lanes.taken
    assert (taken.destination, taken.attempts, taken.event.external_id) == ("hot", 0, "1")
    assert taken.leased_until > time.time()
    assert setting.lanes.in_store == ["cold"]


@pytest.mark.alone
async def test_a_request_that_waited_too_long_is_refused_and_not_written_later(setting: Setting) -> None:
    setting.lock.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        await setting.committer.accept([arrival(1)])
    took = time.monotonic() - started
    setting.lock.execute("ROLLBACK")
    await setting.committer.drain()

    assert took < 1.0
    assert setting.lock.execute("SELECT count(*) FROM events").fetchone() == (0,)
    assert setting.lock.execute("SELECT count(*) FROM dedupe_keys").fetchone() == (0,)
    assert setting.lanes.taken == []


async def test_a_request_above_the_limit_is_refused_at_once(setting: Setting) -> None:
    setting.lock.execute("BEGIN EXCLUSIVE")
    waiting = [asyncio.create_task(setting.committer.accept([arrival(n)])) for n in range(MAX_WAITING)]
    await asyncio.sleep(0)

    with pytest.raises(UnavailableError, match="overloaded"):
        await setting.committer.accept([arrival(-1)])
    setting.lock.execute("ROLLBACK")
    await asyncio.gather(*waiting, return_exceptions=True)
    await setting.committer.accept([arrival(-1)])


async def test_bytes_above_the_limit_are_refused_at_once(setting: Setting) -> None:
    half = MAX_WAITING_BYTES // 2 + 1
    setting.lock.execute("BEGIN EXCLUSIVE")
    waiting = asyncio.create_task(setting.committer.accept([arrival(1, size=half)]))
    await asyncio.sleep(0)

    with pytest.raises(UnavailableError, match="overloaded"):
        await setting.committer.accept([arrival(2, size=half)])
    setting.lock.execute("ROLLBACK")
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_request_that_was_given_up_is_not_written(setting: Setting) -> None:
    setting.lock.execute("BEGIN EXCLUSIVE")
    blocking = asyncio.create_task(setting.committer.accept([arrival(1)]))
    await asyncio.sleep(0.01)
    given_up = asyncio.create_task(setting.committer.accept([arrival(2)]))
    await asyncio.sleep(0)
    given_up.cancel()
    setting.lock.execute("ROLLBACK")
    await asyncio.gather(blocking, given_up, return_exceptions=True)
    await setting.committer.drain()

    stored = setting.lock.execute("SELECT external_id FROM events").fetchall()
    assert ("2",) not in stored

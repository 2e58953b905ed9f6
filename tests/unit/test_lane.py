"""One destination: its limits, its breaker, its rate, and store errors, with real store and sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from doubles.delivery import RunningDispatcher, make_destination, make_event
from doubles.destination import ScriptedDestination, after, hang, once, status
from gatehouse.config.model import RetryConfig
from gatehouse.delivery.backlog import MAX_BYTES, MIN_CAPACITY
from gatehouse.delivery.breaker import BreakerSettings
from gatehouse.errors import StoreUnavailableError
from gatehouse.store.base import Arrival, Assignment, Delivery
from gatehouse.store.records import DeliveryQuery
from gatehouse.store.sqlite import SqliteStore

BILLING = {"destination": "billing"}
DELIVERED = {"destination": "billing", "result": "delivered"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gatehouse.db"


class Faults:
    """A store with errors by method. Each error is raised once, in order."""

    def __init__(self, store: SqliteStore, **faults: list[Exception]) -> None:
        self._store = store
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        faults = self._faults.get(name)
        if faults is None:
            return method

        async def faulty(*args: Any, **options: Any) -> Any:
            if faults:
                raise faults.pop(0)
            return await method(*args, **options)

        return faulty


async def test_concurrent_attempts_are_limited_to_the_configured_number(file: Path) -> None:
    async with ScriptedDestination() as server:
        server.always(after(0.02, status(200)))
        async with RunningDispatcher(file, make_destination(server.url, concurrency=3)) as gateway:
            await gateway.accept(*(make_event() for _ in range(30)))
            await server.wait_for(30)
        assert server.most_open == 3


async def test_memory_is_bounded_by_number_and_by_bytes(file: Path) -> None:
    async with ScriptedDestination() as server:
        server.always(hang())
        async with RunningDispatcher(file, make_destination(server.url, concurrency=1)) as gateway:
            room = gateway.dispatcher.has_room
            await gateway.accept(*(make_event() for _ in range(MIN_CAPACITY)))
            await server.wait_for(1)
            assert room("billing")
            await gateway.accept(make_event())
            assert not room("billing")
    async with ScriptedDestination() as server:
        server.always(hang())
        async with RunningDispatcher(
            file.with_name("2.db"), make_destination(server.url, concurrency=1)
        ) as gateway:
            room = gateway.dispatcher.has_room
            body = b'"' + b"x" * (MAX_BYTES // 4) + b'"'
            for _ in range(5):
                assert room("billing")
                await gateway.accept(make_event(body))
                await server.wait_for(1)
            assert not room("billing")


@pytest.mark.case("O-11")
async def test_after_consecutive_failures_attempts_stop_until_a_probe_succeeds(file: Path) -> None:
    breaker = BreakerSettings(failures=3, first=0.2, longest=0.2)
    async with ScriptedDestination() as server:
        server.script(*[status(500)] * 3)
        async with RunningDispatcher(
            file, make_destination(server.url, concurrency=1, breaker=breaker)
        ) as gateway:
            await gateway.accept(*(make_event() for _ in range(20)))
            await gateway.until(1, "breaker_open", **BILLING)
            assert await gateway.accept(make_event()) == [False]
            await gateway.until(21, "deliveries_total", **DELIVERED)
            assert gateway.value("breaker_open", **BILLING) == 0
            assert await gateway.accept(make_event()) == [True]
            await gateway.until(22, "deliveries_total", **DELIVERED)
    assert server.requests[3].at - server.requests[2].at >= 0.19
    assert len(server.requests) == 25


@pytest.mark.case("O-10")
async def test_a_dead_destination_gets_one_probe_per_interval(file: Path) -> None:
    breaker = BreakerSettings(failures=3, first=0.1, longest=0.1)
    async with ScriptedDestination() as server:
        server.always(status(503))
        async with RunningDispatcher(
            file, make_destination(server.url, concurrency=4, breaker=breaker)
        ) as gateway:
            await gateway.accept(*(make_event() for _ in range(200)))
            await server.wait_for(12)
        probes = [request.at for request in server.requests[6:]]
        assert all(later - sooner >= 0.09 for sooner, later in pairwise(probes))
        assert server.most_open <= 4


async def test_a_delivery_that_is_too_old_is_attempted_before_it_is_dead(file: Path) -> None:
    """This also holds while the breaker is open: a probe is an attempt."""
    breaker = BreakerSettings(failures=1, first=0.01, longest=0.01)
    long_ago = time.time() - 4 * 86400
    async with ScriptedDestination() as server:
        server.always(status(503))
        store = await SqliteStore.open(file)
        old = [make_event(received=long_ago) for _ in range(15)]
        events = [*old, *(make_event() for _ in range(5))]
        arrivals = [Arrival(event, (), (Assignment("billing", leased=False),)) for event in events]
        await store.accept(arrivals, deadline=time.monotonic() + 5)
        await store.close()
        destination = make_destination(server.url, concurrency=1, breaker=breaker, retry=RetryConfig())
        async with RunningDispatcher(file, destination) as gateway:
            await gateway.until(15, "deliveries_dead", **BILLING)
            assert gateway.value("deliveries_pending", **BILLING) == 5
            dead = await gateway.store.deliveries(DeliveryQuery(status="dead"), limit=100)
        assert {row.event_id for row in dead.items} == {event.id for event in old}
        assert all(row.attempts == 1 for row in dead.items)


async def test_the_rate_limit_is_respected(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url, rate=20.0)) as gateway,
    ):
        await gateway.accept(*(make_event() for _ in range(12)))
        requests = await server.wait_for(12)
        await gateway.until(12, "deliveries_total", **DELIVERED)
    took = requests[-1].at - requests[0].at
    assert 0.45 <= took < 3


async def test_with_a_slow_rate_deliveries_wait_in_the_store(file: Path) -> None:
    async with ScriptedDestination() as server:
        async with RunningDispatcher(file, make_destination(server.url, rate=1 / 3600)) as gateway:
            assert await gateway.accept(make_event()) == [True]
            await server.wait_for(1)
            assert await gateway.accept(make_event()) == [False]
            assert gateway.value("deliveries_pending", **BILLING) >= 1
        assert len(server.requests) == 1


async def test_retries_are_attempted_even_if_many_new_deliveries_arrive(file: Path) -> None:
    """New deliveries would take each free place in memory if retries in the store did not come first."""
    async with ScriptedDestination() as server:
        server.script(status(500))
        server.always(after(0.002, status(200)))
        retry = RetryConfig.model_validate({"first": "10ms", "max": "10ms"})
        async with RunningDispatcher(
            file, make_destination(server.url, concurrency=1, retry=retry)
        ) as gateway:
            failing = make_event()
            await gateway.accept(failing, *(make_event() for _ in range(MIN_CAPACITY // 2)))
            for number in range(1, MIN_CAPACITY):
                await server.wait_for(number)
                if [request.headers["webhook-id"] for request in server.requests].count(failing.id) > 1:
                    break
                await gateway.accept(make_event())
            else:
                pytest.fail("it waits for as long as there are arrivals")


async def test_a_timeout_longer_than_the_default_lease_gets_a_longer_lease(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url, timeout=60.0)) as gateway,
    ):
        assert await gateway.accept(make_event()) == [False]
        await server.wait_for(1)
        await gateway.until(1, "deliveries_total", **DELIVERED)


async def test_no_attempt_starts_that_could_outlast_its_lease(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url, timeout=26.0)) as gateway,
    ):
        event = make_event()
        arrival = Arrival(event, (), (Assignment("billing", leased=True),))
        (receipt,) = await gateway.store.accept([arrival], deadline=time.monotonic() + 5)
        with capture_logs() as logs:
            gateway.dispatcher.hand_over(
                Delivery(event, "billing", 0, receipt.leased_until, token=receipt.token)
            )
            await gateway.until(1, "deliveries_total", **DELIVERED)
    # It was returned and leased for long enough, so it is attempted and counted once.
    assert [request.attempt for request in server.requests] == [1]
    assert [line["reason"] for line in logs] == ["ok"]


async def test_a_result_is_recorded_when_the_store_is_back(file: Path) -> None:
    def through(store: SqliteStore) -> Faults:
        return Faults(store, record=[StoreUnavailableError("full")] * 3)

    async with ScriptedDestination() as server:
        async with RunningDispatcher(file, make_destination(server.url), through=through) as gateway:
            await gateway.accept(make_event())
            await gateway.until(1, "deliveries_total", **DELIVERED)
            assert (await gateway.store.counts()).get("billing") is None
        assert len(server.requests) == 1


async def test_a_delivery_is_leased_again_when_its_lease_ends_before_the_store_is_back(
    file: Path,
) -> None:
    skew = [0.0]
    recording = asyncio.Event()

    def clock() -> float:
        return time.time() + skew[0]

    class Full:
        def __init__(self, store: SqliteStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def record(self, results: Sequence[object]) -> list[bool]:
            skew[0] = 3600.0
            recording.set()
            raise StoreUnavailableError("full")

    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url), clock=clock, through=Full) as gateway,
    ):
        await gateway.accept(make_event())
        await recording.wait()
        # Either the lane has it again already, or the store can lease it.
        leased = await gateway.store.lease("billing", now=clock(), until=clock() + 1, limit=10)
        if not leased:
            first, second = await server.wait_for(2)
            assert first.event_id == second.event_id
        assert gateway.value("deliveries_total", **DELIVERED) == 0
        assert gateway.value("deliveries_pending", **BILLING) == 1


async def test_an_internal_error_while_recording_stops_no_worker(file: Path) -> None:
    def through(store: SqliteStore) -> Faults:
        return Faults(store, record=[RuntimeError("a bug")])

    async with ScriptedDestination() as server:
        destination = make_destination(server.url, concurrency=1)
        async with RunningDispatcher(file, destination, through=through) as gateway:
            with capture_logs() as logs:
                await gateway.accept(make_event(), make_event())
                await gateway.until(1, "deliveries_total", **DELIVERED)
    assert [line["error"] for line in logs if line["event"] == "delivery.failed"] == ["RuntimeError"]


@pytest.mark.parametrize("error", [StoreUnavailableError("busy"), RuntimeError("a bug")])
async def test_a_failed_lease_is_repeated(file: Path, error: Exception) -> None:
    def through(store: SqliteStore) -> Faults:
        return Faults(store, lease=[error])

    async with ScriptedDestination() as server:
        destination = make_destination(server.url, timeout=60.0)
        async with RunningDispatcher(file, destination, through=through) as gateway:
            await gateway.accept(make_event())
            await server.wait_for(1)
            await gateway.until(1, "deliveries_total", **DELIVERED)


async def test_gauges_are_zero_when_the_store_cannot_count(file: Path) -> None:
    def through(store: SqliteStore) -> Faults:
        return Faults(store, counts=[StoreUnavailableError("busy")])

    with capture_logs() as logs:
        async with RunningDispatcher(
            file, make_destination("http://127.0.0.1:1/"), through=through
        ) as gateway:
            assert gateway.value("deliveries_pending", **BILLING) == 0
    assert [line["event"] for line in logs] == ["store.unavailable"]


async def test_deliveries_that_arrive_together_start_together(file: Path) -> None:
    """They do not start one per turn of the event loop: under load, a turn takes milliseconds."""
    async with ScriptedDestination() as server:
        destination = make_destination(server.url, concurrency=16)
        async with RunningDispatcher(file, destination) as gateway:
            lane = gateway.dispatcher._lanes["billing"]
            for _ in range(5):
                await asyncio.sleep(0)  # until all workers wait
            deliveries = [Delivery(make_event(), "billing", 0, time.time() + 30) for _ in range(16)]
            for delivery in deliveries:
                gateway.dispatcher.hand_over(delivery)
            for _ in range(3):
                await asyncio.sleep(0)
            assert len(lane._busy) == 16
            assert len(await server.wait_for(16)) == 16


async def test_a_slot_is_held_until_the_result_is_recorded(file: Path) -> None:
    """So after a kill, at most `concurrency` events are sent twice."""
    gate = asyncio.Event()

    class Slow:
        def __init__(self, store: SqliteStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def record(self, results: Sequence[Any]) -> list[bool]:
            await gate.wait()
            return await self._store.record(results)

    async with ScriptedDestination() as server:
        destination = make_destination(server.url, concurrency=2)
        async with RunningDispatcher(file, destination, through=Slow) as gateway:
            await gateway.accept(*(make_event() for _ in range(10)))
            await gateway.until(2, "attempts_total", destination="billing", reason="ok")
            assert len(server.requests) == 2
            gate.set()
            await server.wait_for(10)


async def test_a_destination_that_recovers_gets_its_waiting_deliveries(file: Path) -> None:
    gate = asyncio.Event()
    async with ScriptedDestination() as server:
        server.always(once(gate, status(200)))
        await server.stop()
        async with RunningDispatcher(file, make_destination(server.url)) as gateway:
            await gateway.accept(*(make_event() for _ in range(8)))
            await gateway.until(8, "attempts_total", destination="billing", reason="connect")
            await server.start()
            gate.set()
            await gateway.until(8, "deliveries_total", **DELIVERED)

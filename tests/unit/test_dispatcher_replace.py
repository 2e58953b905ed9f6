"""Destinations that change while deliveries to them are in progress."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from doubles.delivery import RunningDispatcher, make_destination, make_event, named
from doubles.destination import ScriptedDestination, hang, once, status
from gatehouse.store.base import LEASE, Arrival, Assignment, Delivery

DELIVERED = {"destination": "billing", "result": "delivered"}
BILLING = {"destination": "billing"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gatehouse.db"


async def commit(gateway: RunningDispatcher) -> Delivery:
    """Commit an event whose delivery is leased, but do not hand it over yet."""
    event = make_event()
    arrival = Arrival(event, (), (Assignment("billing", leased=True),))
    (receipt,) = await gateway.store.accept([arrival], deadline=time.monotonic() + 5)
    return Delivery(event, "billing", 0, receipt.leased_until, token=receipt.token)


async def test_a_delivery_to_a_removed_destination_is_kept_and_counted(file: Path) -> None:
    ahead = 0.0
    async with ScriptedDestination() as server:
        destination = make_destination(server.url)
        async with RunningDispatcher(file, destination, clock=lambda: time.time() + ahead) as gateway:
            delivery = await commit(gateway)
            gateway.dispatcher.replace([])
            assert not gateway.dispatcher.has_room("billing")
            gateway.dispatcher.hand_over(delivery)
            await gateway.until(1, "deliveries_pending", **BILLING)

            ahead = LEASE + 1
            gateway.dispatcher.replace([destination])
            (request,) = await server.wait_for(1)
            assert request.event_id == delivery.event.id
            await gateway.until(1, "deliveries_total", **DELIVERED)
            assert gateway.value("deliveries_pending", **BILLING) == 0


async def test_deliveries_wait_in_the_store_when_the_destination_is_no_longer_ready(file: Path) -> None:
    async with ScriptedDestination() as server:
        destination = make_destination(server.url)
        async with RunningDispatcher(file, destination) as gateway:
            delivery = await commit(gateway)
            gateway.dispatcher.replace([replace(destination, not_ready="env:S is not set")])
            gateway.dispatcher.hand_over(delivery)
            assert gateway.value("deliveries_pending", **BILLING) == 1
            assert server.requests == []


async def test_a_replaced_lane_starts_no_attempts(file: Path) -> None:
    answered = asyncio.Event()
    async with ScriptedDestination() as old, ScriptedDestination() as new:
        old.always(once(answered, status(200)))
        destination = make_destination(old.url, concurrency=1)
        async with RunningDispatcher(file, destination) as gateway:
            await gateway.accept(*(make_event() for _ in range(20)))
            await old.wait_for(1)
            gateway.dispatcher.replace([make_destination(new.url, concurrency=1)])
            await new.wait_for(19)
            answered.set()
            await gateway.until(20, "deliveries_total", **DELIVERED)
        assert (len(old.requests), len(new.requests)) == (1, 19)


async def test_after_several_changes_the_last_lane_takes_over_from_the_first(file: Path) -> None:
    answered = asyncio.Event()
    async with ScriptedDestination() as first, ScriptedDestination() as last:
        first.always(once(answered, status(500)))
        destination = make_destination(first.url)
        async with RunningDispatcher(file, destination) as gateway:
            await gateway.accept(make_event())
            await first.wait_for(1)
            gateway.dispatcher.replace([replace(destination, concurrency=2)])
            gateway.dispatcher.replace([])
            gateway.dispatcher.replace([make_destination(last.url)])
            answered.set()
            (request,) = await last.wait_for(1)
            assert request.attempt == 2


async def test_a_stop_does_not_wait_for_a_retired_lane(file: Path) -> None:
    async with ScriptedDestination() as server:
        server.always(hang())
        async with RunningDispatcher(file, make_destination(server.url, timeout=60.0)) as gateway:
            await gateway.accept(make_event())
            await server.wait_for(1)
            gateway.dispatcher.replace([])
            started = time.monotonic()
        assert time.monotonic() - started < 3

        server.always(status(200))
        async with RunningDispatcher(file, make_destination(server.url)) as gateway:
            assert (await server.wait_for(2))[1].attempt == 2


async def test_deliveries_without_a_destination_are_reported_from_the_start(file: Path) -> None:
    async with ScriptedDestination() as server:
        server.always(hang())
        async with RunningDispatcher(file, named(make_destination(server.url), "gone")) as gateway:
            await gateway.accept(make_event(), make_event(), to=("gone",))
        with capture_logs() as logs:
            async with RunningDispatcher(file) as gateway:
                assert gateway.value("deliveries_pending", destination="gone") == 2
        assert [line for line in logs if line["event"] == "destination.parked"] == [
            {"event": "destination.parked", "log_level": "warning", "destination": "gone", "pending": 2}
        ]

"""A paused destination gets nothing, loses nothing, and none of its deliveries becomes dead."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from doubles.delivery import IMPATIENT, RunningDispatcher, make_destination, make_event, named
from doubles.destination import ScriptedDestination, once, status
from gatehouse.delivery.breaker import BreakerSettings
from gatehouse.errors import StoreUnavailableError
from gatehouse.language.times import parse_iso8601, rfc3339
from gatehouse.store.base import Delivery
from gatehouse.store.sqlite import SqliteStore

BILLING = {"destination": "billing"}
DELIVERED = {"destination": "billing", "result": "delivered"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gatehouse.db"


async def test_deliveries_to_a_paused_destination_stay_in_the_store_until_the_resume(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url)) as gateway,
    ):
        await gateway.dispatcher.pause("billing")
        assert gateway.value("destination_paused", **BILLING) == 1
        assert await gateway.accept(*(make_event() for _ in range(5))) == [False]
        assert gateway.value("deliveries_pending", **BILLING) == 5
        await gateway.dispatcher.resume("billing")
        await gateway.until(5, "deliveries_total", **DELIVERED)
        assert gateway.value("destination_paused", **BILLING) == 0
        assert await gateway.accept(make_event()) == [True]
    assert [request.attempt for request in server.requests[:5]] == [1] * 5


async def test_a_pause_lets_attempts_finish_and_returns_the_backlog(file: Path) -> None:
    gate = asyncio.Event()
    async with ScriptedDestination() as server:
        server.always(once(gate, status(200)))
        async with RunningDispatcher(file, make_destination(server.url, concurrency=2)) as gateway:
            await gateway.accept(*(make_event() for _ in range(10)))
            await server.wait_for(2)
            await gateway.dispatcher.pause("billing")
            gate.set()
            await gateway.until(2, "deliveries_total", **DELIVERED)
            async with asyncio.timeout(10):
                # They were released, so any process can lease them.
                while (await gateway.store.next_due("billing") or 0) > time.time():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert len(server.requests) == 2
            assert gateway.dispatcher.describe()[0]["waiting"] == 0
            await gateway.dispatcher.resume("billing")
            await gateway.until(10, "deliveries_total", **DELIVERED)
    assert {request.attempt for request in server.requests} == {1}


async def test_a_delivery_handed_over_just_after_the_pause_is_not_attempted(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url)) as gateway,
    ):
        pausing = gateway.dispatcher.pause
        real = gateway.store.accept

        async def accept(*args: Any, **options: Any) -> Any:
            receipts = await real(*args, **options)
            await pausing("billing")
            return receipts

        gateway.store.accept = accept  # type: ignore[method-assign]
        assert await gateway.accept(make_event()) == [True]
        async with asyncio.timeout(10):
            while (await gateway.store.next_due("billing") or 0) > time.time():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert server.requests == []


async def test_a_pause_survives_the_process(file: Path) -> None:
    async with ScriptedDestination() as server:
        destinations = make_destination(server.url), named(make_destination(server.url), "ledger")
        async with RunningDispatcher(file, *destinations) as gateway:
            await gateway.dispatcher.pause("billing")
            await gateway.accept(make_event())
        async with RunningDispatcher(file, *destinations) as gateway:
            assert gateway.value("destination_paused", **BILLING) == 1
            assert gateway.value("destination_paused", destination="ledger") == 0
            await gateway.accept(make_event(), to=("ledger",))
            await gateway.until(1, "deliveries_total", destination="ledger", result="delivered")
            assert gateway.value("deliveries_pending", **BILLING) == 1
            await gateway.dispatcher.resume("billing")
            await gateway.until(1, "deliveries_total", **DELIVERED)


async def test_no_delivery_becomes_dead_while_paused(file: Path) -> None:
    """This also holds if the breaker was open: the resume closes it."""
    breaker = BreakerSettings(failures=1, first=60.0)
    policy = IMPATIENT.model_copy(update={"give_up_after": 1e-6})
    async with ScriptedDestination() as server:
        server.script(status(503), *[status(200)] * 5)
        async with RunningDispatcher(
            file, make_destination(server.url, retry=policy, breaker=breaker)
        ) as gateway:
            await gateway.accept(make_event())
            await gateway.until(1, "deliveries_dead", **BILLING)
            await gateway.dispatcher.pause("billing")
            await gateway.accept(*(make_event(received=time.time() - 1000) for _ in range(5)))
            for _ in range(5):
                gateway.dispatcher.wake("billing")
                await gateway.store.ping()
            # The one that had failed before was too old after that.
            assert gateway.value("deliveries_dead", **BILLING) == 1
            await gateway.dispatcher.resume("billing")
            await gateway.until(5, "deliveries_total", **DELIVERED)
            assert gateway.value("breaker_open", **BILLING) == 0


async def test_a_pause_that_cannot_be_stored_has_no_effect(file: Path) -> None:
    class Full:
        def __init__(self, store: SqliteStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def pause(self, destination: str, *, paused: bool) -> None:
            raise StoreUnavailableError("full")

    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url), through=Full) as gateway,
    ):
        with pytest.raises(StoreUnavailableError):
            await gateway.dispatcher.pause("billing")
        assert gateway.value("destination_paused", **BILLING) == 0
        assert await gateway.accept(make_event()) == [True]
        await gateway.until(1, "deliveries_total", **DELIVERED)


async def test_a_destination_that_is_not_configured_cannot_be_paused(file: Path) -> None:
    async with RunningDispatcher(file) as gateway:
        for change in (gateway.dispatcher.pause, gateway.dispatcher.resume):
            with pytest.raises(KeyError):
                await change("nobody")
        gateway.dispatcher.wake("nobody")


async def test_a_woken_lane_finds_deliveries_that_became_due(file: Path) -> None:
    policy = IMPATIENT.model_copy(update={"first": 3600.0, "max": 3600.0})
    async with ScriptedDestination() as server:
        server.script(status(500))
        async with RunningDispatcher(file, make_destination(server.url, retry=policy)) as gateway:
            await gateway.accept(make_event())
            await gateway.until(1, "attempts_total", destination="billing", reason="server_error")
            left = await leased_ahead(gateway)
            await gateway.store.release(left)
            gateway.dispatcher.wake("billing")
            await gateway.until(1, "deliveries_total", **DELIVERED)


async def leased_ahead(gateway: RunningDispatcher) -> list[Delivery]:
    """Lease deliveries that are due within hours, as soon as their results are recorded."""
    now = time.time()
    async with asyncio.timeout(10):
        while True:
            if left := await gateway.store.lease("billing", now=now + 7200, until=now + 9000, limit=1):
                return left
            await asyncio.sleep(0.01)


async def test_destinations_are_described_without_their_credentials(file: Path) -> None:
    breaker = BreakerSettings(failures=1, first=60.0)
    secretive = make_destination("http://user:S3cret@127.0.0.1:1/in?token=S3cret#S3cret", breaker=breaker)
    unready = named(make_destination("http://127.0.0.1:1/", not_ready="env:X is not set"), "unready")
    async with RunningDispatcher(file, secretive, unready) as gateway:
        event = make_event()
        await gateway.accept(event)
        await gateway.until(1, "breaker_open", **BILLING)
        await gateway.dispatcher.pause("unready")
        first, second = gateway.dispatcher.describe()
    opened, probe = first["open_since"], first["next_probe"]
    assert opened is not None
    assert probe is not None
    assert 59 < seconds(probe) - seconds(opened) < 61
    assert (second["open_since"], second["next_probe"]) == (None, None)
    assert first == {
        "name": "billing",
        "url": "http://127.0.0.1:1/in",
        "format": "cloudevents",
        "auth": None,
        "ready": True,
        "not_ready": None,
        "paused": False,
        "breaker": "open",
        "failures": 1,
        "open_since": opened,
        "next_probe": probe,
        "pending": 1,
        "oldest_pending": rfc3339(event.received),
        "dead": 0,
        "concurrency": 4,
        "waiting": 0,
    }
    assert (second["ready"], second["not_ready"], second["paused"]) == (False, "env:X is not set", True)


def seconds(text: str) -> float:
    found = parse_iso8601(text)
    assert found is not None
    return found

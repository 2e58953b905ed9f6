"""A destination has no effect on another one, and an outage causes no flood afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from doubles.delivery import RunningDispatcher, make_destination, make_event, named
from doubles.destination import ScriptedDestination, status
from gatehouse.config.model import RetryConfig
from gatehouse.delivery.breaker import BreakerSettings

pytestmark = pytest.mark.alone

LEDGER = {"destination": "ledger", "result": "delivered"}


@asynccontextmanager
async def black_hole() -> AsyncIterator[str]:
    """A socket that accepts connections and never replies."""
    writers: list[asyncio.StreamWriter] = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}/"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


@pytest.mark.case("O-10")
async def test_ten_thousand_deliveries_to_a_hanging_destination_do_not_delay_another_one(
    tmp_path: Path,
) -> None:
    async with black_hole() as nowhere, ScriptedDestination() as healthy:
        destinations = (
            make_destination(nowhere, concurrency=16, breaker=BreakerSettings()),
            named(make_destination(healthy.url, concurrency=16), "ledger"),
        )
        async with RunningDispatcher(tmp_path / "gatehouse.db", *destinations) as gateway:
            for _ in range(20):
                await gateway.accept(*(make_event() for _ in range(500)))
            assert gateway.value("deliveries_pending", destination="billing") == 10_000
            started = time.monotonic()
            await gateway.accept(*(make_event() for _ in range(100)), to=("ledger",))
            await healthy.wait_for(100)
            assert time.monotonic() - started < 2
            await gateway.until(100, "deliveries_total", **LEDGER)
            assert gateway.value("deliveries_pending", destination="billing") == 10_000


@pytest.mark.case("O-15")
async def test_deliveries_that_failed_together_return_within_the_rate(tmp_path: Path) -> None:
    rate, number = 1000.0, 2000
    breaker = BreakerSettings(failures=5, first=0.2, longest=0.2)
    policy = RetryConfig.model_construct(first=0.2, factor=2.0, max=0.5, give_up_after=3600.0)
    async with ScriptedDestination() as server:
        server.always(status(503))
        destination = make_destination(server.url, concurrency=64, rate=rate, breaker=breaker, retry=policy)
        async with RunningDispatcher(tmp_path / "gatehouse.db", destination) as gateway:
            for _ in range(4):
                await gateway.accept(*(make_event() for _ in range(number // 4)))
            await gateway.until(1, "breaker_open", destination="billing")
            server.always(status(200))
            down = len(server.requests)
            async with asyncio.timeout(30):
                while gateway.value("deliveries_pending", destination="billing"):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            took = [request.at for request in server.requests[down:]]
    # Within any second: the rate, plus the burst after a pause.
    busiest = max(sum(1 for at in took if start <= at < start + 1.0) for start in took[::50])
    assert busiest <= rate * 1.1 + 64
    assert len(took) >= number - down

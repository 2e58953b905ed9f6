"""A gateway in this process: real sockets, real SQLite, a real destination."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from doubles.destination import ScriptedDestination
from doubles.providers import SECRET
from gatehouse.config.load import parse
from gatehouse.gateway.app import Gateway
from gatehouse.store.clock import elapsed
from gatehouse.telemetry import log
from gateways import BASIC, CONFIG, SIGNING_SECRET, RunGateway, Running
from operating import Operator, run


@pytest.fixture
async def destination() -> AsyncIterator[ScriptedDestination]:
    """Run a destination."""
    async with ScriptedDestination() as running:
        yield running


@pytest.fixture
def run_gateway(tmp_path: Path) -> RunGateway:
    """Return a function that runs a gateway from a config text."""

    @asynccontextmanager
    async def run(
        config: str,
        *,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = elapsed,
        **environment: str,
    ) -> AsyncIterator[Running]:
        secrets = {"SECRET": SECRET, "EINVOICE": "secret", "SIGNING": SIGNING_SECRET, "BASIC": BASIC}
        loaded = parse(config, directory=tmp_path)
        async with (
            Gateway(loaded, environment=secrets | environment, clock=clock, elapsed=elapsed) as gateway,
            aiohttp.ClientSession() as client,
        ):
            yield Running(gateway, client)
        # The server notices a closed connection one iteration of the event loop later.
        await asyncio.sleep(0)

    return run


@pytest.fixture
async def running(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Running]:
    """Run a gateway with the five providers and one destination."""
    async with run_gateway(CONFIG.format(url=destination.url)) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def logged() -> Iterator[io.StringIO]:
    """Collect the log lines."""
    stream = io.StringIO()
    log.configure(json=True, stream=stream)
    yield stream
    log.reset()


@pytest.fixture
async def operator(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> AsyncIterator[Operator]:
    """Run a gateway with one destination, `app`."""
    async with run(run_gateway, destination, tmp_path) as it:
        yield it

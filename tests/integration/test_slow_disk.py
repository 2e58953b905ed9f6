"""With slow syncs, commits become larger, and no request is refused."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination
from doubles.raw import Wire, connected, request
from gateways import CONFIG, RunGateway, Running

pytestmark = pytest.mark.alone

SYNC = 0.01
CONNECTIONS = 64
ROUNDS = 6


class Slow(sqlite3.Connection):
    """A connection whose commits take as long as a sync on a slow disk."""

    commits = 0

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        if arguments[0] == "COMMIT":
            Slow.commits += 1
            time.sleep(SYNC)
        return super().execute(*arguments)


@pytest.fixture
async def running(
    run_gateway: RunGateway, destination: ScriptedDestination, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **more: connect(*given, factory=Slow, **more))
    # The latency of the real disk is added, and this test does not measure it.
    patient = CONFIG.replace(
        'listen: "127.0.0.1:0", public', 'listen: "127.0.0.1:0", commit_deadline: 5s, public'
    )
    config = patient.format(url=destination.url).partition("routes:")[0]
    async with run_gateway(config) as gateway:
        yield gateway


async def send(wire: Wire, name: str) -> bytes:
    """Send an event. Return the status."""
    body = providers.body(id=name, type="sale.created", data={})
    wire.writer.write(request(body, *(f"{name}: {value}" for name, value in providers.mando(body).items())))
    return (await wire.answer())[9:12]


async def sends(wire: Wire, number: int) -> list[bytes]:
    return [await send(wire, f"evt_{number}_{turn}") for turn in range(ROUNDS)]


@pytest.mark.case("P-03")
async def test_requests_on_64_connections_share_the_commits_of_a_slow_disk(running: Running) -> None:
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(running)) for _ in range(CONNECTIONS)]
        before = Slow.commits
        answers = await asyncio.gather(*(sends(wire, number) for number, wire in enumerate(wires)))
        commits = Slow.commits - before

    assert {status for each in answers for status in each} == {b"200"}
    # Separate commits would be 384. On a busy machine, simultaneous requests may need a few commits.
    assert commits <= CONNECTIONS * ROUNDS / 8


@pytest.mark.case("P-03")
async def test_a_single_request_waits_only_for_its_own_sync(running: Running) -> None:
    async with connected(running) as wire:
        await send(wire, "evt_first")
        before = Slow.commits
        assert await send(wire, "evt_alone") == b"200"

    assert Slow.commits - before == 1

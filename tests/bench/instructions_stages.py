"""The counted stages of the hot path. Each stage runs turns, and marks the start and the end of the counted
ones.

The marks are calls of `os.sched_yield`, which nothing else in the process calls: see `instructions.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

from aiohttp import web

from bench import signed
from bench.instructions_gateway import (
    PATH,
    Deliveries,
    InlineStore,
    InstantStore,
    start_dispatcher,
    start_ingest,
)
from bench.instructions_memory import MemoryLoop, Provider
from gatehouse.telemetry.live import Hub

#: Events per turn. Each arrives on its own connection, and all share one commit.
TURN = 16
#: Warm-up turns, which fill caches, open connections and prepare statements.
WARM_UP = 4
COUNTED = 12
TURNS = WARM_UP + COUNTED
#: Events that are counted.
EVENTS = COUNTED * TURN
#: Additional verifications in the stage with the deliberate regression.
EXTRA_VERIFICATIONS = 2

Turn = Callable[[int], Coroutine[None, None, None]]


async def _count(turn: Turn) -> None:
    """Run the turns of a stage. The instructions between the two marks are its cost."""
    for number in range(WARM_UP):
        await turn(number)
    os.sched_yield()
    for number in range(WARM_UP, TURNS):
        await turn(number)
    os.sched_yield()


def _sending(providers: list[Provider]) -> Turn:
    """Return the turn that sends a request on each connection and waits for the answers."""
    requests = [signed.request(PATH, "guard", number) for number in range(TURNS * TURN)]
    answers = _loop().answers

    async def turn(number: int) -> None:
        answered = answers.more(TURN)
        for provider, request in zip(providers, requests[number * TURN :], strict=False):
            provider.send(request)
        await answered

    return turn


async def reference(_: Path) -> None:
    """Bare aiohttp, with a handler that reads the body and answers 200."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response()

    server, answers = web.Server(handle, access_log=None), _loop().answers
    await _count(_sending([Provider(server(), answers) for _ in range(TURN)]))


async def ingest(_: Path, *, extra_verifications: int = 0, live: Hub | None = None) -> None:
    """From the bytes of a request to the bytes of its answer, with a store that returns at once."""
    store, handover = InstantStore(), Deliveries()
    server = await start_ingest(store, handover, extra_verifications=extra_verifications, live=live)
    await _count(_sending(await _loop().providers(server.port, TURN)))
    assert len(store.arrivals) == len(handover) == TURNS * TURN


async def regressed(folder: Path) -> None:
    """`ingest` with a deliberate regression, which the guard must detect."""
    await ingest(folder, extra_verifications=EXTRA_VERIFICATIONS)


async def watched(folder: Path) -> None:
    """`ingest` while somebody reads the stream, without the reading."""
    live = Hub()
    live.activate()
    await ingest(folder, live=live)
    assert live.next > 2 * TURNS * TURN


async def store(folder: Path) -> None:
    """One batch of events in SQLite, from BEGIN to COMMIT."""
    instant, file = InstantStore(), InlineStore(folder / "store.db")
    await _take_in(instant, Deliveries())

    async def turn(number: int) -> None:
        await file.accept(instant.arrivals[number * TURN : (number + 1) * TURN], deadline=0.0)

    await _count(turn)


async def deliver(folder: Path) -> None:
    """From a committed event to its recorded outcome: lane, POST, reply and rows."""
    file, deliveries = InlineStore(folder / "store.db"), Deliveries()
    await _take_in(file, deliveries)
    dispatcher = await start_dispatcher(file)

    async def turn(number: int) -> None:
        recorded = file.recorded.more(TURN)
        for delivery in deliveries[number * TURN : (number + 1) * TURN]:
            dispatcher.hand_over(delivery)
        await recorded

    await _count(turn)
    assert file.recorded.total == TURNS * TURN


async def _take_in(store: InstantStore | InlineStore, handover: Deliveries) -> None:
    """Accept all events."""
    server = await start_ingest(store, handover)
    turn = _sending(await _loop().providers(server.port, TURN))
    for number in range(TURNS):
        await turn(number)


def _loop() -> MemoryLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MemoryLoop)
    return loop


STAGES: Mapping[str, Callable[[Path], Coroutine[None, None, None]]] = {
    stage.__name__: stage for stage in (deliver, ingest, store, reference, regressed, watched)
}

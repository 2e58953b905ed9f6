"""The lane of a destination whose `concurrency` adapts, with a real store and sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from doubles.delivery import RunningDispatcher, make_destination, make_event
from doubles.destination import ScriptedDestination
from gatehouse.delivery.concurrency_limit import LEAST, MOST, START

BILLING = {"destination": "billing"}
DELIVERED = {**BILLING, "result": "delivered"}
LIMIT = "delivery_concurrency_limit"


class App:
    """Answers after 20 ms, and refuses with 429 what exceeds `most` requests at a time."""

    def __init__(self) -> None:
        self.most = 1000
        self.in_progress = self.highest = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if self.in_progress >= self.most:
            return web.Response(status=429)
        self.in_progress += 1
        self.highest = max(self.highest, self.in_progress)
        await asyncio.sleep(0.02)
        self.in_progress -= 1
        return web.Response()


async def test_workers_start_when_needed_follow_the_limit_and_end_when_it_falls(tmp_path: Path) -> None:
    app = App()
    async with ScriptedDestination() as server:
        server.always(app)
        destination = make_destination(server.url, concurrency=START, is_adaptive=True)
        async with RunningDispatcher(tmp_path / "gatehouse.db", destination) as gateway:
            lane = gateway.dispatcher._lanes["billing"]
            assert not lane._workers
            await gateway.accept(make_event(), make_event())
            await gateway.until(2, "deliveries_total", **DELIVERED)
            assert len(lane._workers) == 2

            await gateway.accept(*(make_event() for _ in range(900)))
            await gateway.until(902, "deliveries_total", **DELIVERED)
            (state,) = gateway.dispatcher.describe()
            grown = int(gateway.value(LIMIT, **BILLING))
            assert START <= state["concurrency"] == grown <= MOST
            assert START < app.highest <= MOST
            assert len(lane._workers) <= grown

            app.most = 2
            await gateway.accept(*(make_event() for _ in range(100)))
            async with asyncio.timeout(5):
                while gateway.value(LIMIT, **BILLING) > LEAST:  # noqa: ASYNC110 - a metric sends no notifications
                    await asyncio.sleep(0.005)
            app.most = 1000
            await gateway.until(1002, "deliveries_total", **DELIVERED)
            assert len(lane._workers) <= lane.slots < START
            app.highest = 0
            await gateway.accept(*(make_event() for _ in range(50)))
            await gateway.until(1052, "deliveries_total", **DELIVERED)
            assert LEAST <= app.highest <= lane.slots

"""A lane whose `concurrency` adapts, and outcomes that wait for company, with a real store and sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from doubles.delivery import RunningDispatcher, make_destination, make_event
from doubles.destination import ScriptedDestination, status
from gatehouse.delivery import recorder
from gatehouse.delivery.concurrency_limit import MOST, START

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
                while gateway.value(LIMIT, **BILLING) >= START:  # noqa: ASYNC110 - a metric sends no notifications
                    await asyncio.sleep(0.005)
            app.most = 1000
            await gateway.until(1002, "deliveries_total", **DELIVERED)
            async with asyncio.timeout(5):
                while len(lane._workers) > lane.slots:  # noqa: ASYNC110 - those that just recorded end now
                    await asyncio.sleep(0.005)
            app.highest = 0
            await gateway.accept(*(make_event() for _ in range(50)))
            await gateway.until(1052, "deliveries_total", **DELIVERED)
            assert 1 < app.highest <= lane.slots < START


@pytest.mark.parametrize("needed", ["for a slot", "for the order", "for a retry"])
async def test_an_outcome_that_is_needed_does_not_wait_for_company(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: str
) -> None:
    monkeypatch.setattr(recorder, "SPACING", 60.0)
    async with ScriptedDestination() as server:
        destination = make_destination(
            server.url, concurrency=1 if needed == "for a slot" else 16, ordered=needed == "for the order"
        )
        async with RunningDispatcher(tmp_path / "gatehouse.db", destination) as gateway:
            await gateway.accept(make_event())
            await gateway.until(1, "deliveries_total", **DELIVERED)
            if needed == "for a retry":
                server.script(status(500), status(500))
                await gateway.accept(make_event())
                await gateway.until(2, "attempts_total", reason="server_error", **BILLING)
                return
            events = [make_event() for _ in range(10)]
            await gateway.accept(*events, order_by=lambda _: "same" if destination.ordered else None)
            await gateway.until(11, "deliveries_total", **DELIVERED)


async def test_an_outcome_that_nobody_needs_waits_for_company(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "SPACING", 60.0)
    async with ScriptedDestination() as server:
        destination = make_destination(server.url, concurrency=16)
        async with RunningDispatcher(tmp_path / "gatehouse.db", destination) as gateway:
            await gateway.accept(make_event())
            await gateway.until(1, "deliveries_total", **DELIVERED)
            await gateway.accept(make_event())
            await gateway.until(2, "attempts_total", reason="ok", **BILLING)
            assert gateway.value("deliveries_total", **DELIVERED) == 1
            await gateway.accept(*(make_event() for _ in range(15)))  # enough company
            await gateway.until(17, "deliveries_total", **DELIVERED)

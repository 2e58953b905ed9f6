"""The export of the list of events ends when its client leaves, and is never cut off in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from gatehouse.operator.page.asking import ApiError
from gatehouse.operator.page.export import ExportScreen


class Endless:
    """An API that always has another page, until it fails."""

    def __init__(self, event: dict[str, str] | None, fails_after: int) -> None:
        self.asked = 0
        self._event = event
        self._fails_after = fails_after

    async def get(self, *_: object) -> Any:
        self.asked += 1
        if self.asked > self._fails_after:
            raise ApiError(503, "unavailable", "the store does not answer", {})
        return {"events": [self._event] * 100 if self._event else [], "cursor": "more"}


@asynccontextmanager
async def export_of(api: Endless) -> AsyncIterator[tuple[aiohttp.ClientResponse, Endless]]:
    """Serve an export as the operator listener does, and begin to read it."""
    app = web.Application()
    app.add_routes(ExportScreen(cast("Any", SimpleNamespace(api=api))).routes())
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/events/export"
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            yield answer, api
    finally:
        await runner.cleanup()


async def pages_asked_for(api: Endless) -> int:
    """Wait until no more pages are asked for. Returns how many were."""
    async with asyncio.timeout(5):
        before = -1
        while before != api.asked:
            before = api.asked
            await asyncio.sleep(0.05)
    return before


@pytest.mark.parametrize("event", [{"id": "x" * 1000}, None])
async def test_an_export_ends_when_its_client_leaves(event: dict[str, str] | None) -> None:
    async with export_of(Endless(event, fails_after=1_000_000)) as (answer, api):
        if event:
            await answer.content.readline()
        answer.close()
        assert await pages_asked_for(api) < 1_000_000


async def test_a_slow_client_holds_the_export_back() -> None:
    async with export_of(Endless({"id": "x" * 1000}, fails_after=1_000_000)) as (answer, api):
        await answer.content.readline()
        # 100 KB each: what the buffers of both sides hold.
        assert await pages_asked_for(api) < 200


async def test_a_failing_store_cuts_the_connection() -> None:
    async with export_of(Endless({"id": "1"}, fails_after=3)) as (answer, _):
        with pytest.raises(aiohttp.ClientError):
            await answer.read()

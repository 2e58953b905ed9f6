"""A URL that a handshake asks to confirm is fetched, and only the status 200 confirms it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gatehouse.ingest.confirmation import MAX_REPLY, confirm


@pytest.fixture
async def provider() -> AsyncIterator[tuple[str, list[str]]]:
    """Serve an address that can be confirmed, and collect the requests."""
    asked: list[str] = []
    released = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.raw_path)
        if request.path == "/slow":
            await released.wait()
        if request.path == "/elsewhere":
            return web.Response(status=302, headers={"Location": "/ok"})
        if request.path == "/endless":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(4 * MAX_REPLY // 1024):
                await response.write(b"x" * 1024)
            await released.wait()
            return response
        return web.Response(status=500 if request.path == "/fails" else 200)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    released.set()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "confirmed"),
    [
        ("/ok?Token=a%2Fb%20c", True),
        ("/endless", True),
        ("/elsewhere", False),
        ("/fails", False),
        ("/slow", False),
    ],
)
async def test_only_200_confirms(provider: tuple[str, list[str]], path: str, confirmed: bool) -> None:
    url, asked = provider

    assert await confirm(url + path, deadline=0.3 if path == "/slow" else 5.0) == confirmed
    assert asked == [path]


async def test_an_unreachable_address_is_not_confirmed(unused_port: int) -> None:
    assert not await confirm(f"http://127.0.0.1:{unused_port}/")


@pytest.fixture
def unused_port() -> int:
    """Find a port without a listener."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])

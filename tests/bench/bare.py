"""The bare aiohttp servers on uvloop that the gateway is compared with, and the destinations of the
benchmark.

The program prints its port. Its argument selects the server:

- `low-level`: aiohttp's `web.Server`, without routing. It is also the destination of the deliveries.
- `handler`: an application with one route that reads the body and answers 200, as in aiohttp's documentation.
- `proxy URL`: an application that posts each body to a URL and answers with the status of the reply.
- `clock`: a destination that records when each event arrives. `GET` returns these times by event id, in
  seconds of the monotonic clock, which all processes of a machine share.

No server verifies or stores a request.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator

import uvloop
from aiohttp import ClientSession, web

_SESSION = web.AppKey("session", ClientSession)
_BACKLOG = 1024


async def _drop(request: web.BaseRequest) -> web.StreamResponse:
    await request.content.read()
    return web.Response()


async def _answer(request: web.Request) -> web.Response:
    await request.read()
    return web.Response()


def _handler() -> web.Application:
    app = web.Application()
    app.router.add_post("/webhooks/stored", _answer)
    return app


def _proxy(url: str) -> web.Application:
    async def forward(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {"Content-Type": request.headers["Content-Type"]}
        async with request.app[_SESSION].post(url, data=body, headers=headers) as reply:
            await reply.read()
            return web.Response(status=reply.status)

    async def session(app: web.Application) -> AsyncIterator[None]:
        async with ClientSession() as app[_SESSION]:
            yield

    app = web.Application()
    app.router.add_post("/webhooks/sent", forward)
    app.cleanup_ctx.append(session)
    return app


class _Clock:
    def __init__(self) -> None:
        self._came: dict[str, float] = {}

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        now = time.monotonic()
        if request.method == "GET":
            return web.Response(text=json.dumps(self._came), content_type="application/json")
        self._came.setdefault(json.loads(body)["id"], now)
        return web.Response()


def _runner(kind: str, url: str) -> web.AppRunner | web.ServerRunner:
    match kind:
        case "handler":
            return web.AppRunner(_handler(), access_log=None)
        case "proxy":
            return web.AppRunner(_proxy(url), access_log=None)
        case "clock":
            return web.ServerRunner(web.Server(_Clock().serve, access_log=None))
        case _:
            return web.ServerRunner(web.Server(_drop, access_log=None))


async def main(kind: str = "low-level", url: str = "") -> None:
    """Serve until the process is terminated."""
    runner = _runner(kind, url)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=_BACKLOG).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))

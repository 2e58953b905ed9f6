"""A destination that counts its requests. Prints its port; `GET /` returns the count and the period.

The benchmark does not read the gateway's metrics during deliveries, because answering would use its core.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop
from aiohttp import web


class Counter:
    """Counts requests until it is reset."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = 0.0

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Count a POST, or answer a GET with the count."""
        if request.method == "GET":
            return web.json_response({"count": self.count, "seconds": self.last - self.first})
        if request.method == "DELETE":
            self.count = 0
            return web.Response()
        await request.content.read()
        self.last = time.monotonic()
        if not self.count:
            self.first = self.last
        self.count += 1
        return web.Response()


async def main() -> None:
    runner = web.ServerRunner(web.Server(Counter().serve, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(json.dumps(runner.addresses[0][1]) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())

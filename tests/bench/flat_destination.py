"""A destination that counts what it gets. Prints its port; `GET /` tells how many came, and over how long.

A gateway is not asked for its metrics while it delivers: to answer would take a share of what is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop
from aiohttp import web


class Counter:
    """Counts requests between two looks."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = 0.0

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Count a POST; answer a GET with what was counted."""
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

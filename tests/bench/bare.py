"""A handler that reads the body and answers 200, on aiohttp and uvloop, and nothing else. Prints its port.

What the gateway is measured against, and the destination that it delivers to.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import web


async def serve(request: web.BaseRequest) -> web.StreamResponse:
    await request.content.read()
    return web.Response()


async def main() -> None:
    runner = web.ServerRunner(web.Server(serve, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())

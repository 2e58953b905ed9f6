"""The destination, a process of its own: it writes down what it gets, and then answers by script.

`python -m crash.destination LEDGER SEED HOLD` prints its port. Until SIGUSR1 it answers 80 of 100 requests
with 200, 15 with 500, and keeps 5 waiting for HOLD seconds; after that, all with 200.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path
from random import Random

import uvloop
from aiohttp import web

from crash.ledger import Ledger, Reception
from crash.numbered import identify

#: Answers and their shares; 0 is none in time.
SCRIPT = {200: 80, 500: 15, 0: 5}


class Destination:
    """Answers POST on any path."""

    def __init__(self, ledger: Ledger, seed: str, hold: float) -> None:
        self._ledger = ledger
        self._random = Random(seed)
        self._hold = hold
        self._calm = False

    def calm(self) -> None:
        """Answer everything with 200 from now on."""
        self._calm = True

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        name, sha = identify(body)
        answer = self._answer()
        key, attempt = (
            request.headers.get("webhook-id", ""),
            int(request.headers.get("gatehouse-attempt", "0")),
        )
        await self._ledger.write(Reception(name, key, attempt, sha, answer, time.time()))
        if not answer:
            await asyncio.sleep(self._hold)
        return web.Response(status=answer or 200)

    def _answer(self) -> int:
        if self._calm:
            return 200
        return self._random.choices(list(SCRIPT), list(SCRIPT.values()))[0]


async def main(path: Path, seed: str, hold: float) -> None:
    with Ledger(path) as ledger:
        destination = Destination(ledger, seed, hold)
        runner = web.ServerRunner(web.Server(destination.serve, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, destination.calm)
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        sys.stdout.write(f"{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))

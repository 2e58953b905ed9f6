"""The destination, which runs as its own process: it records each request in its ledger before it replies.

`python -m crash.destination LEDGER SEED HOLD TAKEN FAILED HELD` prints its port. Until it gets SIGUSR1, it
replies to TAKEN of 100 requests with 200 and to FAILED with 500, and delays HELD of them by HOLD seconds.
Afterwards it replies 200 to all.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import uvloop
from aiohttp import web

from crash.ledger import Ledger, Reception
from crash.numbered import identify

#: The possible replies. 0 means no reply in time.
_ANSWERS = (200, 500, 0)
#: How many of 100 requests get each reply. Runs can override this.
SHARES = (80, 15, 5)


class Destination:
    """Answers POST on any path."""

    def __init__(self, ledger: Ledger, seed: str, hold: float, shares: Sequence[int]) -> None:
        self._ledger = ledger
        self._random = Random(seed)
        self._hold = hold
        self._shares = shares
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
        return self._random.choices(_ANSWERS, self._shares)[0]


async def main(path: Path, seed: str, hold: float, shares: Sequence[int]) -> None:
    with Ledger(path) as ledger:
        destination = Destination(ledger, seed, hold, shares)
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
    _, where, seed, hold, *shares = sys.argv
    uvloop.run(main(Path(where), seed, float(hold), [int(share) for share in shares]))

"""People who look at the operator page: each loads one screen after another, and looks at it for a while.

Whoever looks at the screen Live reads its stream meanwhile, as a browser does.

`python -m bench.page_viewers PORT VIEWERS SECONDS FILE` reads the addresses from a file, one a line. It
prints the milliseconds until the first byte of each screen.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from pathlib import Path

import aiohttp

_DRAWN = random.Random(1)  # noqa: S311 - an order, no secrets
_HTML = {"Accept": "text/html"}
#: The screen Live, and the stream as it asks for it.
_LIVE, _STREAM = "/live", "/live/stream?at_most=50"


async def view(client: aiohttp.ClientSession, targets: list[str], pace: float, begin: float) -> None:
    """Load screens in random order, one in `pace` seconds. The first one comes after `begin` seconds."""
    await asyncio.sleep(begin)
    while True:
        started = time.perf_counter()
        target = _DRAWN.choice(targets)
        async with client.get(target, headers=_HTML) as answer:
            await answer.content.readany()
            print(f"{(time.perf_counter() - started) * 1000:.1f}", flush=True)
            await answer.read()
        left = max(0.0, pace - (time.perf_counter() - started))
        await (follow(client, left) if target.partition("?")[0] == _LIVE else asyncio.sleep(left))


async def follow(client: aiohttp.ClientSession, seconds: float) -> None:
    """Read the stream of the screen Live for a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), client.get(_STREAM) as answer:
            async for _ in answer.content.iter_any():
                pass


async def run(port: int, viewers: int, pace: float, targets: list[str]) -> None:
    """Look until the process is killed."""
    everything = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    url = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(url, connector=connector, timeout=everything) as client:
        begins = [pace * number / viewers for number in range(viewers)]
        await asyncio.gather(*(view(client, targets, pace, begin) for begin in begins))


def main() -> None:
    """Parse the arguments, and look."""
    port, viewers, pace, file = sys.argv[1:]
    asyncio.run(run(int(port), int(viewers), float(pace), Path(file).read_text().split()))


if __name__ == "__main__":
    main()

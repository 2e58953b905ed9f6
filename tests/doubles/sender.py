"""A provider that sends to gateways whose store is down at times, and remembers the answers."""

from __future__ import annotations

import asyncio
import io
import itertools
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from doubles import providers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateways import Running

#: Seconds until a provider has its answer, even from an overloaded machine. The commit deadline is 0.8 s.
ANSWERED_WITHIN: Final = 2.0


class Provider:
    """Sends events with unique ids, and remembers the result of each."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        #: The accepted events that were not refused before.
        self.accepted_at_once: set[str] = set()
        self.refused: set[str] = set()
        self.slowest = 0.0
        self._numbers = itertools.count(1)

    async def send(self, running: Running, external_id: str | None = None) -> tuple[int, Any]:
        """Send an event. Without an id, it is a new one."""
        external_id = external_id or f"evt_{next(self._numbers)}"
        body = providers.body(id=external_id, type="sale.created")
        url, began = f"{running.url}/webhooks/mando", time.monotonic()
        async with running.client.post(url, data=io.BytesIO(body), headers=providers.mando(body)) as answer:
            said = await answer.json()
        self.slowest = max(self.slowest, time.monotonic() - began)
        if answer.status == 200:
            self.accepted.add(external_id)
            if external_id not in self.refused:
                self.accepted_at_once.add(external_id)
            self.refused.discard(external_id)
            return 200, said
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        self.refused.add(external_id)
        return 503, said

    @asynccontextmanager
    async def sending(self, *gateways: Running) -> AsyncIterator[None]:
        """Send continuously, with two requests at once to each gateway."""
        stop = asyncio.Event()
        senders = [asyncio.create_task(self._send_on(gateway, stop)) for gateway in gateways * 2]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*senders)

    async def _send_on(self, running: Running, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.send(running)
            await asyncio.sleep(0.02)

    async def until_accepted(self, number: int) -> None:
        """Wait for this many more accepted events."""
        async with asyncio.timeout(20):
            while len(self.accepted) < number:  # noqa: ASYNC110 - a set tells no one
                await asyncio.sleep(0.01)

    async def until_accepting(self, *gateways: Running, external_id: str | None = None) -> float:
        """Send until each gateway takes one. Returns how long that took."""
        began = time.monotonic()
        async with asyncio.timeout(20):
            for gateway in gateways:
                while (await self.send(gateway, external_id))[0] != 200:  # noqa: ASYNC110 - as providers do
                    await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def until_refused(self, number: int) -> None:
        """Wait for this many more answers that the store is unavailable."""
        async with asyncio.timeout(20):
            while len(self.refused) < number:  # noqa: ASYNC110 - a set tells no one
                await asyncio.sleep(0.01)

"""The provider: many connections, each of which sends events in sequence and sends failed ones again."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import aiohttp

from crash.ledger import Answer, Ledger
from crash.numbered import Numbered, make

#: Seconds until an event that was not acknowledged is sent again.
_PAUSE = 0.05
#: Timeout (seconds). A slower gateway has missed its limit of 1 s, or the machine is overloaded.
_PATIENCE = 10.0


@dataclass
class Target:
    """The gateway to send to, if one serves."""

    url: str = ""
    life: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)

    def serve(self, url: str) -> None:
        self.url = url
        self.life += 1
        self.up.set()

    def gone(self) -> None:
        """Start no new requests. Those in progress continue."""
        self.up.clear()

    def choose(self) -> tuple[int, str]:
        """Return the number of the life to send to, and its address."""
        return self.life, self.url

    def answered(self, answer: Answer) -> None:
        """Process the result of a request."""


class Sender:
    """Sends new events while `sending` is set, and sends refused and unanswered ones until acknowledged."""

    def __init__(self, run: str, ledger: Ledger, *, connections: int, rate: float) -> None:
        self.target = Target()
        self.sending = asyncio.Event()
        self.sent = 0
        self.acknowledged = 0
        self.refused = 0
        self.unanswered = 0
        #: Called with the id of each acknowledged event after it is recorded.
        self.on_acknowledged: Callable[[str], None] = lambda _: None
        self._run = run
        self._ledger = ledger
        self._connections = connections
        self._every = 1 / rate
        self._next_at = 0.0
        self._again: deque[Numbered] = deque()
        self._busy = 0
        self._work = asyncio.Event()

    async def run(self) -> None:
        """Send until cancelled."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=_PATIENCE)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self._connections):
                group.create_task(self._send_on(client))

    def start(self) -> None:
        """Send new events from now on."""
        self.sending.set()
        self._work.set()

    def stop(self) -> None:
        """Send no new events. Unacknowledged events are still sent again."""
        self.sending.clear()

    @property
    def idle(self) -> bool:
        """Whether everything that was sent has been acknowledged."""
        return not self._busy and not self._again

    async def _send_on(self, client: aiohttp.ClientSession) -> None:
        while True:
            await self.target.up.wait()
            await self._pace()
            if not self.target.up.is_set():
                continue
            event = self._next()
            if event is None:
                await self._work.wait()
                continue
            self._busy += 1
            try:
                answer = await self._send(client, event)
                await self._ledger.write(answer)
                await self._settle(event, answer)
            finally:
                self._busy -= 1

    async def _pace(self) -> None:
        """Space requests evenly. Requests that were missed while no gateway served are not sent later."""
        now = time.monotonic()
        self._next_at = max(self._next_at + self._every, now - 0.1)
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)

    def _next(self) -> Numbered | None:
        if self._again:
            return self._again.popleft()
        if self.sending.is_set():
            self.sent += 1
            return make(self._run, self.sent)
        self._work.clear()
        return None

    async def _send(self, client: aiohttp.ClientSession, event: Numbered) -> Answer:
        (life, address), started = self.target.choose(), time.time()
        status, outcome = 0, ""
        try:
            url = f"{address}/webhooks/{event.source}"
            async with client.post(url, data=event.body, headers=event.headers()) as response:
                status = response.status
                outcome = (await response.json()).get("status", "")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            # A truncated answer does not count: its status alone acknowledges nothing.
            status = 0
        return Answer(event.id, event.sha, status, outcome, started, time.time(), life)

    async def _settle(self, event: Numbered, answer: Answer) -> None:
        self.target.answered(answer)
        if answer.acknowledged:
            self.acknowledged += 1
            self.on_acknowledged(event.id)
            return
        self.unanswered += answer.status == 0
        self.refused += answer.status == HTTPStatus.SERVICE_UNAVAILABLE
        await asyncio.sleep(_PAUSE)
        self._again.append(event)
        self._work.set()

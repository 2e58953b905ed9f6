"""The app behind the gateway: it believes what is signed, and keeps what arrived."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from gatehouse.demo.workspace import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_TOLERANCE_SECONDS = 300
_UNIX = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Arrived:
    """One request of the gateway to the app."""

    headers: Mapping[str, str]
    body: bytes
    #: When it came, in `time.perf_counter()`.
    at: float
    #: Whether its Standard Webhooks signature is right.
    is_signed: bool

    @property
    def event_id(self) -> str:
        """The idempotency key."""
        return self.headers.get("webhook-id", "")


class App:
    """An HTTP server that takes events."""

    def __init__(self, secret: str) -> None:
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._news = asyncio.Condition()
        self.arrived: list[Arrived] = []
        self.url = ""
        #: Called with each arrival, once the demo's own are done.
        self.on_arrival: Callable[[Arrived], None] | None = None

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[App]:
        """Serve on a free port until the block ends."""
        server = web.Application()
        server.router.add_post("/events", self._take)
        runner = web.AppRunner(server, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, 0).start()
            self.url = f"http://{HOST}:{runner.addresses[0][1]}/events"
            yield self
        finally:
            await runner.cleanup()

    async def wait_for(self, event_id: str, seconds: float) -> Arrived | None:
        """Wait for an event to arrive; None when it does not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: self.find(event_id))
        found = self.find(event_id)
        return found[0] if found else None

    def find(self, event_id: str) -> list[Arrived]:
        """Return every arrival of an event."""
        return [arrived for arrived in self.arrived if arrived.event_id == event_id]

    async def _take(self, request: web.Request) -> web.Response:
        at = time.perf_counter()
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        arrived = Arrived(headers, body, at, self._is_signed(headers, body))
        async with self._news:
            self.arrived.append(arrived)
            self._news.notify_all()
        if self.on_arrival:
            self.on_arrival(arrived)
        return web.Response(status=204 if arrived.is_signed else 401)

    def _is_signed(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Check the signature from the specification alone, independently of the gateway's own code."""
        event_id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        signed = f"{event_id}.{sent}.".encode("utf-8", "surrogateescape") + body
        expected = b"v1," + base64.b64encode(hmac.digest(self._key, signed, "sha256"))
        # As bytes: Python compares texts in constant time only when they are ASCII.
        given = headers.get("webhook-signature", "").encode("utf-8", "surrogateescape").split(b" ")
        is_recent = bool(_UNIX.fullmatch(sent)) and abs(int(sent) - time.time()) < _TOLERANCE_SECONDS
        return bool(event_id) and is_recent and any(hmac.compare_digest(one, expected) for one in given)

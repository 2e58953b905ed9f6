"""The app behind the gateway: accepts signed events, and keeps what it received."""

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
_UNIX_TIME = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Received:
    """One request from the gateway to the app."""

    headers: Mapping[str, str]
    body: bytes
    #: When it arrived, in `time.perf_counter()`.
    at: float
    #: Whether its Standard Webhooks signature is valid.
    is_signed: bool

    @property
    def event_id(self) -> str:
        """The event's id, which is the idempotency key."""
        return self.headers.get("webhook-id", "")


class App:
    """An HTTP server that receives events."""

    def __init__(self, secret: str) -> None:
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._changed = asyncio.Condition()
        self.received: list[Received] = []
        self.url = ""
        #: Called with each event received, once the demo's own requests are done.
        self.on_received: Callable[[Received], None] | None = None

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[App]:
        """Serve on a free port until the block ends."""
        server = web.Application()
        server.router.add_post("/events", self._receive)
        runner = web.AppRunner(server, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, 0).start()
            self.url = f"http://{HOST}:{runner.addresses[0][1]}/events"
            yield self
        finally:
            await runner.cleanup()

    async def wait_for(self, event_id: str, seconds: float) -> Received | None:
        """Wait until an event is received. Returns None if it is not received in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.find(event_id))
        found = self.find(event_id)
        return found[0] if found else None

    def find(self, event_id: str) -> list[Received]:
        """Return every request received for an event."""
        return [received for received in self.received if received.event_id == event_id]

    async def _receive(self, request: web.Request) -> web.Response:
        at = time.perf_counter()
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(headers, body, at, self._is_signed(headers, body))
        async with self._changed:
            self.received.append(received)
            self._changed.notify_all()
        if self.on_received:
            self.on_received(received)
        return web.Response(status=204 if received.is_signed else 401)

    def _is_signed(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Check the signature as the specification says, without the gateway's own code."""
        event_id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        signed = f"{event_id}.{sent}.".encode("utf-8", "surrogateescape") + body
        expected = b"v1," + base64.b64encode(hmac.digest(self._key, signed, "sha256"))
        # As bytes: Python compares strings in constant time only if they are ASCII.
        given = headers.get("webhook-signature", "").encode("utf-8", "surrogateescape").split(b" ")
        is_recent = bool(_UNIX_TIME.fullmatch(sent)) and abs(int(sent) - time.time()) < _TOLERANCE_SECONDS
        return bool(event_id) and is_recent and any(hmac.compare_digest(one, expected) for one in given)

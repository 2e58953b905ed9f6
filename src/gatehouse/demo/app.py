"""The apps behind the gateway: one accepts signed events, and keeps what it received. The others fail."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

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


@dataclass(frozen=True, slots=True)
class Failure:
    """What an app answers that handles no event."""

    status: int
    body: str
    content_type: str = "application/json"
    #: Seconds until the gateway should try again; 0 leaves it to the gateway.
    retry_after: int = 0


#: By destination.
FAILURES = {
    "ledger": Failure(422, '{"error": "sale_not_found", "message": "The ledger has no sale with this id."}'),
    "archive": Failure(500, "<h1>Internal Server Error</h1><p>No space left on device</p>", "text/html"),
    "mailer": Failure(429, '{"error": "The limit of 100 messages per hour is reached."}', retry_after=1800),
}


class App:
    """An HTTP server that receives events, and plays the apps that fail."""

    def __init__(self, secret: str) -> None:
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._changed = asyncio.Condition()
        #: What arrived at `/events`.
        self.received: list[Received] = []
        #: The address of all apps, without a path.
        self.url = ""
        #: Called with each event received, once the demo's own requests are done.
        self.on_received: Callable[[Received], None] | None = None

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[App]:
        """Serve on a free port until the block ends."""
        server = web.Application()
        server.router.add_post("/events", self._receive)
        for name, failure in FAILURES.items():
            server.router.add_post(f"/{name}", partial(_fail, failure))
        runner = web.AppRunner(server, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, 0).start()
            self.url = f"http://{HOST}:{runner.addresses[0][1]}"
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


async def _fail(failure: Failure, _: web.Request) -> web.Response:
    headers = {hdrs.RETRY_AFTER: str(failure.retry_after)} if failure.retry_after else {}
    return web.Response(
        status=failure.status, text=failure.body, content_type=failure.content_type, headers=headers
    )

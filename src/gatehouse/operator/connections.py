"""The connections of operators: how many there may be, and what a malformed request gets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from gatehouse.operator.responses import error_answer

if TYPE_CHECKING:
    from collections.abc import Callable

#: Connections at a time: those of all clients of the stream, and as many as others need. Providers and
#: operators share the file descriptors of the process.
MAX_CONNECTIONS: Final = 640
#: Mark an answer as data: not to be cached, run, or shown in another site's page.
DATA_HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_INTERNAL: Final = 500
#: Seconds in which the head of a request has to arrive. Proxies keep a connection for about a minute.
_IDLE: Final = 75.0


class _Connection(web.RequestHandler):
    """A connection. At the limit, a new one replaces the oldest one that has no request in progress."""

    def __init__(self, server: web.Server, open_now: dict[_Connection, None]) -> None:
        # Bodies are small, so nobody compresses them. A short compressed body can stand for a very long one.
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # no log, although the types require one
            auto_decompress=False,
            keepalive_timeout=_IDLE,
        )
        self._open_now = open_now

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return not self._request_in_progress

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._open_now[self] = None
        if len(self._open_now) > MAX_CONNECTIONS:
            next((one for one in self._open_now if one.is_idle), self).force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._open_now.pop(self, None)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a malformed request or an internal error. aiohttp would quote the former."""
        answer = super().handle_error(request, status, exc, message)
        if status < _INTERNAL:
            answer = error_answer(status, "bad_request", "not a valid HTTP request")
            answer.headers.update(
                DATA_HEADERS | {hdrs.SERVER: "gatehouse"}
            )  # no route and no hook sees such a request
            answer.force_close()
        return answer


def connection_factory(server: web.Server) -> Callable[[], asyncio.Protocol]:
    """Return what creates the protocol of each new connection of a listener."""
    open_now: dict[_Connection, None] = {}
    return lambda: _Connection(server, open_now)

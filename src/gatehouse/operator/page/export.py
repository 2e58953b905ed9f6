"""The list of events as a file: one JSON object a line."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec
from aiohttp import hdrs, web

from gatehouse.operator.page.asking import ApiError
from gatehouse.operator.page.filters import given
from gatehouse.operator.request_types import EventFilters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.operator.page.site import Site

#: Files at a time, for all operators. Each costs the store, and memory while its client does not read.
_MOST_AT_A_TIME: Final = 8
#: Seconds in which a client has to read what was sent.
_READ_WITHIN: Final = 60.0
#: Events of one page. A larger page would keep the event loop busy for longer.
_PAGE: Final = "100"
_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "application/x-ndjson",
    hdrs.CONTENT_DISPOSITION: 'attachment; filename="events.jsonl"',
    # Tells nginx not to collect the file before it passes it on.
    "X-Accel-Buffering": "no",
}
_LINE: Final = msgspec.json.Encoder()


class ExportScreen:
    """`/events/export`: all events that match the filters, newest first, as summaries of the API."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = None

    def __init__(self, site: Site) -> None:
        self._site = site
        self._open = 0

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/events/export", self._export, allow_head=False)]

    async def _export(self, request: web.Request) -> web.StreamResponse:
        if self._open >= _MOST_AT_A_TIME:
            return self._site.error(request, 503, "too many lists are being exported; try again later")
        self._open += 1
        try:
            return await self._answer(request)
        finally:
            self._open -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        filters = given(request.query, EventFilters.__annotations__)
        page = await self._page(request, filters, None)  # an error here still gets a page of its own
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        # The client has left or reads nothing, or the store does not answer.
        with suppress(ConnectionError, TimeoutError, ApiError):
            await self._write_all(request, response, filters, page)
            return response
        if request.transport is not None:
            request.transport.abort()  # so that nobody takes the file for complete
        return response

    async def _write_all(
        self,
        request: web.Request,
        response: web.StreamResponse,
        filters: Mapping[str, str],
        page: Any,  # noqa: ANN401
    ) -> None:
        """Write all pages.

        Raises `ConnectionError` if the client leaves, `TimeoutError` if it does not read, and `ApiError`.
        """
        while True:
            if page["events"]:
                lines = b"".join(_LINE.encode(event) + b"\n" for event in page["events"])
                async with asyncio.timeout(_READ_WITHIN):
                    await response.write(lines)
            if page["cursor"] is None:
                break
            # A search that finds nothing writes nothing, and would not notice.
            if request.transport is None or request.transport.is_closing():
                raise ConnectionError("the client has left")
            await asyncio.sleep(0)  # lets requests of providers go first
            page = await self._page(request, filters, page["cursor"])
        async with asyncio.timeout(_READ_WITHIN):
            await response.write_eof()

    async def _page(self, request: web.Request, filters: Mapping[str, str], cursor: str | None) -> Any:  # noqa: ANN401
        asked = {**filters, "limit": _PAGE} | ({"cursor": cursor} if cursor else {})
        return await self._site.api.get(request, "/api/v1/events", asked)

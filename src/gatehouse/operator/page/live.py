"""What happens at the moment: requests, events and attempts from the stream of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from aiohttp import web

from gatehouse.operator.page.filters import Field, filled, given, has_empty
from gatehouse.operator.stream.wanted import KINDS

if TYPE_CHECKING:
    from gatehouse.operator.page.site import Site


#: Entries per second: more than a person can read, and few enough for the gateway and the browser.
_AT_MOST: Final = 50


class LiveScreen:
    """`/live`, and `/live/stream`: as `/api/v1/stream`, for whoever has a session."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = ("/live", "Live")

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/live", self._show), web.get("/live/stream", self._stream)]

    async def _show(self, request: web.Request) -> web.StreamResponse:
        status = await self._site.api.get(request, "/api/v1/status")
        fields = [
            Field("source", "Source", options=_names(status["sources"]), is_main=True),
            Field("type", "Type", hint="invoice.*", is_main=True),
            Field("destination", "Destination", options=_names(status["destinations"]), is_main=True),
            Field("kinds", "Show only", options=KINDS, is_main=True),
        ]
        values = given(request.query, (field.name for field in fields))
        if has_empty(request.query):
            return self._site.redirect("/live", values)
        return self._site.render(
            request, "live.html", fields=filled(fields, values), stream=values | {"at_most": str(_AT_MOST)}
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        return await self._site.api.serve(request, "/api/v1/stream")


def _names(entries: list[dict[str, str]]) -> tuple[str, ...]:
    return tuple(entry["name"] for entry in entries)

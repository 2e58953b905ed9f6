"""What happens at the moment: the stream of the API, for browsers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from aiohttp import web

if TYPE_CHECKING:
    from gatehouse.operator.page.site import Site


class LiveScreen:
    """`/live/stream`: as `/api/v1/stream`, for whoever has a session."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = None

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/live/stream", self._stream)]

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        return await self._site.api.serve(request, "/api/v1/stream")

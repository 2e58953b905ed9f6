"""Where requests enter the page. It imports the rest of the page for the first of them.

So a gateway that nobody looks at spends neither time nor memory on the page.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from gatehouse.operator.page import arrival

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gatehouse.operator.authentication import Authentication
    from gatehouse.operator.page.page import Page

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: What programs ask for. Every answer to these paths is data, and none is a page.
DATA_PATHS: Final = ("/api/", "/-/", "/metrics", "/healthz", "/readyz")


class PageEntrance(web.PlainResource):
    """All screens, as the router of the operator server sees them: it asks here when it has no other route.

    `api` are the routes of the API. `clock` returns Unix time. `path` is the prefix of all paths of the page.
    """

    def __init__(
        self,
        api: Iterable[web.RouteDef],
        authentication: Authentication,
        clock: Callable[[], float],
        path: str = "",
    ) -> None:
        super().__init__("/")  # the router asks for any path, after all resources with a longer one
        self._api = tuple(api)
        self._authentication = authentication
        self._clock = clock
        self._prefix = path
        self._page: Page | None = None
        self._importing = asyncio.Lock()
        #: Compiles the templates that the first screen did not need.
        self._rest: asyncio.Task[None] | None = None

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Find the screen that a request is to, or the methods that its path has."""
        if self._is_for_data(request):
            return None, set()
        arrival.note(request)
        found = await (await self._built()).router.resolve(request)
        error = found.http_exception
        if error is None:
            return found, set()
        return None, set(error.allowed_methods) if isinstance(error, web.HTTPMethodNotAllowed) else set()

    def serves(self, request: web.Request) -> bool:
        """Return whether a request is to a screen, or comes from a browser that got the address wrong."""
        info = request.match_info
        if info.http_exception is None:
            return self._page is not None and self._page.has(info.handler)
        return not self._is_for_data(request) and "text/html" in request.headers.get(hdrs.ACCEPT, "")

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request that `serves` has accepted."""
        page = await self._built()
        try:
            return await page.answer(request, handler)
        finally:
            if self._rest is None:
                self._rest = asyncio.create_task(asyncio.to_thread(page.compile_all), name="templates")

    def _is_for_data(self, request: web.Request) -> bool:
        return request.path.removeprefix(self._prefix).startswith(DATA_PATHS)

    async def _built(self) -> Page:
        """Return the page. Its modules are imported in a thread: the gateway goes on meanwhile."""
        if self._page is None:
            async with self._importing:
                if self._page is None:
                    self._page = await asyncio.to_thread(self._build)
        return self._page

    def _build(self) -> Page:
        from gatehouse.operator.page.page import Page  # noqa: PLC0415 - imports all screens

        page = Page(self._api, self._authentication, self._clock, self._prefix)
        page.compile_first()
        return page

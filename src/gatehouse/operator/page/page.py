"""Puts the operator page together: all screens, behind one check of who may see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from gatehouse.operator.page.access import PageAccess
from gatehouse.operator.page.asking import Api
from gatehouse.operator.page.audit import AuditScreen
from gatehouse.operator.page.dead import DeadScreen
from gatehouse.operator.page.destinations import DestinationsScreen
from gatehouse.operator.page.event import EventScreen
from gatehouse.operator.page.events import EventsScreen
from gatehouse.operator.page.export import ExportScreen
from gatehouse.operator.page.live import LiveScreen
from gatehouse.operator.page.login import LoginScreen
from gatehouse.operator.page.operations import OperationsScreen
from gatehouse.operator.page.overview import OverviewScreen
from gatehouse.operator.page.plans import PlansScreen
from gatehouse.operator.page.refused import RefusedScreen
from gatehouse.operator.page.site import Site
from gatehouse.operator.page.sources import SourcesScreen
from gatehouse.operator.page.system import SystemScreen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gatehouse.operator.authentication import Authentication

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


#: What programs ask for. Every answer to these paths is data, and none is a page.
DATA_PATHS: Final = ("/api/", "/-/", "/metrics", "/healthz", "/readyz")


class Page:
    """The page for operators. It asks the API whose routes it is given. `clock` returns Unix time."""

    def __init__(
        self,
        api: Iterable[web.AbstractRouteDef],
        authentication: Authentication,
        clock: Callable[[], float],
        path: str = "",
    ) -> None:
        self._path = path
        site = Site(Api(api), authentication, clock, path)
        self._access = PageAccess(site, authentication)
        screens = (
            LoginScreen(site),
            OverviewScreen(site),
            EventsScreen(site),
            EventScreen(site),
            ExportScreen(site),
            DeadScreen(site),
            PlansScreen(site),
            OperationsScreen(site),
            DestinationsScreen(site),
            SourcesScreen(site),
            RefusedScreen(site),
            LiveScreen(site),
            SystemScreen(site),
            AuditScreen(site),
        )
        site.menu += [screen.menu for screen in screens if screen.menu]
        self._routes = [route for screen in screens for route in screen.routes()]
        self._handlers = {route.handler for route in self._routes}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return self._routes

    def serves(self, request: web.Request) -> bool:
        """Return whether a request is to a screen, or comes from a browser that got the address wrong."""
        info = request.match_info
        if info.http_exception is None:
            return info.handler in self._handlers
        is_data = request.path.removeprefix(self._path).startswith(DATA_PATHS)
        return not is_data and "text/html" in request.headers.get(hdrs.ACCEPT, "")

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request that `serves` has accepted."""
        return await self._access.answer(request, handler)

"""Puts the operator page together: all screens, behind one check of who may see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

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
from gatehouse.operator.prefix import with_prefix

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gatehouse.operator.authentication import Authentication

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """The page for operators. It asks the API whose routes it is given. `clock` returns Unix time."""

    def __init__(
        self,
        api: Iterable[web.AbstractRouteDef],
        authentication: Authentication,
        clock: Callable[[], float],
        path: str = "",
    ) -> None:
        site = Site(Api(api), authentication, clock, path)
        self._site = site
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
        #: Finds the screen of a request. A proxy may pass on the whole path, or remove the prefix.
        self.router = web.UrlDispatcher()
        self.router.add_routes(self._routes)
        if path:
            self.router.add_routes([with_prefix(path, route) for route in self._routes])

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of all screens, without the prefix."""
        return self._routes

    def has(self, handler: object) -> bool:
        """Return whether a handler is one of the page's."""
        return handler in self._handlers

    def compile_first(self) -> None:
        """Compile the templates that every screen needs. Call it before the first request, in any thread."""
        self._site.compile("base.html", "parts.html")

    def compile_all(self) -> None:
        """Compile all templates, in any thread: a screen then does not keep the gateway waiting for it."""
        self._site.compile()

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request to a screen, or of a browser that got the address wrong."""
        return await self._access.answer(request, handler)

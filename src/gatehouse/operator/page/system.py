"""The gateway as a whole: its version and store, the config in use, routes, and what operators changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiohttp import web

from gatehouse.operator.access import changes_nothing
from gatehouse.operator.page.asking import ApiError
from gatehouse.operator.page.changes import with_parts
from gatehouse.operator.page.filters import given
from gatehouse.operator.page.forms import sent_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.operator.page.site import Site

_BAD: Final = 400
#: How many changes of operators the screen shows.
_LATEST: Final = "8"


class SystemScreen:
    """`/system`, and the reload."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = ("/system", "System")

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/system", self._show),
            web.post("/system/routes", self._try_routes),
            web.get("/system/reload", self._plan_reload),
            web.post("/system/reload", self._reload),
        ]

    async def _show(self, request: web.Request) -> web.StreamResponse:
        tested, problem = await self._test_route(request)
        return await self._screen(
            request, given(request.query, ("source", "type")), problem, tested=tested, events=None
        )

    @changes_nothing
    async def _try_routes(self, request: web.Request) -> web.StreamResponse:
        """Show where the events of a body would go. Without a body, show where a type would go."""
        fields = given(await sent_fields(request), ("source", "type", "body"))
        if "body" not in fields:
            return self._site.redirect("/system", fields)
        try:
            events, problem = (await self._site.api.post(request, "/api/v1/routes", fields))["events"], ""
        except ApiError as error:
            if error.status != _BAD:
                raise
            events, problem = None, error.message
        return await self._screen(request, fields, problem, tested=None, events=events)

    async def _screen(
        self,
        request: web.Request,
        tried: Mapping[str, str],
        problem: str,
        **answers: Any,  # noqa: ANN401 - answers of the API
    ) -> web.StreamResponse:
        api = self._site.api
        status = await api.get(request, "/api/v1/status")
        config = await api.get(request, "/api/v1/config")
        audit: dict[str, Any] = {"audit": []}
        if status["store"]["available"]:
            audit = await api.get(request, "/api/v1/audit", {"limit": _LATEST})
        return self._site.render(
            request,
            "system.html",
            gateway=status,
            config=config,
            audit=[with_parts(entry) for entry in audit["audit"]],
            tried=tried,
            problem=problem,
            **answers,
        )

    async def _test_route(self, request: web.Request) -> tuple[dict[str, Any] | None, str]:
        """Return where an event would go, if the query asks for it, or what is wrong with the question."""
        asked = given(request.query, ("source", "type"))
        if not asked:
            return None, ""
        return await self._site.api.search(request, "/api/v1/routes", asked)

    async def _plan_reload(self, request: web.Request) -> web.StreamResponse:
        """Show what a reload would change."""
        return await self._try_reload(request, {"dry_run": True})

    async def _reload(self, request: web.Request) -> web.StreamResponse:
        return await self._try_reload(request, None)

    async def _try_reload(self, request: web.Request, body: object) -> web.StreamResponse:
        try:
            report = await self._site.api.post(request, "/-/reload", body)
        except ApiError as error:
            problems = error.more.get("problems")
            if problems is None:
                raise
            return self._site.render(
                request, "reload.html", status=_BAD, report=None, problems=problems, message=error.message
            )
        if not report["dry_run"]:
            return self._site.redirect("/system", notice=f"{report['file']} was reloaded.")
        return self._site.render(request, "reload.html", report=report, problems=[], message="")

"""The gateway as a whole: its version and store, the config in use, routes, and what operators changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final, get_args

from aiohttp import web

from gatehouse.operator.page.asking import ApiError
from gatehouse.operator.page.filters import Field, filled, given, has_empty
from gatehouse.store.records import Action

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.operator.page.site import Site

_BAD: Final = 400
#: How many changes of operators the screen shows.
_LATEST: Final = "8"
_PAGE: Final = "50"


class SystemScreen:
    """`/system`, the reload, and the audit."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = ("/system", "System")

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/system", self._show),
            web.get("/system/reload", self._plan_reload),
            web.post("/system/reload", self._reload),
            web.get("/system/audit", self._list_audit),
        ]

    async def _show(self, request: web.Request) -> web.StreamResponse:
        api = self._site.api
        status = await api.get(request, "/api/v1/status")
        config = await api.get(request, "/api/v1/config")
        audit: dict[str, Any] = {"audit": []}
        if status["store"]["available"]:
            audit = await api.get(request, "/api/v1/audit", {"limit": _LATEST})
        tested, problem = await self._test_route(request)
        return self._site.render(
            request,
            "system.html",
            gateway=status,
            config=config,
            audit=[in_words(entry) for entry in audit["audit"]],
            tried=given(request.query, ("source", "type")),
            tested=tested,
            problem=problem,
        )

    async def _test_route(self, request: web.Request) -> tuple[dict[str, Any] | None, str]:
        """Return where an event would go, if the query asks for it, or what is wrong with the question."""
        asked = given(request.query, ("source", "type"))
        if not asked:
            return None, ""
        try:
            return await self._site.api.get(request, "/api/v1/routes", asked), ""
        except ApiError as error:
            if error.status != _BAD:
                raise
            return None, error.message

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

    async def _list_audit(self, request: web.Request) -> web.StreamResponse:
        fields = [
            Field("who", "Who", is_main=True),
            Field("action", "Action", options=get_args(Action), is_main=True),
            Field("since", "Since", hint="1h, today, 2026-01-31", is_main=True),
            Field("until", "Until", hint="10m, yesterday", is_main=True),
        ]
        values = given(request.query, (field.name for field in fields))
        cursor = request.query.get("cursor", "")
        if has_empty(request.query):
            return self._site.redirect("/system/audit", values | {"cursor": cursor})
        page, problem = await self._audit_page(request, values, cursor)
        return self._site.render(
            request,
            "audit.html",
            status=_BAD if problem else 200,
            page=page,
            audit=[in_words(entry) for entry in page["audit"]],
            problem=problem,
            fields=filled(fields, values),
            filters=values,
        )

    async def _audit_page(
        self, request: web.Request, values: Mapping[str, str], cursor: str
    ) -> tuple[dict[str, Any], str]:
        asked = {**values, "limit": _PAGE} | ({"cursor": cursor} if cursor else {})
        try:
            return await self._site.api.get(request, "/api/v1/audit", asked) | {"searched_to": None}, ""
        except ApiError as error:
            if error.status != _BAD:
                raise
            return {"audit": [], "cursor": None, "searched_to": None}, error.message


def in_words(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an audit entry with what was changed as one line of text."""
    return {**entry, "what": _line(entry["what"])}


def _line(value: object) -> str:
    if isinstance(value, dict):
        parts = [f"{name}: {_line(one)}" for name, one in value.items() if one not in (None, {}, [])]
        return "; ".join(parts)
    if isinstance(value, list):
        return ", ".join(map(_line, value))
    return value if isinstance(value, str) else json.dumps(value)

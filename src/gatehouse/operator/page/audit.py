"""What operators changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, get_args

from aiohttp import web

from gatehouse.operator.page.changes import with_parts
from gatehouse.operator.page.filters import Field, filled, given, has_empty
from gatehouse.store.records import Action

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.operator.page.site import Site

_BAD: Final = 400
_PAGE: Final = "50"


class AuditScreen:
    """`/system/audit`."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = None

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/system/audit", self._list)]

    async def _list(self, request: web.Request) -> web.StreamResponse:
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
        page, problem = await self._page(request, values, cursor)
        return self._site.render(
            request,
            "audit.html",
            status=_BAD if problem else 200,
            page=page,
            cursor=cursor,
            audit=[with_parts(entry) for entry in page["audit"]],
            problem=problem,
            fields=filled(fields, values),
            filters=values,
        )

    async def _page(
        self, request: web.Request, values: Mapping[str, str], cursor: str
    ) -> tuple[dict[str, Any], str]:
        """Return a page of changes, or what is wrong with the filters."""
        asked = {**values, "limit": _PAGE} | ({"cursor": cursor} if cursor else {})
        page, problem = await self._site.api.search(request, "/api/v1/audit", asked)
        return {"searched_to": None, **(page or {"audit": [], "cursor": None})}, problem

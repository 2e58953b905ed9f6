"""Refused requests: why each was refused, and what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiohttp import web

from gatehouse.operator.attention import needs_restart
from gatehouse.operator.page.filters import Field, filled, given, has_empty, matching
from gatehouse.operator.page.waiting import with_beginning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gatehouse.operator.page.site import Site

#: The API returns at most so many. The gateway keeps 20 per source.
_MOST: Final = "500"
#: How long the list waits for findings. Its beginning is sent before.
_FINDINGS_WITHIN: Final = "150ms"
#: What only the page filters by: names of members of a refused request.
_MEMBERS: Final = ("reason", "client", "http_status")


class RefusedScreen:
    """`/refused` and `/refused/ID`."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = ("/refused", "Refused")

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/refused", self._list), web.get("/refused/{id}", self._show)]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        values = given(request.query, ("source", *_MEMBERS))
        if has_empty(request.query):
            return self._site.redirect("/refused", values)
        screen = self._table(request, values)
        return await with_beginning(
            self._site, request, "/refused", "Refused requests", screen, "Looking for causes …"
        )

    async def _table(self, request: web.Request, values: Mapping[str, str]) -> web.Response:
        state = await self._site.api.get(request, "/api/v1/sources")
        asked = {"limit": _MOST, "within": _FINDINGS_WITHIN} | (
            {"source": values["source"]} if "source" in values else {}
        )
        answer = await self._site.api.get(request, "/api/v1/rejected", asked)
        kept = answer["rejected"]
        fields = _fields([source["name"] for source in state["sources"]], kept)
        return self._site.render(
            request,
            "refused.html",
            refused=matching(kept, values, _member),
            fields=filled(fields, values),
            filters=values,
        )

    async def _show(self, request: web.Request) -> web.StreamResponse:
        refused_id = request.match_info["id"]
        one = await self._site.api.get(request, "/api/v1/rejected/{id}", id=refused_id)
        answer = await self._site.api.get(request, "/api/v1/sources")
        source = next((source for source in answer["sources"] if source["name"] == one["source"]), None)
        secrets = [secret["name"] for secret in source["secrets"]] if source else []
        return self._site.render(
            request,
            "refused_one.html",
            one=one,
            source=source,
            needs_restart=any(map(needs_restart, secrets)),
        )


def _member(one: Mapping[str, Any], name: str) -> str:
    value = one["status"] if name == "http_status" else one[name]
    return "" if value is None else str(value)


def _fields(sources: Iterable[str], kept: Iterable[Mapping[str, Any]]) -> list[Field]:
    seen = {name: sorted({_member(one, name) for one in kept} - {""}) for name in _MEMBERS}
    return [
        Field("source", "Source", options=tuple(sources), is_main=True),
        Field("reason", "Reason", options=tuple(seen["reason"]), is_main=True),
        Field("client", "Client", options=tuple(seen["client"]), is_main=True),
        Field("http_status", "Answer", options=tuple(seen["http_status"]), is_main=True),
    ]

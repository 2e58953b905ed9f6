"""All sources, and one of them: what to register, what is verified, its day, and a sample to send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiohttp import web

from gatehouse.operator.page import advice, day
from gatehouse.operator.page.asking import FINDINGS_WITHIN, WITHIN, ApiError
from gatehouse.operator.page.events import event_state
from gatehouse.operator.page.filters import filled, given, has_empty
from gatehouse.operator.page.forms import sent_fields
from gatehouse.operator.page.overview import chosen_rows, row_fields, source_row
from gatehouse.operator.page.states import SOURCE_STATES

if TYPE_CHECKING:
    from gatehouse.operator.page.site import Site

_EVENTS: Final = "10"
#: The gateway explains each refused request anew, so the screen shows few.
_REFUSED: Final = "5"
#: The API refuses a sample that it can't make or sign, or whose type is impossible.
_IMPOSSIBLE: Final = frozenset({400, 409})


class SourcesScreen:
    """`/sources` and `/sources/NAME`."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = ("/sources", "Sources")

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        sample = "/sources/{name}/sample"
        return [
            web.get("/sources", self._list),
            web.get("/sources/{name}", self._show),
            web.get(sample, self._after_sample),
            web.post(sample, self._send),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        site, api = self._site, self._site.api
        fields = row_fields(SOURCE_STATES)
        values = given(request.query, (field.name for field in fields))
        if has_empty(request.query):
            return site.redirect("/sources", values)
        listed, history = await asyncio.gather(
            api.get(request, "/api/v1/sources"), api.get(request, "/api/v1/history")
        )
        rows = [source_row(one, history) for one in listed["sources"]]
        return site.render(
            request,
            "sources.html",
            sources=chosen_rows(rows, values),
            fields=filled(fields, values),
            filters=values,
            history=history,
        )

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return await self._page(request)

    async def _send(self, request: web.Request) -> web.StreamResponse:
        """Send a sample, and show the answer once, above the source."""
        wanted = (await sent_fields(request)).get("type", "").strip()
        try:
            sent = await self._site.api.post(
                request,
                "/api/v1/sources/{name}/sample",
                {"type": wanted} if wanted else {},
                name=request.match_info["name"],
            )
        except ApiError as error:
            if error.status not in _IMPOSSIBLE:
                raise
            return await self._page(request, problem=str(error), status=error.status, wanted=wanted)
        return await self._page(request, sent=sent, wanted=wanted)

    async def _after_sample(self, request: web.Request) -> web.StreamResponse:
        """Lead back to the source whoever reloads the answer to a sample."""
        return self._site.redirect(f"/sources/{request.match_info['name']}")

    async def _page(
        self,
        request: web.Request,
        *,
        sent: dict[str, Any] | None = None,
        problem: str = "",
        status: int = 200,
        wanted: str = "",
    ) -> web.StreamResponse:
        site, name = self._site, request.match_info["name"]
        listed = (await site.api.get(request, "/api/v1/sources"))["sources"]
        found = next((one for one in listed if one["name"] == name), None)
        if found is None:
            raise web.HTTPNotFound(reason="no source has this name")
        row, parts = await self._parts(request, found)
        return site.render(
            request,
            "source.html",
            status=status,
            one=row,
            advice=advice.about_source(found, site.clock(), row["silent"]),
            day=day.of_source(parts["history"], row["seen"]) if row["seen"] else None,
            sent=sent,
            problem=problem,
            wanted=wanted,
            **parts,
        )

    async def _parts(
        self, request: web.Request, source: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the row of a source, and what else its screen shows."""
        api, named = self._site.api, {"source": source["name"]}
        history, shown, routes, refused, events = await asyncio.gather(
            api.get(request, "/api/v1/history", named),
            api.get(request, "/api/v1/handshakes"),
            api.get(request, "/api/v1/routes", named),
            api.get(request, "/api/v1/rejected", {**named, "limit": _REFUSED, "within": FINDINGS_WITHIN}),
            self._latest(request, source),
        )
        return source_row(source, history), {
            "history": history,
            "handshakes": [one for one in shown["handshakes"] if one["source"] == source["name"]],
            "destinations": routes["destinations"],
            "refused": refused["rejected"],
            "events": events,
        }

    async def _latest(self, request: web.Request, source: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Return the latest events; None without an event since the start, since a search would take long."""
        if source["last_accepted"] is None:
            return None
        wanted = {"source": source["name"], "limit": _EVENTS, "within": WITHIN}
        page = await self._site.api.get(request, "/api/v1/events", wanted)
        return [{**event, "state": event_state(event["deliveries"])} for event in page["events"]]

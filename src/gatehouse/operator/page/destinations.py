"""All destinations, and one of them: its state, its day, and what an operator can do with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiohttp import web

from gatehouse.operator.page import advice, day
from gatehouse.operator.page.filters import filled, given, has_empty
from gatehouse.operator.page.overview import chosen_rows, destination_row, paused_since, row_fields
from gatehouse.operator.page.states import DESTINATION_STATES

if TYPE_CHECKING:
    from gatehouse.operator.page.site import Site

_API: Final = "/api/v1/destinations/{name}"
_FAILED: Final = 10
#: What the next page says after an action.
_DONE: Final = {
    "pause": "{name} is paused. Its deliveries wait, and attempts in progress end.",
    "resume": "{name} is resumed. Its pending deliveries start again.",
    "probe": "The next probe of {name} starts now. Refresh in a moment to see whether it succeeded.",
}


class DestinationsScreen:
    """`/destinations` and `/destinations/NAME`."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = ("/destinations", "Destinations")

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        one = "/destinations/{name}"
        return [
            web.get("/destinations", self._list),
            web.get(one, self._show),
            web.get(one + "/test", self._after_test),
            web.post(one + "/test", self._test),
            web.post(one + "/{action:pause|resume|probe}", self._act),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        site, api = self._site, self._site.api
        fields = row_fields(DESTINATION_STATES)
        values = given(request.query, (field.name for field in fields))
        if has_empty(request.query):
            return site.redirect("/destinations", values)
        listed, history = await asyncio.gather(
            api.get(request, "/api/v1/destinations"), api.get(request, "/api/v1/history")
        )
        since = await paused_since(site, request, listed["destinations"])
        now = site.clock()
        rows = [destination_row(one, history, now, since) for one in listed["destinations"]]
        return site.render(
            request,
            "destinations.html",
            destinations=chosen_rows(rows, values),
            fields=filled(fields, values),
            filters=values,
            history=history,
        )

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return await self._page(request, tested=None)

    async def _act(self, request: web.Request) -> web.StreamResponse:
        name, action = request.match_info["name"], request.match_info["action"]
        await self._site.api.post(request, f"{_API}/{action}", name=name)
        return self._site.redirect(f"/destinations/{name}", notice=_DONE[action].format(name=name))

    async def _test(self, request: web.Request) -> web.StreamResponse:
        """Send a test event, and show the outcome once, above the destination."""
        name = request.match_info["name"]
        tested = await self._site.api.post(request, f"{_API}/test", name=name)
        return await self._page(request, tested=tested)

    async def _after_test(self, request: web.Request) -> web.StreamResponse:
        """Lead back to the destination whoever reloads the outcome of a test."""
        return self._site.redirect(f"/destinations/{request.match_info['name']}")

    async def _page(self, request: web.Request, *, tested: dict[str, Any] | None) -> web.StreamResponse:
        site, name = self._site, request.match_info["name"]
        listed = (await site.api.get(request, "/api/v1/destinations"))["destinations"]
        found = next((one for one in listed if one["name"] == name), None)
        if found is None:
            raise web.HTTPNotFound(reason="no destination has this name")
        history = await site.api.get(request, "/api/v1/history", {"destination": name})
        since = await paused_since(site, request, [found])
        now = site.clock()
        row = destination_row(found, history, now, since)
        return site.render(
            request,
            "destination.html",
            one=row,
            advice=advice.about_destination(found, now, since.get(name)),
            history=history,
            day=day.of_destination(history, row["seen"]) if row["seen"] else None,
            failed=await self._failed(request, found),
            tested=tested,
        )

    async def _failed(self, request: web.Request, destination: dict[str, Any]) -> list[dict[str, Any]]:
        """Return deliveries that failed: dead ones, and pending ones with a failed attempt."""
        # A list that would be empty is not asked for, since it would search all deliveries.
        statuses = [status for status in ("pending", "dead") if destination[status]]
        pages = [
            await self._site.api.get(
                request,
                "/api/v1/deliveries",
                {"destination": destination["name"], "status": status, "limit": str(_FAILED)},
            )
            for status in statuses
        ]
        found = [one for page in pages for one in page["deliveries"] if one["last_reason"]]
        return sorted(found, key=lambda one: str(one["updated"]), reverse=True)[:_FAILED]

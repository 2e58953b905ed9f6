"""The overview: what needs operator action, then all sources and destinations, the store and the workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from aiohttp import web

from gatehouse.operator.page import advice
from gatehouse.operator.page.filters import Field
from gatehouse.operator.page.series import named, silence
from gatehouse.operator.page.states import destination_state, source_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.operator.page.site import Site


class OverviewScreen:
    """`/`."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = ("/", "Overview")

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/", self._show)]

    async def _show(self, request: web.Request) -> web.StreamResponse:
        site, api = self._site, self._site.api
        status, history = await asyncio.gather(
            api.get(request, "/api/v1/status"), api.get(request, "/api/v1/history")
        )
        since = await paused_since(site, request, status["destinations"])
        now = site.clock()
        return site.render(
            request,
            "overview.html",
            state=status,
            history=history,
            problems=advice.problems(status, now),
            remarks=advice.remarks(status, now, since),
            sources=[source_row(one, history) for one in status["sources"]],
            destinations=[destination_row(one, history, now, since) for one in status["destinations"]],
            serving=sum(worker["serving"] for worker in status.get("workers", ())),
        )


async def paused_since(
    site: Site, request: web.Request, destinations: list[dict[str, Any]]
) -> dict[str, str]:
    """Return since when destinations are paused, as the audit tells. Asks only if one of them is paused."""
    names = {one["name"] for one in destinations if one["paused"]}
    if not names:
        return {}
    audit = await site.api.get(request, "/api/v1/audit", {"action": "pause", "limit": "100"})
    newest_last = reversed(audit["audit"])
    found = {entry["what"].get("destination"): entry["at"] for entry in newest_last}
    return {name: at for name, at in found.items() if name in names}


def row_fields(states: tuple[str, ...]) -> list[Field]:
    """Return the filters of a list of sources or destinations. `states` are the beginnings of their words."""
    return [
        Field("name", "Name", hint="a part of it", is_main=True),
        Field("state", "State", options=states, is_main=True),
    ]


def chosen_rows(rows: list[dict[str, Any]], values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the rows that meet the filters of `row_fields`."""
    name, state = values.get("name", ""), values.get("state", "")
    return [row for row in rows if name in row["name"] and row["state"].words.startswith(state)]


def source_row(source: Mapping[str, Any], history: Mapping[str, Any]) -> dict[str, Any]:
    """Return a source with its history and its state, for a table."""
    seen = named(history["sources"], source["name"])
    silent = silence(seen["accepted"], history["step_seconds"]) if seen else None
    return {**source, "seen": seen, "silent": silent, "state": source_state(source, silent)}


def destination_row(
    destination: Mapping[str, Any], history: Mapping[str, Any], now: float, since: Mapping[str, str]
) -> dict[str, Any]:
    """Return a destination with its history and its state, for a table. `since` is from `paused_since`."""
    name = destination["name"]
    seen = named(history["destinations"], name)
    return {**destination, "seen": seen, "state": destination_state(destination, now, since.get(name))}

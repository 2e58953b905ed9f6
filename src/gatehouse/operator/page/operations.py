"""Replays and retries of many events: all of them, and one with its progress."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiohttp import web

from gatehouse.language.times import rfc3339
from gatehouse.operator.page.filters import Field, filled, given, has_empty, matching
from gatehouse.operator.page.progress import NOUNS, shown, states
from gatehouse.operator.page.wording import number, precisely

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.operator.page.progress import Operations
    from gatehouse.operator.page.site import Site
    from gatehouse.operator.page.states import State

_ONE: Final = "/operations/{kind}/{id}"
#: What the list can be filtered by. It is short, so the page does it.
_MEMBERS: Final = ("kind", "state", "by")


class OperationsScreen:
    """`/operations` and `/operations/KIND/ID`."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = None

    def __init__(self, site: Site) -> None:
        self._site = site
        self._api = site.api

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/operations", self._list),
            web.get(_ONE, self._show),
            web.get(_ONE + "/progress", self._progress),
            web.post(_ONE + "/stop", self._stop),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        values = given(request.query, _MEMBERS)
        if has_empty(request.query):
            return self._site.redirect("/operations", values)
        kinds: tuple[Operations, ...] = ("replays", "retries")
        lists = await asyncio.gather(*(self._api.get(request, f"/api/v1/{kind}") for kind in kinds))
        found = [shown(kind, one) for kind, listed in zip(kinds, lists, strict=True) for one in listed[kind]]
        found.sort(key=lambda one: str(one["id"]), reverse=True)  # an id begins with the time of the start
        return self._site.render(
            request,
            "operations.html",
            operations=matching(found, values, _member),
            fields=filled(_fields(found), values),
            filters=values,
        )

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return self._site.render(
            request, "operation.html", operation=await self._operation(request), states=states()
        )

    async def _progress(self, request: web.Request) -> web.StreamResponse:
        """Answer with what changes while an operation runs, as the texts of the page."""
        operation = await self._operation(request)
        as_of = precisely(rfc3339(int(self._site.clock())))
        return web.json_response(
            {
                "text": {
                    "progress": operation["progress"],
                    "failed": number(operation["failed"]),
                    "remaining": operation["remaining"],
                    "waits": operation["waits"],
                    "result": operation["result"],
                    "as_of": as_of,
                },
                "value": {"progress": operation["percent"]},
                "shown": f"state-{operation['current']}",
                "ended": operation["state"] != "running",
            }
        )

    async def _stop(self, request: web.Request) -> web.StreamResponse:
        kind = _kind(request)
        stopped = shown(
            kind, await self._api.delete(request, f"/api/v1/{kind}/{{id}}", id=request.match_info["id"])
        )
        if stopped["state"] == "cancelled":
            notice = f"The {NOUNS[kind]} is stopped."
        else:
            notice = f"The {NOUNS[kind]} had ended before."
        return self._site.redirect(stopped["path"], notice=notice)

    async def _operation(self, request: web.Request) -> dict[str, Any]:
        kind = _kind(request)
        return shown(
            kind, await self._api.get(request, f"/api/v1/{kind}/{{id}}", id=request.match_info["id"])
        )


def _member(operation: Mapping[str, Any], name: str) -> str:
    shown_state: State = operation["shown_state"]
    return shown_state.words if name == "state" else str(operation["noun" if name == "kind" else name])


def _fields(operations: Sequence[Mapping[str, Any]]) -> list[Field]:
    labels = {"kind": "What", "state": "State", "by": "By"}
    return [
        Field(name, label, options=tuple(sorted({_member(one, name) for one in operations})), is_main=True)
        for name, label in labels.items()
    ]


def _kind(request: web.Request) -> Operations:
    kind = request.match_info["kind"]
    if kind not in NOUNS:
        raise web.HTTPNotFound
    return kind

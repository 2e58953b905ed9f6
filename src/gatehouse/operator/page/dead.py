"""Dead letters: how many there are of which kind, why, and what to do. They are discarded here too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiohttp import web

from gatehouse.errors import OUTCOME_REASONS
from gatehouse.operator.page.asking import ApiError
from gatehouse.operator.page.dead_groups import add_groups, by_destination, discarded_in_words
from gatehouse.operator.page.filters import Field, filled, given, has_empty
from gatehouse.operator.page.forms import sent_fields
from gatehouse.operator.page.selection import fixed, in_words
from gatehouse.operator.page.waiting import with_beginning
from gatehouse.operator.request_types import DeadFilters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.operator.page.site import Site

_BAD: Final = 400
#: How long the screen counts by itself. Whoever wants to know more has more parts counted.
_FIRST_WITHIN: Final = "20ms"
#: How many parts a person can have counted. Each takes about 100 ms.
_MOST_PARTS: Final = 256
#: How many more parts each click counts.
_FURTHER: Final = 4
#: How many parts are counted before something is discarded.
_BEFORE_DISCARD: Final = 5


class DeadScreen:
    """`/dead`."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = ("/dead", "Dead letters")

    def __init__(self, site: Site) -> None:
        self._site = site
        self._api = site.api

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/dead", self._show),
            web.get("/dead/discard", self._plan_discard),
            web.post("/dead/discard", self._discard),
        ]

    async def _show(self, request: web.Request) -> web.StreamResponse:
        filters = given(request.query, DeadFilters.__annotations__)
        parts = _parts(request.query.get("parts", ""))
        if has_empty(request.query):
            return self._site.redirect("/dead", filters | ({"parts": parts} if parts > 1 else {}))
        screen = self._groups(request, filters, parts)
        return await with_beginning(self._site, request, "/dead", "Dead letters", screen)

    async def _groups(self, request: web.Request, filters: Mapping[str, str], parts: int) -> web.Response:
        status = await self._api.get(request, "/api/v1/status")
        counted, problem = await self._count(request, filters, parts)
        groups = by_destination(counted["groups"], status["destinations"], filters)
        return self._site.render(
            request,
            "dead.html",
            status=_BAD if problem else 200,
            problem=problem,
            fields=filled(dead_fields(status), filters),
            filters=filters,
            destinations=groups,
            searched_to=counted["searched_to"],
            is_complete=counted["cursor"] is None,
            further=min(parts * _FURTHER, _MOST_PARTS) if parts < _MOST_PARTS else None,
            total=sum(one["dead"] for one in status["destinations"]),
        )

    async def _count(
        self, request: web.Request, filters: Mapping[str, str], parts: int
    ) -> tuple[dict[str, Any], str]:
        """Count so many parts, the newest first. Return the groups, or what is wrong with the filters."""
        counted: dict[str, Any] = {"groups": [], "cursor": None, "searched_to": None}
        asked = {**filters, "within": _FIRST_WITHIN} if parts == 1 else dict(filters)
        for _ in range(parts):
            answer, problem = await self._api.search(request, "/api/v1/deliveries/dead", asked)
            if problem:
                return counted, problem
            counted = answer | {"groups": add_groups(counted["groups"], answer["groups"])}
            if answer["cursor"] is None:
                break
            asked["cursor"] = answer["cursor"]
        return counted, ""

    async def _plan_discard(self, request: web.Request) -> web.StreamResponse:
        filters = fixed(request.query, DeadFilters.__annotations__, self._site.clock())
        screen = self._show_discard(request, filters)
        return await with_beginning(self._site, request, "/dead", "Discard dead letters", screen)

    async def _show_discard(
        self, request: web.Request, filters: Mapping[str, str], problem: str = ""
    ) -> web.Response:
        """Show what would be discarded. A filter for a result also matches an earlier attempt."""
        counted, refused = await self._count(request, filters, _BEFORE_DISCARD)
        return self._site.render(
            request,
            "discard.html",
            status=_BAD if problem or refused else 200,
            problem=problem or refused,
            refused=bool(refused),
            filters=filters,
            chosen=in_words(filters, "dead letters"),
            groups=counted["groups"],
            count=sum(group["count"] for group in counted["groups"]),
            is_complete=counted["cursor"] is None,
        )

    async def _discard(self, request: web.Request) -> web.StreamResponse:
        fields = dict(await sent_fields(request))
        filters = fixed(fields, DeadFilters.__annotations__, self._site.clock())
        note = fields.get("note", "").strip()
        if not note:
            return await self._show_discard(request, filters, "The note has to say why.")
        try:
            result = await self._api.post(
                request, "/api/v1/deliveries/discard", {"filter": filters, "note": note}
            )
        except ApiError as error:
            if error.status != _BAD:
                raise
            return await self._show_discard(request, filters, str(error))
        return self._site.redirect("/dead", notice=discarded_in_words(result))


def dead_fields(status: Mapping[str, Any]) -> list[Field]:
    """Return the filters of dead letters, with the names of the config to choose from."""
    names = {kind: tuple(entry["name"] for entry in status[f"{kind}s"]) for kind in ("source", "destination")}
    return [
        Field("destination", "Destination", options=names["destination"], is_main=True),
        Field("source", "Source", options=names["source"], is_main=True),
        Field("type", "Type", hint="invoice.*", is_main=True),
        Field("since", "Received since", hint="1h, today, 2026-01-31", is_main=True),
        Field("until", "Received before", hint="10m, yesterday"),
        Field("reason", "Reason of an attempt", options=tuple(sorted(OUTCOME_REASONS))),
        Field("http_status", "HTTP status of a reply", hint="503"),
    ]


def _parts(text: str) -> int:
    """Return how many parts a link asks for: one, if it does not say."""
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(_MOST_PARTS))
    return max(1, min(int(text), _MOST_PARTS)) if is_number else 1

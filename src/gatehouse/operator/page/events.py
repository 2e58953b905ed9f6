"""The list of events: filters in the address, pages by cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, get_args

from aiohttp import web

from gatehouse.errors import OUTCOME_REASONS
from gatehouse.language.times import rfc3339
from gatehouse.operator.page.asking import WITHIN, ApiError
from gatehouse.operator.page.filters import Field, filled, given, has_empty
from gatehouse.operator.page.waiting import with_beginning
from gatehouse.operator.request_types import EventFilters
from gatehouse.operator.responses import error_answer
from gatehouse.store.records import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gatehouse.operator.page.site import Site

#: With these conditions, the list tells how many events are new.
_COUNTED: Final = frozenset({"source", "type", "destination"})
_PAGE: Final = "50"
#: A search ends before, unless it waits for the disk (seconds).
_PATIENCE: Final = 0.08
#: How many new events are counted. More make no difference to whoever reads the list.
_MOST_NEW: Final = "20"
_NEW_WITHIN: Final = "10ms"
_BAD: Final = 400
_MISSING: Final = 404


class EventsScreen:
    """`/events`."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = ("/events", "Events")

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/events", self._list),
            web.get("/events/new", self._count_new),
            web.get("/events/selected", self._plan_selected),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        asked_at = self._site.clock()
        state = await self._site.api.get(request, "/api/v1/status")
        fields = event_fields(state)
        values = given(request.query, (field.name for field in fields))
        cursor = request.query.get("cursor", "")
        if has_empty(request.query):
            return self._site.redirect("/events", values | {"cursor": cursor})
        if values.keys() == {"external_id"} and await self._has(request, values["external_id"]):
            return self._site.redirect(f"/events/{values['external_id']}")
        newer_than = None if cursor or values.keys() - _COUNTED else asked_at
        screen = self._found(request, fields, values, cursor, newer_than)
        return await with_beginning(
            self._site, request, "/events", "Events", screen, "Searching …", patience=_PATIENCE
        )

    async def _found(
        self,
        request: web.Request,
        fields: Sequence[Field],
        values: dict[str, str],
        cursor: str,
        newer_than: float | None,
    ) -> web.Response:
        """Search, and show what was found. The list tells how many events are newer than a time."""
        page, problem = await self._page(request, values, cursor)
        return self._site.render(
            request,
            "events.html",
            status=_BAD if problem else 200,
            page=page,
            problem=problem,
            fields=filled(fields, values),
            filters=values,
            cursor=cursor,
            newer=None if newer_than is None else values | _newest(page, newer_than),
        )

    async def _count_new(self, request: web.Request) -> web.StreamResponse:
        """Tell how many events are newer than those of the list, for its script."""
        asked = given(request.query, {*_COUNTED, "since"})
        asked |= {"limit": _MOST_NEW, "within": _NEW_WITHIN}
        try:
            page = await self._site.api.get(request, "/api/v1/events", asked)
        except ApiError as error:
            return error_answer(error.status, error.code, error.message)
        ids, after = [event["id"] for event in page["events"]], request.query.get("after")
        number = ids.index(after) if after in ids else len(ids)
        is_more = number == len(ids) and page["cursor"] is not None
        text = f"{number}{'+' if is_more else ''} new" if number else ""
        return web.json_response({"text": text, "is_enough": is_more and number == int(_MOST_NEW)})

    async def _plan_selected(self, request: web.Request) -> web.StreamResponse:
        """Go on to the plan of a replay. Without a selection, a plan would be about every event."""
        chosen = request.query.getall("id", [])
        if chosen:
            return self._site.redirect("/events/replay", {"id": chosen})
        filters = given(request.query, EventFilters.__annotations__)
        return self._site.redirect("/events", filters, notice="Select at least one event.")

    async def _has(self, request: web.Request, event_id: str) -> bool:
        """Return whether the gateway itself gave an event this id, as an app knows it: the webhook-id."""
        try:
            await self._site.api.get(request, "/api/v1/events/{id}", id=event_id)
        except ApiError as error:
            if error.status not in (_BAD, _MISSING):
                raise
            return False
        return True

    async def _page(
        self, request: web.Request, values: Mapping[str, str], cursor: str
    ) -> tuple[dict[str, Any], str]:
        """Return a page of events, or what is wrong with the filters."""
        asked = {**values, "limit": _PAGE, "within": WITHIN} | ({"cursor": cursor} if cursor else {})
        page, problem = await self._site.api.search(request, "/api/v1/events", asked)
        if problem:
            return {"events": [], "cursor": None, "searched_to": None}, problem
        for event in page["events"]:
            event["state"] = event_state(event["deliveries"])
        return page, ""


def _newest(page: Mapping[str, Any], asked_at: float) -> dict[str, str]:
    """Return the newest event that a list shows, and since when events can be newer."""
    if not page["events"]:
        return {"since": rfc3339(asked_at)}
    return {"after": page["events"][0]["id"], "since": page["events"][0]["received"]}


def event_state(counts: Mapping[str, int]) -> str:
    """Return the state of an event: that of the delivery that needs most attention."""
    for state in ("dead", "pending", "delivered", "discarded"):
        if counts[state]:
            return state
    return "unrouted"


def event_fields(status: Mapping[str, Any]) -> list[Field]:
    """Return the filters of events, with the names of the config to choose from."""
    return [
        Field("source", "Source", options=_names(status["sources"]), is_main=True),
        Field("type", "Type", hint="invoice.*", is_main=True),
        Field("status", "Status of a delivery", options=get_args(Status), is_main=True),
        Field("since", "Since", hint="1h, today, 2026-01-31", is_main=True),
        Field("until", "Until", hint="10m, yesterday"),
        Field("external_id", "Id", hint="evt_… or webhook-id", is_main=True),
        Field("subject", "Subject"),
        Field("account", "Account"),
        Field("contains", "Text in the body", hint="as it was sent", is_main=True),
        Field("destination", "Destination", options=_names(status["destinations"])),
        Field("reason", "Reason of an attempt", options=tuple(sorted(OUTCOME_REASONS))),
        Field("http_status", "HTTP status of a reply", hint="503"),
    ]


def _names(entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(entry["name"] for entry in entries)

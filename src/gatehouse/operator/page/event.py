"""One event: its timeline, its facts and its body, and what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiohttp import hdrs, web

from gatehouse.language.times import parse_time
from gatehouse.operator.page.asking import ApiError
from gatehouse.operator.page.bodies import body_bytes, file_name, shown_body
from gatehouse.operator.page.curl import DEFAULT_URL, curl_command, is_url
from gatehouse.operator.page.events import event_state
from gatehouse.operator.page.filters import is_usable
from gatehouse.operator.page.forms import sent_fields
from gatehouse.operator.page.timeline import passages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.operator.page.site import Site

_BAD: Final = 400
#: The facts of an event that lead to a list of others with the same.
_SHARED: Final = ("type", "external_id", "subject", "account")


class EventScreen:
    """`/events/ID`."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = None

    def __init__(self, site: Site) -> None:
        self._site = site
        self._api = site.api

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/events/{id}", self._show),
            web.get("/events/{id}/body", self._download),
            web.post("/events/{id}/replay", self._replay),
            web.post("/events/{id}/retry", self._retry),
            web.post("/events/{id}/discard", self._discard),
        ]

    async def _show(self, request: web.Request) -> web.StreamResponse:
        event = await self._event(request)
        body, curl_url = body_bytes(event), request.query.get("curl", "").strip()
        destinations = await self._named(request, "destinations")
        source = (await self._named(request, "sources")).get(event["source"])
        tried = await self._tried_routes(request) if source else None
        return self._site.render(
            request,
            "event.html",
            event=event,
            state=event_state(counts(event["deliveries"])),
            source=source,
            stored_after=stored_after(event),
            passages=passages(event, destinations, selecting(tried), self._site.clock()),
            tried=tried,
            duplicates=await self._api.get(request, "/api/v1/events/{id}/duplicates", id=event["id"]),
            targets=replay_targets(event, destinations),
            links=self._links(event),
            body=shown_body(body),
            file=file_name(event),
            curl_url=curl_url or DEFAULT_URL,
            wants_curl=bool(curl_url),
            command=curl_command(
                curl_url if is_url(curl_url) else DEFAULT_URL, event["headers"], body, file_name(event)
            ),
            is_url=is_url(curl_url or DEFAULT_URL),
        )

    async def _download(self, request: web.Request) -> web.StreamResponse:
        event = await self._event(request)
        # The listener marks every answer without a policy of its own as data, in a sandbox.
        headers = {
            hdrs.CONTENT_TYPE: "application/octet-stream",
            hdrs.CONTENT_DISPOSITION: f'attachment; filename="{file_name(event)}"',
        }
        return web.Response(body=body_bytes(event), headers=headers)

    async def _replay(self, request: web.Request) -> web.StreamResponse:
        chosen = (await sent_fields(request)).getall("to", [])
        if not chosen:
            return self._back(request, "Nothing was replayed. Choose at least one destination.")
        result = await self._api.post(
            request, "/api/v1/events/{id}/replay", {"destinations": chosen}, id=_id(request)
        )
        return self._back(request, replayed(result["replayed"], result["left_alone"]))

    async def _retry(self, request: web.Request) -> web.StreamResponse:
        name = await _destination(request)
        path = "/api/v1/deliveries/{id}/retry"
        result = await self._api.post(request, path, id=f"{_id(request)}:{name}")
        return self._back(
            request,
            f"The delivery to {name} is tried again now."
            if result["retried"]
            else f"Nothing was changed. The delivery to {name} is not a dead letter any more.",
        )

    async def _discard(self, request: web.Request) -> web.StreamResponse:
        name, note = await _destination(request), (await sent_fields(request)).get("note", "").strip()
        if not note:
            return self._back(request, "Nothing was discarded. The note has to say why.")
        chosen = {"ids": [f"{_id(request)}:{name}"], "note": note}
        result = await self._api.post(request, "/api/v1/deliveries/discard", chosen)
        return self._back(
            request,
            f"The dead letter for {name} is discarded."
            if result["discarded"]
            else f"Nothing was changed. The delivery to {name} is not a dead letter any more.",
        )

    def _back(self, request: web.Request, notice: str) -> web.Response:
        return self._site.redirect(f"/events/{_id(request)}", notice=notice)

    async def _event(self, request: web.Request) -> dict[str, Any]:
        event: dict[str, Any] = await self._api.get(request, "/api/v1/events/{id}", id=_id(request))
        return event

    async def _named(self, request: web.Request, kind: str) -> dict[str, dict[str, Any]]:
        """Return the destinations or the sources of the config, by name."""
        entries = (await self._api.get(request, f"/api/v1/{kind}"))[kind]
        return {entry["name"]: entry for entry in entries}

    async def _tried_routes(self, request: web.Request) -> list[dict[str, Any]] | None:
        """Return the routes in use, tried on the event; None if a reload has removed the source."""
        try:
            tried = await self._api.get(request, "/api/v1/events/{id}/routes", id=_id(request))
        except ApiError as error:
            if error.status != _BAD:
                raise
            return None
        routes: list[dict[str, Any]] = tried["routes"]
        return routes

    def _links(self, event: Mapping[str, Any]) -> dict[str, str]:
        """Return links to the events of the same source that share a fact with this one."""
        return {
            name: self._site.url("/events", {"source": event["source"], name: event[name]})
            for name in _SHARED
            if is_usable(event[name])
        }


def selecting(tried: Sequence[Mapping[str, Any]] | None) -> dict[str, list[Mapping[str, Any]]] | None:
    """Return the routes that take the event, by destination; None if they are not known."""
    if tried is None:
        return None
    found: dict[str, list[Mapping[str, Any]]] = {}
    for route in tried:
        for name in route["to"] if route["selected"] else ():
            found.setdefault(name, []).append(route)
    return found


def counts(deliveries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count deliveries by their status."""
    names = ("pending", "delivered", "dead", "discarded")
    return {name: sum(delivery["status"] == name for delivery in deliveries) for name in names}


def stored_after(event: Mapping[str, Any]) -> float | None:
    """Return the seconds between the receipt of an event and its commit; None if they are not known."""
    stored = parse_time(event["stored"]) if event["stored"] else None
    received = parse_time(event["received"])
    return None if stored is None or received is None else max(stored - received, 0.0)


def replay_targets(event: Mapping[str, Any], destinations: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the destinations of the config, with those that had the event first and chosen."""
    had = {delivery["destination"]: delivery["status"] for delivery in event["deliveries"]}
    names = [name for name in had if name in destinations]
    names += [name for name in destinations if name not in had]
    return [
        {
            "name": name,
            "status": had.get(name),
            "is_routed": name in event["routed"],
            "is_chosen": had.get(name) not in (None, "pending"),
        }
        for name in names
    ]


def replayed(names: Sequence[str], left_alone: Sequence[str]) -> str:
    """Say what a replay did."""
    parts = [f"Replayed to {', '.join(names)}."] if names else ["Nothing was replayed."]
    if left_alone:
        parts.append(f"Left alone: {', '.join(left_alone)}, pending or just replayed.")
    return " ".join(parts)


def _id(request: web.Request) -> str:
    return request.match_info["id"]


async def _destination(request: web.Request) -> str:
    return (await sent_fields(request)).get("destination", "")

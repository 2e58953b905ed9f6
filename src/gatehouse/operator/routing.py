"""The operator API that tells where an event goes: for a type, for a body, and for a stored event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from gatehouse.config import describe
from gatehouse.config.base import format_template
from gatehouse.events.route_trial import GivenRequest, TriedEvent, TriedRoute, try_request, try_stored
from gatehouse.events.routing import selecting_routes
from gatehouse.operator.access import changes_nothing
from gatehouse.operator.body import json_object
from gatehouse.operator.error_answers import with_error_answers
from gatehouse.operator.queries import BadQueryError, check_text
from gatehouse.operator.responses import error_answer, json_answer
from gatehouse.operator.route_docs import describe_route
from gatehouse.operator.routing_types import (
    EventTried,
    RouteBody,
    RouteQuery,
    RoutesTested,
    RoutesTried,
    RouteTried,
    SelectingRoute,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.config.load import LoadedConfig
    from gatehouse.ingest.source import Source
    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.store.base import Store

_UNKNOWN = "no source has this name"

msgspec.json.Decoder(RouteBody)  # prepares the type, see store/rows.py


class RoutingApi:
    """Tests the routes of the config in use. `loaded` returns that config, and `sources` its sources."""

    def __init__(
        self,
        store: Store,
        loaded: Callable[[], LoadedConfig],
        sources: Callable[[], Mapping[str, Source]],
    ) -> None:
        self._store = store
        self._loaded = loaded
        self._sources = sources

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [
            web.get("/api/v1/routes", with_error_answers(self._test_routes)),
            web.post("/api/v1/routes", with_error_answers(self._try_routes)),
            web.get("/api/v1/events/{id}/routes", with_error_answers(self._try_event)),
        ]

    @describe_route("Configuration", {200: (RoutesTested,)}, query=RouteQuery)
    async def _test_routes(self, request: ApiRequest) -> web.Response:
        """Tell which destinations get an event of a source and a type, and which routes select them.

        The routes are those in use now. An event that was accepted earlier may have gone elsewhere. A route
        with conditions is listed with them. `POST` tests the conditions too.
        """
        loaded, source = self._loaded(), _given(request, "source")
        event_type = _given(request, "type") if "type" in request.query else None
        if source not in loaded.config.sources:
            raise BadQueryError(_UNKNOWN)
        selecting = selecting_routes(loaded.config.routes, source, event_type)
        answer: RoutesTested = {
            "source": source,
            "type": event_type,
            "destinations": [
                {"name": name, "routes": [_describe(loaded, index) for index in indexes]}
                for name, indexes in selecting.items()
            ],
        }
        return json_answer(answer)

    @changes_nothing
    @describe_route("Configuration", {200: (RoutesTried,)}, body=RouteBody)
    async def _try_routes(self, request: ApiRequest) -> web.Response:
        """Tell where the events of a body would go, and of each route why.

        The body is read as the source reads it. It needs no signature, and nothing is stored. The role `read`
        is enough.
        """
        given = _read_body(await json_object(request))
        source = self._sources().get(given["source"])
        if source is None:
            raise BadQueryError(_UNKNOWN)
        loaded, headers = self._loaded(), given.get("headers", {})
        described = GivenRequest(given["body"].encode(), headers.items(), given.get("type"))
        tried = try_request(described, source.reader, loaded.config.routes, source.name)
        answer: RoutesTried = {"source": source.name, "events": [_event(loaded, one) for one in tried]}
        return json_answer(answer)

    @describe_route("Events", {200: (EventTried,)}, errors=(404,), path={"id": "The id of the event."})
    async def _try_event(self, request: ApiRequest) -> web.Response:
        """Tell where the routes in use would send a stored event, and of each route why.

        A condition that reads what is not stored sees a missing value: the query of the request, and the
        values around an item of a batch. The status is 400 if the config no longer has the source.
        """
        stored = await self._store.event(check_text(request.match_info["id"], "the id"))
        if stored is None:
            return error_answer(404, "not_found", "no event has this id")
        source, loaded = self._sources().get(stored.event.source), self._loaded()
        if source is None:
            raise BadQueryError(_UNKNOWN)
        return json_answer(_event(loaded, try_stored(stored.event, source.reader, loaded.config.routes)))


def _given(request: ApiRequest, name: str) -> str:
    value = request.query.get(name, "")
    if not value:
        raise BadQueryError(f"{name} is required")
    return value


def _read_body(given: dict[str, Any]) -> RouteBody:
    for name in given.keys() - RouteBody.__annotations__.keys():
        raise BadQueryError(f"unknown member: {name}")
    try:
        return msgspec.convert(given, RouteBody)
    except msgspec.ValidationError as error:
        raise BadQueryError(str(error)) from error


def _describe(loaded: LoadedConfig, index: int) -> SelectingRoute:
    route, (line, _) = loaded.config.routes[index], loaded.document.locate(("routes", index))
    return {
        "path": f"routes.{index}",
        "line": line,
        "from": list(route.sources),
        "types": list(route.types),
        "when": {str(format_template(text)): list(one.entries) for text, one in route.when.items()},
        "to": list(route.to),
        "text": describe.route(route),
    }


def _event(loaded: LoadedConfig, tried: TriedEvent) -> EventTried:
    return {
        "type": tried.event_type,
        "destinations": tried.destinations,
        "routes": [_tried(loaded, route) for route in tried.routes],
    }


def _tried(loaded: LoadedConfig, tried: TriedRoute) -> RouteTried:
    return {
        **_describe(loaded, tried.position),
        "selected": tried.selected,
        "reasons": tried.reasons,
        "conditions": [
            {
                "template": one.template,
                "condition": list(one.entries),
                "value": one.value,
                "state": one.state,
            }
            for one in tried.conditions
        ],
    }

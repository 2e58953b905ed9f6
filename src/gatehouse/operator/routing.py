"""The operator API that tells where an event would go: `GET /api/v1/routes?source=S&type=T`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from gatehouse.config import describe
from gatehouse.events.routing import selecting_routes
from gatehouse.operator.error_answers import with_error_answers
from gatehouse.operator.queries import BadQueryError
from gatehouse.operator.request_types import RouteQuery
from gatehouse.operator.response_types import RoutesTested, SelectingRoute
from gatehouse.operator.responses import json_answer
from gatehouse.operator.route_docs import describe_route

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.config.load import LoadedConfig
    from gatehouse.operator.api_request import ApiRequest


class RoutingApi:
    """Tests the routes of the config in use. `loaded` returns that config."""

    def __init__(self, loaded: Callable[[], LoadedConfig]) -> None:
        self._loaded = loaded

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [web.get("/api/v1/routes", with_error_answers(self._test_routes))]

    @describe_route("Configuration", {200: (RoutesTested,)}, query=RouteQuery)
    async def _test_routes(self, request: ApiRequest) -> web.Response:
        """Tell which destinations get an event of a source and a type, and which routes select them.

        The routes are those in use now. An event that was accepted earlier may have gone elsewhere.
        """
        loaded, source = self._loaded(), _given(request, "source")
        event_type = _given(request, "type") if "type" in request.query else None
        if source not in loaded.config.sources:
            raise BadQueryError("no source has this name")
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


def _given(request: ApiRequest, name: str) -> str:
    value = request.query.get(name, "")
    if not value:
        raise BadQueryError(f"{name} is required")
    return value


def _describe(loaded: LoadedConfig, index: int) -> SelectingRoute:
    route, (line, _) = loaded.config.routes[index], loaded.document.locate(("routes", index))
    return {
        "path": f"routes.{index}",
        "line": line,
        "from": list(route.sources),
        "types": list(route.types),
        "to": list(route.to),
        "text": describe.route(route),
    }

"""The operator API for the gateway as a whole. Its numbers are those in memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from gatehouse import __version__
from gatehouse.language.times import rfc3339
from gatehouse.operator.responses import json_answer
from gatehouse.operator.route_docs import describe_route
from gatehouse.operator.status_types import GatewayStatus, ReloadState, StoreState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gatehouse.delivery.state import DestinationState
    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.operator.reload_result import LastReload
    from gatehouse.operator.source_types import SourceState
    from gatehouse.telemetry.metrics import Metrics


class StatusParts(NamedTuple):
    """Where the status comes from."""

    sources: Callable[[], list[SourceState]]
    destinations: Callable[[], list[DestinationState]]
    #: The file or the URL of the store.
    store: str
    #: Return what is wrong with the store and with its disk; None when nothing is.
    probe_store: Callable[[], Awaitable[str | None]]
    probe_disk: Callable[[], Awaitable[str | None]]
    last_reload: Callable[[], LastReload]


class StatusApi:
    """Answers `GET /api/v1/status`."""

    def __init__(self, parts: StatusParts, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._parts = parts
        self._metrics = metrics
        self._clock = clock
        self._started = clock()

    def routes(self) -> list[web.RouteDef]:
        """Return the route, for the operator server."""
        return [web.get("/api/v1/status", self._show_status)]

    @describe_route("Health", {200: (GatewayStatus,)})
    async def _show_status(self, _: ApiRequest) -> web.Response:
        """Show the sources, the destinations, the store and the last reload.

        Numbers are from memory. `gatehouse status` shows this answer.
        """
        parts = self._parts
        answer: GatewayStatus = {
            "version": __version__,
            "now": rfc3339(self._clock()),
            "started": rfc3339(self._started),
            "sources": parts.sources(),
            "destinations": parts.destinations(),
            "store": await self._store(),
            "reload": reload_state(parts.last_reload()),
        }
        return json_answer(answer)

    async def _store(self) -> StoreState:
        parts, free = self._parts, self._metrics.store_free_bytes.value
        return {
            "kind": "postgresql" if parts.store.startswith("postgresql:") else "sqlite",
            "place": parts.store,
            "available": await parts.probe_store() is None,
            "disk_low": await parts.probe_disk() is not None,
            "size_bytes": int(self._metrics.store_bytes.value),
            "free_bytes": None if math.isnan(free) else int(free),
        }


def reload_state(last: LastReload) -> ReloadState:
    """Describe the last reload."""
    return {"successful": last.successful, "at": rfc3339(last.at), "problems": list(last.problems)}

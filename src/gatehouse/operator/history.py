"""The operator API for the last 24 hours of sources and destinations. Nothing here reads the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from gatehouse.errors import OUTCOME_REASONS
from gatehouse.language.times import rfc3339
from gatehouse.operator.history_types import GatewayHistory, HistoryQuery
from gatehouse.operator.queries import BadQueryError
from gatehouse.operator.responses import error_answer
from gatehouse.operator.route_docs import describe_route
from gatehouse.telemetry.buckets import STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.operator.history_types import DestinationHistory, SourceHistory
    from gatehouse.telemetry.history import History, Seen


class HistoryApi:
    """Answers `GET /api/v1/history`."""

    def __init__(self, sample: Callable[[], History]) -> None:
        """`sample` returns the history as it is now."""
        self._sample = sample

    def routes(self) -> list[web.RouteDef]:
        """Return the route, for the operator server."""
        return [web.get("/api/v1/history", self._show_history)]

    @describe_route("Health", {200: (GatewayHistory,)}, query=HistoryQuery)
    async def _show_history(self, request: ApiRequest) -> web.Response:
        """Show the last 24 hours of sources and destinations in buckets, and how much per minute lately.

        The gateway looks at its counters once a minute, and when it is asked. It keeps the numbers in memory
        only, so a restart loses them. With `source` or `destination`, the answer has nothing else.
        """
        history = self._sample()
        try:
            sources, destinations = _wanted(request, history)
        except BadQueryError as error:
            return error_answer(400, "bad_request", error.message)
        answer: GatewayHistory = {
            "from": rfc3339(history.oldest),
            "until": rfc3339(history.until),
            "step_seconds": STEP,
            "since": rfc3339(history.since),
            "complete_since": rfc3339(history.since),
            "sources": [_source(name, history.show(("source", name))) for name in sources],
            "destinations": [
                _destination(name, history.show(("destination", name))) for name in destinations
            ],
        }
        # Thousands of numbers: one a line would be a long text.
        body = msgspec.json.encode(answer)
        return web.Response(body=body, content_type="application/json", charset="utf-8")


def _wanted(request: ApiRequest, history: History) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of the sources and of the destinations to show. Raises `BadQueryError`."""
    given = request.query
    if given.keys() - HistoryQuery.__annotations__.keys() or len(given) != len(set(given)):
        raise BadQueryError("the parameters are source and destination, and each can be given only once")
    sources, destinations = history.names("source"), history.names("destination")
    if not given:
        return sources, destinations
    return _named(given.get("source"), sources, "source"), _named(
        given.get("destination"), destinations, "destination"
    )


def _named(name: str | None, known: Sequence[str], kind: str) -> Sequence[str]:
    if name is not None and name not in known:
        raise BadQueryError(f"no {kind} has this name")
    return () if name is None else (name,)


def _source(name: str, seen: Seen) -> SourceHistory:
    return {
        "name": name,
        "accepted_per_minute": _rate(seen, "accepted"),
        "refused_per_minute": _rate(seen, "refused"),
        "unavailable_per_minute": _rate(seen, "unavailable"),
        "rate_seconds": round(seen.rate_seconds),
        "accepted": seen.counts.get("accepted", seen.nothing),
        "refused": seen.counts.get("refused", seen.nothing),
        "unavailable": seen.counts.get("unavailable", seen.nothing),
    }


def _destination(name: str, seen: Seen) -> DestinationHistory:
    return {
        "name": name,
        "delivered_per_minute": _rate(seen, "delivered"),
        "failed_per_minute": _rate(seen, "failed"),
        "rate_seconds": round(seen.rate_seconds),
        "delivered": seen.counts.get("delivered", seen.nothing),
        "failed": seen.counts.get("failed", seen.nothing),
        "reasons": {reason: seen.counts[reason] for reason in OUTCOME_REASONS if reason in seen.counts},
        "lag": seen.lag,
    }


def _rate(seen: Seen, name: str) -> float | None:
    return None if seen.per_minute is None else round(seen.per_minute.get(name, 0.0), 2)

"""The operator API to find out whether a destination is back: probes, and test events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from gatehouse.delivery.state import DestinationState
from gatehouse.operator.access import IDENTITY
from gatehouse.operator.error_answers import with_error_answers
from gatehouse.operator.record_types import DestinationTested
from gatehouse.operator.responses import error_answer, json_answer
from gatehouse.operator.route_docs import describe_route
from gatehouse.operator.tokens import SUPERVISOR
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from gatehouse.delivery.outcome import Outcome
    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.operator.audit import Audit

_UNKNOWN = "no destination has this name"
_DESTINATION_NAME = {"name": "The name of the destination."}


class ProbingControl(Protocol):
    """What the API needs from the dispatcher."""

    def probe(self, name: str) -> None:
        """Let the next probe start now. Raises `KeyError` or `ConflictError`."""

    async def send_test(self, name: str) -> Outcome:
        """Send a test event. Raises `KeyError` or `ConflictError`."""

    def describe(self) -> list[DestinationState]:
        """Return the state of every destination."""


class ProbingApi:
    """Probes destinations whose circuit breaker is open, and sends test events."""

    def __init__(self, destinations: ProbingControl, audit: Audit) -> None:
        self._destinations = destinations
        self._audit = audit

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [
            web.post("/api/v1/destinations/{name}/probe", with_error_answers(self._probe)),
            web.post("/api/v1/destinations/{name}/test", with_error_answers(self._test)),
        ]

    @describe_route("Destinations", {200: (DestinationState,)}, errors=(404, 409), path=_DESTINATION_NAME)
    async def _probe(self, request: ApiRequest) -> web.Response:
        """Probe a destination now, whose circuit breaker is open.

        The next probe is due at once, instead of at `next_probe`. It is a pending delivery, or the next event
        if none is pending. If it fails, the breaker waits longer for the next one, as after every probe. With
        `--workers`, each worker whose breaker is open probes. The status is 409 while the destination is
        paused (`paused`), and when its breaker is closed (`breaker_closed`).
        """
        name = request.match_info["name"]
        try:
            self._destinations.probe(name)
        except KeyError:
            return error_answer(404, "not_found", _UNKNOWN)
        get_logger().info("destination.probed", destination=name)
        # A supervisor records its change once, and not for each worker.
        if request[IDENTITY] != SUPERVISOR:
            await self._audit.record(request, "probe", {"destination": name}, 1)
        # A reload may have removed it meanwhile.
        found = next((one for one in self._destinations.describe() if one["name"] == name), None)
        return json_answer(found) if found else error_answer(404, "not_found", "the destination is gone")

    @describe_route("Destinations", {200: (DestinationTested,)}, errors=(404, 409), path=_DESTINATION_NAME)
    async def _test(self, request: ApiRequest) -> web.Response:
        """Send a test event to a destination, and show the outcome.

        The event has the type `gatehouse.test` and the source `gatehouse`. It is sent once, like a delivery:
        in the format of the destination, signed, and within its `timeout`. It is sent even while the
        destination is paused or its circuit breaker is open. Nothing is stored, retried or counted as an
        attempt, and the breaker stays as it is. The status is 409 if the destination is not ready
        (`not_ready`).
        """
        name = request.match_info["name"]
        try:
            outcome = await self._destinations.send_test(name)
        except KeyError:
            return error_answer(404, "not_found", _UNKNOWN)
        reply = outcome.reply
        tested: DestinationTested = {
            "reason": outcome.reason,
            "http_status": outcome.http_status,
            "duration_ms": round(outcome.duration * 1000),
            "error": outcome.error,
            "reply": None if reply is None else reply.decode("utf-8", "replace"),
        }
        get_logger().info(
            "destination.tested",
            destination=name,
            reason=outcome.reason,
            http_status=outcome.http_status,
            duration_ms=tested["duration_ms"],
            error=outcome.error,
        )
        what = {"destination": name, "reason": outcome.reason}
        await self._audit.record(request, "test", what, 1)
        return json_answer(tested)

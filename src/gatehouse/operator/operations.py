"""The operator API for replays and retries of many events."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from aiohttp import web

from gatehouse.events.event import new_id
from gatehouse.language.times import rfc3339
from gatehouse.operator import queries, responses
from gatehouse.operator.access import IDENTITY, reads_with_dry_run
from gatehouse.operator.body import json_object
from gatehouse.operator.error_answers import with_error_answers
from gatehouse.operator.operation_requests import format_rate, operation_request, shown_filter
from gatehouse.operator.operation_types import (
    OperationBody,
    OperationPlan,
    OperationProgress,
    OperationStarted,
    ReplayList,
    RetryList,
)
from gatehouse.operator.queries import BadQueryError
from gatehouse.operator.responses import error_answer
from gatehouse.operator.route_docs import describe_route
from gatehouse.store.operations import MAX_RUNNING, Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.operator.audit import Audit
    from gatehouse.operator.operation_requests import OperationRequest
    from gatehouse.store.base import Store
    from gatehouse.store.operations import Kind

#: How many operations a list shows.
_LATEST: Final = 50
#: How many types a plan shows. A provider may send any number of types.
_TYPES_SHOWN: Final = 100
#: How many types are counted at a time.
_TYPES_COUNTED: Final = 10_000
_ID: Final = {"id": "The id of the operation."}
_NOT_FOUND: Final = "no operation has this id, or it is no longer kept"
_GROUP: Final = "Replays and retries"


class RunningOperations(Protocol):
    """What the API needs from what runs the operations."""

    def check_soon(self) -> None:
        """Look for operations that were added or cancelled."""

    def waiting_for(self, operation_id: str) -> list[str]:
        """Return the destinations that an operation waits for."""


class Destinations(Protocol):
    """What the API needs from the dispatcher."""

    def configured(self) -> frozenset[str]:
        """Return the names of the destinations in the config."""


class OperationsApi:
    """Starts, shows and stops operations. `clock` returns Unix time."""

    def __init__(
        self,
        store: Store,
        running: RunningOperations,
        destinations: Destinations,
        clock: Callable[[], float],
        audit: Audit,
    ) -> None:
        self._store = store
        self._running = running
        self._destinations = destinations
        self._clock = clock
        self._audit = audit

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [
            web.post("/api/v1/replays", with_error_answers(self._start_replay)),
            web.get("/api/v1/replays", with_error_answers(self._list_replays)),
            web.get("/api/v1/replays/{id}", with_error_answers(self._show_replay)),
            web.delete("/api/v1/replays/{id}", with_error_answers(self._stop_replay)),
            web.post("/api/v1/retries", with_error_answers(self._start_retry)),
            web.get("/api/v1/retries", with_error_answers(self._list_retries)),
            web.get("/api/v1/retries/{id}", with_error_answers(self._show_retry)),
            web.delete("/api/v1/retries/{id}", with_error_answers(self._stop_retry)),
        ]

    @reads_with_dry_run
    @describe_route(
        _GROUP, {200: (OperationPlan,), 202: (OperationStarted,)}, errors=(409,), body=OperationBody
    )
    async def _start_replay(self, request: ApiRequest) -> web.Response:
        """Deliver many events again, the oldest first.

        With `dry_run`, the gateway only counts them. Events that are received after the start are not
        included. Deliveries that are pending stay as they are. The replay waits while a destination is paused
        or can't be reached.
        """
        return await self._start("replay", request)

    @reads_with_dry_run
    @describe_route(
        _GROUP, {200: (OperationPlan,), 202: (OperationStarted,)}, errors=(409,), body=OperationBody
    )
    async def _start_retry(self, request: ApiRequest) -> web.Response:
        """Retry the dead letters of many events, the oldest first.

        With `dry_run`, the gateway only counts them. Deliveries that die after the start stay dead letters.
        The retry waits while a destination is paused or can't be reached.
        """
        return await self._start("retry", request)

    @describe_route(_GROUP, {200: (ReplayList,)})
    async def _list_replays(self, _: ApiRequest) -> web.Response:
        """List the latest replays of many events. They are kept for 90 days after their end."""
        answer: ReplayList = {"replays": await self._latest("replay")}
        return responses.json_answer(answer)

    @describe_route(_GROUP, {200: (RetryList,)})
    async def _list_retries(self, _: ApiRequest) -> web.Response:
        """List the latest retries of many dead letters. They are kept for 90 days after their end."""
        answer: RetryList = {"retries": await self._latest("retry")}
        return responses.json_answer(answer)

    @describe_route(_GROUP, {200: (OperationProgress,)}, errors=(404,), path=_ID)
    async def _show_replay(self, request: ApiRequest) -> web.Response:
        """Show how far a replay is."""
        return await self._with_operation("replay", request, self._show)

    @describe_route(_GROUP, {200: (OperationProgress,)}, errors=(404,), path=_ID)
    async def _show_retry(self, request: ApiRequest) -> web.Response:
        """Show how far a retry is."""
        return await self._with_operation("retry", request, self._show)

    @describe_route(_GROUP, {200: (OperationProgress,)}, errors=(404,), path=_ID)
    async def _stop_replay(self, request: ApiRequest) -> web.Response:
        """Stop a replay. Deliveries that are due already stay due."""
        return await self._with_operation("replay", request, partial(self._stop, request))

    @describe_route(_GROUP, {200: (OperationProgress,)}, errors=(404,), path=_ID)
    async def _stop_retry(self, request: ApiRequest) -> web.Response:
        """Stop a retry. Deliveries that are due already stay due."""
        return await self._with_operation("retry", request, partial(self._stop, request))

    async def _start(self, kind: Kind, request: ApiRequest) -> web.Response:
        now = self._clock()
        wanted = operation_request(kind, await json_object(request), now)
        self._check_configured(wanted.to or ())
        operation = _operation(kind, wanted, request[IDENTITY].name, now)
        plan = await self._plan(operation, request)
        if plan is None:
            # Whoever asked is gone, and would not know that it runs.
            return error_answer(503, "unavailable", "the connection was closed; nothing was started")
        if wanted.dry_run:
            return responses.json_answer(plan)
        operation = msgspec.structs.replace(operation, total=plan["events"])
        if not await self._store.add_operation(operation):
            return error_answer(
                409, "busy", f"{MAX_RUNNING} replays and retries are running; wait for one, or stop one"
            )
        self._running.check_soon()
        await self._record(request, operation, "started")
        answer: OperationStarted = {"id": operation.id}
        return responses.json_answer(answer, status=202)

    async def _plan(self, operation: Operation, request: ApiRequest) -> OperationPlan | None:
        """Count in bounded steps. Other requests run in between. Returns None when the client is gone."""
        sources: Counter[str] = Counter()
        types: Counter[str] = Counter()
        deliveries: Counter[str] = Counter()
        configured = self._destinations.configured()
        position, done = "", False
        while not done:
            step = await self._store.plan(operation, position, configured)
            position, done = step.position, step.done
            for (source, event_type), number in step.events.items():
                sources[source] += number
                types[event_type] += number
            deliveries.update(step.deliveries)
            if len(types) > 2 * _TYPES_COUNTED:
                types = Counter(dict(types.most_common(_TYPES_COUNTED)))
            if request.transport is None or request.transport.is_closing():
                return None
        return {
            "events": sources.total(),
            "deliveries": deliveries.total(),
            "by": {
                "source": dict(sources.most_common()),
                "type": dict(types.most_common(_TYPES_SHOWN)),
                "destination": dict(deliveries.most_common()),
            },
        }

    async def _latest(self, kind: Kind) -> list[OperationProgress]:
        return [self._progress(each) for each in await self._store.operations(kind, limit=_LATEST)]

    async def _with_operation(
        self, kind: Kind, request: ApiRequest, answer: Callable[[Operation], Awaitable[web.Response]]
    ) -> web.Response:
        operation = await self._store.operation(queries.check_text(request.match_info["id"], "the id"))
        if operation is None or operation.kind != kind:
            return error_answer(404, "not_found", _NOT_FOUND)
        return await answer(operation)

    async def _show(self, operation: Operation) -> web.Response:
        return responses.json_answer(self._progress(operation))

    async def _stop(self, request: ApiRequest, operation: Operation) -> web.Response:
        if operation.state == "running":
            is_stopped = await self._store.cancel_operation(operation.id, now=self._clock())
            self._running.check_soon()
            operation = await self._store.operation(operation.id) or operation
            if is_stopped:  # and no other request has stopped it before
                await self._record(request, operation, "stopped")
        return await self._show(operation)

    async def _record(self, request: ApiRequest, operation: Operation, change: str) -> None:
        what: dict[str, Any] = {
            change: operation.id,
            "filter": shown_filter(operation.kind, operation.query),
            "to": operation.to,
            "rate": format_rate(operation.rate),
        }
        count = operation.total if change == "started" else operation.done
        await self._audit.record(request, operation.kind, what, count)

    def _progress(self, operation: Operation) -> OperationProgress:
        return {
            "id": operation.id,
            "state": operation.state,
            "total": operation.total,
            "done": operation.done,
            "failed": operation.failed,
            "rate": format_rate(operation.rate),
            "started": rfc3339(operation.started),
            "ended": None if operation.ended is None else rfc3339(operation.ended),
            "by": operation.by,
            "filter": shown_filter(operation.kind, operation.query),
            "to": None if operation.to is None else list(operation.to),
            "waiting_for": self._running.waiting_for(operation.id),
        }

    def _check_configured(self, names: tuple[str, ...]) -> None:
        known = sorted(self._destinations.configured())
        for name in names:
            if name not in known:
                raise BadQueryError(f"the config has no destination {name!r}; it has: {', '.join(known)}")


def _operation(kind: Kind, wanted: OperationRequest, by: str, now: float) -> Operation:
    return Operation(
        id=new_id(now), kind=kind, query=wanted.query, to=wanted.to, rate=wanted.rate, by=by, started=now
    )

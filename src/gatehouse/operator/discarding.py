"""The operator API that discards dead letters: deliveries that nobody needs any more."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec
from aiohttp import web

from gatehouse.operator import queries, responses
from gatehouse.operator.access import IDENTITY
from gatehouse.operator.body import json_object
from gatehouse.operator.error_answers import with_error_answers
from gatehouse.operator.queries import BadQueryError
from gatehouse.operator.record_types import Discarded
from gatehouse.operator.request_types import MAX_NAMES, DeliveryFilters, DiscardBody
from gatehouse.operator.route_docs import describe_route
from gatehouse.store.records import DeliveryQuery
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.operator.audit import Audit
    from gatehouse.store.base import Store

#: How many deliveries one transaction discards. New events wait for it.
_STEP: Final = 500
#: Seconds after which a request ends although there are more. The command that asks waits 15 seconds.
_LONGEST: Final = 5.0


class Lanes(Protocol):
    """What the API needs from the dispatcher."""

    def wake(self, name: str, *, pending: int = 0, dead: int = 0) -> None:
        """Change the two gauges of a destination by these numbers."""


class DiscardRequest(NamedTuple):
    """Which dead letters to discard, and why."""

    queries: list[DeliveryQuery]
    #: What the request names, for the audit entry.
    chosen: dict[str, Any]
    note: str


class DiscardApi:
    """Discards dead letters. `clock` returns Unix time."""

    def __init__(self, store: Store, lanes: Lanes, clock: Callable[[], float], audit: Audit) -> None:
        self._store = store
        self._lanes = lanes
        self._clock = clock
        self._audit = audit

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [web.post("/api/v1/deliveries/discard", with_error_answers(self._discard))]

    @describe_route("Deliveries", {200: (Discarded,)}, body=DiscardBody)
    async def _discard(self, request: ApiRequest) -> web.Response:
        """Discard dead letters: they are no longer listed as dead, and never retried.

        The note says why, and stays with the deliveries. A replay can still deliver the events. Other
        deliveries are left alone. Dead letters of destinations that the config no longer has are discarded
        too.
        """
        now = self._clock()
        wanted = discard_request(await json_object(request), now)
        by = request[IDENTITY].name
        discarded: Counter[str] = Counter()
        try:
            done = await self._discard_all(wanted, by, now, discarded)
        finally:
            # The store may fail after some of the steps.
            if discarded:
                await self._record(request, wanted, discarded)
        answer: Discarded = {"discarded": dict(discarded), "done": done}
        return responses.json_answer(answer)

    async def _record(self, request: ApiRequest, wanted: DiscardRequest, discarded: Counter[str]) -> None:
        names, count = sorted(discarded), discarded.total()
        get_logger().info("deliveries.discarded", destinations=names, count=count)
        what = wanted.chosen | {"note": wanted.note, "destinations": names}
        await self._audit.record(request, "discard", what, count)

    async def _discard_all(
        self, wanted: DiscardRequest, by: str, now: float, discarded: Counter[str]
    ) -> bool:
        """Discard in steps, and count in `discarded` what each one did. Returns False if there are more."""
        until = time.monotonic() + _LONGEST
        for query in wanted.queries:
            done = False
            while not done:
                if time.monotonic() > until:
                    return False
                step = await self._store.discard(query, note=wanted.note, by=by, now=now, limit=_STEP)
                for name, number in step.destinations.items():
                    self._lanes.wake(name, dead=-number)
                discarded.update(step.destinations)
                done = step.done
        return True


def discard_request(given: Mapping[str, Any], now: float) -> DiscardRequest:
    """Parse which dead letters to discard. Raises `BadQueryError`."""
    if given.keys() - DiscardBody.__annotations__.keys():
        names = ", ".join(DiscardBody.__annotations__)
        raise BadQueryError(f"unknown member; the members are: {names}")
    note = given.get("note")
    if not isinstance(note, str):
        raise BadQueryError("give a note that says why")
    queries.check_text(note, "note")
    if ("ids" in given) == ("filter" in given):
        raise BadQueryError("give either ids or a filter")
    if "ids" in given:
        return DiscardRequest(_by_ids(given["ids"]), {"ids": given["ids"]}, note)
    query = _by_filter(given["filter"], now)
    return DiscardRequest([query], {"filter": responses.filters(query)}, note)


def _by_ids(ids: object) -> list[DeliveryQuery]:
    if not isinstance(ids, list) or not ids or not all(isinstance(one, str) for one in ids):
        raise BadQueryError("ids must be a list of delivery ids")
    if len(ids) > MAX_NAMES:
        raise BadQueryError(f"ids must have at most {MAX_NAMES} entries")
    found = []
    for one in dict.fromkeys(ids):
        event_id, _, destination = queries.check_text(one, "an id").partition(":")
        if not event_id or not destination:
            raise BadQueryError("a delivery id is the event id, a colon and the destination")
        found.append(DeliveryQuery(event_id=event_id, destination=destination, status="dead"))
    return found


def _by_filter(given: object, now: float) -> DeliveryQuery:
    if not isinstance(given, dict) or not given:
        raise BadQueryError("filter must be an object with at least one filter")
    if given.keys() - DeliveryFilters.__annotations__.keys():
        names = ", ".join(sorted(DeliveryFilters.__annotations__))
        raise BadQueryError(f"unknown filter; the filters are: {names}")
    texts = {name: queries.as_text(name, value) for name, value in given.items()}
    query = queries.delivery_query(texts, now)
    if query.status not in (None, "dead"):
        raise BadQueryError("only dead deliveries are discarded")
    return msgspec.structs.replace(query, status="dead")

"""The operator API for the store: lists, retries and replays events and deliveries; pauses destinations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec
from aiohttp import web

from gatehouse.delivery.state import DestinationState
from gatehouse.language.times import rfc3339
from gatehouse.operator import queries, responses
from gatehouse.operator.access import reads_with_dry_run
from gatehouse.operator.body import json_object
from gatehouse.operator.error_answers import page_of, with_error_answers
from gatehouse.operator.queries import BadQueryError
from gatehouse.operator.record_types import (
    DeadGroupPage,
    DeliveryPage,
    DeliveryRetried,
    DestinationList,
    EventDetails,
    EventPage,
    ReplayResult,
    RetryCount,
    RetryProgress,
)
from gatehouse.operator.request_types import (
    DeadListQuery,
    DeliveryListQuery,
    EventListQuery,
    ReplayBody,
    RetryBody,
)
from gatehouse.operator.responses import error_answer
from gatehouse.operator.route_docs import describe_route
from gatehouse.store.records import DeliveryQuery, Retried
from gatehouse.store.searching import GROUPS_TIME
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from gatehouse.events.event import Event
    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.operator.audit import Audit
    from gatehouse.operator.queries import RetryRequest
    from gatehouse.store.base import Store

#: How many dead letters one request retries. The caller repeats the request until all are done.
RETRY_STEP = 500
_EVENT_ID = {"id": "The id of the event."}
_DELIVERY_ID = {"id": "The id of the event, a colon and the destination."}
_DESTINATION_NAME = {"name": "The name of the destination."}
_NO_EVENT = "no event has this id, or it is no longer kept"
_NO_DELIVERY = "no delivery has this id, or it is no longer kept"


class DeliveryControl(Protocol):
    """What the API needs from the dispatcher."""

    async def pause(self, name: str) -> None:
        """Pause a destination. Raises `KeyError` if no destination has this name."""

    async def resume(self, name: str) -> None:
        """Resume a destination. Raises `KeyError` if no destination has this name."""

    def wake(self, name: str, *, pending: int = 0, dead: int = 0) -> None:
        """Check the store for due deliveries. The arguments are the changes to the two gauges."""

    def describe(self) -> list[DestinationState]:
        """Return the state of every destination."""

    def starts_at(self, name: str, due: float) -> float | None:
        """Return when a delivery that is due at `due` can start; None while none can."""


class RecordsApi:
    """Reads the store and changes deliveries in it.

    `clock` returns Unix time, `monotonic` a time that never goes back.
    """

    def __init__(
        self,
        store: Store,
        deliveries: DeliveryControl,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        routed: Callable[[Event], Iterable[str]] = lambda _event: (),
        *,
        audit: Audit,
    ) -> None:
        """`routed` returns the destinations to which the routes send a stored event now."""
        self._routed = routed
        self._audit = audit
        self._store = store
        self._deliveries = deliveries
        self._clock = clock
        self._monotonic = monotonic
        self._recent_replays = RecentRequests()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server, which refuses cross-site requests."""
        return [
            web.get("/api/v1/events", with_error_answers(self._list_events)),
            web.get("/api/v1/events/{id}", with_error_answers(self._show_event)),
            web.post("/api/v1/events/{id}/replay", with_error_answers(self._replay)),
            web.get("/api/v1/deliveries", with_error_answers(self._list_deliveries)),
            web.get("/api/v1/deliveries/dead", with_error_answers(self._list_dead_groups)),
            web.post("/api/v1/deliveries/retry", with_error_answers(self._retry)),
            web.post("/api/v1/deliveries/{id}/retry", with_error_answers(self._retry_one)),
            web.get("/api/v1/destinations", with_error_answers(self._list_destinations)),
            web.post("/api/v1/destinations/{name}/pause", with_error_answers(self._pause)),
            web.post("/api/v1/destinations/{name}/resume", with_error_answers(self._resume)),
        ]

    @describe_route("Events", {200: (EventPage,)}, query=EventListQuery)
    async def _list_events(self, request: ApiRequest) -> web.Response:
        """List events, newest first.

        A page ends after the time in `within`. So it can have fewer entries than `limit`, or none, and still
        have a `cursor` for the next page. `contains` reads every body that the other filters leave:
        `searched_to` tells how far back the search has come.
        """
        given = request.query
        query, limit = queries.event_query(given, self._clock()), queries.page_limit(given)
        page_time = queries.page_time(given)
        page = await page_of(
            self._store.events(query, limit=limit, cursor=given.get("cursor"), page_time=page_time)
        )
        return responses.search_answer("events", page, responses.event_summary)

    @describe_route("Events", {200: (EventDetails,)}, errors=(404,), path=_EVENT_ID)
    async def _show_event(self, request: ApiRequest) -> web.Response:
        """Show one event with its headers, its body, its deliveries and their attempts.

        An attempt shows what the destination replied, or the error if there was no reply.
        """
        stored = await self._store.event(queries.check_text(request.match_info["id"], "the id"))
        if stored is None:
            return error_answer(404, "not_found", _NO_EVENT)
        routed = self._routed(stored.event)
        return responses.json_answer(responses.event_details(stored, self._deliveries.starts_at, routed))

    @describe_route("Events", {200: (ReplayResult,)}, errors=(404,), path=_EVENT_ID, body=ReplayBody)
    async def _replay(self, request: ApiRequest) -> web.Response:
        """Deliver an event again.

        The idempotency key stays the same. A destination that is named but never had the event gets it too.
        """
        event_id = queries.check_text(request.match_info["id"], "the id")
        wanted = queries.replay_destinations(await json_object(request))
        stored = await self._store.event(event_id)
        if stored is None:
            return error_answer(404, "not_found", _NO_EVENT)
        for name in wanted or ():
            self._check_configured(name)
        known = self._configured()
        chosen = wanted or [row.destination for row in stored.deliveries if row.destination in known]
        if not chosen:
            raise BadQueryError(
                "no destination of the config had this event; name the destinations that should get it"
            )
        replayed = await self._replay_to(event_id, chosen)
        if replayed is None:
            return error_answer(404, "not_found", _NO_EVENT)
        were_dead = {row.destination for row in stored.deliveries if row.status == "dead"}
        for name in replayed:
            self._deliveries.wake(name, pending=1, dead=-int(name in were_dead))
        if replayed:
            get_logger().info("event.replayed", destinations=replayed, event_id=event_id)
            what = {"event_id": event_id, "destinations": replayed}
            await self._audit.record(request, "replay", what, len(replayed))
        left_alone = [name for name in chosen if name not in replayed]
        answer: ReplayResult = {"id": event_id, "replayed": replayed, "left_alone": left_alone}
        return responses.json_answer(answer)

    async def _replay_to(self, event_id: str, chosen: Sequence[str]) -> list[str] | None:
        now, replayed = self._monotonic(), None
        claimed = [name for name in chosen if self._recent_replays.claim((event_id, name), now)]
        try:
            replayed = await self._store.replay(event_id, claimed, now=self._clock())
        finally:
            for name in claimed:
                if name not in (replayed or ()):
                    self._recent_replays.forget((event_id, name))
        return replayed

    @describe_route("Deliveries", {200: (DeliveryPage,)}, query=DeliveryListQuery)
    async def _list_deliveries(self, request: ApiRequest) -> web.Response:
        """List deliveries, newest first. `status=dead` lists the dead letters.

        A page ends after about 150 ms. So it can have fewer entries than `limit`, or none, and still have a
        `cursor` for the next page.
        """
        given = request.query
        query, limit = queries.delivery_query(given, self._clock()), queries.page_limit(given)
        page = await page_of(self._store.deliveries(query, limit=limit, cursor=given.get("cursor")))
        return responses.search_answer(
            "deliveries", page, lambda row: responses.delivery_state(row, self._deliveries.starts_at)
        )

    @describe_route("Deliveries", {200: (DeadGroupPage,)}, query=DeadListQuery)
    async def _list_dead_groups(self, request: ApiRequest) -> web.Response:
        """Count the dead letters by destination, and by the reason and HTTP status of the last attempt.

        The filters `reason` and `http_status` match any attempt, as in the lists.

        An answer ends after the time in `within`, newest dead letters first. Repeat the request with its
        `cursor` until that is `null`, and add up the groups: a group can be in several answers.
        """
        query = queries.dead_query(request.query, self._clock())
        page_time = queries.page_time(request.query, GROUPS_TIME)
        cursor = request.query.get("cursor")
        page = await page_of(self._store.dead_groups(query, cursor=cursor, page_time=page_time))
        return responses.search_answer("groups", page, responses.dead_group_state)

    @reads_with_dry_run
    @describe_route("Deliveries", {200: (RetryProgress, RetryCount)}, body=RetryBody)
    async def _retry(self, request: ApiRequest) -> web.Response:
        """Retry the dead letters that the filters choose, at most 500 at a time.

        Repeat the request with the `as_of` of the answer until `done` is `true`. With `dry_run`, the gateway
        only counts them: repeat the request with the `cursor` of the answer until it is `null`, and add up
        the numbers. Dead letters of destinations that the config no longer has are left alone.
        """
        retry = queries.retry_request(await json_object(request), self._clock())
        if retry.query.destination is not None:
            self._check_configured(retry.query.destination)
        if retry.dry_run:
            listing = self._store.deliveries(retry.query, limit=RETRY_STEP, cursor=retry.cursor)
            page, known = await page_of(listing), self._configured()
            counted = responses.count_by_destination(row for row in page.items if row.destination in known)
            count: RetryCount = {"would_retry": counted, "cursor": page.cursor}
            return responses.json_answer(count)
        retried = await self._retry_step(retry)
        await self._wake_and_record(request, retry.query, retried.destinations)
        progress: RetryProgress = {
            "retried": retried.destinations,
            "done": retried.done,
            "as_of": rfc3339(retry.as_of),
        }
        return responses.json_answer(progress)

    async def _retry_step(self, retry: RetryRequest) -> Retried:
        """Retry one destination after the other, up to the limit. Only destinations of the config count."""
        one = retry.query.destination
        numbers: dict[str, int] = {}
        for name in [one] if one is not None else sorted(self._configured()):
            query = msgspec.structs.replace(retry.query, destination=name)
            left = RETRY_STEP - sum(numbers.values())
            retried = await self._store.retry(query, now=retry.as_of, limit=left)
            numbers |= retried.destinations
            if not retried.done:
                return Retried(numbers, done=False)
        return Retried(numbers, done=True)

    @describe_route("Deliveries", {200: (DeliveryRetried,)}, errors=(404,), path=_DELIVERY_ID)
    async def _retry_one(self, request: ApiRequest) -> web.Response:
        """Retry one dead letter. A delivery of another status is left alone."""
        given = queries.check_text(request.match_info["id"], "the id")
        event_id, _, destination = given.partition(":")
        if not event_id or not destination:
            raise BadQueryError("a delivery id is the event id, a colon and the destination")
        query = DeliveryQuery(event_id=event_id, destination=destination)
        if not (await self._store.deliveries(query, limit=1)).items:
            return error_answer(404, "not_found", _NO_DELIVERY)
        self._check_configured(destination)
        retried = await self._store.retry(query, now=self._clock(), limit=1)
        await self._wake_and_record(request, query, retried.destinations)
        answer: DeliveryRetried = {"retried": retried.destinations, "done": True}
        return responses.json_answer(answer)

    @describe_route("Destinations", {200: (DestinationList,)})
    async def _list_destinations(self, _: ApiRequest) -> web.Response:
        """List the destinations and their state."""
        answer: DestinationList = {"destinations": self._deliveries.describe()}
        return responses.json_answer(answer)

    @describe_route("Destinations", {200: (DestinationState,)}, errors=(404,), path=_DESTINATION_NAME)
    async def _pause(self, request: ApiRequest) -> web.Response:
        """Pause delivery to a destination. Deliveries wait; the pause survives a restart."""
        return await self._change_destination(request, self._deliveries.pause, "pause")

    @describe_route("Destinations", {200: (DestinationState,)}, errors=(404,), path=_DESTINATION_NAME)
    async def _resume(self, request: ApiRequest) -> web.Response:
        """Resume delivery to a destination."""
        return await self._change_destination(request, self._deliveries.resume, "resume")

    async def _change_destination(
        self,
        request: ApiRequest,
        change: Callable[[str], Awaitable[None]],
        action: Literal["pause", "resume"],
    ) -> web.Response:
        name = request.match_info["name"]
        try:
            await change(name)
        except KeyError:
            return error_answer(404, "not_found", "no destination has this name")
        event = "destination.paused" if action == "pause" else "destination.resumed"
        get_logger().info(event, destination=name)
        await self._audit.record(request, action, {"destination": name}, 1)
        # A reload may have removed it meanwhile.
        found = next((one for one in self._deliveries.describe() if one["name"] == name), None)
        return (
            responses.json_answer(found)
            if found
            else error_answer(404, "not_found", "the destination is gone")
        )

    def _configured(self) -> set[str]:
        return {one["name"] for one in self._deliveries.describe()}

    def _check_configured(self, name: str) -> None:
        """Refuse a destination that is not in the config. Nothing would deliver or purge its deliveries."""
        known = sorted(self._configured())
        if name not in known:
            raise BadQueryError(f"the config has no destination {name!r}; it has: {', '.join(known)}")

    async def _wake_and_record(
        self, request: ApiRequest, query: DeliveryQuery, destinations: Mapping[str, int]
    ) -> None:
        """Let the lanes attempt what was retried, and record who retried it."""
        for name, number in destinations.items():
            self._deliveries.wake(name, pending=number, dead=-number)
        if destinations:
            count, names = sum(destinations.values()), sorted(destinations)
            get_logger().info("deliveries.retried", destinations=names, count=count)
            what = {"filter": responses.filters(query), "destinations": names}
            await self._audit.record(request, "retry", what, count)


#: Seconds: a repeated request within this time is ignored.
RECENT_SECONDS = 10.0
#: The number of requests that are remembered at a time.
_MAX_RECENT = 10_000


class RecentRequests:
    """Remembers recent requests, so that a double click has no effect. Times are monotonic."""

    def __init__(self) -> None:
        #: The time of each request, oldest first.
        self._claims: dict[tuple[str, ...], float] = {}

    def claim(self, request: tuple[str, ...], now: float) -> bool:
        """Return whether the request is new, and remember it."""
        self._forget_old(now)
        if request in self._claims:
            return False
        self._claims[request] = now
        return True

    def forget(self, request: tuple[str, ...]) -> None:
        """Forget a request that had no effect, so that it can be repeated at once."""
        self._claims.pop(request, None)

    def _forget_old(self, now: float) -> None:
        while self._claims:
            oldest = next(iter(self._claims))
            if now - self._claims[oldest] < RECENT_SECONDS and len(self._claims) < _MAX_RECENT:
                break
            del self._claims[oldest]

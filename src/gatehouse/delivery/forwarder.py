"""Makes one attempt: builds a POST from events, and turns the reply into an outcome for each event.

The reply to a batch may contain a result for each event: a JSON list with one entry per event, each a status
or an object with a `status`. If the entries have the `id`s of the events (`gatehouseid`, or else the
CloudEvents `id`), their order does not matter. Otherwise they are taken in the order of the batch.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gatehouse import __version__
from gatehouse.delivery.faults import describe_error, reason_for_error
from gatehouse.delivery.kept_replies import start_of
from gatehouse.delivery.outcome import Outcome, reason_for
from gatehouse.delivery.signing import signature
from gatehouse.delivery.token_client import open_client
from gatehouse.events.envelope import BATCH_TYPE, batch, batch_element, batch_id, encode, traceparent
from gatehouse.store.base import Delivery
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import aiohttp

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.http_client import Reply
    from gatehouse.events.event import Event

#: How many bytes of the reply to a test event are shown.
TEST_REPLY = 1024
_USER_AGENT = f"Gatehouse/{__version__}"


class BatchItem(NamedTuple):
    """A delivery, encoded as one element of a batch."""

    delivery: Delivery
    element: bytes


class BatchOutcome(NamedTuple):
    """The outcome of a POST of several events."""

    whole: Outcome
    #: One outcome per event, if the reply tells them apart.
    items: tuple[Outcome, ...] | None


class Forwarder:
    """Makes attempts to one destination."""

    def __init__(
        self, destination: Destination, session: aiohttp.ClientSession, *, clock: Callable[[], float]
    ) -> None:
        self._destination = destination
        self._clock = clock
        self._client = open_client(destination, session, clock=clock)

    async def attempt(self, event: Event, number: int) -> Outcome:
        """POST an event. `number` counts its attempts. Every error becomes an outcome."""
        started = time.perf_counter()
        try:
            headers, body = self._encode(event, number)
            status, retry_after, *_ = reply = await self._client.post(headers, body)
        except Exception as error:  # noqa: BLE001 - one event that can't be sent must not stop the others
            return self._failure(error, event.id, started)
        took, reason = time.perf_counter() - started, reason_for(status)
        if number == 1 and reason == "ok":
            return Outcome(reason, status, took, retry_after)
        return Outcome(
            reason, status, took, retry_after, reply=start_of(reply, self._destination.keep_replies)
        )

    async def attempt_with_reply(
        self, event: Event, number: int, *, within: float
    ) -> tuple[Outcome, Reply | None]:
        """POST an event and also return the reply, if it is complete `within` seconds."""
        started = time.perf_counter()
        try:
            headers, body = self._encode(event, number)
            reply = await self._client.post(headers, body, within=within)
        except Exception as error:  # noqa: BLE001 - every error becomes an outcome
            return self._failure(error, event.id, started), None
        took = time.perf_counter() - started
        return Outcome(reason_for(reply.status), reply.status, took, reply.retry_after), reply

    async def attempt_test(self, event: Event) -> Outcome:
        """POST an event that is not stored, as a delivery would be. The start of the reply is always kept."""
        started, key = time.perf_counter(), event.id
        try:
            destination = self._destination
            headers, body = encode(
                event, destination.format, allowed=destination.allowed, replaced=destination.replaced
            )
            if self._destination.batch is not None:
                key = batch_id([key])
            reply = await self._client.post(self._sign(headers, key, 1, body), body)
        except Exception as error:  # noqa: BLE001 - every error becomes an outcome
            return self._failure(error, key, started)
        took, code = time.perf_counter() - started, reply.status
        if self._destination.batch is not None and reason_for(code) == "ok" and reply.body:
            (code,) = item_statuses(reply.body, [event]) or (code,)
        return Outcome(reason_for(code), code, took, reply.retry_after, reply=start_of(reply, TEST_REPLY))

    def encode_item(self, delivery: Delivery) -> BatchItem | Outcome:
        """Encode an event as an element of a batch, or return the outcome if that fails."""
        try:
            return BatchItem(delivery, batch_element(delivery.event))
        except Exception as error:  # noqa: BLE001 - every error becomes an outcome
            return self._failure(error, delivery.event.id, time.perf_counter())

    async def attempt_batch(self, items: Sequence[BatchItem]) -> BatchOutcome:
        """POST several events at once. Every error becomes an outcome."""
        started = time.perf_counter()
        key = batch_id([item.delivery.event.id for item in items])
        try:
            number = max([item.delivery.attempts for item in items]) + 1
            body = batch([item.element for item in items])
            headers = self._sign({"Content-Type": BATCH_TYPE}, key, number, body)
            reply = await self._client.post(headers, body)
        except Exception as error:  # noqa: BLE001 - every error becomes an outcome
            return BatchOutcome(self._failure(error, key, started), None)
        took = time.perf_counter() - started
        reason = reason_for(reply.status)
        if reason != "ok":
            kept = start_of(reply, self._destination.keep_replies)
            return BatchOutcome(Outcome(reason, reply.status, took, reply.retry_after, reply=kept), None)
        whole = Outcome(reason, reply.status, took, reply.retry_after)
        statuses = None
        if reply.body:
            statuses = item_statuses(reply.body, [item.delivery.event for item in items])
        if statuses is None:
            return BatchOutcome(whole, None)
        return BatchOutcome(whole, self._item_outcomes(statuses, reply, took))

    def _item_outcomes(self, statuses: Sequence[int], reply: Reply, took: float) -> tuple[Outcome, ...]:
        """Return the outcomes of the events of a batch. A failed one keeps the reply, which may say why."""
        kept: bytes | None = None
        if any(reason_for(one) != "ok" for one in statuses):
            kept = start_of(reply, self._destination.keep_replies)
        outcomes = []
        for one in statuses:
            reason = reason_for(one)
            of_event = None if reason == "ok" else kept
            outcomes.append(Outcome(reason, one, took, reply.retry_after, reply=of_event))
        return tuple(outcomes)

    def _encode(self, event: Event, number: int) -> tuple[dict[str, str], bytes]:
        destination = self._destination
        headers, body = encode(
            event, destination.format, allowed=destination.allowed, replaced=destination.replaced
        )
        self._sign(headers, event.id, number, body)
        if trace := traceparent(event):
            headers["traceparent"] = trace
        return headers, body

    def _sign(self, headers: dict[str, str], key: str, number: int, body: bytes) -> dict[str, str]:
        """Add the gateway's own headers. They replace headers of the provider with the same names."""
        headers["user-agent"] = _USER_AGENT
        headers["gatehouse-attempt"] = str(number)
        headers["webhook-id"] = key
        if self._destination.keys:
            timestamp = int(self._clock())
            headers["webhook-timestamp"] = str(timestamp)
            headers["webhook-signature"] = signature(self._destination.keys, key, timestamp, body)
        return headers

    def _failure(self, error: Exception, key: str, started: float) -> Outcome:
        reason = reason_for_error(error)
        if reason == "unsendable":
            # The text of the error is not logged: it may quote the event.
            fault = type(error).__name__
            name = self._destination.name
            get_logger().error("delivery.failed", event_id=key, destination=name, error=fault)
        description = describe_error(error) if reason != "unsendable" else None
        return Outcome(reason, None, time.perf_counter() - started, error=description)


_FIRST_STATUS, _LAST_STATUS = 200, 599


def item_statuses(reply: bytes, events: Sequence[Event]) -> list[int] | None:
    """Return a status per event, in the order of the batch; None if the reply does not tell them apart.

    Three forms are read:

        [200, 422, 503]
        [{"status": 200}, {"status": 422, "error": "no such customer"}, {"status": 503}]
        [{"id": "01JD…", "status": 503}, {"id": "01JC…", "status": 200}, …]

    Any other reply counts for the whole batch.
    """
    try:
        items = msgspec.json.decode(reply)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(items, list) or len(items) != len(events):
        return None
    statuses = [status for item in items if (status := _status(item)) is not None]
    if len(statuses) != len(items):
        return None
    ids = [item.get("id") if isinstance(item, dict) else None for item in items]
    if all(isinstance(one, str) for one in ids):
        by_id = dict(zip(ids, statuses, strict=True))
        for own in ([event.id for event in events], [event.external_id for event in events]):
            # An id that two entries share identifies neither.
            if len(by_id) == len(items) and by_id.keys() == set(own):
                return [by_id[one] for one in own]
    return statuses


def _status(item: object) -> int | None:
    """Return the status of one entry; None if it is not a final HTTP status."""
    status = item.get("status") if isinstance(item, dict) else item
    if isinstance(status, int) and not isinstance(status, bool) and _FIRST_STATUS <= status <= _LAST_STATUS:
        return status
    return None

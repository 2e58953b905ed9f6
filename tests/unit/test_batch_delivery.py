"""Several events in one POST, with a real store and real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from doubles.delivery import IMPATIENT, RunningDispatcher, make_destination, make_event
from doubles.destination import Answer, ReceivedRequest, ScriptedDestination, hang, once, status
from gatehouse.config.model import BatchConfig
from gatehouse.config.quantities import parse_status_range
from gatehouse.delivery.breaker import BreakerSettings
from gatehouse.delivery.destination import Destination
from gatehouse.delivery.signing import signing_key
from gatehouse.events.event import Event
from gatehouse.store.base import LEASE, Delivery
from gatehouse.store.records import Attempt

BILLING = {"destination": "billing"}
DELIVERED = {"destination": "billing", "result": "delivered"}
DEAD = {"destination": "billing", "result": "dead"}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EXACT = b'{"big":12345678901234567890123,"price":45.50}'
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gatehouse.db"


def batching(
    url: str, *, events: int = 100, size: int = 2**20, linger: float = 0.05, **fields: Any
) -> Destination:
    batch = BatchConfig.model_construct(events=events, bytes=size, linger=linger)
    given = {"format": "cloudevents-batch", "batch": batch, "concurrency": 1} | fields
    return make_destination(url, **given)


def ids(request: ReceivedRequest) -> list[str]:
    return [item["gatehouseid"] for item in json.loads(request.body)]


def refusing(server: ScriptedDestination, *bad: Event, code: int = 422) -> Answer:
    """Refuse every POST that contains one of these events. Works for one POST at a time."""
    names = {event.id for event in bad}

    async def answer(_: web.Request) -> web.StreamResponse:
        if names.isdisjoint(ids(server.requests[-1])):
            return web.Response(status=204)
        return web.Response(status=code, text=f"{code}: {HTTPStatus(code).phrase}")

    return answer


def by_item(server: ScriptedDestination, statuses: Callable[[list[str]], Any], code: int = 200) -> Answer:
    """Reply with what a function returns for the events' ids."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(statuses(ids(server.requests[-1])), status=code)

    return answer


async def test_waiting_events_are_sent_in_one_post_with_a_key_per_event(file: Path) -> None:
    events = [make_event(EXACT, headers=(("traceparent", TRACE),)), *(make_event() for _ in range(9))]
    async with ScriptedDestination() as server:
        destination = batching(server.url, keys=(signing_key(SECRET),))
        async with RunningDispatcher(file, destination) as gateway:
            await gateway.accept(*events)
            await gateway.until(10, "deliveries_total", **DELIVERED)
            assert gateway.value("attempts_total", destination="billing", reason="ok") == 10
    (request,) = server.requests
    assert request.headers["Content-Type"] == "application/cloudevents-batch+json; charset=utf-8"
    assert request.headers["webhook-id"].startswith("batch_")
    assert "traceparent" not in request.headers
    assert request.attempt == 1
    Webhook(SECRET).verify(request.body, dict(request.headers))
    items = json.loads(request.body)
    assert ids(request) == [event.id for event in events]
    assert all(item["specversion"] == "1.0" and item["id"] == "evt_1" for item in items)
    assert items[0]["traceparent"] == TRACE
    assert EXACT in request.body


async def test_a_post_contains_no_more_events_than_configured(file: Path) -> None:
    async with ScriptedDestination() as server:
        async with RunningDispatcher(file, batching(server.url, events=7)) as gateway:
            await gateway.accept(*(make_event() for _ in range(30)))
            await gateway.until(30, "deliveries_total", **DELIVERED)
        assert [len(ids(request)) for request in server.requests] == [7, 7, 7, 7, 2]


async def test_a_post_has_at_most_the_configured_bytes_unless_one_event_is_larger(file: Path) -> None:
    sizes = [10, 3000, 20, 20, 9000, 10, *[700] * 20]
    async with ScriptedDestination() as server:
        async with RunningDispatcher(file, batching(server.url, size=4096)) as gateway:
            await gateway.accept(*(make_event(json.dumps("é" * (size // 6)).encode()) for size in sizes))
            await gateway.until(len(sizes), "deliveries_total", **DELIVERED)
        assert all(len(request.body) <= 4096 or len(ids(request)) == 1 for request in server.requests)
        assert max(len(ids(request)) for request in server.requests) > 1


async def test_a_batch_that_encodes_longer_than_estimated_is_divided(file: Path) -> None:
    """Data that is not JSON is sent as base64, which is a third longer than the counted bytes."""
    binary = [make_event(b"\xff" * 900, data_is_json=False) for _ in range(12)]
    async with ScriptedDestination() as server:
        async with RunningDispatcher(file, batching(server.url, size=4096)) as gateway:
            await gateway.accept(*binary)
            await gateway.until(12, "deliveries_total", **DELIVERED)
        assert all(len(request.body) <= 4096 for request in server.requests)
        assert sorted(one for request in server.requests for one in ids(request)) == sorted(
            e.id for e in binary
        )


@pytest.mark.alone
async def test_a_single_event_is_sent_at_once(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, batching(server.url, linger=1.0)) as gateway,
    ):
        started = time.monotonic()
        await gateway.accept(make_event())
        await server.wait_for(1)
        assert time.monotonic() - started < 0.9


async def test_concurrent_posts_are_limited_to_the_configured_number(file: Path) -> None:
    gate = asyncio.Event()
    async with ScriptedDestination() as server:
        server.always(once(gate, status(200)))
        async with RunningDispatcher(file, batching(server.url, events=5, concurrency=3)) as gateway:
            await gateway.accept(*(make_event() for _ in range(40)))
            await server.wait_for(3)
            gate.set()
            await gateway.until(40, "deliveries_total", **DELIVERED)
        assert server.most_open == 3


async def test_a_failed_batch_is_tried_again_with_the_same_key_and_a_growing_number(file: Path) -> None:
    policy = IMPATIENT.model_copy(update={"first": 0.001, "max": 0.001})
    async with ScriptedDestination() as server:
        server.script(status(503), status(429))
        # Only one POST runs at a time, and all of its events are due again when it has been recorded.
        async with RunningDispatcher(file, batching(server.url, events=3, retry=policy)) as gateway:
            await gateway.accept(*(make_event() for _ in range(3)))
            await gateway.until(3, "deliveries_total", **DELIVERED)
        attempts = gateway.value("attempts_total", destination="billing", reason="server_error")
        assert attempts == 3
    by_events: dict[tuple[str, ...], set[str]] = {}
    for request in server.requests:
        by_events.setdefault(tuple(sorted(ids(request))), set()).add(request.event_id)
    assert all(len(keys) == 1 for keys in by_events.values())
    assert len(set.union(*by_events.values())) == len(by_events)
    assert max(request.attempt for request in server.requests) == 3


async def test_one_refused_event_does_not_delay_the_others(file: Path) -> None:
    events = [make_event() for _ in range(100)]
    bad = events[42]
    async with ScriptedDestination() as server:
        server.always(refusing(server, bad))
        async with RunningDispatcher(file, batching(server.url)) as gateway:
            await gateway.accept(*events)
            await gateway.until(99, "deliveries_total", **DELIVERED)
            await gateway.until(8, "attempts_total", destination="billing", reason="rejected")
            (left,) = await gateway.store.lease(
                "billing", now=time.time() + 60, until=time.time() + 90, limit=9
            )
            assert left.event.id == bad.id
            # Each POST that contained it was an attempt, but only its own refusal counts against it.
            assert left.attempts == 8
            assert gateway.value("deliveries_total", **DEAD) == 0
    alone = [request for request in server.requests if ids(request) == [bad.id]]
    assert len(alone) == 1
    assert alone[0].attempt == 8
    assert len(server.requests) <= 15


async def test_each_post_that_contained_an_event_is_one_of_its_attempts(file: Path) -> None:
    events = [make_event() for _ in range(8)]
    bad = events[5]
    async with ScriptedDestination() as server:
        server.always(refusing(server, bad, code=410))
        async with RunningDispatcher(file, batching(server.url)) as gateway:
            await gateway.accept(*events)
            await gateway.until(7, "deliveries_total", **DELIVERED)
            await gateway.until(1, "deliveries_total", **DEAD)
            refused = await attempts(gateway, bad)
            beside = await attempts(gateway, events[4])
            apart = await attempts(gateway, events[0])
    assert [(each.number, each.reason) for each in refused] == [(n, "gone") for n in (1, 2, 3, 4)]
    assert all(each.reply == b"410: Gone" and each.http_status == 410 for each in refused)
    assert [each.reason for each in beside] == ["gone", "gone", "gone", "ok"]
    assert [each.reason for each in apart] == ["gone", "ok"]


async def test_a_postponed_half_lists_the_attempts_of_the_whole_batch(file: Path) -> None:
    events = [make_event() for _ in range(4)]
    breaker = BreakerSettings(2, 3600.0, 3600.0)
    async with ScriptedDestination() as server:
        server.always(status(500, body=b"down"))
        async with RunningDispatcher(file, batching(server.url, breaker=breaker)) as gateway:
            await gateway.accept(*events)
            await gateway.until(8, "attempts_total", destination="billing", reason="server_error")
            async with asyncio.timeout(10):
                while not all([await attempts(gateway, each) for each in events]):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            (only,) = await attempts(gateway, events[3])
    assert (only.number, only.http_status, only.reply) == (1, 500, b"down")


async def attempts(gateway: RunningDispatcher, event: Event) -> tuple[Attempt, ...]:
    stored = await gateway.store.event(event.id)
    assert stored is not None
    return stored.attempts["billing"]


async def test_a_batch_refused_with_413_is_halved_until_it_fits(file: Path) -> None:
    def too_many(names: list[str]) -> None:
        if len(names) > 10:
            raise web.HTTPRequestEntityTooLarge(10, len(names))

    async with ScriptedDestination() as server:
        server.always(by_item(server, too_many))
        async with RunningDispatcher(file, batching(server.url)) as gateway:
            await gateway.accept(*(make_event() for _ in range(60)))
            await gateway.until(60, "deliveries_total", **DELIVERED)


async def test_410_for_a_single_event_makes_only_that_event_dead(file: Path) -> None:
    events = [make_event() for _ in range(20)]
    async with ScriptedDestination() as server:
        server.always(refusing(server, events[3], code=410))
        async with RunningDispatcher(file, batching(server.url)) as gateway:
            await gateway.accept(*events)
            await gateway.until(19, "deliveries_total", **DELIVERED)
            await gateway.until(1, "deliveries_total", **DEAD)


async def test_when_everything_is_refused_the_halving_is_bounded_and_nothing_is_dead(file: Path) -> None:
    policy = IMPATIENT.model_copy(update={"first": 3600.0, "max": 3600.0, "give_up_after": 1e6})
    async with ScriptedDestination() as server:
        server.always(status(404))
        async with RunningDispatcher(file, batching(server.url, retry=policy)) as gateway:
            await gateway.accept(*(make_event() for _ in range(100)))
            # Every event is due later, and none is attempted meanwhile.
            async with asyncio.timeout(10):
                while (await gateway.store.next_due("billing") or 0) <= time.time() + 5:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert gateway.value("deliveries_pending", **BILLING) == 100
            assert gateway.value("deliveries_total", **DEAD) == 0
        assert len(server.requests) <= 29


async def test_items_have_their_own_outcomes(file: Path) -> None:
    events = [make_event() for _ in range(6)]
    seen: dict[str, int] = {}

    def statuses(names: list[str]) -> list[dict[str, Any]]:
        for name in names:
            seen[name] = seen.get(name, 0) + 1
        codes = {events[1].id: 410, events[2].id: 503 if seen.get(events[2].id, 0) < 3 else 200}
        return [{"id": name, "status": codes.get(name, 200)} for name in reversed(names)]

    async with ScriptedDestination() as server:
        server.always(by_item(server, statuses, code=207))
        async with RunningDispatcher(file, batching(server.url)) as gateway:
            await gateway.accept(*events)
            await gateway.until(5, "deliveries_total", **DELIVERED)
            await gateway.until(1, "deliveries_total", **DEAD)
            assert gateway.value("attempts_total", destination="billing", reason="server_error") == 2
            failed, gone = await attempts(gateway, events[2]), await attempts(gateway, events[1])
    assert [len(ids(request)) for request in server.requests] == [6, 1, 1]
    assert seen == {event.id: 3 if event is events[2] else 1 for event in events}
    assert [each.http_status for each in failed] == [503, 503, 200]
    assert [each.http_status for each in gone] == [410]
    # A failed event keeps the reply to its POST, which may say why.
    assert all(events[2].id in (each.reply or b"").decode() for each in failed[:2])
    assert failed[2].reply is None


async def test_a_reply_without_a_list_of_statuses_counts_for_the_whole_batch(file: Path) -> None:
    async with ScriptedDestination() as server:
        server.script(status(200, body=b"[503]"))
        async with RunningDispatcher(file, batching(server.url)) as gateway:
            await gateway.accept(*(make_event() for _ in range(5)))
            await gateway.until(5, "deliveries_total", **DELIVERED)
        assert len(server.requests) == 1


async def test_a_poison_event_does_not_fail_the_rest_of_its_batch(file: Path) -> None:
    async with ScriptedDestination() as server, RunningDispatcher(file, batching(server.url)) as gateway:
        poison = make_event(subject="\ud800")
        with capture_logs() as logs:
            gateway.dispatcher.hand_over(Delivery(poison, "billing", 0, time.time() + LEASE))
            await gateway.accept(*(make_event() for _ in range(20)))
            await gateway.until(20, "deliveries_total", **DELIVERED)
        assert gateway.value("attempts_total", destination="billing", reason="unsendable") == 1
        assert [line["error"] for line in logs if line["event"] == "delivery.failed"] == [
            "UnicodeEncodeError"
        ]


async def test_the_rate_counts_events(file: Path) -> None:
    async with ScriptedDestination() as server:
        async with RunningDispatcher(file, batching(server.url, rate=50.0)) as gateway:
            await gateway.accept(*(make_event() for _ in range(120)))
            await gateway.until(120, "deliveries_total", **DELIVERED)
        counts = [len(ids(request)) for request in server.requests]
        assert max(counts) <= 50
        # Each POST waits for the tokens that the previous one took.
        took = server.requests[-1].at - server.requests[0].at
        assert took >= 0.8 * sum(counts[:-1]) / 50


async def test_a_probe_is_one_event(file: Path) -> None:
    breaker = BreakerSettings(failures=1, first=0.1, longest=0.1)
    async with ScriptedDestination() as server:
        server.script(status(503), status(503))
        async with RunningDispatcher(file, batching(server.url, breaker=breaker)) as gateway:
            await gateway.accept(*(make_event() for _ in range(50)))
            await gateway.until(50, "deliveries_total", **DELIVERED)
        assert [len(ids(request)) for request in server.requests[:3]] == [50, 1, 1]


async def test_a_final_status_concerns_one_event_and_a_retried_status_the_whole_batch(file: Path) -> None:
    retry_on = tuple(map(parse_status_range, ("!501", "404")))
    events = [make_event() for _ in range(10)]
    async with ScriptedDestination() as server:
        server.script(status(404))
        server.always(refusing(server, events[0], code=501))
        async with RunningDispatcher(file, batching(server.url, retry_on=retry_on)) as gateway:
            await gateway.accept(*events)
            await gateway.until(9, "deliveries_total", **DELIVERED)
            await gateway.until(1, "deliveries_total", **DEAD)
            assert gateway.value("attempts_total", destination="billing", reason="rejected") == 10


async def test_a_stop_lets_a_batch_finish_or_counts_the_attempt(file: Path) -> None:
    async with ScriptedDestination() as server:
        server.script(hang())
        async with RunningDispatcher(file, batching(server.url, events=3)) as gateway:
            await gateway.accept(*(make_event() for _ in range(5)))
            await server.wait_for(1)
            await gateway.dispatcher.stop(grace=0.1)
            left = await gateway.store.lease("billing", now=time.time(), until=time.time() + 1, limit=9)
            assert sorted(delivery.attempts for delivery in left) == [0, 0, 1, 1, 1]


async def test_a_batch_whose_lease_is_too_short_for_its_halves_is_returned(file: Path) -> None:
    skew = [0.0]

    async def late(request: web.Request) -> web.StreamResponse:
        skew[0] += 20.0
        return web.Response(status=422)

    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = late
    async with ScriptedDestination() as server:
        server.script(answer)
        destination = batching(server.url, timeout=10.0)
        async with RunningDispatcher(file, destination, clock=lambda: time.time() + skew[0]) as gateway:
            await gateway.accept(*(make_event() for _ in range(4)))
            await gateway.until(4, "deliveries_total", **DELIVERED)
        assert [len(ids(request)) for request in server.requests] == [4, 4]

"""From the commit to the destination, with a real store and real sockets."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from doubles.delivery import IMPATIENT, RunningDispatcher, make_destination, make_event, named
from doubles.destination import ScriptedDestination, hang, once, reset, status
from gatehouse.config.model import DestinationConfig
from gatehouse.config.secrets import Secrets
from gatehouse.delivery.destination import compile_destination
from gatehouse.language.times import rfc3339
from gatehouse.store.base import LEASE, Arrival, Assignment, Delivery
from gatehouse.store.sqlite import SqliteStore

BILLING = {"destination": "billing"}
DELIVERED = {"destination": "billing", "result": "delivered"}
DEAD = {"destination": "billing", "result": "dead"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gatehouse.db"


async def test_an_event_arrives_and_is_counted(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url)) as gateway,
    ):
        event = make_event()
        assert await gateway.accept(event) == [True]
        (request,) = await server.wait_for(1)
        assert (request.event_id, request.attempt) == (event.id, 1)
        await gateway.until(1, "deliveries_total", **DELIVERED)
        assert gateway.value("deliveries_pending", **BILLING) == 0
        assert gateway.value("attempts_total", destination="billing", reason="ok") == 1
        assert gateway.value("attempt_duration_seconds_count", **BILLING) == 1
        assert gateway.value("delivery_lag_seconds_count", **BILLING) == 1
        assert (await gateway.store.counts()).get("billing") is None


async def test_a_failed_delivery_is_tried_again_with_the_same_key_and_a_growing_number(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url)) as gateway,
    ):
        server.script(reset(), status(500), status(429), status(302, location="/"))
        await gateway.accept(make_event())
        requests = await server.wait_for(5)
        await gateway.until(1, "deliveries_total", **DELIVERED)
        assert [request.attempt for request in requests] == [1, 2, 3, 4, 5]
        assert len({request.event_id for request in requests}) == 1
        for reason in ("server_error", "disconnected", "throttled", "redirect", "ok"):
            assert gateway.value("attempts_total", destination="billing", reason=reason) == 1


async def test_410_is_dead_at_once(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url)) as gateway,
    ):
        server.script(status(410))
        with capture_logs() as logs:
            await gateway.accept(make_event())
            await gateway.until(1, "deliveries_total", **DEAD)
        assert gateway.value("deliveries_dead", **BILLING) == 1
        assert gateway.value("deliveries_pending", **BILLING) == 0
        assert (await gateway.store.counts())["billing"].dead == 1
        assert [line["event"] for line in logs] == ["delivery.attempted", "delivery.dead"]
        assert logs[1]["attempts"] == 1
        assert logs[1]["reason"] == "gone"


async def test_a_delivery_is_dead_after_give_up_after(file: Path) -> None:
    policy = IMPATIENT.model_copy(update={"give_up_after": 0.2})
    async with ScriptedDestination() as server:
        server.always(status(500))
        async with RunningDispatcher(file, make_destination(server.url, retry=policy)) as gateway:
            await gateway.accept(make_event())
            await gateway.until(1, "deliveries_dead", **BILLING)
        assert len(server.requests) > 2


async def test_an_attempt_is_one_log_line_without_the_body(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url)) as gateway,
    ):
        server.script(status(503))
        event = make_event(b'"canary"')
        with capture_logs() as logs:
            await gateway.accept(event)
            await gateway.until(1, "deliveries_total", **DELIVERED)
        first, second = logs
        duration = first.pop("duration_ms")
        next_try = first.pop("next_try")
        assert 0 < duration < 5000
        assert next_try.endswith("Z")
        assert first == {
            "event": "delivery.attempted",
            "event_id": event.id,
            "type": "invoice.accepted",
            "source": "mandato",
            "destination": "billing",
            "attempt": 1,
            "reason": "server_error",
            "status": 503,
            "log_level": "warning",
        }
        assert (second["attempt"], second["reason"]) == (2, "ok")
        assert "next_try" not in second
        assert "canary" not in repr(logs)


async def test_fan_out_reaches_every_destination_once(file: Path) -> None:
    async with ScriptedDestination() as one, ScriptedDestination() as two:
        destinations = make_destination(one.url), named(make_destination(two.url), "ledger")
        async with RunningDispatcher(file, *destinations) as gateway:
            await gateway.accept(make_event(), to=("billing", "ledger"))
            await gateway.until(1, "deliveries_total", **DELIVERED)
            await gateway.until(1, "deliveries_total", destination="ledger", result="delivered")
        assert len(one.requests) == len(two.requests) == 1
        assert one.requests[0].event_id == two.requests[0].event_id


async def test_a_destination_that_hangs_delays_no_other(file: Path) -> None:
    async with ScriptedDestination() as black_hole, ScriptedDestination() as healthy:
        black_hole.always(hang())
        destinations = make_destination(black_hole.url), named(make_destination(healthy.url), "ledger")
        async with RunningDispatcher(file, *destinations) as gateway:
            await gateway.accept(*(make_event() for _ in range(2000)))
            started = time.monotonic()
            await gateway.accept(*(make_event() for _ in range(100)), to=("ledger",))
            await healthy.wait_for(100)
            assert time.monotonic() - started < 2


async def test_deliveries_of_an_earlier_process_are_delivered(file: Path) -> None:
    events = [make_event() for _ in range(250)]
    store = await SqliteStore.open(file)
    arrivals = [Arrival(e, (), (Assignment("billing", leased=n % 2 == 0),)) for n, e in enumerate(events)]
    await store.accept(arrivals, deadline=time.monotonic() + 5)
    await store.close()
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url)) as gateway,
    ):
        assert gateway.value("deliveries_pending", **BILLING) == 250
        requests = await server.wait_for(250)
        await gateway.until(250, "deliveries_total", **DELIVERED)
        assert gateway.value("deliveries_pending", **BILLING) == 0
    assert {request.event_id for request in requests} == {event.id for event in events}
    # Half of them were leased, so they may have been attempted before: their number says so.
    assert sorted(request.attempt for request in requests) == [1] * 125 + [2] * 125


async def test_deliveries_beyond_the_backlog_are_delivered_from_the_store(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url)) as gateway,
    ):
        gate = asyncio.Event()
        server.always(once(gate, status(200)))
        assert await gateway.accept(*(make_event() for _ in range(1100))) == [True]
        assert await gateway.accept(*(make_event() for _ in range(500))) == [False]
        assert gateway.value("deliveries_pending", **BILLING) == 1600
        gate.set()
        requests = await server.wait_for(1600, within=30)
        await gateway.until(1600, "deliveries_total", **DELIVERED)
        assert len({request.event_id for request in requests}) == len(requests) == 1600
        assert server.most_open == 4
        assert gateway.value("deliveries_pending", **BILLING) == 0


async def test_a_stop_finishes_attempts_in_progress_and_releases_the_rest(file: Path) -> None:
    gate = asyncio.Event()
    async with ScriptedDestination() as server:
        server.always(once(gate, status(200)))
        async with RunningDispatcher(file, make_destination(server.url, concurrency=2)) as gateway:
            await gateway.accept(*(make_event() for _ in range(10)))
            await server.wait_for(2)
            stopping = asyncio.create_task(gateway.dispatcher.stop(grace=5))
            await asyncio.sleep(0)
            assert not gateway.dispatcher.has_room("billing")
            gate.set()
            await stopping
            assert gateway.value("deliveries_total", **DELIVERED) == 2
            # They were released; their leases did not expire.
            left = await gateway.store.lease("billing", now=time.time(), until=time.time() + 1, limit=100)
            assert [delivery.attempts for delivery in left] == [0] * 8
        assert len(server.requests) == 2


async def test_an_attempt_that_outlasts_the_grace_counts_and_is_due_at_once(file: Path) -> None:
    async with ScriptedDestination() as server:
        server.script(hang())
        started = time.monotonic()
        async with RunningDispatcher(file, make_destination(server.url)) as gateway:
            await gateway.accept(make_event())
            await server.wait_for(1)
            await gateway.dispatcher.stop(grace=0.1)
            assert (await gateway.store.next_due("billing") or 0) <= time.time()
        assert time.monotonic() - started < 5
        async with RunningDispatcher(file, make_destination(server.url)):
            requests = await server.wait_for(2)
        assert [request.attempt for request in requests] == [1, 2]


@pytest.mark.case("O-12")
async def test_a_poison_event_stops_no_lane(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url, concurrency=1)) as gateway,
    ):
        # Data that can't be encoded as JSON can't come out of the store either, so it is handed over here.
        poison = make_event(subject="\ud800")
        await gateway.accept(make_event())
        lease = time.time() + LEASE
        gateway.dispatcher.hand_over(Delivery(poison, "billing", 0, lease))
        await gateway.accept(*(make_event() for _ in range(20)))
        await server.wait_for(21)
        await gateway.until(21, "deliveries_total", **DELIVERED)
        assert gateway.value("attempts_total", destination="billing", reason="unsendable") == 1


@pytest.mark.case("O-12")
async def test_a_damaged_event_and_one_without_destination_delay_none_of_a_thousand(
    file: Path,
) -> None:
    store = await SqliteStore.open(file)
    events = [make_event(subject=f"no {number}") for number in range(1000)]
    to = ["nobody" if number == 700 else "billing" for number in range(1000)]
    arrivals = [
        Arrival(event, (), (Assignment(name, leased=False),)) for event, name in zip(events, to, strict=True)
    ]
    await store.accept(arrivals, deadline=time.monotonic() + 10)
    await store.close()
    with closing(sqlite3.connect(file)) as connection:
        # Not UTF-8: a strict driver refuses this row, and every row of the same query with it.
        damage = "UPDATE events SET subject = CAST(x'ff' AS TEXT) WHERE id = ?"
        assert connection.execute(damage, (events[300].id,)).rowcount == 1
        connection.commit()

    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url, concurrency=16)) as gateway,
    ):
        await gateway.until(998, "deliveries_total", **DELIVERED)
        counts = await gateway.store.counts()
        received = {request.event_id for request in server.requests}

    assert received == {event.id for event in events} - {events[300].id, events[700].id}
    assert (counts["billing"].dead, counts["billing"].pending) == (1, 0)
    assert (counts["nobody"].dead, counts["nobody"].pending) == (0, 1)


async def test_a_destination_without_its_secret_keeps_its_deliveries(file: Path, tmp_path: Path) -> None:
    async with ScriptedDestination() as server:
        config = DestinationConfig.model_validate({"url": server.url, "secret": "env:BILLING_SECRET"})
        unready = compile_destination("billing", config, Secrets(tmp_path, {}))
        with capture_logs() as logs:
            async with RunningDispatcher(file, unready) as gateway:
                assert await gateway.accept(make_event()) == [False]
                assert gateway.value("deliveries_pending", **BILLING) == 1
        assert logs == [
            {
                "event": "destination.not_ready",
                "destination": "billing",
                "reason": "env:BILLING_SECRET is not set",
                "log_level": "error",
            }
        ]
        assert server.requests == []
        secret = {"BILLING_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"}
        async with RunningDispatcher(file, compile_destination("billing", config, Secrets(tmp_path, secret))):
            (request,) = await server.wait_for(1)
        assert request.headers["webhook-signature"].startswith("v1,")


def test_a_malformed_secret_makes_a_destination_not_ready(tmp_path: Path) -> None:
    config = DestinationConfig.model_validate({"url": "http://127.0.0.1/", "secret": "env:S"})
    destination = compile_destination("billing", config, Secrets(tmp_path, {"S": "whsec_c2hvcnQ="}))
    assert destination.not_ready == "env:S: a signing secret has 24 to 64 bytes, this one has 5"
    assert destination.keys == ()


def test_keys_are_not_in_the_repr() -> None:
    assert "kkkk" not in repr(make_destination("http://127.0.0.1/", keys=(b"k" * 32,)))


@pytest.mark.case("O-13")
async def test_deliveries_of_removed_destinations_stay(file: Path) -> None:
    async with ScriptedDestination() as server:
        async with RunningDispatcher(file, make_destination(server.url)) as gateway:
            assert await gateway.accept(make_event(), to=("removed",)) == [False]
            await gateway.accept(make_event())
            await gateway.until(1, "deliveries_total", **DELIVERED)
            assert (await gateway.store.counts())["removed"].pending == 1
        assert len(server.requests) == 1


async def test_gauges_start_at_the_numbers_of_the_store_or_at_zero(file: Path) -> None:
    async with ScriptedDestination() as server:
        server.always(hang())
        destinations = make_destination(server.url), named(make_destination(server.url), "idle")
        async with RunningDispatcher(file, *destinations) as gateway:
            await gateway.accept(make_event(received=time.time() - 100))
        async with RunningDispatcher(file, *destinations) as gateway:
            assert gateway.value("deliveries_pending", **BILLING) == 1
            assert gateway.value("oldest_pending_age_seconds", **BILLING) == pytest.approx(100, abs=30)
            assert gateway.value("deliveries_pending", destination="idle") == 0
            assert gateway.value("breaker_open", destination="idle") == 0


async def test_the_oldest_pending_delivery_is_true_between_two_counts(file: Path) -> None:
    """It is known from the first event on, while an attempt runs, after a failure and after the end."""

    def oldest() -> str | None:
        return gateway.dispatcher.describe()[0]["oldest_pending"]

    patient = IMPATIENT.model_copy(update={"first": 0.5, "max": 0.5})
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url, retry=patient)) as gateway,
    ):
        failed = asyncio.Event()

        async def fail(_: web.Request) -> web.StreamResponse:
            await failed.wait()
            return web.Response(status=503)

        server.script(fail)
        received = time.time() - 100
        assert oldest() is None
        await gateway.accept(make_event(received=received))
        await server.wait_for(1)
        assert oldest() == rfc3339(received)
        assert gateway.value("oldest_pending_age_seconds", **BILLING) == pytest.approx(100, abs=30)
        failed.set()
        await gateway.until(1, "attempts_total", destination="billing", reason="server_error")
        assert oldest() == rfc3339(received)
        await gateway.until(1, "deliveries_total", **DELIVERED)
        assert oldest() is None
        assert gateway.value("oldest_pending_age_seconds", **BILLING) == 0


async def test_a_paused_destination_shows_its_oldest_pending_delivery_at_once(file: Path) -> None:
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url)) as gateway,
    ):
        await gateway.dispatcher.pause("billing")
        for age in (50, 100, 10):
            await gateway.accept(make_event(received=time.time() - age))
        assert gateway.value("oldest_pending_age_seconds", **BILLING) == pytest.approx(100, abs=30)


async def test_a_dispatcher_that_never_started_stops(file: Path) -> None:
    gateway = RunningDispatcher(file)
    async with gateway:
        assert not gateway.dispatcher.has_room("billing")

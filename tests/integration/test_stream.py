"""The stream of the operator API, over real sockets and with real requests."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from doubles import providers
from doubles.destination import ScriptedDestination, status
from doubles.stream import Entry, Stream, reading
from gatehouse.operator.stream import catching_up
from gatehouse.operator.stream.api import Feed, StreamApi
from gatehouse.operator.stream.catching_up import PastEvent
from gatehouse.operator.stream.wanted import Wanted
from gatehouse.telemetry.live import Hub, RequestSeen
from gatehouse.telemetry.metrics import Metrics
from gateways import CONFIG, RunGateway, Running


async def send(running: Running, name: str = "evt_1", type: str = "sale.created", **fields: Any) -> str:  # noqa: A002
    """Send an event, and return its id in the gateway."""
    body = providers.body(id=name, type=type, **fields)
    code, answer = await running.send("mando", body, providers.mando(body))
    assert code == 200
    return str(answer["id"])


def of(entries: list[Entry], name: str) -> list[Any]:
    return [entry.data[name] for entry in entries]


async def test_a_request_its_event_and_its_attempt_are_streamed_as_they_happen(running: Running) -> None:
    async with reading(running.client, running.operator_url) as stream:
        await stream.live()
        event_id = await send(running, "evt_1")
        found = {entry.kind: entry.data for entry in await stream.take(3)}

    assert stream.answer.content_type == "text/event-stream"
    assert stream.answer.headers["Cache-Control"] == "no-store"
    assert stream.answer.headers["X-Accel-Buffering"] == "no"
    event = found["event"]
    assert (event["id"], event["external_id"], event["type"]) == (event_id, "evt_1", "sale.created")
    assert event.keys() == {
        *("at", "id", "source", "type", "external_id", "subject", "account", "received", "destinations")
    }
    request = found["request"]
    assert (request["source"], request["outcome"], request["status"]) == ("mando", "accepted", 200)
    assert (request["event_ids"], request["reason"], request["client"]) == ([event_id], None, "127.0.0.1")
    attempt = found["attempt"]
    assert (attempt["event_id"], attempt["destination"], attempt["number"]) == (event_id, "app", 1)
    assert (attempt["reason"], attempt["http_status"], attempt["next"]) == ("ok", 200, None)
    assert (attempt["source"], attempt["type"], attempt["external_id"]) == ("mando", "sale.created", "evt_1")


async def test_a_refused_request_and_a_failed_attempt_are_shown_with_their_reasons(
    running: Running, destination: ScriptedDestination
) -> None:
    destination.script(status(503))
    async with reading(running.client, running.operator_url, "kinds=request,attempt") as stream:
        await stream.live()
        body = providers.body(id="evt_1", type="sale.created")
        await running.send("mando", body, providers.mando(body, secret="wrong-secret-of-some-length"))
        refused = await stream.next("request")
        await send(running)
        failed, passed = await stream.take(2, "attempt")

    assert (refused.data["status"], refused.data["reason"]) == (401, "wrong_signature")
    assert (failed.data["reason"], failed.data["http_status"]) == ("server_error", 503)
    assert failed.data["next"] is not None
    assert (passed.data["reason"], passed.data["number"]) == ("ok", 2)


async def test_an_attempt_says_what_becomes_of_its_delivery(
    running: Running, destination: ScriptedDestination
) -> None:
    paused = asyncio.Event()

    async def fail_after_the_pause(_: web.Request) -> web.StreamResponse:
        await paused.wait()
        return web.Response(status=503)

    async with reading(running.client, running.operator_url, "kinds=attempt") as stream:
        await stream.live()
        entries: list[Entry] = []
        for answer in (status(200), status(410)):
            destination.script(answer)
            await send(running, f"evt_{len(entries)}")
            entries.append(await stream.next())
        destination.script(fail_after_the_pause)
        await send(running, "evt_2")
        await destination.wait_for(3)
        async with running.client.post(f"{running.operator_url}/api/v1/destinations/app/pause") as answered:
            assert answered.status == 200
        paused.set()
        entries.append(await stream.next())

    assert of(entries, "reason") == ["ok", "gone", "server_error"]
    assert of(entries, "status") == ["delivered", "dead", "pending"]
    assert of(entries, "next") == [None, None, None]


async def test_bodies_and_envelopes_are_shown_only_on_request(
    running: Running, destination: ScriptedDestination
) -> None:
    async with (
        reading(running.client, running.operator_url, "kinds=event&bodies=1&envelope=1") as full,
        reading(running.client, running.operator_url, "kinds=event") as plain,
    ):
        await full.live()
        await plain.live()
        await send(running, "evt_1", amount=12.50)
        event, without = await full.next(), await plain.next()
    (delivered,) = await destination.wait_for(1)

    sent = base64.b64decode(event.data["body_base64"])
    assert json.loads(sent) == {"id": "evt_1", "type": "sale.created", "amount": 12.5}
    assert base64.b64decode(event.data["envelope_base64"]) == delivered.body
    assert without.data.keys().isdisjoint({"body_base64", "envelope_base64"})


async def test_an_event_with_a_header_that_is_not_utf8_is_answered_and_shown(running: Running) -> None:
    body = providers.body(id="evt_1", type="sale.created")
    signed = {name: value for name, value in providers.mando(body).items() if name != "Content-Type"}
    head = ["POST /webhooks/mando HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in signed.items()]
    async with reading(running.client, running.operator_url, "kinds=event&bodies=1") as stream:
        await stream.live()
        read, write = await asyncio.open_connection("127.0.0.1", running.gateway.ingest.port)
        write.write("\r\n".join(head).encode() + b"\r\nContent-Type: \xff\xfe\r\n\r\n" + body)
        answer = await read.readline()
        write.close()
        assert answer.startswith(b"HTTP/1.1 200")
        shown = await stream.next()

    assert base64.b64decode(shown.data["body_base64"]) == body


async def test_filters_select_entries(running: Running) -> None:
    async with (
        reading(running.client, running.operator_url, "type=sale.*&kinds=event") as by_type,
        reading(running.client, running.operator_url, "source=mandato") as by_source,
        reading(running.client, running.operator_url, "destination=app") as by_destination,
    ):
        for stream in (by_type, by_source, by_destination):
            await stream.live()
        await send(running, "evt_1", "saleitem.created")
        expected = await send(running, "evt_2")
        body = providers.body(id="evt_3", eventType="invoice.accepted")
        await running.send("mandato", body, providers.mandato(body))

        assert (await by_type.next()).data["id"] == expected
        assert {entry.data["source"] for entry in await by_source.take(3)} == {"mandato"}
        assert {entry.kind for entry in await by_destination.take(6)} == {"event", "attempt"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("kind=event", "unknown filter"),
        ("at_most=1", "at_most must be a number from 2 to 1000"),
        ("at_most=50&since=1h", "at_most is not possible with since"),
        ("kinds=events", "kinds must be"),
        ("bodies=yes", "bodies must be 1 or 0"),
        ("since=tomorrow", "since must be a time"),
        ("until=1h", "until needs since"),
        ("last_event_id=abc", "last_event_id is not the id of an entry"),
        ("source=a&source=b", "only once"),
    ],
)
async def test_an_invalid_query_is_refused(running: Running, query: str, message: str) -> None:
    async with running.client.get(f"{running.operator_url}/api/v1/stream?{query}") as answer:
        assert answer.status == 400
        assert message in (await answer.json())["error"]["message"]


async def test_head_gets_the_headers_and_no_stream(running: Running) -> None:
    async with running.client.head(f"{running.operator_url}/api/v1/stream") as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")


async def test_a_client_of_http_1_0_gets_the_stream_unframed(running: Running) -> None:
    read, write = await asyncio.open_connection("127.0.0.1", running.gateway.operator.port)
    write.write(b"GET /api/v1/stream?kinds=event HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    await read.readuntil(b"id: ")
    event_id = await send(running)

    block = await read.readuntil(b"}\n\n")
    write.close()
    assert json.loads(block.partition(b"data: ")[2])["id"] == event_id
    assert b"\r" not in block


async def test_a_reader_that_reconnects_continues_at_its_position(running: Running) -> None:
    async with reading(running.client, running.operator_url) as stream:
        await stream.live()
        await send(running, "evt_1")
        await stream.take(3)
    missed = await send(running, "evt_2")

    async with reading(running.client, running.operator_url, after=stream.last_id) as again:
        entries = await again.take(3)
    assert {entry.kind for entry in entries} == {"request", "event", "attempt"}
    assert [entry.data["id"] for entry in entries if entry.kind == "event"] == [missed]


async def test_a_reader_that_wants_bodies_later_gets_the_events_that_were_kept_without(
    running: Running,
) -> None:
    async with reading(running.client, running.operator_url, "kinds=event") as stream:
        await stream.live()
        await send(running, "evt_1")
        await stream.next()
    missed = await send(running, "evt_2")

    query = f"kinds=event&bodies=1&last_event_id={stream.last_id}"
    async with reading(running.client, running.operator_url, query) as again:
        shown = [await again.next()]
        while shown[-1].data["id"] != missed:
            shown.append(await again.next())
        new = await send(running, "evt_3")
        shown.append(await again.next())

    assert shown[-1].data["id"] == new
    assert all(b"evt_" in base64.b64decode(entry.data["body_base64"]) for entry in shown)


async def test_the_query_resumes_like_the_header(running: Running) -> None:
    async with reading(running.client, running.operator_url, "kinds=event") as stream:
        await stream.live()
        await send(running, "evt_1")
        await stream.next()
    missed = await send(running, "evt_2")

    query = f"kinds=event&last_event_id={stream.last_id}"
    async with reading(running.client, running.operator_url, query) as again:
        assert (await again.next()).data["id"] == missed


async def test_no_event_is_missing_after_a_restart(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIG.format(url=destination.url)
    async with run_gateway(config) as first:
        async with reading(first.client, first.operator_url) as stream:
            await stream.live()
            seen = [await send(first, "evt_1")]
            await stream.next("event")
        missed = await send(first, "evt_2")

    async with (
        run_gateway(config) as second,
        reading(second.client, second.operator_url, after=stream.last_id) as again,
    ):
        left_out = await again.next()
        missed_too = await send(second, "evt_3")
        events: list[str] = []
        while missed_too not in events:
            events.append((await again.next("event")).data["id"])

    assert (left_out.kind, left_out.data["count"]) == ("left_out", None)
    assert [event for event in events if event not in seen] == [missed, missed_too]
    assert len(set(events)) == len(events)


@pytest.mark.parametrize("bodies", ["0", "1"])
async def test_a_stream_can_start_with_stored_events(
    running: Running, monkeypatch: pytest.MonkeyPatch, bodies: str
) -> None:
    monkeypatch.setattr(catching_up, "_PAGE", 3)
    stored = [await send(running, f"evt_{number}") for number in range(8)]

    query = f"since=1h&kinds=event&bodies={bodies}"
    async with reading(running.client, running.operator_url, query) as stream:
        entries = await stream.take(8)
        live = await send(running, "evt_8")
        assert (await stream.next()).data["id"] == live
    assert of(entries, "id") == stored
    assert ["body_base64" in entry.data for entry in entries] == [bodies == "1"] * 8


async def test_stored_events_are_filtered_too(running: Running) -> None:
    await send(running, "evt_1", "saleitem.created")
    expected = await send(running, "evt_2", "sale.created")

    query = "since=1h&until=now&type=sale.*&source=mando&destination=app"
    async with reading(running.client, running.operator_url, query) as stream:
        assert of([entry async for entry in stream.entries()], "id") == [expected]


async def test_a_stream_with_an_end_has_only_stored_events(running: Running) -> None:
    stored = [await send(running, f"evt_{number}") for number in range(3)]

    async with reading(running.client, running.operator_url, "since=1h&until=now") as stream:
        entries = [entry async for entry in stream.entries()]
    assert of(entries, "id") == stored
    assert {entry.kind for entry in entries} == {"event"}


async def test_an_event_committed_while_a_reader_catches_up_is_sent_once(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catching_up, "_PAGE", 2)
    sent = [await send(running, f"evt_{number}") for number in range(10)]
    stop = asyncio.Event()

    async def send_on() -> None:
        for number in count(10):
            sent.append(await send(running, f"evt_{number}"))
            if stop.is_set():
                return

    sending = asyncio.create_task(send_on())
    async with AsyncExitStack() as stack:
        query = "since=1h&kinds=event"
        streams = [
            await stack.enter_async_context(reading(running.client, running.operator_url, query))
            for _ in range(5)
        ]
        seen = [of(await stream.take(60), "id") for stream in streams]
        stop.set()
        await sending
        rest = [of(await stream.take(len(sent) - 60), "id") for stream in streams]

    for one, more in zip(seen, rest, strict=True):
        assert one + more == sent


async def test_a_client_is_informed_when_the_gateway_stops(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with (
        aiohttp.ClientSession() as client,
        run_gateway(CONFIG.format(url=destination.url)) as running,
        reading(client, running.operator_url) as stream,
    ):
        await stream.live()
        stopping = asyncio.create_task(running.gateway.__aexit__(None, None, None))
        await stream.until_comment("the gateway stops")
        assert [entry async for entry in stream.entries()] == []
        await stopping


class Past:
    """A store without events."""

    async def events(
        self, wanted: Wanted, since: float, until: float | None
    ) -> AsyncIterator[list[PastEvent]]:
        for _ in ():
            yield []


class Served:
    """A stream of a hub without a gateway."""

    def __init__(self, hub: Hub, metrics: Metrics, url: str, client: aiohttp.ClientSession) -> None:
        self.hub = hub
        self.metrics = metrics
        self.url = url
        self.client = client

    def publish(self, number: int, client: str = "127.0.0.1") -> None:
        for status_ in range(number):
            self.hub.publish("request", RequestSeen("shop", "accepted", status_, None, client, 1.0, (), None))

    async def until_readers(self, number: int) -> None:
        async with asyncio.timeout(10):
            while self.metrics.stream_readers.value != number:  # noqa: ASYNC110 - a gauge
                await asyncio.sleep(0.01)


Serve = Callable[..., Any]


@pytest.fixture
def serve() -> Serve:
    """Return a function that serves the stream of a hub."""

    @asynccontextmanager
    async def run(
        heartbeat: float = 15.0, max_entries: int = 10_000, feed: Feed | None = None
    ) -> AsyncIterator[Served]:
        hub, metrics = Hub(max_entries=max_entries), Metrics()
        api = StreamApi(hub, Past(), metrics, heartbeat=heartbeat, feed=feed)
        app = web.Application()
        app.add_routes(api.routes())
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        connector = aiohttp.TCPConnector(limit=0)
        try:
            async with aiohttp.ClientSession(connector=connector) as client:
                yield Served(hub, metrics, f"http://127.0.0.1:{runner.addresses[0][1]}", client)
        finally:
            await api.stop()
            await runner.cleanup()

    return run


class SlowFeed:
    """Notes when it starts and stops. A stop takes until `may_stop` is set."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stops = asyncio.Event()
        self.may_stop = asyncio.Event()

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self) -> None:
        self.stops.set()
        await self.may_stop.wait()
        self.calls.append("stopped")


async def test_a_reader_that_comes_while_the_feed_stops_starts_it_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatehouse.operator.stream.api._LINGER", 0.0)
    feed = SlowFeed()
    async with serve(feed=feed) as served:
        async with reading(served.client, served.url):
            pass
        async with asyncio.timeout(10):
            await feed.stops.wait()
        opening = asyncio.create_task(read_one(served))
        await served.until_readers(1)
        feed.may_stop.set()
        await served.until_readers(1)
        async with asyncio.timeout(10):
            while len(feed.calls) < 3:  # noqa: ASYNC110 - a list
                await asyncio.sleep(0.01)
        assert feed.calls == ["start", "stopped", "start"]
        opening.cancel()
        await asyncio.wait([opening])


async def read_one(served: Served) -> None:
    """Read until an entry comes."""
    async with reading(served.client, served.url) as stream:
        await stream.next("request")


async def test_heartbeats_are_sent_while_nothing_happens(serve: Serve) -> None:
    async with serve(heartbeat=0.02) as served, reading(served.client, served.url) as stream:
        async with asyncio.timeout(10):
            while stream.comments.count(" ") < 3:
                assert await stream.read_block() is None


async def test_a_disconnected_reader_is_no_longer_counted(serve: Serve) -> None:
    async with serve(heartbeat=0.02) as served:
        async with reading(served.client, served.url) as stream:
            await stream.live()
            assert served.metrics.stream_readers.value == 1
        await served.until_readers(0)


async def test_a_slow_reader_delays_no_other_and_learns_how_many_entries_it_missed(serve: Serve) -> None:
    async with serve(max_entries=2000) as served, reading(served.client, served.url) as stream:
        await stream.live()
        port = int(served.url.rpartition(":")[2])
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect(("127.0.0.1", port))
            lazy.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await served.until_readers(2)
            # More than the sockets of both sides and one step can take.
            for _ in range(60):
                served.publish(500, client="x" * 200)
                assert len(await stream.take(500, "request")) == 500
            lazy.settimeout(10)
            read = b""
            while not (found := re.search(rb"event: left_out\ndata: (.*)\n", read)):
                read += await asyncio.to_thread(lazy.recv, 65536)

    lost = json.loads(found[1])["count"]
    assert 0 < lost < 30_000
    assert served.metrics.stream_left_out.value == lost


async def test_a_reader_with_a_limited_rate_gets_the_newest_entries_and_the_number_of_the_others(
    serve: Serve,
) -> None:
    async with serve() as served, reading(served.client, served.url, "at_most=10") as stream:
        await stream.live()
        for _ in range(2):
            served.publish(1000)
            left_out, *shown = await stream.take(6)
            assert (left_out.kind, left_out.data["count"]) == ("left_out", 995)
            assert of(shown, "status") == [995, 996, 997, 998, 999]
        query = f"at_most=10&last_event_id={shown[0].id}"
        async with reading(served.client, served.url, query) as again:
            assert of(await again.take(4), "status") == [996, 997, 998, 999]
        assert served.metrics.stream_left_out.value == 0


async def test_more_readers_than_the_limit_are_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatehouse.operator.stream.api.MAX_READERS", 1)
    async with serve() as served, reading(served.client, served.url) as stream:
        await stream.live()
        async with served.client.get(f"{served.url}/api/v1/stream") as answer:
            assert answer.status == 503


async def test_two_hundred_readers_get_everything(serve: Serve) -> None:
    async with serve() as served, AsyncExitStack() as stack:
        opened = [reading(served.client, served.url, "kinds=request") for _ in range(200)]
        streams: list[Stream] = [await stack.enter_async_context(one) for one in opened]
        await asyncio.gather(*(stream.live() for stream in streams))
        assert served.metrics.stream_readers.value == 200
        for _ in range(10):
            served.publish(20)
            await asyncio.sleep(0)
        taken = await asyncio.gather(*(stream.take(200) for stream in streams))

    for entries in taken:
        assert of(entries, "status") == [*range(20)] * 10
    assert served.metrics.stream_left_out.value == 0

"""`order_by`: deliveries with the same key stay in order, and no key waits for another."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict

from doubles.delivery import IMPATIENT, RunningDispatcher, make_destination, make_event
from doubles.destination import Answer, ReceivedRequest, ScriptedDestination, once, status
from gatehouse.config.load import load
from gatehouse.config.model import BatchConfig
from gatehouse.config.secrets import Secrets
from gatehouse.events.event import Event
from gatehouse.ingest.pipeline import Pipeline
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request
from gatehouse.store.base import Arrival, Assignment, Receipt
from gatehouse.store.sqlite import SqliteStore

BILLING = {"destination": "billing"}
DELIVERED = {"destination": "billing", "result": "delivered"}
DEAD = {"destination": "billing", "result": "dead"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gatehouse.db"


def keyed(key: str | None, number: int = 0) -> Event:
    return make_event(json.dumps({"n": number}).encode(), subject=key)


def by_subject(event: Event) -> str | None:
    return event.subject


def items(request: ReceivedRequest) -> list[dict[str, Any]]:
    found = json.loads(request.body)
    return found if isinstance(found, list) else [found]


def order(server: ScriptedDestination) -> dict[str, list[int]]:
    """The numbers of each key in the order of arrival. A number that is repeated at once counts once."""
    found: dict[str, list[int]] = defaultdict(list)
    for request in server.requests:
        for item in items(request):
            numbers = found[item.get("subject", "")]
            if numbers[-1:] != [item["data"]["n"]]:
                numbers.append(item["data"]["n"])
    return found


def flaky(share: float, seed: int = 1) -> Answer:
    chance = random.Random(seed)  # noqa: S311 - randomness for a test

    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(chance.uniform(0, 0.005))
        return web.Response(status=503 if chance.random() < share else 200)

    return answer


async def test_deliveries_with_the_same_key_stay_in_order_despite_failures(file: Path) -> None:
    events = [keyed(f"k{n % 10}", n) for n in range(200)]
    async with ScriptedDestination() as server:
        server.always(flaky(0.3))
        destination = make_destination(server.url, ordered=True, concurrency=16)
        async with RunningDispatcher(file, destination) as gateway:
            for start in range(0, 200, 20):
                await gateway.accept(*events[start : start + 20], order_by=by_subject)
            await gateway.until(200, "deliveries_total", **DELIVERED)
    assert order(server) == {f"k{k}": list(range(k, 200, 10)) for k in range(10)}


async def test_a_failed_delivery_holds_back_only_its_own_key(file: Path) -> None:
    gate = asyncio.Event()
    async with ScriptedDestination() as server:
        server.script(once(gate, status(200)))
        async with RunningDispatcher(file, make_destination(server.url, ordered=True)) as gateway:
            await gateway.accept(keyed("stuck", 0), order_by=by_subject)
            await server.wait_for(1)
            await gateway.accept(
                *(keyed("stuck", n) for n in (1, 2)),
                *(keyed(None, n) for n in range(5)),
                keyed("free", 9),
                order_by=by_subject,
            )
            await gateway.until(6, "deliveries_total", **DELIVERED)
            assert order(server)["stuck"] == [0]
            gate.set()
            await gateway.until(9, "deliveries_total", **DELIVERED)
    assert order(server)["stuck"] == [0, 1, 2]


async def test_the_next_delivery_of_a_key_follows_at_once(file: Path) -> None:
    """It does not wait for the lane's regular check of the store, every 30 seconds."""
    async with (
        ScriptedDestination() as server,
        RunningDispatcher(file, make_destination(server.url, ordered=True)) as gateway,
    ):
        started = time.monotonic()
        await gateway.accept(*(keyed("k", n) for n in range(50)), order_by=by_subject)
        await gateway.until(50, "deliveries_total", **DELIVERED)
        assert time.monotonic() - started < 8
    assert order(server)["k"] == list(range(50))


async def test_a_dead_delivery_releases_its_key(file: Path) -> None:
    async with ScriptedDestination() as server:
        server.script(status(410))
        async with RunningDispatcher(file, make_destination(server.url, ordered=True)) as gateway:
            await gateway.accept(*(keyed("k", n) for n in range(3)), order_by=by_subject)
            await gateway.until(1, "deliveries_total", **DEAD)
            await gateway.until(2, "deliveries_total", **DELIVERED)
    assert order(server)["k"] == [0, 1, 2]


async def test_the_order_survives_a_crash(file: Path) -> None:
    async with ScriptedDestination() as server:
        server.always(flaky(0.3))
        # As after a kill: the first delivery of each key is leased, and the others wait for it.
        store = await SqliteStore.open(file)
        arrivals = [
            Arrival(keyed(f"k{n % 3}", n), (), (Assignment("billing", True, f"k{n % 3}".encode()),))
            for n in range(30)
        ]
        await store.accept(arrivals, deadline=time.monotonic() + 5)
        await store.close()
        async with RunningDispatcher(file, make_destination(server.url, ordered=True)) as gateway:
            await gateway.accept(*(keyed(f"k{n % 3}", n) for n in range(30, 60)), order_by=by_subject)
            await gateway.until(60, "deliveries_total", **DELIVERED)
    assert order(server) == {f"k{k}": list(range(k, 60, 3)) for k in range(3)}


async def test_a_batch_never_contains_two_deliveries_of_one_key(file: Path) -> None:
    batch = BatchConfig.model_construct(events=10, bytes=2**20, linger=0.005)
    async with ScriptedDestination() as server:
        server.always(flaky(0.2))
        destination = make_destination(
            server.url, ordered=True, format="cloudevents-batch", batch=batch, concurrency=4, retry=IMPATIENT
        )
        async with RunningDispatcher(file, destination) as gateway:
            events = [keyed(f"k{n % 7}", n) for n in range(100)]
            await gateway.accept(*events, order_by=by_subject)
            await gateway.until(100, "deliveries_total", **DELIVERED)
    for request in server.requests:
        keys = [item["subject"] for item in items(request)]
        assert len(keys) == len(set(keys))
    assert order(server) == {f"k{k}": list(range(k, 100, 7)) for k in range(7)}
    assert max(len(items(request)) for request in server.requests) > 1


CONFIG = """
sources:
  shop:
    verify: {type: none, insecure: true}
    event: {type: "{body:type}", id: "{body:id}", split: "{body:events}"}
    dedupe: {by: []}
destinations:
  plain: {url: "http://127.0.0.1:1/"}
  ordered: {url: "http://127.0.0.1:1/", order_by: "{path}#{body:customer}"}
  either: {url: "http://127.0.0.1:1/", order_by: ["{body:order}", "{header:X-Shard}"]}
  far: {url: "http://127.0.0.1:1/", order_by: "{body:customer}"}
routes:
  - {from: shop, to: [plain, ordered, either]}
"""


class Recorded:
    """Records what the pipeline passes to the committer."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []

    def check_room(self) -> None:
        pass

    async def accept(self, arrivals: Any) -> list[Receipt]:
        self.arrivals += arrivals
        return [Receipt("accepted", arrival.event.id) for arrival in arrivals]


class Nothing:
    """Replaces parts that this source does not need."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


class Counted:
    """Metrics of a source that no test reads."""

    def __init__(self) -> None:
        self.events = self.last_accepted = self.unreadable = self

    def inc(self, *_: Any) -> None:
        pass

    set = inc


async def keys_of(tmp_path: Path, body: bytes, **headers: str) -> list[dict[str, bytes | None]]:
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    config = load(tmp_path / "gateway.yaml").config
    source = Source("shop", config.sources["shop"], config, Secrets(tmp_path, {}))
    assert set(source.orders) == {"ordered", "either"}
    committer = Recorded()
    nothing: Any = Nothing()
    pipeline = Pipeline(
        committer, lambda _: True, time.time, nothing, nothing, nothing, nothing, duplicates=nothing
    )
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    counted: Any = Counted()
    await pipeline.receive(source, counted, Request("POST", "/webhooks/shop", "", named, body))
    return [{one.destination: one.order_key for one in arrival.assignments} for arrival in committer.arrivals]


async def test_each_item_has_its_own_key(tmp_path: Path) -> None:
    body = b'{"events":[{"type":"a","customer":7},{"type":"a","customer":"x","order":"o1"},{"type":"b"}]}'
    assert await keys_of(tmp_path, body) == [
        {"plain": None, "ordered": b"/webhooks/shop#7", "either": None},
        {"plain": None, "ordered": b"/webhooks/shop#x", "either": b"o1"},
        {"plain": None, "ordered": None, "either": None},
    ]


async def test_a_header_can_be_a_key_unless_it_is_empty(tmp_path: Path) -> None:
    (found,) = await keys_of(tmp_path, b'{"type":"a","order":""}', X_Shard="3")
    assert found["either"] is None
    (found,) = await keys_of(tmp_path, b'{"type":"a"}', X_Shard="3")
    assert found["either"] == b"3"


async def test_an_event_whose_key_cannot_be_read_is_not_ordered(tmp_path: Path) -> None:
    (found,) = await keys_of(tmp_path, b"not json")
    assert found == {"plain": None, "ordered": None, "either": None}


async def test_a_long_key_is_stored_as_its_hash(tmp_path: Path) -> None:
    (one,) = await keys_of(tmp_path, json.dumps({"type": "a", "order": "x" * 5000}).encode())
    (same,) = await keys_of(tmp_path, json.dumps({"type": "b", "order": "x" * 5000}).encode())
    (other,) = await keys_of(tmp_path, json.dumps({"type": "a", "order": "x" * 5001}).encode())
    assert one["either"] == same["either"] != other["either"]
    assert len(one["either"] or b"") < 64


def failing(event: Event) -> Answer:
    """Fail for one event."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500 if request.headers["webhook-id"] == event.id else 200)

    return answer


@pytest.mark.case("F-11")
async def test_held_back_deliveries_start_at_once_when_the_order_is_removed(file: Path) -> None:
    """This also holds while the delivery in front fails, and for requests that were in progress."""
    async with ScriptedDestination() as server:
        events = [keyed("k", n) for n in range(40)]
        server.always(failing(events[0]))
        destination = make_destination(server.url, ordered=True)
        async with RunningDispatcher(file, destination) as gateway:
            await gateway.accept(*events, order_by=by_subject)
            await server.wait_for(2)
            assert gateway.value("deliveries_pending", **BILLING) == 40

            gateway.dispatcher.replace([replace(destination, ordered=False)])
            await gateway.until(39, "deliveries_total", **DELIVERED)
            await gateway.accept(keyed("k", 40), order_by=by_subject)
            await gateway.until(40, "deliveries_total", **DELIVERED)


@pytest.mark.case("F-11")
async def test_deliveries_continue_after_an_order_is_added_or_changed(file: Path) -> None:
    async with ScriptedDestination() as server:
        gate = asyncio.Event()
        server.script(*[once(gate, status(200))] * 4)
        plain = make_destination(server.url)
        async with RunningDispatcher(file, plain) as gateway:
            await gateway.accept(*(keyed("k", n) for n in range(10)))
            await server.wait_for(4)
            gateway.dispatcher.replace([replace(plain, ordered=True)])
            # One order, then another one that shares some of its keys.
            await gateway.accept(*(keyed(f"k{n % 2}", n) for n in range(10, 20)), order_by=by_subject)
            await gateway.accept(*(keyed("k0", n) for n in range(20, 30)), order_by=by_subject)
            gate.set()
            await gateway.until(30, "deliveries_total", **DELIVERED)
    assert [n for n in order(server)["k0"] if n >= 20] == list(range(20, 30))

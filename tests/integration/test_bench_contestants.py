"""The contestants of the benchmark accept signed events and forward them, as documented."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from bench import signed
from bench.contestants import SIGNING, Contestant, bare, fastapi, gateway, node, reference
from bench.latency import deliveries
from bench.machine import places
from bench.steady import Answer, run
from doubles.destination import ReceivedRequest, ScriptedDestination, status
from machine import lacking

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("taskset"), reason="the benchmark keeps processes to cores"
)

COUNT = 5
RATE = 200
CORES = places().load if sys.platform == "linux" else set()


@pytest.fixture
def clock() -> Iterator[Contestant]:
    """Run a destination that reports which events arrived."""
    with bare(CORES, "clock") as running:
        yield running


def url(of: Contestant) -> str:
    return f"http://127.0.0.1:{of.port}/events"


async def answers(of: Contestant, source: str, folder: Path) -> list[Answer]:
    file = folder / "requests"
    signed.write(file, f"/webhooks/{source}", source, COUNT)
    return await run(of.port, file, RATE)


def statuses(found: list[Answer]) -> list[int]:
    return [answer.status for answer in found]


def events(source: str) -> set[str]:
    return {signed.event_id(source, number) for number in range(COUNT)}


@pytest.mark.parametrize(("kind", "source"), [("handler", "stored"), ("low-level", "stored")])
async def test_a_bare_server_answers(kind: str, source: str, tmp_path: Path) -> None:
    with bare(CORES, kind) as running:
        assert statuses(await answers(running, source, tmp_path)) == [200] * COUNT


async def test_the_gateway_stores_and_forwards(clock: Contestant, tmp_path: Path) -> None:
    more = {"timed": {"url": url(clock)}, "batched": {"url": url(clock), "format": "cloudevents-batch"}}
    with gateway("gateway", tmp_path / "gateway", CORES, destination=clock.port, more=more) as running:
        for source in ("stored", "timed"):
            assert statuses(await answers(running, source, tmp_path)) == [200] * COUNT
        assert deliveries(clock, events("timed")).keys() == events("timed")
        assert running.counted()["accepted"] == 2 * COUNT


async def test_the_bare_proxy_forwards(clock: Contestant, tmp_path: Path) -> None:
    await forwards(bare(CORES, "proxy", url(clock)), clock, tmp_path)


async def test_fastapi_stores_and_forwards(clock: Contestant, tmp_path: Path) -> None:
    made = fastapi(tmp_path / "fastapi", CORES, url(clock))
    if made is None:
        lacking("no FastAPI: it comes with the extra `bench`")
    with made as running:
        assert statuses(await answers(running, "stored", tmp_path)) == [200] * COUNT
        await forwards_once(running, clock, tmp_path)


async def test_node_forwards(clock: Contestant, tmp_path: Path) -> None:
    made = node(CORES, url(clock))
    if made is None:
        pytest.skip("no Node")
    await forwards(made, clock, tmp_path)


async def test_the_compiled_reference_stores_before_it_answers_and_delivers_after_a_kill(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    async with ScriptedDestination() as destination:
        destination.always(status(503))
        with compiled(store, destination) as running:
            for source in ("stored", "sent"):
                assert statuses(await answers(running, source, tmp_path)) == [200] * COUNT
            assert rows(store, "SELECT count(*) FROM events") == [(2 * COUNT,)]
        # The process was killed before it could deliver anything.
        failed = len(destination.requests)
        destination.script(status(500), status(503))
        destination.always(status(200))
        with compiled(store, destination) as running:
            for source in ("stored", "sent"):
                assert statuses(await answers(running, source, tmp_path)) == [200] * COUNT
            async with asyncio.timeout(15):
                while rows(store, "SELECT DISTINCT status FROM deliveries") != [("delivered",)]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            counts = running.counted()
    assert (counts["accepted"], counts["duplicate"], counts["delivered"]) == (0, 2 * COUNT, COUNT)
    received = destination.requests[failed:]
    assert len(received) == COUNT + 2, "two failed and were retried"
    assert {delivered(request) for request in received} == events("sent")


def delivered(request: ReceivedRequest) -> str:
    """Check a signed CloudEvent, and return the id of the event."""
    event = Webhook(SIGNING).verify(request.body, dict(request.headers))
    id_ = str(event["id"])
    sent = json.loads(signed.body("sent", int(id_.rpartition("_")[2])))
    assert id_ == request.event_id
    assert (event["specversion"], event["source"]) == ("1.0", "/webhooks/sent")
    assert (event["type"], event["time"], event["data"]) == (sent["type"], sent["created"], sent["data"])
    return id_


def compiled(store: Path, to: ScriptedDestination) -> AbstractContextManager[Contestant]:
    made = reference(store, CORES, to.url)
    if made is None:
        lacking("no compiled reference: run tests/bench/build_reference.sh, with Go and a C compiler")
    return made


def rows(store: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(store / "reference.db")) as opened:
        return opened.execute(query).fetchall()


async def forwards(made: AbstractContextManager[Contestant], clock: Contestant, folder: Path) -> None:
    with made as running:
        await forwards_once(running, clock, folder)


async def forwards_once(running: Contestant, clock: Contestant, folder: Path) -> None:
    """Send events, and check that all are answered with 2xx after they have arrived at the destination."""
    assert statuses(await answers(running, "sent", folder)) == [200] * COUNT
    assert came(clock) == events("sent")


def came(clock: Contestant) -> set[str]:
    connection = http.client.HTTPConnection("127.0.0.1", clock.port, timeout=10)
    connection.request("GET", "/")
    found = set(json.loads(connection.getresponse().read()))
    connection.close()
    return found


async def test_the_other_receivers_refuse_unsigned_requests(clock: Contestant, tmp_path: Path) -> None:
    """Otherwise the comparison would be unfair, because the gateway verifies signatures."""
    unsigned = signed.request("/webhooks/sent", "sent", 0).replace(b"sha256=", b"sha256=0")
    file = tmp_path / "requests"
    file.write_bytes(b"%d 1\n%b" % (len(unsigned), unsigned))
    for made in (
        reference(tmp_path / "reference", CORES, url(clock)),
        fastapi(tmp_path / "fastapi", CORES, url(clock)),
        node(CORES, url(clock)),
    ):
        if made is None:
            continue
        with made as running:
            assert statuses(await run(running.port, file, RATE)) == [401]
    assert came(clock) == set()

"""Under overload, requests are refused early or answered on time, in bounded memory."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination, status
from doubles.raw import Wire, connected, head, request
from gatehouse.ingest.base_connection import Admission
from gatehouse.ingest.body import MAX_BYTES, Bodies
from gateways import CONFIG, RunGateway, Running

pytestmark = pytest.mark.alone

MIB = 1024 * 1024


def rss() -> int:
    """Return the resident memory of this process, gateway and test together (bytes)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def numbered(number: int) -> bytes:
    return providers.body(id=f"evt_{number:05}", type="sale.created", data={})


def signed(number: int) -> bytes:
    body = numbered(number)
    return request(body, *(f"{name}: {value}" for name, value in providers.mando(body).items()))


async def timed(wire: Wire, sent: bytes) -> tuple[bytes, float]:
    started = time.monotonic()
    wire.writer.write(sent)
    answer = await wire.answer()
    return answer, time.monotonic() - started


def bodies_of(running: Running) -> Bodies:
    return running.gateway.ingest._bodies


async def test_a_thousand_slow_bodies_use_little_memory_and_delay_no_other_request(running: Running) -> None:
    """A small version of D-26: each body announces 1 MiB and sends 4 KiB of it."""
    before = rss()
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(connected(running)) for _ in range(1000)]
        for wire in slow:
            wire.writer.write(head("Content-Length: 1048576") + b"x" * 4096)
        async with asyncio.timeout(10):
            while bodies_of(running).held < 1000 * 4096:  # noqa: ASYNC110 - it is not visible from outside
                await asyncio.sleep(0.01)
        wire = await stack.enter_async_context(connected(running))
        answers = [await timed(wire, signed(number)) for number in range(100)]

        assert {answer[9:12] for answer, _ in answers} == {b"200"}
        assert max(took for _, took in answers) < 1
        assert rss() - before < 100 * MIB
        for one in slow:
            one.writer.transport.abort()
    async with asyncio.timeout(10):
        while bodies_of(running).held:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


async def test_a_flood_of_slow_bodies_evicts_its_own_requests(running: Running) -> None:
    """D-26: above 64 MiB, the longest sending request gets 503, and a quick one gets 200."""
    max_active = 0
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(connected(running)) for _ in range(90)]
        for wire in slow:
            wire.writer.write(head(f"Content-Length: {MIB}") + bytes(MIB - 1))
        first = asyncio.create_task(slow[0].answer())
        async with asyncio.timeout(20):
            while not first.done():
                max_active = max(max_active, bodies_of(running).held)
                await asyncio.sleep(0.005)
        wire = await stack.enter_async_context(connected(running))
        answer, took = await timed(wire, signed(1))

        assert (await first).startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in await first
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert took < 1
        assert max_active <= MAX_BYTES + MIB
        for one in slow:
            one.writer.transport.abort()


@pytest.mark.case("D-07", "O-02", "O-05")
async def test_a_stalled_store_causes_503_within_a_second_and_refused_events_are_never_written(
    running: Running, tmp_path: Path
) -> None:
    """1,500 requests at once, more than the admission limit, while nothing is committed for 2 s."""
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(running)) for _ in range(1500)]
        stall = asyncio.create_task(_stall(running, 2.0))
        await asyncio.sleep(0)
        answers = await asyncio.gather(*(timed(wire, signed(number)) for number, wire in enumerate(wires)))
        await stall
        after, _ = await timed(wires[0], signed(9000))

    assert {answer[9:12] for answer, _ in answers} == {b"503"}
    assert all(b"Retry-After: " in answer for answer, _ in answers)
    # The client of 1,500 connections shares this thread.
    assert max(took for _, took in answers) < 2
    assert after.startswith(b"HTTP/1.1 200 ")
    assert _rows(tmp_path) == {"events": 1, "dedupe_keys": 1}
    assert (await running.send("mando", numbered(1), providers.mando(numbered(1))))[1]["status"] == "accepted"


@pytest.mark.case("O-05")
async def test_under_overload_the_answers_are_quick_and_each_connection_gets_its_own(
    running: Running,
) -> None:
    """Four times the admission limit."""
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(running)) for _ in range(2000)]
        answers = await asyncio.gather(*(timed(wire, signed(number)) for number, wire in enumerate(wires)))

    statuses = [answer[9:12] for answer, _ in answers]
    assert set(statuses) <= {b"200", b"503"}
    assert statuses.count(b"200") >= 512
    assert (await running.metrics())["gatehouse_events_total", "mando"] == statuses.count(b"200")


async def _stall(running: Running, seconds: float) -> None:
    """Block the store's thread."""
    store: Any = running.gateway._store
    await store._writer.run(lambda _: time.sleep(seconds))


def _rows(folder: Path) -> dict[str, int]:
    connection = sqlite3.connect(folder / "gatehouse.db")
    try:
        return {
            table: connection.execute("SELECT count(*) FROM " + table).fetchone()[0]  # noqa: S608 - fixed names
            for table in ("events", "dedupe_keys")
        }
    finally:
        connection.close()


class Sender:
    """A connection as admission sees it."""

    def __init__(self) -> None:
        self.said = ""

    def admit(self) -> None:
        self.said = "admitted"

    def refuse_late(self) -> None:
        self.said = "refused"


async def test_waiting_requests_are_admitted_in_order_when_a_slot_is_free() -> None:
    admission = Admission(lambda: 0.0, max_active=1)
    first, second = Sender(), Sender()
    assert admission.enter()
    for one in (first, second):
        assert not admission.enter()
        admission.wait(one)

    admission.leave()
    assert (first.said, second.said) == ("admitted", "")
    admission.leave()
    assert second.said == "admitted"
    admission.leave()
    assert admission.enter()


async def test_a_request_that_waits_too_long_is_refused_and_the_next_one_is_admitted() -> None:
    now = 0.0
    admission = Admission(lambda: now, max_active=1, max_wait=0.02)
    late, on_time = Sender(), Sender()
    assert admission.enter()
    admission.wait(late)
    now = 0.015
    admission.wait(on_time)
    now = 0.03

    admission.leave()
    assert on_time.said == "admitted"
    async with asyncio.timeout(1):
        while late.said != "refused":  # noqa: ASYNC110 - a timer changes it
            await asyncio.sleep(0)


@pytest.mark.case("O-05")
async def test_a_waiting_request_is_refused_at_its_deadline_even_if_no_slot_becomes_free() -> None:
    loop = asyncio.get_running_loop()
    admission = Admission(loop.time, max_active=1, max_wait=0.01)
    senders = [Sender() for _ in range(200)]
    assert admission.enter()
    for one in senders:
        admission.wait(one)

    async with asyncio.timeout(1):
        while {one.said for one in senders} != {"refused"}:  # noqa: ASYNC110 - a timer changes it
            await asyncio.sleep(0)


@pytest.mark.case("O-07")
async def test_below_the_watermark_new_requests_get_503_and_deliveries_continue(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        disk: Any = running.gateway._disk
        destination.script(status(503))
        assert (await running.send("mando", numbered(1), providers.mando(numbered(1))))[0] == 200
        await destination.wait_for(1)
        disk._free = lambda _: 1024
        await disk.check_space()
        async with running.client.post(
            f"{running.url}/webhooks/mando", data=numbered(2), headers=providers.mando(numbered(2))
        ) as refused:
            assert refused.status == 503
            assert 5 <= int(refused.headers["Retry-After"]) <= 30
        assert (await running.metrics())["gatehouse_store_free_bytes",] == 1024
        await running.until(("gatehouse_deliveries_total", "app", "delivered"), 1)
        disk._free = lambda _: 2**40
        await disk.check_space()
        assert (await running.send("mando", numbered(2), providers.mando(numbered(2))))[0] == 200

"""Requests on one connection are answered in order, whatever the other requests are."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import socket

import pytest

from doubles import providers
from doubles.raw import connected, head, request
from gatehouse.ingest.answer import Answer
from gatehouse.ingest.connection import Connection
from gatehouse.ingest.pipeline import Pipeline
from gateways import Running

BODY = providers.body(id="evt_1", type="sale.created", data={})


def event(number: int, *lines: str) -> bytes:
    body = providers.body(id=f"evt_{number}", type="sale.created", data={})
    return request(body, *(f"{name}: {value}" for name, value in providers.mando(body).items()), *lines)


async def stored(running: Running) -> float:
    metrics = await running.metrics()
    return sum(value for (name, *_), value in metrics.items() if name == "gatehouse_events_total")


@pytest.mark.parametrize("piece", [100_000, 1000, 37])
async def test_pipelined_events_are_answered_in_order(running: Running, piece: int) -> None:
    sent = b"".join(map(event, range(80)))

    async with connected(running) as wire, asyncio.timeout(20):
        for start in range(0, len(sent), piece):
            wire.writer.write(sent[start : start + piece])
            await wire.writer.drain()
            await asyncio.sleep(0)
        answers = [await wire.answer() for _ in range(80)]

    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    async with running.client.get(f"{running.operator_url}/api/v1/events?limit=100") as listed:
        sent_as = {one["id"]: one["external_id"] for one in (await listed.json())["events"]}
    ids = [json.loads(answer.rpartition(b"\r\n")[2])["id"] for answer in answers]
    assert [sent_as[one] for one in ids] == [f"evt_{number}" for number in range(80)]
    assert await stored(running) == 80


@pytest.mark.parametrize("offer", ["websocket", "h2c", "tcp"])
async def test_an_upgrade_offer_is_answered_in_the_current_protocol(running: Running, offer: str) -> None:
    async with connected(running) as wire, asyncio.timeout(5):
        wire.writer.write(event(1, "Connection: Upgrade", f"Upgrade: {offer}") + event(2))
        answers = await wire.reader.read()

    # The bytes that follow may belong to either protocol, so they get no answer and are sent again.
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close\r\n" in answers
    assert await stored(running) == answers.count(b"HTTP/1.1 ") == 1


async def test_a_malformed_body_is_400_at_once(running: Running) -> None:
    async with connected(running) as wire, asyncio.timeout(5):
        wire.writer.write(head("Transfer-Encoding: chunked") + b"3\r\n{}\n\r\n")
        await wire.writer.drain()
        while not running.gateway.ingest._bodies.held:  # noqa: ASYNC110 - its arrival is not visible from outside
            await asyncio.sleep(0.01)
        wire.writer.write(b"no length\r\n")

        answer = await wire.reader.read()

    assert answer[9:12] == b"400"
    assert answer.count(b"HTTP/1.1 ") == 1
    assert await stored(running) == 0


async def test_an_event_is_stored_although_its_sender_has_disconnected(running: Running) -> None:
    async with connected(running) as wire, asyncio.timeout(5):
        wire.writer.write(event(1))
        await wire.writer.drain()
        wire.writer.transport.abort()
        while not await stored(running):  # noqa: ASYNC110 - it is not visible from outside
            await asyncio.sleep(0.01)

    assert (await running.send("mando", BODY, providers.mando(BODY)))[0] == 200
    assert await stored(running) == 1


async def test_an_answer_that_cannot_be_encoded_is_503(
    running: Running, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> Answer:
        return Answer(status=200, body=b"", outcome="accepted", headers={"X-Echo": "a\r\nb: c"})

    monkeypatch.setattr(Pipeline, "receive", broken)
    async with connected(running) as wire, asyncio.timeout(5):
        wire.writer.write(event(1) + event(2))

        assert [(await wire.answer())[9:12] for _ in range(2)] == [b"503"] * 2
    assert '"request.failed"' in logged.getvalue()
    assert "b: c" not in logged.getvalue()


async def test_a_stop_answers_complete_requests_and_closes_the_others(running: Running) -> None:
    async with connected(running) as busy, connected(running) as idle, asyncio.timeout(5):
        busy.writer.write(event(1))
        await busy.writer.drain()
        await asyncio.sleep(0)
        await running.gateway.ingest.stop(grace=3.0)

        assert await idle.reader.read() == b""
        answer = await busy.reader.read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close\r\n" in answer


@pytest.mark.case("F-26")
@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (event(1), [b"200"]),
        (b"".join(map(event, range(80))), [b"200"] * 80),
        (event(1) + event(2)[:-3], [b"200", b"400"]),
        (event(1)[:-3], [b"400"]),
        (event(1)[:50], [b"400"]),
        (head("Transfer-Encoding: chunked") + b"3\r\n{}\n\r\n", [b"400"]),
        (head("Content-Length: 10", target="/nowhere"), [b"404"]),
        (b"", []),
    ],
    ids=["one", "many", "one and a half", "half a body", "half a head", "chunks", "refused first", "nothing"],
)
@pytest.mark.parametrize("loop", ["at once", "later"])
async def test_a_client_that_has_finished_sending_gets_its_answers(
    running: Running, sent: bytes, statuses: list[bytes], loop: str
) -> None:
    """The gateway then closes the connection."""
    server = running.gateway.ingest._connections
    assert server is not None
    async with connected(running) as wire, asyncio.timeout(5):
        wire.writer.write(sent)
        if loop == "later":
            await wire.writer.drain()
            await asyncio.sleep(0.001)
        wire.writer.write_eof()
        answers = (await wire.reader.read()).split(b"HTTP/1.1 ")[1:]
        while server._open:  # noqa: ASYNC110 - it is not visible from outside
            await asyncio.sleep(0.001)

    assert [answer[:3] for answer in answers] == statuses
    assert await stored(running) == statuses.count(b"200")


@pytest.mark.case("F-26")
async def test_a_client_that_finished_sending_while_it_waits_for_admission_is_answered(
    running: Running,
) -> None:
    server = running.gateway.ingest._connections
    assert server is not None
    admission = server._admission
    taken = 0
    while admission.enter():
        taken += 1
    async with connected(running) as wire, asyncio.timeout(5):
        wire.writer.write(event(1))
        wire.writer.write_eof()
        while not admission._waiting:  # noqa: ASYNC110 - it is not visible from outside
            await asyncio.sleep(0.001)
        for _ in range(taken):
            admission.leave()

        assert (await wire.reader.read()).startswith(b"HTTP/1.1 200 ")


async def test_an_answer_does_not_wait_for_the_acknowledgment_of_the_previous_one(running: Running) -> None:
    async with connected(running) as wire:
        wire.writer.write(event(1))
        await wire.answer()
        server = running.gateway.ingest._connections
        assert server is not None
        (connection,) = server._open
        assert connection.transport is not None
        options = connection.transport.get_extra_info("socket")

        assert options.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert options.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


SIGNED = event(1)
ENDINGS = {
    "nothing sent": b"",
    "a head that is cut off": SIGNED[:50],
    "a body that is cut off": SIGNED[:-3],
    "chunks that are cut off": head("Transfer-Encoding: chunked") + b"3\r\n{}\n\r\n",
    "no HTTP": b"GARBAGE\r\n\r\n",
    "accepted": SIGNED,
    "several": SIGNED * 3,
    "unknown source, and no body": head("Content-Length: 10", target="/nowhere"),
    "too large": head("Content-Length: 99999999"),
}


def alive(kind: type) -> int:
    return sum(type(each) is kind for each in gc.get_objects())


@pytest.mark.parametrize("sent", ENDINGS.values(), ids=ENDINGS)
async def test_a_closed_connection_leaves_no_reference_cycle(running: Running, sent: bytes) -> None:
    """References that only a rare garbage collection finds would add up under many short connections."""
    server = running.gateway.ingest._connections
    assert server is not None
    gc.collect()
    before = alive(Connection)
    gc.disable()
    try:
        for _ in range(3):
            async with connected(running) as wire:
                wire.writer.write(sent)
                await wire.writer.drain()
                await asyncio.sleep(0.02)
                wire.writer.transport.abort()
            async with asyncio.timeout(5):
                while server._open:  # noqa: ASYNC110 - it is not visible from outside
                    await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

        assert alive(Connection) == before
    finally:
        gc.enable()

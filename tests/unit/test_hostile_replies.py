"""Hostile replies: each one soon becomes an outcome and costs little."""

from __future__ import annotations

import asyncio
import gzip
import resource
import struct
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

import pytest
from aiohttp import ClientSession, web

from doubles.delivery import RunningDispatcher, make_destination, make_event
from doubles.destination import Answer, ScriptedDestination, after, raw, status
from gatehouse.delivery import http_client
from gatehouse.delivery.forwarder import Forwarder
from gatehouse.delivery.http_client import MAX_REPLY, HttpClient, open_session
from gatehouse.delivery.outcome import Outcome

MIB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
async def destination() -> AsyncIterator[ScriptedDestination]:
    async with ScriptedDestination() as server:
        yield server


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with open_session() as opened:
        yield opened


async def attempt(session: ClientSession, destination: ScriptedDestination, within: float = 30.0) -> Outcome:
    return await forwarder_to(destination.url, session, within).attempt(make_event(), 1)


@lru_cache(maxsize=1)
def forwarder_to(url: str, session: ClientSession, within: float) -> Forwarder:
    """Return the same forwarder while it is in use: it owns the connections that are reused."""
    return Forwarder(make_destination(url, timeout=within), session, clock=time.time)


class Stream:
    """Replies with some bytes and then repeats one piece, as fast as it is read or more slowly."""

    def __init__(self, start: bytes, piece: bytes, *, pause: float = 0.0) -> None:
        self._start, self._piece, self._pause = start, piece, pause
        self.taken = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        transport.write(self._start)
        while not transport.is_closing():
            # More than the kernel's buffers hold is not accepted before the other side reads.
            if transport.get_write_buffer_size() == 0:
                transport.write(self._piece)
                self.taken += len(self._piece)
            await asyncio.sleep(self._pause)
        return web.Response()


def cut(data: bytes) -> Answer:
    """Send these bytes, then reset the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(data)
        await asyncio.sleep(0.05)
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
        return web.Response()

    return answer


def written(*pieces: bytes) -> Answer:
    """Send these pieces one after the other, and leave the connection open."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        for piece in pieces:
            request.transport.write(piece)
            await asyncio.sleep(0.05)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)  # until the other side closes it
        return web.Response()

    return answer


@pytest.mark.case("S-43")
@pytest.mark.parametrize(
    "head",
    [
        OK + b"Content-Length: 10000000000\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        OK + b"\r\n",
    ],
    ids=["10 GB", "chunked", "until it closes"],
)
async def test_a_reply_without_end_is_read_up_to_a_limit(
    head: bytes, destination: ScriptedDestination, session: ClientSession
) -> None:
    piece = b"x" * 65536
    stream = Stream(head, b"10000\r\n" + piece + b"\r\n" if b"chunked" in head else piece)
    destination.script(stream)
    outcome = await attempt(session, destination)

    assert (outcome.reason, outcome.http_status) == ("ok", 200)
    assert outcome.duration < 5
    # The limit is 64 KiB. The rest was in the buffers of the two sockets when they were closed.
    assert stream.taken < 16 * MIB


@pytest.mark.case("S-43")
@pytest.mark.parametrize("code", [200, 500])
async def test_a_reply_that_arrives_byte_by_byte_counts_with_its_status(
    code: int, destination: ScriptedDestination, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http_client.MAX_REPLY_SECONDS == 15.0
    monkeypatch.setattr(http_client, "MAX_REPLY_SECONDS", 0.3)
    destination.script(Stream(b"HTTP/1.1 %d X\r\nContent-Length: 1000\r\n\r\n" % code, b"x", pause=0.05))
    outcome = await attempt(session, destination)

    assert (outcome.reason, outcome.http_status) == ("ok" if code == 200 else "server_error", code)
    assert 0.3 <= outcome.duration < 5


@pytest.mark.case("S-43")
async def test_a_head_that_arrives_byte_by_byte_is_a_timeout(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(Stream(OK + b"x: ", b"y", pause=0.02))
    outcome = await attempt(session, destination, within=0.3)

    assert (outcome.reason, outcome.http_status) == ("timeout", None)
    assert outcome.duration < 5


@pytest.mark.case("S-43")
@pytest.mark.parametrize(
    "piece", [b"x: y\r\n", b"x", b"x: y\r\n" * 10_000], ids=["lines", "one line", "fast"]
)
async def test_the_status_counts_of_a_head_without_end(
    piece: bytes, destination: ScriptedDestination, session: ClientSession
) -> None:
    stream = Stream(OK + b"y: ", piece)
    destination.script(stream)
    outcome = await attempt(session, destination)

    assert (outcome.reason, outcome.http_status) == ("ok", 200)
    assert stream.taken < 16 * MIB


@pytest.mark.case("S-43")
async def test_a_compressed_reply_is_not_decompressed(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    bomb = gzip.compress(b"\0" * (32 * MIB))
    assert len(bomb) < MAX_REPLY
    destination.script(status(200, body=bomb, content_encoding="gzip"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    post = HttpClient(make_destination(destination.url), session, clock=time.time).post
    reply = await post({}, b"{}")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert (reply.status, reply.encoding, reply.body) == (200, "gzip", bomb)
    assert grown < 16 * 1024  # KiB


@pytest.mark.case("S-44")
@pytest.mark.parametrize(
    "reply",
    [
        OK + b"Content-Length: 100\r\n\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        OK + b"\r\n",
    ],
)
async def test_a_200_before_a_reset_is_delivered(
    reply: bytes, destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(cut(reply))
    outcome = await attempt(session, destination)

    assert (outcome.reason, outcome.http_status) == ("ok", 200)


@pytest.mark.case("S-44")
async def test_a_reset_within_the_head_is_a_disconnect(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(cut(OK + b"Content-Length: 0\r\n"))
    outcome = await attempt(session, destination)

    assert (outcome.reason, outcome.http_status) == ("disconnected", None)


@pytest.mark.case("S-44")
@pytest.mark.parametrize("interim", [b"100 Continue", b"103 Early Hints\r\nlink: </a>", b"102 Processing"])
async def test_a_reply_after_many_interim_responses_counts(
    interim: bytes, destination: ScriptedDestination, session: ClientSession
) -> None:
    flood = b"HTTP/1.1 " + interim + b"\r\n\r\n"
    destination.script(raw(flood * 10_000 + OK + b"Content-Length: 0\r\n\r\n"))
    outcome = await attempt(session, destination)

    assert (outcome.reason, outcome.http_status) == ("ok", 200)


@pytest.mark.alone
@pytest.mark.case("S-44")
@pytest.mark.parametrize("interim", [b"100 Continue", b"103 Early Hints"])
async def test_endless_interim_responses_are_a_timeout_and_delay_no_other(
    interim: bytes, destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(Stream(b"", b"HTTP/1.1 " + interim + b"\r\n\r\n"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome, slowest = await asyncio.gather(attempt(session, destination, within=1.0), slowest_turn(1.0))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert (outcome.reason, outcome.http_status) == ("timeout", None)
    assert outcome.duration < 5
    assert slowest < 0.5
    assert grown < 32 * 1024  # KiB


@pytest.mark.case("S-44")
@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
        OK + b"Content-Length: 0\r\n\r\nHTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
        OK + b"Content-Length: 2\r\n\r\nokHTTP/1.1 410 Gone\r\n\r\n",
    ],
    ids=["204 with an answer behind it", "two answers", "an answer behind the body"],
)
async def test_data_after_a_reply_is_not_part_of_the_next_one(
    reply: bytes, destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(written(reply), status(202))
    first, second = await attempt(session, destination), await attempt(session, destination)

    assert (first.reason, first.http_status) == ("ok", int(reply[9:12]))
    assert (second.reason, second.http_status) == ("ok", 202)


@pytest.mark.case("S-44")
async def test_a_body_after_a_204_is_not_part_of_any_reply(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    """The body ends the connection, whether it comes with its head or later."""
    head, body = b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"hello"
    destination.script(written(head + body), status(201), written(head, body), status(202))
    together, after_it, apart = [await attempt(session, destination) for _ in range(3)]
    async with asyncio.timeout(5):
        while open_connections(session):  # noqa: ASYNC110 - a pool sends no notifications
            await asyncio.sleep(0.01)
    last = await attempt(session, destination)

    assert [one.http_status for one in (together, after_it, apart, last)] == [204, 201, 204, 202]
    assert {one.reason for one in (together, after_it, apart, last)} == {"ok"}


@pytest.mark.case("S-44")
async def test_an_unsolicited_reply_is_not_used_for_the_next_request(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    end = b"Content-Length: 0\r\n\r\n"
    destination.script(written(OK + end, b"HTTP/1.1 500 X\r\n" + end), status(202))
    first = await attempt(session, destination)
    async with asyncio.timeout(5):
        while open_connections(session):  # noqa: ASYNC110 - a pool sends no notifications
            await asyncio.sleep(0.01)
    second = await attempt(session, destination)

    assert [one.http_status for one in (first, second)] == [200, 202]
    assert open_connections(session) == 1


@pytest.mark.case("S-44")
async def test_a_connection_is_closed_when_its_reply_came_before_the_whole_request_was_sent(
    session: ClientSession,
) -> None:
    size, taken = 16 * MIB, 0
    goes_on, ended = asyncio.Event(), asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        writer.write(b"HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n")
        await goes_on.wait()
        with suppress(ConnectionError):
            while chunk := await reader.read(MIB):
                taken += len(chunk)
        writer.transport.abort()
        ended.set()

    async with asyncio.timeout(10), await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        forwarder = Forwarder(make_destination(f"http://127.0.0.1:{port}/"), session, clock=time.time)
        outcome = await forwarder.attempt(make_event(b" " * size), 1)
        assert (outcome.reason, outcome.http_status) == ("rejected", 413)
        assert open_connections(session) == 0
        goes_on.set()
        await ended.wait()
    assert taken < size


@pytest.mark.case("S-44")
async def test_a_reply_after_the_timeout_causes_a_second_attempt_with_its_number(tmp_path: Path) -> None:
    async with ScriptedDestination() as server:
        server.script(after(0.5, status(200)))
        destination = make_destination(server.url, timeout=0.2)
        async with RunningDispatcher(tmp_path / "gatehouse.db", destination) as gateway:
            await gateway.accept(make_event(received=int(time.time())))
            first, second = await server.wait_for(2)
            await gateway.until(1, "deliveries_total", destination="billing", result="delivered")

            assert gateway.value("attempts_total", destination="billing", reason="timeout") == 1
            assert gateway.value("attempts_total", destination="billing", reason="ok") == 1
    assert first.event_id == second.event_id
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.body == second.body


async def slowest_turn(seconds: float) -> float:
    """Measure the longest time that the event loop was busy."""
    slowest, end = 0.0, time.monotonic() + seconds
    while (before := time.monotonic()) < end:
        await asyncio.sleep(0)
        slowest = max(slowest, time.monotonic() - before)
    return slowest


def open_connections(session: ClientSession) -> int:
    assert session.connector is not None
    return len(session.connector._acquired)

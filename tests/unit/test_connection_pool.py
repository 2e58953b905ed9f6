"""Connections to a destination are reused while possible, and closed otherwise."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession

from doubles.delivery import make_destination, make_event
from gatehouse.delivery import http_client
from gatehouse.delivery.connection import DestinationConnection
from gatehouse.delivery.forwarder import Forwarder
from gatehouse.delivery.http_client import open_session

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
WITHIN = 5.0


class Server:
    """Replies to each request on a connection with the next of some bytes; None closes the connection."""

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = answers
        #: How many requests came on each connection, in the order of opening.
        self.requests: list[int] = []
        self.open = 0
        #: Whether a connection is closed after the last reply.
        self.ends_early = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.requests)
        self.requests.append(0)
        self.open += 1
        try:
            for answer in self._answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                self.requests[number] += 1
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
            else:
                if not self.ends_early:
                    await reader.read()
        except asyncio.IncompleteReadError:
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def running_server(*answers: bytes | None) -> AsyncIterator[tuple[Server, Forwarder, ClientSession]]:
    server = Server(*answers)
    async with (
        await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening,
        open_session() as session,
    ):
        port = listening.sockets[0].getsockname()[1]
        destination = make_destination(f"http://127.0.0.1:{port}/", timeout=WITHIN)
        yield server, Forwarder(destination, session, clock=time.time), session


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not met():  # noqa: ASYNC110 - a connection sends no notifications
            await asyncio.sleep(0.01)


async def posted(forwarder: Forwarder, count: int = 1) -> list[str]:
    attempts: list[Awaitable[object]] = [forwarder.attempt(make_event(), 1) for _ in range(count)]
    return [str(getattr(outcome, "reason", outcome)) for outcome in await asyncio.gather(*attempts)]


async def test_an_idle_connection_is_used_before_another_is_opened() -> None:
    async with running_server(*[OK] * 10) as (server, forwarder, _):
        assert await posted(forwarder, 3) == ["ok"] * 3
        for _ in range(4):
            assert await posted(forwarder) == ["ok"]

        assert sorted(server.requests) == [1, 1, 5]


async def test_a_connection_that_stays_idle_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_KEEP_ALIVE", 0.1)
    async with running_server(*[OK] * 10) as (server, forwarder, _):
        assert await posted(forwarder, 2) == ["ok"] * 2
        await until(lambda: server.open == 0)

        assert await posted(forwarder) == ["ok"]
        assert server.requests == [1, 1, 1]


async def test_a_connection_that_was_idle_for_too_long_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running_server(*[OK] * 10) as (server, forwarder, _):
        assert await posted(forwarder) == ["ok"]
        # As if the event loop had been busy when the connection should have been closed.
        monkeypatch.setattr(http_client, "_KEEP_ALIVE", 0.0)
        assert await posted(forwarder) == ["ok"]

        assert server.requests == [1, 1]


async def test_a_connection_that_the_destination_closed_is_not_used() -> None:
    async with running_server(OK, None) as (server, forwarder, session):
        assert await posted(forwarder) == ["ok"]
        # It closes when it gets the second request, which is sent again over another connection.
        assert await posted(forwarder) == ["ok"]
        await until(lambda: open_connections(session) == 1)

        assert server.requests == [2, 1]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        OK + OK,
    ],
    ids=["closes", "HTTP/1.0", "two answers"],
)
async def test_a_reply_that_ends_the_connection_is_its_last_one(answer: bytes) -> None:
    async with running_server(answer, OK) as (server, forwarder, session):
        assert await posted(forwarder) == ["ok"]
        await until(lambda: open_connections(session) == 0)
        assert await posted(forwarder) == ["ok"]

        assert server.requests == [1, 1]


async def test_a_switch_of_protocols_is_not_a_delivery() -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with running_server(switch, OK) as (server, forwarder, session):
        assert await posted(forwarder) == ["invalid_reply"]
        await until(lambda: open_connections(session) == 0)
        assert server.requests == [1]


async def test_interim_responses_are_skipped() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with running_server(interim + interim + OK, interim + OK) as (server, forwarder, _):
        assert await posted(forwarder) == ["ok"]
        assert await posted(forwarder) == ["ok"]
        assert server.requests == [2]


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with running_server(b"HTTP/1.1 200 OK\r\n\r\ntaken", None) as (server, forwarder, session):
        attempt = asyncio.create_task(posted(forwarder))
        await until(lambda: server.requests == [1])
        await until(lambda: open_connections(session) == 1)
        await session.close()

        assert await attempt == ["ok"]


async def test_a_stop_closes_idle_connections_and_those_in_use() -> None:
    async with running_server(OK, b"", b"") as (server, forwarder, session):
        assert await posted(forwarder, 2) == ["ok"] * 2
        hanging = asyncio.create_task(posted(forwarder))
        await until(lambda: sum(server.requests) == 3)

        async with asyncio.timeout(WITHIN / 2):
            await session.close()
            assert await hanging == ["disconnected"]
            await until(lambda: server.open == 0)


def open_connections(session: ClientSession) -> int:
    assert session.connector is not None
    return len(session.connector._acquired)


def alive(kind: type) -> int:
    return sum(type(each) is kind for each in gc.get_objects())


@pytest.mark.parametrize("ends_early", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot all",
        b"no HTTP\r\n\r\n",
        b"HTTP/1.1 2",
        b"",
        None,
    ],
    ids=["closes", "cut off", "no HTTP", "half a line", "silent", "hangs up"],
)
async def test_a_closed_connection_leaves_no_reference_cycle(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, *, ends_early: bool
) -> None:
    """A garbage collection is rare, so cycles would add up if each event had its own connection."""
    monkeypatch.setattr(sys.modules[__name__], "WITHIN", 0.2)
    async with running_server(answer) as (server, forwarder, session):
        server.ends_early = ends_early
        gc.collect()
        before = alive(DestinationConnection)
        gc.disable()
        try:
            for _ in range(3):
                await posted(forwarder)
            async with asyncio.timeout(5):
                while open_connections(session):  # noqa: ASYNC110 - a connection sends no notifications
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)

            assert alive(DestinationConnection) == before
        finally:
            gc.enable()

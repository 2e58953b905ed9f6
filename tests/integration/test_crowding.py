"""Above the limit on connections, idle ones are closed first, then those that have been sending longest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination
from doubles.proxies import HOST, find, proxying
from doubles.raw import Wire, connected, exchange, head, request
from gatehouse.ingest import base_connection
from gatehouse.ingest.listener import OpenConnections
from gateways import CONFIG, RunGateway, Running
from machine import lacking
from processes import serving

pytestmark = pytest.mark.alone

MOST = 20
CROWDED = CONFIG.replace('"127.0.0.1:0", public', f'"127.0.0.1:0", max_connections: {MOST}, public')
#: Ways to hold a connection open.
SLOW = {
    "nothing": b"",
    "a head": b"POST /webhooks/mando HTTP/1.1\r\nHost: ",
    "a body": head("Content-Length: 1000") + b"{",
    "a chunked body": head("Transfer-Encoding: chunked") + b"1\r\n{",
    "a body that is waited for": head("Content-Length: 1000", "Expect: 100-continue"),
    "a body that nobody wants": head("Content-Length: 1000", target="/nowhere") + b"{",
    "a connection that is done": b"no HTTP\r\n\r\n",
}


@pytest.fixture
async def crowded(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Running]:
    """Run a gateway that allows 20 connections."""
    async with run_gateway(CROWDED.format(url=destination.url)) as running:
        yield running


def signed(number: int) -> bytes:
    body = providers.body(id=f"evt_{number}", type="sale.created", data={})
    return request(body, *(f"{name}: {value}" for name, value in providers.mando(body).items()))


def connections(running: Running) -> OpenConnections:
    server = running.gateway.ingest._connections
    assert server is not None
    return server


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - it is not visible from outside
            await asyncio.sleep(0.002)


@pytest.mark.case("F-04")
@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
async def test_clients_that_hold_all_connections_do_not_block_genuine_requests(
    crowded: Running, sent: bytes
) -> None:
    """Twice as many connections as allowed. Genuine requests are answered while more connections arrive."""
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(connected(crowded)) for _ in range(MOST)]
        for wire in held:
            wire.writer.write(sent)
        await until(lambda: len(connections(crowded)._open) == MOST)
        for number in range(MOST):
            wire = await stack.enter_async_context(connected(crowded))
            wire.writer.write(sent)
            started = time.monotonic()
            answer = await exchange(crowded, signed(number).replace(b"Host", b"Connection: close\r\nHost", 1))

            assert answer.startswith(b"HTTP/1.1 200 ")
            assert time.monotonic() - started < 1
        await until(lambda: len(connections(crowded)._open) <= MOST)


@pytest.mark.case("F-04")
async def test_the_longest_sending_connection_is_evicted_after_idle_ones_with_an_answer(
    crowded: Running,
) -> None:
    """It gets 503, whether it was sending a head or a body."""
    queues = connections(crowded).queues
    async with AsyncExitStack() as stack, asyncio.timeout(10):

        async def newcomer(sent: bytes = b"") -> Wire:
            wire = await stack.enter_async_context(connected(crowded))
            wire.writer.write(sent)
            return wire

        sending = []
        for number in range(MOST):
            sending.append(await newcomer(SLOW["a head" if number % 2 else "a body"]))
            await until(lambda: len(queues.sending) == len(sending))

        idle = await newcomer()
        assert (await sending[0].reader.read()).startswith(b"HTTP/1.1 503 ")
        later = await newcomer(SLOW["a body"])
        assert await idle.reader.read() == b""
        await until(lambda: not queues.idle)
        await newcomer()
        answer = await sending[1].reader.read()

        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer
        assert not any(wire.reader.at_eof() for wire in (*sending[2:], later))


@pytest.mark.case("F-04")
async def test_a_new_connection_is_not_evicted_for_slow_ones(
    crowded: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A genuine request may need a round trip, while many new connections begin a request."""
    monkeypatch.setattr(base_connection, "NEW_CONNECTION_AGE", 5.0)
    queues = connections(crowded).queues
    async with AsyncExitStack() as stack, asyncio.timeout(10):
        for number in range(MOST):
            (await stack.enter_async_context(connected(crowded))).writer.write(SLOW["a body"])
            await until(lambda number=number: len(queues.sending) == number + 1)  # type: ignore[misc]
        connections(crowded).clock.stopped -= 8  # they have been sending for this long
        genuine = await stack.enter_async_context(connected(crowded))
        await until(lambda: bool(queues.idle))
        for _ in range(MOST // 2):
            (await stack.enter_async_context(connected(crowded))).writer.write(SLOW["a head"])
            await until(lambda: len(queues.idle) == 1)
        genuine.writer.write(signed(1))

        assert (await genuine.answer()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.case("F-14")
async def test_the_longest_idle_connection_is_evicted_first_and_not_the_oldest(
    crowded: Running,
) -> None:
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(crowded)) for _ in range(MOST)]
        await until(lambda: len(connections(crowded)._open) == MOST)
        for number in (*range(5, MOST), *range(5)):  # the oldest five were used last
            wires[number].writer.write(signed(number))
            assert (await wires[number].answer()).startswith(b"HTTP/1.1 200 ")
        for _ in range(3):
            await stack.enter_async_context(connected(crowded))
        async with asyncio.timeout(5):
            assert [await wires[number].reader.read() for number in (5, 6, 7)] == [b""] * 3
        for number in (*range(5), *range(8, MOST)):
            wires[number].writer.write(signed(100 + number))
            assert (await wires[number].answer()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.case("F-04")
async def test_a_complete_request_is_never_evicted(crowded: Running) -> None:
    """Neither while it is processed nor while it waits for admission. A new connection gets 503."""
    admission = connections(crowded)._admission
    taken = 0
    while admission.enter():
        taken += 1
    async with AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(connected(crowded)) for _ in range(MOST)]
        for number, wire in enumerate(waiting):
            wire.writer.write(signed(number))
        await until(lambda: len(admission._waiting) == MOST)

        assert (await exchange(crowded, signed(100))).startswith(b"HTTP/1.1 503 ")
        for _ in range(taken):
            admission.leave()
        assert [(await wire.answer())[9:12] for wire in waiting] == [b"200"] * MOST


@pytest.mark.case("F-04")
async def test_a_client_that_does_not_read_its_answers_is_evicted(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CROWDED.replace(f"max_connections: {MOST}", "max_connections: 2")
    async with run_gateway(config.format(url=destination.url)) as crowded, AsyncExitStack() as stack:
        writers = []
        for _ in range(2):
            plain = socket.socket()
            plain.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
            )  # before it connects: its window is small
            plain.connect(("127.0.0.1", crowded.gateway.ingest.port))
            _, writer = await asyncio.open_connection(sock=plain, limit=1024)
            stack.callback(writer.transport.abort)
            writers.append(writer)
        await until(lambda: len(connections(crowded)._open) == 2)
        for connection in connections(crowded)._open:
            assert connection.transport is not None
            plain = connection.transport.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # soon full
        for writer in writers:
            writer.write(request(b"{}", target="/x") * 2000)
        await until(lambda: len(connections(crowded).queues.closing) == 2)

        answer = await exchange(crowded, signed(1).replace(b"Host", b"Connection: close\r\nHost", 1))
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.case("F-04")
async def test_a_burst_of_connections_uses_only_the_reserved_file_descriptors(tmp_path: Path) -> None:
    """Otherwise the gateway would accept no connection for a second."""
    config = tmp_path / "gateway.yaml"
    config.write_text(
        f'server: {{listen: "127.0.0.1:0", max_connections: {MOST}}}\noperator: {{listen: "127.0.0.1:0"}}\n'
        "sources:\n  mando: {provider: mando, secrets: [env:SECRET]}\n"
    )
    async with serving(config, SECRET=providers.SECRET) as gateway, AsyncExitStack() as stack:
        pid, port = gateway.process.pid, int(gateway.url.rpartition(":")[2])
        used = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - only the names are needed
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + MOST + 400, used + MOST + 400))
        for _ in range(1000):
            burst = socket.socket()
            stack.callback(burst.close)
            burst.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                burst.connect(("127.0.0.1", port))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        stack.callback(writer.transport.abort)
        writer.write(signed(1))
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")

        assert [line for line in gateway.log if line["event"] == "http.error"] == []


@pytest.mark.case("F-04")
@pytest.mark.parametrize("name", ["nginx", "caddy", "haproxy"])
@pytest.mark.parametrize("slow", ["a body", "a chunked body"])
async def test_slow_bodies_through_a_proxy_do_not_block_genuine_requests(
    crowded: Running, tmp_path: Path, name: str, slow: str
) -> None:
    """Streamed bodies hold connections of the gateway, and more of them arrive all the time."""
    if find(name) is None:
        lacking(f"no {name}: run tests/integration/fetch_proxies.sh, or set GATEHOUSE_TEST_{name.upper()}")
    (folder := tmp_path / "proxy").mkdir()
    async with (
        proxying(name, crowded.gateway.ingest.port, folder) as front,
        AsyncExitStack() as stack,
    ):
        writers = []

        async def send(sent: bytes) -> asyncio.StreamReader:
            reader, writer = await front.connect()
            stack.callback(writer.transport.abort)
            writers.append(writer)  # without a reference it would close
            writer.write(sent.replace(b"Host: h", b"Host: " + HOST.encode()))
            return reader

        for _ in range(2 * MOST):
            await send(SLOW[slow])
        for number in range(10):
            await send(SLOW[slow])
            async with asyncio.timeout(2):
                genuine = await send(signed(number))
                assert (await genuine.readline()).startswith(b"HTTP/1.1 200 ")

"""Requests that arrived while the process was stopped are served, and no deadline counts that time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination
from doubles.raw import Wire, connected, exchange, head, request
from gatehouse.ingest import awake_clock
from gateways import CONFIG as FIVE
from gateways import RunGateway
from processes import GatewayProcess, serving

pytestmark = pytest.mark.alone

MIB = 1024 * 1024
CONFIG = """
server: {listen: "127.0.0.1:0", request_deadline: 1s, idle_timeout: 1s, max_connections: 40}
operator: {listen: "127.0.0.1:0"}
sources:
  mando: {provider: mando, secrets: [env:SECRET]}
"""
#: Seconds of the stop. Both deadlines expire meanwhile.
STANDSTILL = 2.0


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """Run a gateway with deadlines of one second."""
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG)
    async with serving(config, SECRET=providers.SECRET) as process:
        yield process


@asynccontextmanager
async def connect(gateway: GatewayProcess) -> AsyncIterator[Wire]:
    wire = Wire(*await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2])))
    try:
        yield wire
    finally:
        wire.writer.close()
        with contextlib.suppress(ConnectionError):
            await wire.writer.wait_closed()


def signed(number: int, size: int = 0) -> bytes:
    body = providers.body(id=f"evt_{number}", type="sale.created", data={"text": "x" * size})
    return request(body, *(f"{name}: {value}" for name, value in providers.mando(body).items()))


@pytest.mark.case("F-10")
async def test_requests_that_arrived_during_a_stop_are_accepted(
    gateway: GatewayProcess,
) -> None:
    """In every state of a connection, also with a body larger than the kernel's buffer."""
    long = signed(1, MIB - 1000)
    split = {
        "an idle connection": (signed(0) + b"", signed(10)),
        "a long body": (long[:1000], long[1000:]),
        "a body": (signed(2)[:-5], signed(2)[-5:]),
        "a head": (signed(3)[:30], signed(3)[30:]),
        "nothing sent": (b"", signed(4)),
    }
    async with AsyncExitStack() as stack:
        wires = {name: await stack.enter_async_context(connect(gateway)) for name in split}
        for name, (before, _) in split.items():
            wires[name].writer.write(before)
        assert (await wires["an idle connection"].answer())[9:12] == b"200"
        trickling = await stack.enter_async_context(connect(gateway))
        trickling.writer.write(head("Content-Length: 100") + b"x")
        await asyncio.sleep(0.1)  # so that it has read everything
        gateway.process.send_signal(signal.SIGSTOP)
        try:
            for name, (_, after) in split.items():
                wires[name].writer.write(after)
            await asyncio.sleep(STANDSTILL)
        finally:
            gateway.process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(10):
            answers = {name: (await wire.answer())[9:12] for name, wire in wires.items()}
            # A client that is really slow is still refused.
            assert (await trickling.reader.read()).startswith(b"HTTP/1.1 408 ")

    assert answers == dict.fromkeys(split, b"200")


@pytest.mark.case("F-10")
async def test_a_signature_that_expired_during_a_stop_gets_503(
    run_gateway: RunGateway, destination: ScriptedDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a provider that signs each attempt again would treat the 401 as final."""
    monkeypatch.setattr(awake_clock, "LONG_STOP", 0.3)
    body = providers.body(id="evt_1", type="invoice.paid", data={})
    headers = providers.getpeppr(body, at=time.time() - 3600)
    sent = request(body, *(f"{name}: {value}" for name, value in headers.items()), "Connection: close")
    sent = sent.replace(b"/webhooks/mando", b"/webhooks/getpeppr")
    async with run_gateway(FIVE.format(url=destination.url)) as running:
        assert (await exchange(running, sent)).startswith(b"HTTP/1.1 401 ")
        async with connected(running) as wire:
            wire.writer.write(sent)
            time.sleep(0.8)  # noqa: ASYNC251 - the stop
            answer = await wire.reader.read()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in answer

"""Floods of unsigned bodies are refused without using the store, in bounded memory."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import cast

import pytest
from multidict import CIMultiDict

from doubles import providers
from doubles.raw import request
from gatehouse.errors import UnavailableError
from gatehouse.ingest.body import MAX_BYTES, Bodies
from gatehouse.ingest.connection import InboundRequest
from gatehouse.store.sqlite.connection import Connection
from gateways import RunGateway
from processes import GatewayProcess, serving

pytestmark = pytest.mark.alone

MIB = 1024 * 1024
CONNECTIONS = 500
CONFIG = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  mando: {provider: mando, secrets: [env:SECRET]}
"""
#: No signature, and one that must be computed before it is refused.
REFUSED = {"unsigned": [], "wrongly signed": ["X-Mando-Signature: sha256=" + "0" * 64]}


async def flood(port: int, sent: bytes, *, connections: int, each: int = 1) -> Counter[bytes]:
    """Send the same request repeatedly on many connections at once; return the statuses."""

    async def send() -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        statuses = []
        try:
            for _ in range(each):
                writer.write(sent)
                await writer.drain()
                answer = await reader.readuntil(b"\r\n\r\n")
                (length,) = [line for line in answer.lower().split(b"\r\n") if b"content-length" in line]
                await reader.readexactly(int(length.split(b":")[1]))
                statuses.append(answer[9:12])
        except (ConnectionError, asyncio.IncompleteReadError):
            statuses.append(b"closed")
        finally:
            writer.transport.abort()
        return statuses

    answered = await asyncio.gather(*(send() for _ in range(connections)))
    return Counter(status for statuses in answered for status in statuses)


def peak(gateway: GatewayProcess) -> int:
    """Return the peak resident memory of a gateway (bytes)."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.case("S-37")
@pytest.mark.parametrize("lines", REFUSED.values(), ids=REFUSED)
async def test_the_store_is_not_used_before_a_signature_is_verified(
    run_gateway: RunGateway, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    """The gateway has no destination, because lanes use the store on their own."""
    body = providers.body(id="evt_1", type="sale.created", data={})
    questions: list[object] = []
    run = Connection.run

    async def counted(self: Connection, work: object) -> object:
        questions.append(work)
        return await run(self, work)  # type: ignore[arg-type]

    async with run_gateway(CONFIG) as running:
        monkeypatch.setattr(Connection, "run", counted)
        sent, port = request(bytes(16 * 1024), *lines), running.gateway.ingest.port
        answers = await flood(port, sent, connections=CONNECTIONS)
        asked_by_the_flood = list(questions)
        assert (await running.send("mando", body, providers.mando(body)))[0] == 200

    assert answers[b"401"] > CONNECTIONS / 2
    assert set(answers) <= {b"401", b"503"}
    assert asked_by_the_flood == []
    assert questions


@pytest.mark.case("S-37")
@pytest.mark.parametrize("lines", REFUSED.values(), ids=REFUSED)
async def test_500_bodies_of_a_mebibyte_at_once_take_little_more_memory_than_the_budget(
    tmp_path: Path, lines: list[str]
) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG)
    async with serving(config, SECRET=providers.SECRET) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        await flood(port, request(b"{}"), connections=CONNECTIONS)
        before = peak(gateway)

        answers = await flood(port, request(bytes(MIB), *lines), connections=CONNECTIONS)

        grown = peak(gateway) - before
    assert answers[b"401"] > 0
    assert set(answers) <= {b"401", b"503", b"closed"}
    # The limit on bodies, and the data that the event loop reads from 500 sockets before it can refuse a
    # request.
    assert grown < MAX_BYTES + CONNECTIONS * MIB / 4


class Sender:
    """A request that has sent one piece, and sends nothing more."""

    content_length = None

    def __init__(self, piece: bytes) -> None:
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.head = self.content = self.connection = self
        self.transport = None
        self._pieces = [piece]
        self.waits = asyncio.Event()

    def is_eof(self) -> bool:
        return False

    def release_slot(self) -> None: ...

    async def readany(self) -> bytes:
        if self._pieces:
            return self._pieces.pop()
        self.waits.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_an_evicted_body_frees_its_memory_at_once() -> None:
    bodies, piece = Bodies(), bytes(MIB)
    sender, before = Sender(piece), sys.getrefcount(piece)
    with bodies.body() as body:
        reading = asyncio.create_task(body.read(cast("InboundRequest", sender), 2 * MIB, 10.0))
        await sender.waits.wait()
        held = sys.getrefcount(piece)
        with bodies.body() as other:
            bodies.take(other, MAX_BYTES)

        assert (held, sys.getrefcount(piece)) == (before, before - 1)
        with pytest.raises(UnavailableError):
            await reading

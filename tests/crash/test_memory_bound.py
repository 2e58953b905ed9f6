"""A thousand bodies of 1 MiB at once: those above the byte budget are refused, and memory is bounded."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from doubles import providers
from doubles.raw import head
from processes import GatewayProcess, serving

MIB = 1024 * 1024
CONNECTIONS = 1000
#: The budget for bodies is 64 MiB. The store's cache and the gateway itself need about as much each.
BOUND = 512 * MIB
CONFIG = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  mando: {provider: mando, secrets: [env:SECRET]}
"""

pytestmark = [pytest.mark.alone, pytest.mark.case("D-26"), pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Raise the file limit of this process for this many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4 * CONNECTIONS, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def numbered(number: int, size: int) -> bytes:
    empty = providers.body(id=f"evt_{number:06}", type="sale.created", data={"x": ""})
    return providers.body(id=f"evt_{number:06}", type="sale.created", data={"x": "x" * (size - len(empty))})


async def send(port: int, body: bytes, lines: list[str]) -> str:
    """Send a request on its own connection. Return the status, or "closed"."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, ("127.0.0.1", port))
            await loop.sock_sendall(connection, head(f"Content-Length: {len(body)}", *lines))
            await loop.sock_sendall(connection, body)
        except ConnectionError:
            return "closed"  # the answer came before the whole request was sent
        try:
            return (await loop.sock_recv(connection, 4096))[9:12].decode() or "closed"
        except ConnectionError:
            return "closed"


async def flood(gateway: GatewayProcess, *, signed: bool) -> Counter[str]:
    """Send a thousand bodies of exactly the maximum size at once. Return the answers."""

    async def one(number: int) -> str:
        body = numbered(number, MIB)
        lines = [f"{name}: {value}" for name, value in providers.mando(body).items()] if signed else []
        return await send(int(gateway.url.rpartition(":")[2]), body, lines)

    return Counter(await asyncio.gather(*(one(number) for number in range(CONNECTIONS))))


def peak(gateway: GatewayProcess) -> int:
    """Return the gateway's peak resident memory (bytes)."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize(("signed", "taken"), [(True, "200"), (False, "401")], ids=["signed", "unsigned"])
async def test_bodies_above_the_byte_budget_are_refused(tmp_path: Path, signed: bool, taken: str) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG)
    async with serving(config, SECRET=providers.SECRET) as gateway, aiohttp.ClientSession() as client:
        answers = await flood(gateway, signed=signed)
        most = peak(gateway)
        afterwards = []
        for number in range(50):
            body = numbered(CONNECTIONS + number, 1000)
            url = f"{gateway.url}/webhooks/mando"
            async with client.post(url, data=body, headers=providers.mando(body)) as answer:
                afterwards.append(answer.status)
        gateway.terminate()
        assert await gateway.wait() == 0

    assert answers["503"] > 0
    assert set(answers) <= {"503", taken, "closed"}
    assert most < BOUND
    assert afterwards == [200] * 50


async def announce(port: int, length: int) -> str:
    """Send the head of a request without its body. Return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head(f"Content-Length: {length}"))
        return (await reader.readuntil(b"\r\n"))[9:12].decode()
    finally:
        writer.transport.abort()


async def test_too_large_bodies_are_refused_by_their_content_length(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG)
    async with serving(config, SECRET=providers.SECRET) as gateway:
        port, before = int(gateway.url.rpartition(":")[2]), peak(gateway)
        answers = Counter(await asyncio.gather(*(announce(port, MIB + 1) for _ in range(CONNECTIONS))))
        grown = peak(gateway) - before

    assert answers["413"] > CONNECTIONS / 2
    assert set(answers) <= {"413", "503"}
    assert grown < 64 * MIB

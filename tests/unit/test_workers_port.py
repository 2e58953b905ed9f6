"""The workers share a port that the supervisor reserves for them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from gatehouse.config.addresses import Address
from gatehouse.ingest.listener import Listener
from gatehouse.workers.supervisor import SharedPort

HOST = "127.0.0.1"


class Named(asyncio.Protocol):
    """Sends the name of its listener, and closes."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._name)
        transport.close()


@pytest.fixture
async def shared() -> AsyncIterator[SharedPort]:
    """Reserve a free port."""
    port = SharedPort()
    await port.reserve(Address(HOST, 0))
    yield port
    port.close()


#: The default of server.max_body.
MAX_BODY = 1024 * 1024


async def who_answers(port: int) -> bytes:
    """Connect, and read the name of the listener."""
    reader, writer = await asyncio.open_connection(HOST, port)
    name = await reader.read()
    writer.close()
    await writer.wait_closed()
    return name


async def test_a_reserved_port_accepts_no_connections(shared: SharedPort) -> None:
    assert shared.port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, shared.port)


async def test_listeners_share_the_port_and_a_stopped_one_gets_no_connections(shared: SharedPort) -> None:
    one, other = Listener(lambda: Named(b"one"), MAX_BODY), Listener(lambda: Named(b"other"), MAX_BODY)
    for listener in (one, other):
        await listener.start(HOST, shared.port, shared=True)

    assert one.port == other.port == shared.port
    assert {await who_answers(shared.port) for _ in range(64)} == {b"one", b"other"}
    await one.stop()
    assert {await who_answers(shared.port) for _ in range(64)} == {b"other"}
    await other.stop()


async def test_a_port_in_use_is_not_reserved(shared: SharedPort) -> None:
    listener = Listener(lambda: Named(b"one"), MAX_BODY)
    await listener.start(HOST, shared.port, shared=True)

    with pytest.raises(OSError, match="Address already in use"):
        await SharedPort().reserve(Address(HOST, shared.port))
    await listener.stop()


async def test_a_reserved_port_cannot_be_bound_without_sharing(shared: SharedPort) -> None:
    listener = Listener(lambda: Named(b"one"), MAX_BODY)
    await listener.start(HOST, shared.port, shared=True)

    with pytest.raises(OSError, match="Address already in use"):
        await Listener(lambda: Named(b"alone"), MAX_BODY).start(HOST, shared.port)
    await listener.stop()


async def test_every_address_of_a_host_has_the_same_port() -> None:
    port = SharedPort()
    await port.reserve(Address("", 0))

    assert {held.getsockname()[1] for held in port._sockets} == {port.port}
    families = {held.family for held in port._sockets}
    assert socket.AF_INET in families or socket.AF_INET6 in families
    port.close()

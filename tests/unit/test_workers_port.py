"""The port that workers share: theirs alone, as long as the supervisor holds it."""

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
    """Says whose connection it is, and closes it."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._name)
        transport.close()


@pytest.fixture
async def shared() -> AsyncIterator[SharedPort]:
    """Hold a free port."""
    port = SharedPort()
    await port.reserve(Address(HOST, 0))
    yield port
    port.close()


#: As the default of server.max_body.
MAX_BODY = 1024 * 1024


async def who_answers(port: int) -> bytes:
    """Connect, and read who it is."""
    reader, writer = await asyncio.open_connection(HOST, port)
    name = await reader.read()
    writer.close()
    await writer.wait_closed()
    return name


async def test_a_held_port_takes_no_connection_itself(shared: SharedPort) -> None:
    assert shared.port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, shared.port)


async def test_listeners_share_it_and_one_that_is_gone_gets_nothing(shared: SharedPort) -> None:
    one, other = Listener(lambda: Named(b"one"), MAX_BODY), Listener(lambda: Named(b"other"), MAX_BODY)
    for listener in (one, other):
        await listener.start(HOST, shared.port, shared=True)

    assert one.port == other.port == shared.port
    assert {await who_answers(shared.port) for _ in range(64)} == {b"one", b"other"}
    await one.stop()
    assert {await who_answers(shared.port) for _ in range(64)} == {b"other"}
    await other.stop()


async def test_a_port_that_others_listen_on_is_not_shared_with_them(shared: SharedPort) -> None:
    listener = Listener(lambda: Named(b"one"), MAX_BODY)
    await listener.start(HOST, shared.port, shared=True)

    with pytest.raises(OSError, match="Address already in use"):
        await SharedPort().reserve(Address(HOST, shared.port))
    await listener.stop()


async def test_a_port_that_is_held_can_not_be_listened_on_alone(shared: SharedPort) -> None:
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

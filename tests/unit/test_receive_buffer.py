"""What the kernel takes of a connection before it is read is bounded, and a share of a long body."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gatehouse.ingest.listener import Listener

KIB = 1024


class Accepted(asyncio.Protocol):
    """Keeps the socket it was given."""

    def __init__(self) -> None:
        self.size: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = transport.get_extra_info("socket")
        self.size.set_result(connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))


@pytest.mark.parametrize(("max_body", "expected"), [(KIB * KIB, 64 * KIB), (2 * KIB * KIB, 128 * KIB)])
async def test_a_connection_takes_in_a_bounded_number_of_bytes_unread(max_body: int, expected: int) -> None:
    accepted = Accepted()
    listener = Listener(lambda: accepted, max_body)
    await listener.start("127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    size = await accepted.size
    writer.close()
    await writer.wait_closed()
    await listener.stop()

    # Linux doubles what it is asked for, to leave room for its own records.
    assert size in {expected, 2 * expected}

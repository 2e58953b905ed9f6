"""The limit on open connections, and the size of their receive buffers."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator

import pytest

from gatehouse.ingest.listener import Listener, allowed_connections


@pytest.fixture
def _limits() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_limits")
def test_the_soft_limit_is_raised_as_needed() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    assert allowed_connections(300) == 300
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1324


@pytest.mark.usefixtures("_limits")
def test_a_sufficient_limit_is_not_changed() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert allowed_connections(1) == 1
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_a_hard_limit_reduces_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process could not raise its hard limit again, so the system's answers are replaced."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)

    assert allowed_connections(4096) == 512
    monkeypatch.setattr(resource, "getrlimit", lambda _: (600, 600))
    assert allowed_connections(4096) == 300


KIB = 1024


class Accepted(asyncio.Protocol):
    """Keeps the size of the receive buffer of its socket."""

    def __init__(self) -> None:
        self.size: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = transport.get_extra_info("socket")
        self.size.set_result(connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))


@pytest.mark.parametrize(("max_body", "expected"), [(KIB * KIB, 64 * KIB), (2 * KIB * KIB, 128 * KIB)])
async def test_the_receive_buffer_of_a_connection_is_bounded(max_body: int, expected: int) -> None:
    accepted = Accepted()
    listener = Listener(lambda: accepted, max_body)
    await listener.start("127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    size = await accepted.size
    writer.close()
    await writer.wait_closed()
    await listener.stop()

    # Linux doubles the requested size, for its own records.
    assert size in {expected, 2 * expected}

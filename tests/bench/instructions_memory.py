"""In-process connections and stopped clocks, which make the number of instructions reproducible.

Servers and clients use these connections with their real code. Only the work of the kernel, and everything
that depends on the speed of the machine, is left out.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

#: The time of every clock, in seconds.
NOW = 1_800_000_000.0
_PEER = ("127.0.0.1", 40_000)
_ACCEPTED = b"HTTP/1.1 200 "
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Data = bytes | bytearray | memoryview
Factory = Callable[[], asyncio.Protocol]


def stop_clocks() -> None:
    """Stop all clocks of this process: no timer fires, and every duration has the same digits."""
    for name in ("time", "monotonic", "perf_counter"):
        setattr(time, name, itertools.repeat(NOW).__next__)


class Tally:
    """Counts occurrences, and lets a turn wait for a number of them."""

    def __init__(self) -> None:
        self.total = 0
        self._awaited = 0
        self._done: asyncio.Future[None] | None = None

    def more(self, number: int) -> asyncio.Future[None]:
        """Return a future that is done after `number` further occurrences."""
        self._awaited = self.total + number
        self._done = asyncio.get_running_loop().create_future()
        return self._done

    def happened(self, times: int = 1) -> None:
        """Count one occurrence, and complete the future when its number is reached."""
        self.total += times
        if self.total >= self._awaited and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def failed(self, why: str) -> None:
        """Fail the future with an `AssertionError`. An error that is raised here would only be logged."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(AssertionError(why))


class _Wire(asyncio.Transport):
    """A transport whose other end is this process."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": _PEER})
        self.protocol = protocol
        self._closing = False
        protocol.connection_made(self)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast("asyncio.Protocol", protocol)

    def write(self, data: Data) -> None:
        self.taken(bytes(data))

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        self.taken(b"".join(list_of_data))

    def taken(self, data: bytes) -> None:
        """Handle the written data as the peer would."""
        raise NotImplementedError

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    abort = close

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Provider(_Wire):
    """A connection to a server, which must answer each request with 200."""

    def __init__(self, protocol: asyncio.Protocol, answers: Tally) -> None:
        super().__init__(protocol)
        self._answers = answers

    def send(self, request: bytes) -> None:
        """Send a whole request."""
        self.protocol.data_received(request)

    def taken(self, data: bytes) -> None:
        """Count answers. Any status but 200 ends the turn."""
        if data.startswith(_ACCEPTED):
            self._answers.happened()
        elif data.startswith(b"HTTP/"):
            self._answers.failed(repr(data))


class Destination(_Wire):
    """A connection of a client: each POST is answered with an empty 200."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._request = b""
        super().__init__(protocol)

    def taken(self, data: bytes) -> None:
        """Answer a complete request in the next iteration of the event loop."""
        self._request += data
        head, _, body = self._request.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if length is not None and len(body) >= int(length[1]):
            self._request = b""
            asyncio.get_running_loop().call_soon(self.protocol.data_received, _REPLY)


class MemoryLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop, with in-process connections."""

    def __init__(self) -> None:
        super().__init__()
        #: Counts the answers of servers in this process.
        self.answers = Tally()
        self._providers: asyncio.Queue[Provider] = asyncio.Queue()

    async def providers(self, port: int, number: int) -> list[Provider]:
        """Open connections to a server of this process that listens on 127.0.0.1."""
        knocks = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
        opened = [await self._providers.get() for _ in knocks]
        for knock in knocks:
            knock.close()
        return opened

    async def connect_accepted_socket(self, protocol_factory: Factory, sock: socket.socket, **_: Any) -> Any:  # type: ignore[override]
        sock.close()
        provider = Provider(protocol_factory(), self.answers)
        self._providers.put_nowait(provider)
        return provider, provider.protocol

    async def sock_connect(self, sock: socket.socket, address: object) -> None:
        """Succeed without connecting."""

    async def create_connection(self, protocol_factory: Factory, *_: Any, **options: Any) -> Any:  # type: ignore[override]
        if "sock" in options:
            cast("socket.socket", options["sock"]).close()
        protocol = protocol_factory()
        return Destination(protocol), protocol

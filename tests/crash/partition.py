"""A TCP proxy between a gateway and its database that can be cut, silently or with resets."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_CHUNK = 65536
#: The value of SO_LINGER with which closing a socket sends a reset.
_RESET = struct.pack("ii", 1, 0)

#: `drop`: sent data is held back and arrives after the cut, as with TCP, which retransmits it. `refuse`:
#: connections are reset, and new ones are refused.
Cut = Literal["drop", "refuse"]


class Partition:
    """Forwards connections from `port` unless it is cut. Made with `partition`."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self.port = 0
        self._passable = asyncio.Event()
        self._passable.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Accept connections, on the same port each time."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self, how: Cut) -> None:
        """Forward nothing until `heal`."""
        if how == "drop":
            self._passable.clear()
        else:
            await self.close()

    async def heal(self) -> None:
        """Forward everything again."""
        self._passable.set()
        if self._server is None:
            await self.listen()

    async def close(self) -> None:
        """Reset all connections, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self._passable.set()
        if self._passing:
            await asyncio.wait(self._passing)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._passable.wait()
            with suppress(OSError):
                await self._pass_both_ways(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass_both_ways(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        self._writers.add(their_writer)
        ways = [
            asyncio.create_task(self._pass_on(reader, their_writer)),
            asyncio.create_task(self._pass_on(their_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers.discard(their_writer)
            their_writer.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await self._passable.wait()
                writer.write(chunk)
                await writer.drain()


@asynccontextmanager
async def partition(to_port: int) -> AsyncIterator[Partition]:
    """Run a proxy to a port of this machine."""
    way = Partition(to_port)
    await way.listen()
    try:
        yield way
    finally:
        await way.close()

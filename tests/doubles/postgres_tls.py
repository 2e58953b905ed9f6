"""A TLS server, as PostgreSQL clients expect it, in front of a PostgreSQL that was built without TLS."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl

#: The first bytes of a client that wants TLS: their length, and a number that is not a version.
_WANTS_TLS = struct.pack("!ii", 8, 80877103)


class TlsInFront:
    """`async with TlsInFront(server.port, context) as front:` forwards what arrives over TLS."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._to = port
        self._context = context
        #: The number of encrypted connections, and of those that continued without TLS.
        self.encrypted = 0
        self.refused = 0
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client reports this error
        finally:
            writer.close()
            self._open.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(8) != _WANTS_TLS:
            self.refused += 1
            return
        writer.write(b"S")
        await writer.start_tls(self._context)
        self.encrypted += 1
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            pumps = {
                asyncio.create_task(_pump(reader, to_server)),
                asyncio.create_task(_pump(from_server, writer)),
            }
            _, rest = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in rest:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            to_server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()

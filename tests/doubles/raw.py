"""HTTP as raw bytes, for requests that no client would send."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from gateways import Running


class Wire(NamedTuple):
    """A connection to the ingest listener."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> bytes:
        """Read one answer with a Content-Length. Returns its head and its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                return head + await self.reader.readexactly(int(line.split(b":")[1]))
        raise AssertionError(head)


@asynccontextmanager
async def connected(running: Running) -> AsyncIterator[Wire]:
    """Connect until the end of the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.ingest.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        # The gateway may have closed it already, as expected.
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(running: Running, sent: bytes, *, within: float = 5.0) -> bytes:
    """Send bytes unchanged, and read until the gateway closes the connection."""
    async with connected(running) as wire, asyncio.timeout(within):
        wire.writer.write(sent)
        try:
            return await wire.reader.read()
        except ConnectionResetError:
            return b""


def head(*lines: str, target: str = "/webhooks/mando", method: str = "POST", version: str = "1.1") -> bytes:
    """Write the head of a request."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: h", *lines, "", ""]).encode()


def request(body: bytes, *lines: str, target: str = "/webhooks/mando", **headers: str) -> bytes:
    """Write a whole request, including its Content-Length."""
    fields = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return head(f"Content-Length: {len(body)}", *lines, *fields, target=target) + body

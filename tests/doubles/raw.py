"""HTTP as bytes, for what no client would send."""

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
        """Read one answer with a Content-Length: its head and its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                return head + await self.reader.readexactly(int(line.split(b":")[1]))
        raise AssertionError(head)


@asynccontextmanager
async def connected(running: Running) -> AsyncIterator[Wire]:
    """Connect, and be gone at the end of the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.ingest.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        # It may have been closed from the other side, as it should be.
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(running: Running, sent: bytes, *, within: float = 5.0) -> bytes:
    """Send bytes as they are and read until the gateway closes."""
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
    """Write a whole request, its Content-Length included."""
    fields = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return head(f"Content-Length: {len(body)}", *lines, *fields, target=target) + body

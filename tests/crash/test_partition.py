"""The proxy between a gateway and its database: forwarding, cut silently, cut with resets, and healed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from crash.partition import Partition, partition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


@asynccontextmanager
async def way_to_an_echo() -> AsyncIterator[Partition]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, partition(server.sockets[0].getsockname()[1]) as way:
        yield way


async def open_through(way: Partition) -> Streams:
    return await asyncio.open_connection("127.0.0.1", way.port)


async def ask(streams: Streams, text: bytes) -> bytes:
    reader, writer = streams
    writer.write(text + b"\n")
    return await reader.readline()


async def test_data_passes_in_both_directions() -> None:
    async with way_to_an_echo() as way:
        streams = await open_through(way)
        assert await ask(streams, b"one") == b"one\n"
        streams[1].close()


async def test_data_sent_during_a_silent_cut_arrives_after_it() -> None:
    async with way_to_an_echo() as way:
        old = await open_through(way)
        assert await ask(old, b"one") == b"one\n"
        await way.cut("drop")
        new = await open_through(way)
        waiting = [asyncio.create_task(ask(streams, b"two")) for streams in (old, new)]
        done, _ = await asyncio.wait(waiting, timeout=0.2)
        assert not done

        await way.heal()

        assert await asyncio.gather(*waiting) == [b"two\n", b"two\n"]
        for _, writer in (old, new):
            writer.close()


async def test_a_refusing_cut_resets_connections_and_accepts_none() -> None:
    async with way_to_an_echo() as way:
        old = await open_through(way)
        assert await ask(old, b"one") == b"one\n"
        await way.cut("refuse")
        with pytest.raises(ConnectionResetError):
            await old[0].readline()
        with pytest.raises(ConnectionRefusedError):
            await open_through(way)

        await way.heal()

        new = await open_through(way)
        assert await ask(new, b"two") == b"two\n"
        for _, writer in (old, new):
            writer.close()

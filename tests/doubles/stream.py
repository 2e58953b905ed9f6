"""A client of the stream: parses server-sent events as the standard says (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp


class Entry(NamedTuple):
    """One event of the stream."""

    id: str
    kind: str
    data: dict[str, Any]


class Stream:
    """A stream that is read. `last_id` is what a browser would send when it comes back."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.last_id = ""
        self.comments: list[str] = []
        self._rest = b""

    async def next(self, *kinds: str, within: float = 10.0) -> Entry:
        """Return the next entry of these kinds; without kinds, the next entry."""
        async with asyncio.timeout(within):
            async for entry in self.entries():
                if not kinds or entry.kind in kinds:
                    return entry
        raise EOFError("the stream ended")

    async def take(self, number: int, *kinds: str) -> list[Entry]:
        """Return the next entries."""
        return [await self.next(*kinds) for _ in range(number)]

    async def until_comment(self, text: str, within: float = 10.0) -> None:
        """Read until a comment contains a text."""
        async with asyncio.timeout(within):
            while not any(text in comment for comment in self.comments):
                await self.read_block()

    async def live(self) -> None:
        """Read until the gateway has told the position, from which on nothing is missed."""
        async with asyncio.timeout(10.0):
            while not self.last_id:
                await self.read_block()

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield entries until the stream ends."""
        while True:
            try:
                entry = await self.read_block()
            except EOFError:
                return
            if entry is not None:
                yield entry

    async def read_block(self) -> Entry | None:
        """Read up to the next empty line. Return an entry, or None if there is none."""
        while b"\n\n" not in self._rest:
            more = await self.answer.content.readany()
            if not more:
                raise EOFError("the stream ended")
            self._rest += more
        block, _, self._rest = self._rest.partition(b"\n\n")
        fields: dict[str, str] = {}
        for line in block.decode().split("\n"):
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
            else:
                self.comments.append(value)
        self.last_id = fields.get("id", self.last_id)
        if "data" not in fields:
            return None
        return Entry(self.last_id, fields["event"], json.loads(fields["data"]))


@asynccontextmanager
async def reading(
    client: aiohttp.ClientSession,
    operator_url: str,
    query: str = "",
    *,
    after: str | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Stream]:
    """Open the stream. `query` is the part of the URL after the question mark."""
    sent = dict(headers or {}) | ({} if after is None else {"Last-Event-ID": after})
    timeout = aiohttp.ClientTimeout(total=None)
    url = f"{operator_url}/api/v1/stream?{query}"
    async with client.get(url, headers=sent, timeout=timeout) as answer:
        assert answer.status == 200, await answer.text()
        yield Stream(answer)

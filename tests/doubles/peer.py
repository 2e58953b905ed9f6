"""A destination that answers each request with raw bytes, piece by piece.

async with Peer([OK, [b"HTTP/1.1 2", 0.1, None]]) as peer:
    ...    # the first request on any connection gets OK, and every later one half a line
    assert peer.requests == [2]
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

#: A complete answer without a body.
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

#: An answer in pieces, with the seconds to wait between them. None closes the connection.
Pieces = bytes | None | Sequence[bytes | float | None]


class Peer:
    """The server. Use it as an async context manager."""

    def __init__(self, answers: Sequence[Pieces] = (OK,), *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._answers = list(answers)
        self._host = host
        self.port = port
        #: The number of requests on each connection, in the order in which the connections were opened.
        self.requests: list[int] = []
        #: The head of each request.
        self.heads: list[bytes] = []
        #: The open connections.
        self.writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The URL to post to."""
        return f"http://{self._host}:{self.port}/events"

    def say(self, *answers: Pieces) -> None:
        """Set the answers from now on, beginning with the first one."""
        self._answers = list(answers)

    def drop_all(self) -> None:
        """Reset every connection."""
        for writer in self.writers:
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drop_all()
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        number = len(self.requests)
        self.requests.append(0)
        self.writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                self.requests[number] += 1
                self.heads.append(head)
                answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                if not await _say(writer, answer):
                    break
        self._serving.discard(task)
        self.writers.discard(writer)
        writer.close()


async def _say(writer: asyncio.StreamWriter, answer: Pieces) -> bool:
    """Tell whether the connection stays open."""
    for piece in (answer,) if answer is None or isinstance(answer, bytes) else answer:
        if piece is None:
            return False
        if isinstance(piece, float):
            await asyncio.sleep(piece)
        else:
            writer.write(piece)
            await writer.drain()
    return True

"""Sends requests at a fixed rate, whether or not earlier requests have been answered (an open-loop
generator).

`python -m bench.steady PORT FILE RATE` sends the requests of a file (bench/signed.py) at moments that are
fixed in advance, with random gaps, as requests of many providers arrive. If no connection is free, it opens a
new one. It prints a line of JSON per request: when it was planned, sent and answered (seconds of the
machine's monotonic clock), and the status.
"""

from __future__ import annotations

import asyncio
import json
import random
import selectors
import sys
import time
from pathlib import Path
from typing import NamedTuple

_LEAD = 0.2
_ANSWERED_WITHIN = 30.0


class Answer(NamedTuple):
    """The times and the status of a request."""

    planned: float
    sent: float
    answered: float
    status: int


class _Connection(asyncio.Protocol):
    """Sends requests in sequence. Each answer must fit one read or have a Content-Length."""

    def __init__(self) -> None:
        self._read = b""
        self._answered: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes) -> asyncio.Future[int]:
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answered

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        if self._answered and end and len(body) >= _length(head):
            self._read = b""
            self._answered.set_result(int(head.split(b" ", 2)[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered and not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError())


def _length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in lines if name == b"content-length"), 0)


class Sender:
    """Sends to a port of this machine, over as many connections as needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[_Connection] = []

    async def send(self, request: bytes, planned: float) -> Answer:
        """Send at the planned moment, and return the result.

        Raises:
            ConnectionError: the connection broke.
        """
        await asyncio.sleep(planned - time.monotonic())
        sent = time.monotonic()
        connection = self._free.pop() if self._free else await self._connect()
        status = await connection.send(request)
        answered = time.monotonic()
        self._free.append(connection)
        return Answer(planned, sent, answered, status)

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._free:
            connection.close()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection


def plan(count: int, rate: float, start: float) -> list[float]:
    """Return the moments of a Poisson process that begins at `start`. They are the same each time."""
    drawn = random.Random(count)  # noqa: S311 - gaps, no secrets
    moments = [start]
    while len(moments) < count:
        moments.append(moments[-1] + drawn.expovariate(rate))
    return moments


def requests(file: Path) -> list[bytes]:
    """Read a file that bench/signed.py wrote."""
    head, _, rest = file.read_bytes().partition(b"\n")
    length, count = map(int, head.split())
    return [rest[number * length : (number + 1) * length] for number in range(count)]


async def run(port: int, file: Path, rate: float) -> list[Answer]:
    """Send all requests of a file at `rate` per second."""
    sender, waiting = Sender(port), requests(file)
    moments = plan(len(waiting), rate, time.monotonic() + _LEAD)
    try:
        async with asyncio.timeout(len(waiting) / rate * 2 + _ANSWERED_WITHIN):
            return await asyncio.gather(*map(sender.send, waiting, moments))
    finally:
        sender.close()


def main() -> None:
    """Send the requests, and print the results."""
    port, file, rate = sys.argv[1:]
    # select(2) waits with microsecond precision; epoll and uvloop round to milliseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        answers = runner.run(run(int(port), Path(file), float(rate)))
    sys.stdout.writelines(json.dumps(answer) + "\n" for answer in answers)


if __name__ == "__main__":
    main()

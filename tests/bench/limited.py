"""Destinations for the benchmark of concurrency: each reply takes a while, or only so many run at a time.

The program prints its port. The path selects what a destination does with requests that arrive together:

- `/…/fast`: replies at once.
- `/…/takes/MS`: replies after some milliseconds, however many requests there are.
- `/…/queues/AT_ONCE/MS`: handles so many at a time, and the rest wait.
- `/…/refuses/AT_ONCE/MS`: answers 429 at once when so many are in progress.

`GET` of a path returns its figures since the last `GET`, as JSON: see `Figures`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import cast

import uvloop

_RECEIVED = re.compile(rb'"receivedtime":"([^"]+)"')
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_REFUSED = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"
#: One in so many requests is timed.
_TIMED = 8


class Figures:
    """What one path saw."""

    def __init__(self) -> None:
        self.ok = self.refused = self.most = 0
        self.first = self.last = 0.0
        #: Seconds from when the gateway received an event until it arrived here, of some of the events.
        self.lags: list[float] = []

    def saw(self, body: bytes) -> None:
        self.ok += 1
        self.last = time.monotonic()
        self.first = self.first or self.last
        if self.ok % _TIMED == 0 and (found := _RECEIVED.search(body)):
            at = datetime.fromisoformat(found[1].decode()).timestamp()
            self.lags.append(time.time() - at)


class App:
    """What answers on one path."""

    def __init__(self, kind: str, at_once: int = 0, milliseconds: float = 0.0) -> None:
        self.figures = Figures()
        self._kind, self._at_once, self._seconds = kind, at_once, milliseconds / 1000
        self._running = 0
        self._waiting: deque[Callable[[bytes], None]] = deque()
        self._in_progress = 0

    def handle(self, body: bytes, answer: Callable[[bytes], None]) -> None:
        if self._kind == "refuses" and self._in_progress >= self._at_once:
            self.figures.refused += 1
            answer(_REFUSED)
            return
        self.figures.saw(body)
        self._in_progress += 1
        self.figures.most = max(self.figures.most, self._in_progress)
        if self._kind == "queues" and self._running >= self._at_once:
            self._waiting.append(answer)
            return
        self._begin(answer)

    def _begin(self, answer: Callable[[bytes], None]) -> None:
        if not self._seconds:
            self._in_progress -= 1
            answer(_OK)
            return
        self._running += 1
        asyncio.get_running_loop().call_later(self._seconds, self._end, answer)

    def _end(self, answer: Callable[[bytes], None]) -> None:
        self._running -= 1
        self._in_progress -= 1
        answer(_OK)
        if self._waiting:
            self._begin(self._waiting.popleft())


_APPS: dict[str, App] = {}


def _app(path: str) -> App:
    if path not in _APPS:
        _, _, kind, *numbers = path.split("/")
        match [float(one) for one in numbers]:
            case [milliseconds]:
                _APPS[path] = App(kind, milliseconds=milliseconds)
            case [at_once, milliseconds]:
                _APPS[path] = App(kind, int(at_once), milliseconds)
            case _:
                _APPS[path] = App(kind)
    return _APPS[path]


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        method, path, _ = head.split(b" ", 2)
        length = _LENGTH.search(head)
        if length and len(body) < int(length[1]):
            return
        self._read = b""
        app = _app(path.decode())
        if method == b"POST":
            app.handle(body, self._answer)
            return
        text = json.dumps(vars(app.figures)).encode()
        app.figures = Figures()
        self._answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))

    def _answer(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply)


async def main() -> None:
    """Serve until the process is terminated."""
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())

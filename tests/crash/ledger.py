"""What sender and destination saw, one line each, on disk before anybody relies on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self, TypeVar

import msgspec

Line = TypeVar("Line")


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of one request to the gateway."""

    id: str
    #: Of the id and the padding: what every copy of this event has to carry.
    sha: str
    #: 0: no answer came, so nobody knows what became of it.
    status: int
    #: `accepted` or `duplicate` with a 2xx.
    outcome: str
    #: Unix seconds.
    t0: float
    t1: float
    #: The gateway process that it was sent to, counted from 1.
    life: int

    @property
    def acknowledged(self) -> bool:
        """Whether the gateway promised to keep it."""
        return 200 <= self.status < 300


class Reception(msgspec.Struct, frozen=True):
    """A request that a destination got, written down before it is answered."""

    id: str
    #: The idempotency key.
    key: str
    attempt: int
    #: Computed from what came.
    sha: str
    #: What it is answered with; 0: nothing, within the gateway's patience.
    answer: int
    at: float

    @property
    def taken(self) -> bool:
        """Whether the destination acts on it."""
        return 200 <= self.answer < 300


class Ledger:
    """A file of lines. Those that wait together share an fsync."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[bytes] = []
        self._turn = asyncio.Lock()

    async def write(self, line: msgspec.Struct) -> None:
        """Return when the line is on disk."""
        self._waiting.append(msgspec.json.encode(line) + b"\n")
        async with self._turn:
            # Whoever had the turn before may have written this one along with its own.
            if lines := b"".join(self._waiting):
                self._waiting.clear()
                await asyncio.to_thread(self._append, lines)

    def _append(self, lines: bytes) -> None:
        os.write(self._file, lines)
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path, kind: type[Line]) -> Iterator[Line]:
    """Read a ledger. A last line without an end was never relied on."""
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield decoder.decode(line)

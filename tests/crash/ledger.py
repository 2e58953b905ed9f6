"""The logs of sender and destination, one line per observation, synced before anything depends on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self, TypeVar

import msgspec

Line = TypeVar("Line")


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of one request to the gateway."""

    id: str
    #: The digest of id and padding, which every copy of this event must have.
    sha: str
    #: 0: there was no answer, so it is unknown whether the event was stored.
    status: int
    #: `accepted` or `duplicate` for a 2xx.
    outcome: str
    #: Unix seconds.
    t0: float
    t1: float
    #: The gateway process that received it, counted from 1.
    life: int

    @property
    def acknowledged(self) -> bool:
        """Whether the gateway acknowledged it."""
        return 200 <= self.status < 300


class Reception(msgspec.Struct, frozen=True):
    """A request that a destination received, recorded before the reply."""

    id: str
    #: The idempotency key.
    key: str
    attempt: int
    #: Computed from the received data.
    sha: str
    #: The status of the reply. 0: no reply within the gateway's timeout.
    answer: int
    at: float

    @property
    def taken(self) -> bool:
        """Whether the destination accepted it."""
        return 200 <= self.answer < 300


class Ledger:
    """A file of lines. Lines that wait at the same time share an fsync."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[bytes] = []
        self._turn = asyncio.Lock()

    async def write(self, line: msgspec.Struct) -> None:
        """Write a line, and return when it is synced to disk."""
        self._waiting.append(msgspec.json.encode(line) + b"\n")
        async with self._turn:
            # The previous writer may have written this line together with its own.
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
    """Read a ledger. An incomplete last line is ignored, because nothing depended on it."""
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield decoder.decode(line)

"""What gateways tell each other: that something at a destination is due, paused or resumed.

Only a hint, and only for what a person asked for: a NOTIFY takes a lock on the whole database at its commit,
and what it would tell is found by looking. One connection listens, made again when it is lost.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from gatehouse.errors import StoreError
from gatehouse.store.postgres.errors import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gatehouse.store.postgres.connecting import Connection

_CHANNEL: Final = "gatehouse"
#: $1: the destinations.
NOTIFY: Final = f"SELECT pg_notify('{_CHANNEL}', name) FROM unnest($1::text[]) AS name"  # noqa: S608 - of a constant
_PAUSE: Final = 1.0
#: A connection that is lost without a word is found by asking (seconds).
_ASK_EVERY: Final = 15.0
_ANSWER_WITHIN: Final = 5.0


class Hints:
    """Listens, and passes on what it hears."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._listeners: list[Callable[[str], None]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, changed: Callable[[str], None]) -> None:
        """Call this with the destination of every hint from now on."""
        self._listeners.append(changed)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="store hints")

    async def close(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            with suppress(StoreError, *DRIVER_ERRORS):
                await self._listen()
            await asyncio.sleep(_PAUSE)

    async def _listen(self) -> None:
        connection = await self._connect()
        try:
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(_CHANNEL, self._heard)
            while not ended.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ASK_EVERY):
                        await ended.wait()
                if not ended.is_set():
                    await connection.fetchval("SELECT 1", timeout=_ANSWER_WITHIN)
        finally:
            connection.terminate()

    def _heard(self, *heard: Any) -> None:  # noqa: ANN401 - the connection, the process, the channel, the payload
        for changed in self._listeners:
            changed(heard[3])

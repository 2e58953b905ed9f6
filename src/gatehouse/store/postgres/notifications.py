"""Notifies other gateways that deliveries to a destination are due, or that it was paused or resumed.

A notification is only a hint, and only for what an operator asked for: NOTIFY locks the whole database at
commit, and gateways find due deliveries by polling anyway. One connection listens. It is opened again when it
is lost.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from gatehouse.errors import StoreError
from gatehouse.store.postgres.connection import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gatehouse.store.postgres.connection import Connection

_CHANNEL: Final = "gatehouse"
#: $1: the destinations.
NOTIFY: Final = f"SELECT pg_notify('{_CHANNEL}', name) FROM unnest($1::text[]) AS name"  # noqa: S608 - of a constant
#: How long to wait before the next connection (seconds).
_PAUSE: Final = 1.0
#: How often a query checks whether the connection still works (seconds).
_CHECK_EVERY: Final = 15.0
_CHECK_TIMEOUT: Final = 5.0


class Notifications:
    """Listens for notifications, and passes them on."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._listeners: list[Callable[[str], None]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, changed: Callable[[str], None]) -> None:
        """Call `changed` with the destination of each notification from now on."""
        self._listeners.append(changed)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="store hints")

    async def close(self) -> None:
        """Stop listening."""
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
            await connection.add_listener(_CHANNEL, self._notify)
            while not ended.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CHECK_EVERY):
                        await ended.wait()
                if not ended.is_set():
                    await connection.fetchval("SELECT 1", timeout=_CHECK_TIMEOUT)
        finally:
            connection.terminate()

    def _notify(self, *arguments: Any) -> None:  # noqa: ANN401 - connection, process, channel, text
        destination = arguments[3]
        for changed in self._listeners:
            changed(destination)

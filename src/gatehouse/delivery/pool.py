"""The connections to one destination: those that are free are used again, and for how long."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import aiohttp

from gatehouse.delivery.wire import Wire

if TYPE_CHECKING:
    from gatehouse.delivery.destination import Destination

#: Seconds. Shorter than app servers keep idle connections for: they shall not close one that we are about to
#: use.
_KEEP_ALIVE: Final = 4.0


class Pool:
    """Opens connections to a destination, as many as are asked for at a time, and keeps them for a while."""

    def __init__(self, destination: Destination, session: aiohttp.ClientSession) -> None:
        self._session = session
        #: How long it may take to connect, in all.
        self._timeout = aiohttp.ClientTimeout(connect=destination.timeout)
        #: The longest free one first.
        self._free: deque[Wire] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    async def take(self, target: aiohttp.ClientRequest) -> Wire:
        """Return a connection for this request. Raises aiohttp's errors of connecting."""
        oldest = asyncio.get_running_loop().time() - _KEEP_ALIVE
        while self._free:
            wire = self._free.pop()
            if wire.is_usable and wire.free_since > oldest:
                return wire
            wire.hang_up()
        connector = self._session.connector
        assert connector is not None, "the session is closed"  # noqa: S101
        return Wire(await connector.connect(target, [], self._timeout))

    def give_back(self, wire: Wire) -> None:
        """Keep a connection, if it can be used again."""
        if not wire.is_usable:
            wire.hang_up()
            return
        loop = asyncio.get_running_loop()
        wire.free_since = loop.time()
        self._free.append(wire)
        if self._sweeper is None:
            self._sweeper = loop.call_later(_KEEP_ALIVE, self._sweep)

    def _sweep(self) -> None:
        """Close what was not used for so long that the other side may close it."""
        loop = asyncio.get_running_loop()
        while self._free and self._free[0].free_since <= loop.time() - _KEEP_ALIVE:
            self._free.popleft().hang_up()
        self._sweeper = loop.call_later(_KEEP_ALIVE, self._sweep) if self._free else None

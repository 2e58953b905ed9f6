"""The connections to one destination: those that are free are used again, and for how long."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING, Final

import aiohttp

from gatehouse.delivery.faults import LateError
from gatehouse.delivery.wire import Wire

if TYPE_CHECKING:
    from gatehouse.delivery.destination import Destination

#: Seconds. Shorter than app servers keep idle connections for: they shall not close one that we are about to
#: use.
_KEEP_ALIVE: Final = 4.0
#: Of its greatest age, how much a connection reaches: a random part between these.
_SPREAD: Final = (0.8, 1.0)
#: Seconds that a connection still gets to stand when its time is over.
_GRACE: Final = 0.002
_NO_LIMIT: Final = aiohttp.ClientTimeout()


class Pool:
    """Opens connections to a destination, as many as are asked for at a time, and keeps them for a while."""

    def __init__(self, destination: Destination, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._max_age = destination.max_connection_age
        #: The longest free one first.
        self._free: deque[Wire] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    def take(self) -> Wire | None:
        """Return a connection that was used before, if one is free."""
        now = asyncio.get_running_loop().time()
        while self._free:
            wire = self._free.pop()
            if wire.is_usable and wire.free_since > now - _KEEP_ALIVE and wire.expires > now:
                return wire
            wire.hang_up()
        return None

    async def open(self, target: aiohttp.ClientRequest, until: float) -> Wire:
        """Open a connection for this request. Raises aiohttp's errors of connecting, and `TimeoutError`."""
        connector = self._session.connector
        assert connector is not None, "the session is closed"  # noqa: S101
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                # Not at once: some event loops run timers before they see that a connection stands.
                timer = loop.call_at(until, lambda: limit.reschedule(loop.time() + _GRACE))
                try:
                    connection = await connector.connect(target, [], _NO_LIMIT)
                finally:
                    timer.cancel()
        except TimeoutError as error:
            raise LateError("no connection in time") from error
        # Not all of them at once: the destination's next address would get them in one moment.
        return Wire(connection, loop.time() + self._max_age * random.uniform(*_SPREAD))  # noqa: S311

    def give_back(self, wire: Wire) -> None:
        """Keep a connection, if it can be used again."""
        wire.finish()
        loop = asyncio.get_running_loop()
        wire.free_since = loop.time()
        if not wire.is_usable or wire.expires <= wire.free_since:
            wire.hang_up()
            return
        self._free.append(wire)
        if self._sweeper is None:
            self._sweeper = loop.call_later(_KEEP_ALIVE, self._sweep)

    def clear(self) -> None:
        """Close the connections that are free."""
        while self._free:
            self._free.pop().hang_up()

    def _sweep(self) -> None:
        """Close what was not used for so long that the other side may close it."""
        loop = asyncio.get_running_loop()
        while self._free and self._free[0].free_since <= loop.time() - _KEEP_ALIVE:
            self._free.popleft().hang_up()
        self._sweeper = loop.call_later(_KEEP_ALIVE, self._sweep) if self._free else None

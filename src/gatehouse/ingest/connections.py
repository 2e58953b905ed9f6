"""The connections of providers: how many there are, and how they end."""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Final

from gatehouse.ingest.admission import Admission
from gatehouse.ingest.connection import Connection
from gatehouse.ingest.link import Lines

if TYPE_CHECKING:
    from gatehouse.ingest.awake import AwakeClock
    from gatehouse.ingest.connection import Answers

#: File descriptors that are kept for the store, for destinations and for operators.
_RESERVED: Final = 512
#: How many connections are taken at once when there is no room. Until others are gone, they use those.
_LEAST_AT_ONCE: Final = 64


class Connections:
    """Makes connections, and has others make room for new ones.

    Whoever has been idle longest goes first, then those that are answered and stay only to see it, then
    whoever has been sending its request longest (see `Lines`): genuine requests arrive within moments, so
    a flood of slow ones crowds out itself. What is complete and worked on stays.
    """

    def __init__(self, answers: Answers, clock: AwakeClock, *, most: int, idle_timeout: float) -> None:
        self._answers = answers
        self.clock = clock
        self._loop = asyncio.get_running_loop()
        self._admission = Admission(self._loop.time)
        #: Those that are open, or have a request under way.
        self._open: dict[Connection, None] = {}
        self.lines = Lines()
        self.use(most=most, idle_timeout=idle_timeout)

    def use(self, *, most: int, idle_timeout: float) -> None:
        """Allow this many connections and this much idleness (seconds) from the next connection on."""
        self._most, self._idle_timeout = most, idle_timeout

    def __call__(self) -> Connection:
        """Make the protocol of a connection."""
        return Connection(self, self._answers, self._admission, self._idle_timeout, self._loop)

    def connection_made(self, newcomer: Connection) -> bool:
        """Count a connection; one too many takes the place of another. Returns whether there is a place."""
        self._open[newcomer] = None
        return len(self._open) <= self._most or self.lines.make_room()

    def room(self) -> int:
        """Return how many newcomers may be taken at once: for some of them others have to go first."""
        return max(_LEAST_AT_ONCE, self._most - len(self._open))

    def forget(self, connection: Connection) -> None:
        """Count one less: it is closed, and nothing of it is under way."""
        self._open.pop(connection, None)

    async def stop(self, grace: float) -> None:
        """Let requests under way finish within `grace` seconds, and end all connections."""
        for connection in self._open:
            connection.close()
        under_way = [connection.serving for connection in self._open if connection.serving]
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        for connection in tuple(self._open):
            if connection.transport is not None:
                connection.hang_up()


def allowed_connections(wanted: int) -> int:
    """Return how many connections the limit on open files leaves room for; it is raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _RESERVED
    if soft < needed and soft != resource.RLIM_INFINITY:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    # Of a limit that is very low, half.
    return max(soft - _RESERVED, soft // 2)

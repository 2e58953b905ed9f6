"""Accepts connections from providers, and limits how many are open.

uvloop's own server accepts one connection per iteration of the event loop. Under load an iteration takes
long, so a few hundred new connections would wait for many seconds. The kernel drops some of them meanwhile,
and their clients come back even later.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from typing import TYPE_CHECKING, Final

from gatehouse.ingest.base_connection import Admission, EvictionQueues
from gatehouse.ingest.connection import Connection
from gatehouse.network.sockets import bind, bind_unix, remove_unix_socket
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.ingest.awake_clock import AwakeClock
    from gatehouse.ingest.connection import Handlers

#: Bytes that the kernel takes of a connection before they are read; so one read gives no more either. What a
#: thousand of them send at once is in memory before anybody is asked. (Linux doubles it.)
_RECEIVE_BUFFER: Final = 64 * 1024
#: No sender has more than that on its way at once. Of a long body it is a share, so that it arrives in time.
_SHARE: Final = 16
#: How many connections may wait in the kernel. Its own limit (net.core.somaxconn) holds if it is lower.
_BACKLOG: Final = 4096
#: How many are taken in one turn.
_MAX_ACCEPTS: Final = 1024
#: What a process that has no file descriptors or no memory left gets.
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
#: Seconds until it tries again.
_PAUSE: Final = 1.0


class Listener:
    """Accepts connections on an address, each with a protocol of its own."""

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        max_body: int,
        free_slots: Callable[[], int] = lambda: _MAX_ACCEPTS,
    ) -> None:
        self._make_protocol = make_protocol
        self._free_slots = free_slots
        self._receive_buffer = max(_RECEIVE_BUFFER, max_body // _SHARE)
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that is listened on, the first of several; 0 when none is."""
        return next((int(one.getsockname()[1]) for one in self._sockets if one.family != socket.AF_UNIX), 0)

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen on every address that the host has, perhaps together with other processes.

        An empty host has all addresses of this machine, of IPv4 and of IPv6. Another call adds more. Returns
        the port. Raises `OSError` when an address can't be had; then nothing is listened on.
        """
        try:
            sockets = await bind(host, port, shared=shared)
            for one in sockets:
                self._listen(one)
            return int(sockets[0].getsockname()[1])
        except BaseException:
            await self.stop()
            raise

    async def start_unix(self, path: str) -> None:
        """Listen on a path in the file system, which whoever may write there can open. Raises `OSError`."""
        try:
            self._listen(bind_unix(path))
        except BaseException:
            await self.stop()
            raise

    def _listen(self, server_socket: socket.socket) -> None:
        self._sockets.append(server_socket)
        server_socket.listen(_BACKLOG)
        # Connections inherit them.
        server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        if server_socket.family != socket.AF_UNIX:
            server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            server_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server_socket.setblocking(False)
        self._loop.add_reader(server_socket, self._accept, server_socket)

    async def stop(self) -> None:
        """Listen no more. Connections that were accepted stay. Idempotent."""
        sockets, self._sockets = self._sockets, []
        for server_socket in sockets:
            self._loop.remove_reader(server_socket)
            if server_socket.family == socket.AF_UNIX:
                remove_unix_socket(server_socket)
            else:
                server_socket.close()
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _accept(self, server_socket: socket.socket) -> None:
        for _ in range(min(_MAX_ACCEPTS, self._free_slots())):
            try:
                accepted, _ = server_socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(server_socket, error)
                    return
                continue  # whoever it was is gone already
            accepted.setblocking(False)
            task = self._loop.create_task(self._connect(accepted))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, accepted)
        except OSError:
            accepted.close()

    def _pause(self, server_socket: socket.socket, error: OSError) -> None:
        """Try again later: the socket stays readable, and asking at once would be a busy loop."""
        get_logger().error("http.error", error=errno.errorcode.get(error.errno or 0), where="accept")
        self._loop.remove_reader(server_socket)
        self._loop.call_later(_PAUSE, self._resume, server_socket)

    def _resume(self, server_socket: socket.socket) -> None:
        if server_socket in self._sockets:
            self._loop.add_reader(server_socket, self._accept, server_socket)


#: File descriptors that are kept for the store, for destinations and for operators.
_RESERVED: Final = 512
#: How many connections are taken at once when there is no room. Until others are gone, they use those.
_MIN_ACCEPTS: Final = 64


class OpenConnections:
    """Makes connections, and has others make room for new ones.

    Whoever has been idle longest goes first, then those that are answered and stay only to see it, then
    whoever has been sending its request longest (see `Lines`): genuine requests arrive within moments, so
    a flood of slow ones crowds out itself. What is complete and worked on stays.
    """

    def __init__(self, answers: Handlers, clock: AwakeClock, *, most: int, idle_timeout: float) -> None:
        self._handlers = answers
        self.clock = clock
        self._loop = asyncio.get_running_loop()
        self._admission = Admission(self._loop.time)
        #: Those that are open, or have a request under way.
        self._open: dict[Connection, None] = {}
        self.queues = EvictionQueues()
        self.configure(most=most, idle_timeout=idle_timeout)

    def configure(self, *, most: int, idle_timeout: float) -> None:
        """Allow this many connections and this much idleness (seconds) from the next connection on."""
        self._most, self._idle_timeout = most, idle_timeout

    def __call__(self) -> Connection:
        """Make the protocol of a connection."""
        return Connection(self, self._handlers, self._admission, self._idle_timeout, self._loop)

    def connection_made(self, newcomer: Connection) -> bool:
        """Count a connection; one too many takes the place of another. Returns whether there is a place."""
        self._open[newcomer] = None
        return len(self._open) <= self._most or self.queues.evict_one()

    def free_slots(self) -> int:
        """Return how many newcomers may be taken at once: for some of them others have to go first."""
        return max(_MIN_ACCEPTS, self._most - len(self._open))

    def remove(self, connection: Connection) -> None:
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
                connection.close_after_flush()


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

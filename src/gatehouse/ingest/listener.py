"""Accepts connections from providers, and limits how many are open.

uvloop's own server accepts one connection per iteration of the event loop. Under load an iteration takes
long, so a few hundred new connections would wait for many seconds. The kernel drops some of them meanwhile,
and their clients reconnect even later.
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

#: Bytes that the kernel buffers for a connection, and so the most that one read returns. When a thousand
#: clients send at once, this much arrives from each before the gateway can refuse anything. (Linux doubles
#: the value.)
_RECEIVE_BUFFER: Final = 64 * 1024
#: A larger body limit gets a larger buffer, this fraction of the limit, so that a long body arrives in time.
_BODY_FRACTION: Final = 16
#: How many connections may wait in the kernel. A lower limit of the kernel (net.core.somaxconn) takes
#: precedence.
_BACKLOG: Final = 4096
#: How many connections are accepted in one iteration of the event loop.
_MAX_ACCEPTS: Final = 1024
#: The errors when the process has no file descriptors or no memory left.
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
#: Seconds until the listener accepts again after such an error.
_PAUSE: Final = 1.0
#: File descriptors that are reserved for the store, the destinations and the operator server.
_RESERVED: Final = 1024
#: How many connections are accepted at once when there is no room. They use reserved descriptors until other
#: connections are closed.
_MIN_ACCEPTS: Final = 64


class Listener:
    """Accepts connections on its addresses and creates a protocol for each."""

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        max_body: int,
        free_slots: Callable[[], int] = lambda: _MAX_ACCEPTS,
    ) -> None:
        self._make_protocol = make_protocol
        self._free_slots = free_slots
        self._receive_buffer = max(_RECEIVE_BUFFER, max_body // _BODY_FRACTION)
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port of the first socket; 0 when there is none."""
        return next(
            (int(sock.getsockname()[1]) for sock in self._sockets if sock.family != socket.AF_UNIX), 0
        )

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen on every address of a host. With `shared`, other processes may listen on the same port.

        An empty host means all IPv4 and IPv6 addresses of this machine. Further calls add addresses. Returns
        the port. Raises `OSError` when an address is not available; then the listener stops.
        """
        try:
            sockets = await bind(host, port, shared=shared)
            for sock in sockets:
                self._listen(sock)
            return int(sockets[0].getsockname()[1])
        except BaseException:
            await self.stop()
            raise

    async def start_unix(self, path: str) -> None:
        """Listen on a Unix socket. Connecting requires write access to the path. Raises `OSError`."""
        try:
            self._listen(bind_unix(path))
        except BaseException:
            await self.stop()
            raise

    def _listen(self, server_socket: socket.socket) -> None:
        self._sockets.append(server_socket)
        server_socket.listen(_BACKLOG)
        # Accepted connections inherit these options.
        server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        if server_socket.family != socket.AF_UNIX:
            server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            server_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server_socket.setblocking(False)
        self._loop.add_reader(server_socket, self._accept, server_socket)

    async def stop(self) -> None:
        """Stop listening. Accepted connections stay open. Idempotent."""
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
                continue  # the client has already closed the connection
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
        """Accept again later: the socket stays readable, so an immediate retry would be a busy loop."""
        get_logger().error("http.error", error=errno.errorcode.get(error.errno or 0), where="accept")
        self._loop.remove_reader(server_socket)
        self._loop.call_later(_PAUSE, self._resume, server_socket)

    def _resume(self, server_socket: socket.socket) -> None:
        if server_socket in self._sockets:
            self._loop.add_reader(server_socket, self._accept, server_socket)


class OpenConnections:
    """Creates connections, counts them, and closes old ones to make room for new ones.

    The connections that have been idle longest are closed first. Then follow those that are answered and
    only wait for the client to read the answer, and last those that have been sending their request longest
    (see `EvictionQueues`). Genuine requests arrive within moments, so a flood of slow senders displaces
    itself. A complete request that is processed is never evicted.
    """

    def __init__(self, handlers: Handlers, clock: AwakeClock, *, max_open: int, idle_timeout: float) -> None:
        self._handlers = handlers
        self.clock = clock
        self._loop = asyncio.get_running_loop()
        self._admission = Admission(self._loop.time)
        #: Connections that are open or have a request in progress.
        self._open: dict[Connection, None] = {}
        self.queues = EvictionQueues()
        self.configure(max_open=max_open, idle_timeout=idle_timeout)

    def configure(self, *, max_open: int, idle_timeout: float) -> None:
        """Set the limit on connections and the idle timeout (seconds) for new connections."""
        self._max_open, self._idle_timeout = max_open, idle_timeout

    def __call__(self) -> Connection:
        """Create the protocol of a new connection."""
        return Connection(self, self._handlers, self._admission, self._idle_timeout, self._loop)

    def connection_made(self, connection: Connection) -> bool:
        """Add a connection; above the limit it takes the place of another one.

        Return whether there is room.
        """
        self._open[connection] = None
        return len(self._open) <= self._max_open or self.queues.evict_one()

    def free_slots(self) -> int:
        """Return how many connections may be accepted at once. Some may need others to be closed."""
        return max(_MIN_ACCEPTS, self._max_open - len(self._open))

    def remove(self, connection: Connection) -> None:
        """Remove a connection that is closed and has no request in progress."""
        self._open.pop(connection, None)

    async def stop(self, grace: float) -> None:
        """Wait up to `grace` seconds for the requests in progress, then close all connections."""
        for connection in self._open:
            connection.close()
        in_progress = [connection.serving_task for connection in self._open if connection.serving_task]
        if in_progress:
            _, late = await asyncio.wait(in_progress, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        for connection in tuple(self._open):
            if connection.transport is not None:
                connection.close_after_flush()


def allowed_connections(wanted: int) -> int:
    """Return how many connections the limit on open files allows.

    Raises the soft limit as far as possible.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _RESERVED
    if soft < needed and soft != resource.RLIM_INFINITY:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    # Half of a very low limit.
    return max(soft - _RESERVED, soft // 2)

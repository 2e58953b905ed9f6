"""Listening: connections are taken from the kernel as fast as they come.

uvloop's own server takes one per turn of the event loop. Under load a turn is long, so that a few hundred new
connections would wait for many seconds, and what the kernel drops meanwhile comes back later still.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final

from gatehouse.network.listening import bound, bound_to_path, unbind_path
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes that the kernel takes of a connection before they are read; so one read gives no more either. What a
#: thousand of them send at once is in memory before anybody is asked. (Linux doubles it.)
_RECEIVE_BUFFER: Final = 64 * 1024
#: No sender has more than that on its way at once. Of a long body it is a share, so that it arrives in time.
_SHARE: Final = 16
#: How many connections may wait in the kernel. Its own limit (net.core.somaxconn) holds if it is lower.
_BACKLOG: Final = 4096
#: How many are taken in one turn.
_AT_ONCE: Final = 1024
#: What a process that has no file descriptors or no memory left gets.
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
#: Seconds until it tries again.
_REST: Final = 1.0


class Listener:
    """Accepts connections on an address, each with a protocol of its own."""

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        max_body: int,
        room: Callable[[], int] = lambda: _AT_ONCE,
    ) -> None:
        self._make_protocol = make_protocol
        self._room = room
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
            sockets = await bound(host, port, shared=shared)
            for one in sockets:
                self._listen(one)
            return int(sockets[0].getsockname()[1])
        except BaseException:
            await self.stop()
            raise

    async def start_unix(self, path: str) -> None:
        """Listen on a path in the file system, which whoever may write there can open. Raises `OSError`."""
        try:
            self._listen(bound_to_path(path))
        except BaseException:
            await self.stop()
            raise

    def _listen(self, listening: socket.socket) -> None:
        self._sockets.append(listening)
        listening.listen(_BACKLOG)
        # Connections inherit them.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        if listening.family != socket.AF_UNIX:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setblocking(False)
        self._loop.add_reader(listening, self._accept, listening)

    async def stop(self) -> None:
        """Listen no more. Connections that were accepted stay. Idempotent."""
        sockets, self._sockets = self._sockets, []
        for listening in sockets:
            self._loop.remove_reader(listening)
            if listening.family == socket.AF_UNIX:
                unbind_path(listening)
            else:
                listening.close()
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(min(_AT_ONCE, self._room())):
            try:
                accepted, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(listening, error)
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

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        """Try again later: the socket stays readable, and asking at once would be a busy loop."""
        get_logger().error("http.error", error=errno.errorcode.get(error.errno or 0), where="accept")
        self._loop.remove_reader(listening)
        self._loop.call_later(_REST, self._go_on, listening)

    def _go_on(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

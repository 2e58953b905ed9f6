"""Listening: connections are taken from the kernel as fast as they come.

uvloop's own server takes one per turn of the event loop. Under load a turn is long, so that a few hundred new
connections would wait for many seconds, and what the kernel drops meanwhile comes back later still.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final

from gatehouse.log import get_logger

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

    def __init__(self, make_protocol: Callable[[], asyncio.BaseProtocol], max_body: int) -> None:
        self._make_protocol = make_protocol
        self._receive_buffer = max(_RECEIVE_BUFFER, max_body // _SHARE)
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that is listened on; 0 when none is."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else 0

    async def start(self, host: str, port: int, *, shared: bool = False) -> None:
        """Listen on every address that the host has, perhaps together with other processes.

        Raises `OSError` when one can't be had.
        """
        found = await self._loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        try:
            for family, address in dict.fromkeys((family, address) for family, *_, address in found):
                listening = socket.create_server(address, family=family, backlog=_BACKLOG, reuse_port=shared)
                self._sockets.append(listening)
                # Connections inherit them.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                listening.setblocking(False)
                self._loop.add_reader(listening, self._accept, listening)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Listen no more. Connections that were accepted stay. Idempotent."""
        sockets, self._sockets = self._sockets, []
        for listening in sockets:
            self._loop.remove_reader(listening)
            listening.close()
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
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

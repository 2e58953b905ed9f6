"""The port that the workers share."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatehouse.config.scalars import Address


class SharedPort:
    """Holds a port for the workers: nobody else gets it while they start, end, and start again.

    Each worker listens on a socket of its own, with SO_REUSEPORT, and the kernel shares the connections out.
    That of a worker that ends is gone with it, so that no connection waits for one that is not there.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    @property
    def port(self) -> int:
        """The port; what 0 became."""
        return int(self._held[0].getsockname()[1])

    async def hold(self, listen: Address) -> None:
        """Take the port on every address that the host has. Raises `OSError` when it can't be had."""
        found = await asyncio.get_running_loop().getaddrinfo(
            listen.host or None, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        try:
            for family, address in dict.fromkeys((family, address) for family, *_, address in found):
                self._hold(family, address)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let the port go."""
        for held in self._held:
            held.close()
        self._held.clear()

    def _hold(self, family: int, address: Any) -> None:  # noqa: ANN401 - as sockets have them
        if address[1] == 0 and self._held:
            address = (address[0], self.port, *address[2:])
        if address[1]:
            # Who shares a port is not told of others who share it: another gateway of the same user there
            # would silently get half of the requests.
            _bound(family, address, shared=False).close()
        self._held.append(_bound(family, address, shared=True))


def _bound(family: int, address: Any, *, shared: bool) -> socket.socket:  # noqa: ANN401
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound

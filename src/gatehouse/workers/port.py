"""The port that the workers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.network.listening import bound

if TYPE_CHECKING:
    import socket

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
        if listen.port:
            # Who shares a port is not told of others who share it: another gateway of the same user there
            # would silently get half of the requests.
            for alone in await bound(listen.host, listen.port):
                alone.close()
        self._held = await bound(listen.host, listen.port, shared=True)

    def close(self) -> None:
        """Let the port go."""
        for held in self._held:
            held.close()
        self._held.clear()

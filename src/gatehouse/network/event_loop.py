"""The event loop of `serve`: uvloop's, but with the host name resolver of this package.

The database driver resolves names through the event loop, so the loop itself has to use the resolver.
"""

from __future__ import annotations

import socket
from typing import Any

import uvloop

from gatehouse.network.resolver import Query, SystemResolver


class EventLoop(uvloop.Loop):
    """An event loop in which a slow look-up delays neither other look-ups nor the end of the process."""

    def __init__(self) -> None:
        super().__init__()
        self._resolver = SystemResolver()

    async def getaddrinfo(  # type: ignore[override]
        self,
        host: str | bytes | None,
        port: str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:  # noqa: ANN401 - as asyncio has it
        """Look up a host name."""
        return await self._resolver.look_up(Query(host, port, family, type, proto, flags))

    async def create_connection(
        self,
        protocol_factory: Any,  # noqa: ANN401
        host: Any = None,  # noqa: ANN401
        port: Any = None,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Connect to the first address of the host that accepts the connection."""
        if host is None:
            return await super().create_connection(protocol_factory, host, port, **options)
        hints = {name: options.pop(name, 0) for name in ("family", "proto", "flags")}
        found = await self.getaddrinfo(host, port, type=socket.SOCK_STREAM, **hints)
        if options.get("ssl") and options.get("server_hostname") is None:
            options["server_hostname"] = host
        last_error: OSError = OSError("the name has no address")
        for family, *_, address in found:
            try:
                return await super().create_connection(
                    protocol_factory, address[0], address[1], family=family, **options
                )
            except OSError as error:
                last_error = error
        raise last_error

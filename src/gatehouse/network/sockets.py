"""Binds listening sockets, and explains why an address is not available."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gatehouse.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")

#: The errors of a machine that lacks IPv4 or IPv6.
_MISSING_FAMILY: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
#: The mode of a Unix socket: a proxy in the same group may connect.
_SOCKET_MODE: Final = 0o660
#: Hosts that stand for every address of the machine. A client can't connect to them everywhere.
_WILDCARDS: Final = ("", "0.0.0.0", "::")  # noqa: S104


async def start_listening(starting: Awaitable[T], key: str, address: object) -> T:
    """Await the start of a listener. `key` is the config key of its address. Raises `GatewayError`."""
    try:
        return await starting
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        message = f"{key}: can't listen on {address}: {why}"
        raise GatewayError(message, hint="another process may be using it; choose another address") from error


async def bind(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Bind every address of a host. All get the same port, even when `port` is 0, which means any.

    An empty host means all IPv4 and IPv6 addresses of this machine. With `shared`, other processes of the
    same user may bind them too. Raises `OSError` when an address is not available.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in dict.fromkeys((family, address) for family, *_, address in found):
            chosen = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(_bind(family, (address[0], chosen, *address[2:]), shared=shared))
            except OSError as error:
                if host or error.errno not in _MISSING_FAMILY:
                    raise
                missing = error
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    if not sockets and missing is not None:
        raise missing
    return sockets


def _bind(family: int, address: Any, *, shared: bool) -> socket.socket:  # noqa: ANN401 - the type of the socket module
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # IPv4 has its own socket, so that a client's address is always written in the same way.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_unix(path: str) -> socket.socket:
    """Bind a Unix socket. A stale socket at the path is replaced; a served one is not.

    Raises `OSError` when another process serves the path, or when the path is not a socket.
    """
    if _is_stale(path):
        Path(path).unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        Path(path).chmod(_SOCKET_MODE)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_stale(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
        trying.setblocking(False)
        return trying.connect_ex(path) == errno.ECONNREFUSED


def remove_unix_socket(listening_on: socket.socket) -> None:
    """Remove the path of a Unix socket, unless another process now serves it."""
    path = listening_on.getsockname()
    # The inode of the socket differs from that of its path. So the socket is closed first, and then a
    # connection attempt shows whether another process serves the path.
    listening_on.close()
    if _is_stale(path):
        Path(path).unlink()


def client_host(host: str) -> str:
    """Return the host to which a client on this machine connects for a listener on `host`."""
    return "127.0.0.1" if host in _WILDCARDS else host

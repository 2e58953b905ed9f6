"""Which addresses are never connected to, however a destination's name resolves.

Destinations are internal by nature, so private networks are allowed. Link-local addresses are where clouds
serve the machine's own credentials; no app is there. The check sees the very address that is connected to,
so a name that resolves to another address the second time does not get around it.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp.connector import AddrInfoType

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
#: Where AWS serves instance metadata over IPv6.
_METADATA = ipaddress.ip_network("fd00:ec2::254/128")


class ForbiddenAddressError(OSError):
    """The address is one that the gateway doesn't connect to."""


def open_socket(address: AddrInfoType) -> socket.socket:
    """Make the socket for a connection. Raises `ForbiddenAddressError`."""
    family, kind, protocol, _, target = address
    if is_forbidden(str(target[0])):
        raise ForbiddenAddressError("link-local addresses are not connected to")
    return socket.socket(family=family, type=kind, proto=protocol)


def is_forbidden(host: str) -> bool:
    """Tell whether an address is link-local, also when written as IPv6."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _METADATA:
            return True
        embedded = address.ipv4_mapped
        if address in _TRANSLATED:
            embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.is_link_local or (embedded is not None and embedded.is_link_local)
    return address.is_link_local

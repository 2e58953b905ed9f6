"""Which addresses are never connected to, however a destination's name resolves.

Destinations are internal by nature, so private networks are allowed. Link-local addresses are where clouds
serve the machine's own credentials; no app is there. The check sees the very address that is connected to,
so a name that resolves to another address the second time does not get around it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp.connector import AddrInfoType

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
#: Where clouds serve credentials over IPv6: AWS to machines and to pods, Google.
_METADATA = frozenset(map(ipaddress.IPv6Address, ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254")))
#: The last label of what means to be an IPv4 address: no name ends so (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_LINK_LOCAL = "link-local addresses are not connected to"


class ForbiddenAddressError(OSError):
    """The address is one that the gateway doesn't connect to."""


def open_socket(address: AddrInfoType) -> socket.socket:
    """Make the socket for a connection. Raises `ForbiddenAddressError`."""
    family, kind, protocol, _, target = address
    if is_forbidden(str(target[0])):
        raise ForbiddenAddressError(_LINK_LOCAL)
    return socket.socket(family=family, type=kind, proto=protocol)


def host_problem(host: str) -> str | None:
    """Say what is wrong with the host of a URL; None for any name, which is looked at when it is resolved."""
    try:
        return _LINK_LOCAL if is_forbidden(host) else None
    except ValueError:
        # As in 0251.0376.0251.0376 or 2852039166: which address that is, not all programs agree on.
        is_number = _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2])
        return "an IPv4 address is written as four decimal numbers" if is_number else None


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

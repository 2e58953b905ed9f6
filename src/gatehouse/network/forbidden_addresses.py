"""Forbids connections to link-local addresses, whatever a host name resolves to.

Destinations are internal applications, so private networks are allowed. At link-local addresses, clouds
serve the credentials of the machine, and no application runs there. The check applies to the address of the
connection itself. So a name that resolves to another address the second time cannot bypass it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp.connector import AddrInfoType

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
#: Addresses where clouds serve credentials over IPv6: AWS to machines and to pods, Google.
_METADATA = frozenset(map(ipaddress.IPv6Address, ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254")))
#: The last label of an IPv4 address in any notation. No host name ends like this (WHATWG URL, "ends in a
#: number").
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_LINK_LOCAL = "link-local addresses are not connected to"


class ForbiddenAddressError(OSError):
    """The gateway does not connect to this address."""


def open_socket(address: AddrInfoType) -> socket.socket:
    """Create the socket for a connection. Raises `ForbiddenAddressError`."""
    family, kind, protocol, _, target = address
    if is_forbidden(str(target[0])):
        raise ForbiddenAddressError(_LINK_LOCAL)
    return socket.socket(family=family, type=kind, proto=protocol)


def host_problem(host: str) -> str | None:
    """Return what is wrong with the host of a URL; None for a name, which is checked when it is resolved."""
    try:
        return _LINK_LOCAL if is_forbidden(host) else None
    except ValueError:
        # Such as 0251.0376.0251.0376 or 2852039166. Programs disagree on which address that is.
        is_number = _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2])
        return "write an IPv4 address as four decimal numbers" if is_number else None


def is_forbidden(host: str) -> bool:
    """Return whether an address is link-local, including IPv6 notations of IPv4 addresses."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _METADATA:
            return True
        embedded = address.ipv4_mapped
        if address in _TRANSLATED:
            embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.is_link_local or (embedded is not None and embedded.is_link_local)
    return address.is_link_local

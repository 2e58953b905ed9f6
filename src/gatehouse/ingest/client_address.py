"""Finds the client of a request.

The client is the peer, or behind trusted proxies the rightmost address that is not trusted.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from gatehouse.config.addresses import UNIX

if TYPE_CHECKING:
    import asyncio

#: Returns the client's address, given the peer and the values of X-Forwarded-For; None when it is unknown.
ClientAddress = Callable[[str | None, Sequence[str]], str | None]


#: A hop as proxies write it: an address, with optional brackets and an optional port. Azure's gateways write
#: `203.0.113.7:51234`.
_HOP = re.compile(r"\[(?P<v6>[^\[\]]*)\](?::\d{1,5})?|(?P<v4>[\d.]+):\d{1,5}|(?P<bare>.*)", re.ASCII)

_Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def peer_address(transport: asyncio.BaseTransport) -> str | None:
    """Return the address of the peer: `UNIX` for a Unix socket; None when the connection is closed."""
    peername = transport.get_extra_info("peername")
    if isinstance(peername, tuple):
        return str(peername[0])
    used = transport.get_extra_info("socket")
    return UNIX if used is not None and used.family == socket.AF_UNIX else None


def client_address(trusted: Sequence[str]) -> ClientAddress:
    """Compile `server.trusted_proxies`. The header of an untrusted peer is ignored."""
    networks = [ipaddress.ip_network(network) for network in trusted if network != UNIX]
    trusts_sockets = UNIX in trusted

    def is_trusted(text: str) -> bool:
        if text == UNIX:
            return trusts_sockets
        address = _address(text)
        return address is not None and any(address in network for network in networks)

    def find(peer: str | None, forwarded: Sequence[str]) -> str | None:
        if not trusted or not forwarded or peer is None:
            return peer
        hops = [hop for value in forwarded for hop in _hops(value)]
        client = peer
        while hops and is_trusted(client):
            hop = hops.pop()
            address = _address(hop)
            if address is None:
                # No list contains this hop, and everything before it may be forged.
                return hop
            client = str(address)
        return client

    return find


def _hops(value: str) -> list[str]:
    """Split a header into hops. Empty items are skipped, but a header without any item is an unknown hop."""
    return [hop for item in value.split(",") if (hop := item.strip())] or [""]


def _address(hop: str) -> _Ip | None:
    """Parse the address of a hop; None when there is none, as in `unknown` (RFC 7239, 6.2)."""
    found = _HOP.fullmatch(hop)
    try:
        return None if found is None else ipaddress.ip_address(found["v6"] or found["v4"] or found["bare"])
    except ValueError:
        return None

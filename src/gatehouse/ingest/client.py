"""Who sent a request: the peer, or behind trusted proxies the right-most address that is not one of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

#: From the peer and the values of X-Forwarded-For to the client's address; None when it is unknown.
ClientAddress = Callable[[str | None, Sequence[str]], str | None]


def client_address(trusted: Sequence[str]) -> ClientAddress:
    """Compile `server.trusted_proxies`. What an untrusted peer forwards is never believed."""
    networks = [ipaddress.ip_network(network) for network in trusted]

    def is_trusted(text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in networks)

    def find(peer: str | None, forwarded: Sequence[str]) -> str | None:
        if not networks or not forwarded or peer is None:
            return peer
        hops = [hop.strip() for value in forwarded for hop in value.split(",")]
        client = peer
        while hops and is_trusted(client):
            client = hops.pop()
        return client

    return find

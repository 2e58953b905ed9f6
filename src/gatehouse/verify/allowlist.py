"""`type: allowlist`: the address that a request comes from."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

from gatehouse.errors import GatewayError, VerificationError
from gatehouse.verify.base import NO_FACTS

if TYPE_CHECKING:
    from gatehouse.config.model import AllowlistConfig
    from gatehouse.language.request import Request
    from gatehouse.verify.base import Facts


class AllowlistVerifier:
    """Lets in what comes from the provider's networks: the peer, or whom a trusted proxy speaks for."""

    def __init__(self, config: AllowlistConfig) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in config.networks)
        self._is_allowed = lru_cache(maxsize=1024)(self._is_in_networks)

    def verify(self, request: Request, now: float) -> Facts:  # noqa: ARG002 - an address has no time
        if not self._is_allowed(request.client):
            raise VerificationError("wrong_credentials")
        return NO_FACTS

    def sign(self, request: Request, now: float) -> Request:  # noqa: ARG002
        raise GatewayError("a request can't be given the provider's address")

    def credential_headers(self) -> frozenset[str]:
        return frozenset()

    def _is_in_networks(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

"""`type: allowlist`: accepts requests from the IP addresses of the provider."""

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
    """Accepts requests whose client, as seen by the gateway or a trusted proxy, is in an allowed network."""

    def __init__(self, config: AllowlistConfig) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in config.networks)
        self._is_allowed = lru_cache(maxsize=1024)(self._is_in_networks)

    def verify(self, request: Request, now: float) -> Facts:  # noqa: ARG002 - an IP address has no timestamp
        if not self._is_allowed(request.client):
            raise VerificationError("wrong_credentials")
        return NO_FACTS

    def sign(self, request: Request, now: float) -> Request:  # noqa: ARG002
        raise GatewayError("a request can't be sent from the provider's IP address")

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

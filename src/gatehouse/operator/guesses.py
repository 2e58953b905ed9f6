"""Wrong tokens, counted by address: who goes on guessing has to wait. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

#: So many wrong tokens within `WITHIN` seconds, and an address waits for `PAUSE` seconds.
ALLOWED, WITHIN, PAUSE = 10, 60.0, 60.0
#: Addresses remembered at a time.
_MOST = 4096
#: Who has one IPv6 address has all of its network: a /64 at the least (RFC 4291, section 2.5.4).
_NETWORK_BITS = 64


@dataclass(slots=True)
class _Guesses:
    since: float
    count: int = 0
    blocked_until: float = 0.0


class WrongTokens:
    """Counts, and tells who has to wait. Times are of a clock that never goes back."""

    def __init__(self) -> None:
        #: By address; the longest known first.
        self._known: dict[str, _Guesses] = {}

    def wait(self, address: str, now: float) -> float:
        """Return for how many seconds nothing that an address says is looked at, a right token included.

        Otherwise the one guess that is answered differently would be the right one.
        """
        known = self._known.get(_network(address))
        return 0.0 if known is None else max(0.0, known.blocked_until - now)

    def count(self, address: str, now: float) -> bool:
        """Count a wrong token. True when it was one too many, and the address has to wait from now on."""
        network = _network(address)
        known = self._known.get(network)
        if known is None or now - known.since >= WITHIN:
            self._known.pop(network, None)
            self._make_room()
            known = self._known[network] = _Guesses(now)
        known.count += 1
        if known.count < ALLOWED:
            return False
        known.blocked_until, known.since, known.count = now + PAUSE, now, 0
        return True

    def _make_room(self) -> None:
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]


def _network(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(int(parsed) >> _NETWORK_BITS)
    return str(parsed)

"""Wrong tokens, counted by address: who goes on guessing has to wait. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from gatehouse.operator.responses import error_answer

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

#: So many wrong tokens within `WITHIN` seconds, and an address waits for `PAUSE` seconds.
MAX_WRONG_TOKENS, WINDOW, BLOCK_SECONDS = 10, 60.0, 60.0
#: Addresses remembered at a time.
_MAX_ADDRESSES = 4096
#: Who has one IPv6 address has all of its network: a /64 at the least (RFC 4291, section 2.5.4).
_NETWORK_BITS = 64


@dataclass(slots=True)
class _AddressState:
    since: float
    count: int = 0
    blocked_until: float = 0.0


class WrongTokens:
    """Counts, and tells who has to wait. Times are of a clock that never goes back."""

    def __init__(self) -> None:
        #: By address; the longest known first.
        self._addresses: dict[str, _AddressState] = {}

    def wait(self, address: str, now: float) -> float:
        """Return for how many seconds nothing that an address says is looked at, a right token included.

        Otherwise the one guess that is answered differently would be the right one.
        """
        state = self._addresses.get(_network(address))
        return 0.0 if state is None else max(0.0, state.blocked_until - now)

    def count(self, address: str, now: float) -> bool:
        """Count a wrong token. True when it was one too many, and the address has to wait from now on."""
        network = _network(address)
        state = self._addresses.get(network)
        if state is None or now - state.since >= WINDOW:
            self._addresses.pop(network, None)
            self._make_room()
            state = self._addresses[network] = _AddressState(now)
        state.count += 1
        if state.count < MAX_WRONG_TOKENS:
            return False
        state.blocked_until, state.since, state.count = now + BLOCK_SECONDS, now, 0
        return True

    def _make_room(self) -> None:
        while len(self._addresses) >= _MAX_ADDRESSES:
            del self._addresses[next(iter(self._addresses))]


def _network(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(int(parsed) >> _NETWORK_BITS)
    return str(parsed)


_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: What a form can send without asking first (the Fetch standard's CORS-safelisted content types).
_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
#: Values of Sec-Fetch-Site of a page of our own, and of no page at all (W3C Fetch Metadata).
_OWN_SITE = frozenset({"same-origin", "none"})


def cross_site_refusal(request: web.Request) -> web.Response | None:
    """Return the answer to a request that may come from another site's page; None lets it through.

    Browsers say where a request comes from, in Origin or Sec-Fetch-Site; what says nothing is a tool, unless
    it has the content type of a form, as from a browser too old to say.
    """
    if request.method in _SAFE_METHODS or not _may_be_cross_site(request.headers, request.host):
        return None
    message = "not from another site's page, and not as a form: send it with content-type: application/json"
    return error_answer(403, "cross_site", message)


def _may_be_cross_site(headers: CIMultiDictProxy[str], host: str) -> bool:
    sites, origins = headers.getall("Sec-Fetch-Site", ()), headers.getall(hdrs.ORIGIN, ())
    if any(site not in _OWN_SITE for site in sites) or any(not _is_own(origin, host) for origin in origins):
        return True
    has_origin = bool(sites or origins)
    return not has_origin and any(
        value.strip().lower().startswith(_FORM_TYPES) for value in headers.getall(hdrs.CONTENT_TYPE, ())
    )


def _is_own(origin: str, host: str) -> bool:
    # The scheme is left out: in front of us may be a proxy that speaks TLS.
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False

"""Limits access to the operator server: roles, addresses that guess tokens, and cross-site requests.

Every request that may change something is checked for its origin, with or without a token. A browser on the
operator's machine can reach a loopback listener, so a page of any site could send requests to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from gatehouse.operator.body import json_object
from gatehouse.operator.queries import BadQueryError
from gatehouse.operator.responses import error_answer
from gatehouse.operator.tokens import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import CIMultiDictProxy

#: After this many wrong tokens within `WINDOW` seconds, an address is blocked for `BLOCK_SECONDS`.
MAX_WRONG_TOKENS, WINDOW, BLOCK_SECONDS = 10, 60.0, 60.0
#: The number of addresses that are remembered at a time.
_MAX_ADDRESSES = 4096
#: Whoever has one IPv6 address usually has its whole network, at least a /64 (RFC 4291, section 2.5.4).
_NETWORK_BITS = 64


@dataclass(slots=True)
class _AddressState:
    since: float
    count: int = 0
    blocked_until: float = 0.0


class WrongTokens:
    """Counts wrong tokens by address and blocks addresses. Times come from a monotonic clock."""

    def __init__(self) -> None:
        #: By address, in the order in which they were added.
        self._addresses: dict[str, _AddressState] = {}

    def wait(self, address: str, now: float) -> float:
        """Return for how many seconds an address is still blocked.

        A blocked address gets the same answer for a correct token. Otherwise the answer would reveal which
        guess was correct.
        """
        state = self._addresses.get(_network(address))
        return 0.0 if state is None else max(0.0, state.blocked_until - now)

    def count(self, address: str, now: float) -> bool:
        """Count a wrong token. Returns True if the address is blocked from now on."""
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


#: Methods that change nothing (RFC 9110, section 9.2.1).
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: What a form can send without a preflight request (the Fetch standard's CORS-safelisted content types).
_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
#: Values of Sec-Fetch-Site for our own pages and for requests without a page (W3C Fetch Metadata).
_OWN_SITE = frozenset({"same-origin", "none"})


def cross_site_refusal(request: web.Request, *, forms: bool = False) -> web.Response | None:
    """Return the refusal of a request that may come from another site's page; None if it is allowed.

    Browsers send the origin of a request in Origin or Sec-Fetch-Site. A request without these headers comes
    from a tool, unless it has the content type of a form: old browsers send forms without them. With `forms`,
    such a form is allowed, because the caller checks the token that the form has to contain.
    """
    if request.method in _SAFE_METHODS or not _may_be_cross_site(request.headers, request.host, forms=forms):
        return None
    message = "requests from other sites and from forms are refused; send content-type: application/json"
    return error_answer(403, "cross_site", message)


def _may_be_cross_site(headers: CIMultiDictProxy[str], host: str, *, forms: bool) -> bool:
    sites, origins = headers.getall("Sec-Fetch-Site", ()), headers.getall(hdrs.ORIGIN, ())
    if any(site not in _OWN_SITE for site in sites) or any(not _is_own(origin, host) for origin in origins):
        return True
    has_origin = bool(sites or origins)
    return not (has_origin or forms) and any(
        value.strip().lower().startswith(_FORM_TYPES) for value in headers.getall(hdrs.CONTENT_TYPE, ())
    )


def _is_own(origin: str, host: str) -> bool:
    # The scheme is ignored, because a proxy in front may terminate TLS.
    # The origin "null" has no host, and must not match a request without one.
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


Handler = TypeVar("Handler", bound="Callable[..., object]")

#: Who sent a request. The operator server sets it on every request that needs a token.
IDENTITY = web.RequestKey("identity", Identity)
#: With this header, a supervisor tells its workers who sent a request. Only their Unix socket reads it.
IDENTITY_HEADER = "Gatehouse-Operator"
#: What a handler is marked with.
_READS, _DRY_RUN, _FORWARDS = "changes_nothing", "reads_with_dry_run", "forwards_identity"
#: The methods that the role `read` may use with every handler.
_READING = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


def changes_nothing(handler: Handler) -> Handler:
    """Mark a handler that changes nothing, whatever its method. The role `read` may use it."""
    vars(handler)[_READS] = True
    return handler


def is_reading(request: web.Request) -> bool:
    """Return whether a request changes nothing, so that the role `read` is enough."""
    marks = getattr(request.match_info.handler, "__dict__", {})
    return request.method in _READING or bool(marks.get(_READS))


def reads_with_dry_run(handler: Handler) -> Handler:
    """Mark a handler that changes nothing if the body has `"dry_run": true`.

    The role `read` may then use it with such a body.
    """
    vars(handler)[_DRY_RUN] = True
    return handler


def forwards_identity(handler: Handler) -> Handler:
    """Mark a handler that passes the request and its identity to a worker, which checks the role."""
    vars(handler)[_FORWARDS] = True
    return handler


async def role_refusal(request: web.Request) -> web.Response | None:
    """Return the refusal of a request that needs another role than its sender has; None if it is allowed."""
    identity = request[IDENTITY]
    if identity.role == "operate" or is_reading(request):
        return None
    marks = getattr(request.match_info.handler, "__dict__", {})
    if marks.get(_FORWARDS) or (marks.get(_DRY_RUN) and await _is_dry_run(request)):
        return None
    message = f"this needs a token with the role operate; {identity.name} has the role {identity.role}"
    return error_answer(403, "forbidden", message)


async def _is_dry_run(request: web.Request) -> bool:
    try:
        return (await json_object(request)).get("dry_run") is True
    except BadQueryError:
        return False

"""Requests that another site's page made a browser send: refused where they would change something.

Whatever changes something goes through here, with a token or without: a browser on the operator's machine
reaches a loopback listener, whoever wrote the page it shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from gatehouse.operator.api import error_answer

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

#: Methods that change nothing (RFC 9110, section 9.2.1).
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: What a form can send without asking first (the Fetch standard's CORS-safelisted content types).
_OF_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
#: Values of Sec-Fetch-Site of a page of our own, and of no page at all (W3C Fetch Metadata).
_OWN = frozenset({"same-origin", "none"})


def cross_site_refusal(request: web.Request) -> web.Response | None:
    """Return the answer to a request that may come from another site's page; None lets it through.

    Browsers say where a request comes from, in Origin or Sec-Fetch-Site; what says nothing is a tool, unless
    it has the content type of a form, as from a browser too old to say.
    """
    if request.method in _SAFE or not _may_be_cross_site(request.headers, request.host):
        return None
    message = "not from another site's page, and not as a form: send it with content-type: application/json"
    return error_answer(403, "cross_site", message)


def _may_be_cross_site(headers: CIMultiDictProxy[str], host: str) -> bool:
    sites, origins = headers.getall("Sec-Fetch-Site", ()), headers.getall(hdrs.ORIGIN, ())
    if any(site not in _OWN for site in sites) or any(not _is_own(origin, host) for origin in origins):
        return True
    told = bool(sites or origins)
    return not told and any(
        value.strip().lower().startswith(_OF_FORMS) for value in headers.getall(hdrs.CONTENT_TYPE, ())
    )


def _is_own(origin: str, host: str) -> bool:
    # The scheme is left out: in front of us may be a proxy that speaks TLS.
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False

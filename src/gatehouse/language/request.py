"""Defines an inbound HTTP request, and how its text becomes bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from multidict import CIMultiDict, CIMultiDictProxy


class Request(msgspec.Struct, frozen=True, gc=False):
    """One inbound HTTP request, as the bytes that were sent."""

    method: str
    #: The path as sent: neither decoded nor normalised, without the query.
    path: str
    #: What stood behind the `?`, as sent; empty without one.
    query: str
    #: Values as the HTTP parser gives them: bytes that are not UTF-8 are surrogate escapes.
    headers: CIMultiDictProxy[str] | CIMultiDict[str]
    body: bytes
    #: The address the provider used, scheme and host, when `server.public_url` says it.
    public_url: str = ""
    #: The address that sent it: the peer, or what a trusted proxy says of it.
    client: str = ""


def as_sent(text: str) -> bytes:
    """Undo what the HTTP parser did to bytes that are not UTF-8. Raises nothing.

    Other halves of characters no request carries. They become bytes that no request carries either.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")

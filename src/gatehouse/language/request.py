"""Defines an inbound HTTP request, and how its text becomes bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from multidict import CIMultiDict, CIMultiDictProxy


class Request(msgspec.Struct, frozen=True, gc=False):
    """One inbound HTTP request, with the exact bytes that were sent."""

    method: str
    #: The path as sent, without the query. It is neither decoded nor normalized.
    path: str
    #: The text after the `?`, as sent. Empty without a query.
    query: str
    #: The values of the HTTP parser. Bytes that are not UTF-8 are surrogate escapes.
    headers: CIMultiDictProxy[str] | CIMultiDict[str]
    body: bytes
    #: The scheme and host that the provider used, from `server.public_url`.
    public_url: str = ""
    #: The IP address of the sender: that of the peer, or the one that a trusted proxy names.
    client: str = ""


def as_sent(text: str) -> bytes:
    """Return the bytes that the HTTP parser decoded to this text. Never raises.

    Requests contain no other lone surrogates. They become bytes that no request contains.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")

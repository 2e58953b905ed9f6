"""A request as it comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader

    from gatehouse.ingest.connection import Connection


class Inbound(msgspec.Struct, frozen=True, gc=False):
    """A request whose head is complete."""

    #: Method, path as sent, version and headers.
    head: RawRequestMessage
    #: The body, as far as it has arrived.
    content: StreamReader
    connection: Connection

    @property
    def content_length(self) -> int | None:
        """How long the body is, if that was said."""
        length = self.head.headers.get("Content-Length")
        return None if length is None else int(length)

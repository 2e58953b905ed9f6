"""A request as it comes in, with what aiohttp has of it at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import asyncio

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from gatehouse.ingest.connections import Connection


class Inbound(web.BaseRequest):
    """A request. aiohttp's own attributes are a call each, and one more for the first time."""

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: Connection,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> None:
        super().__init__(message, payload, protocol, writer, task, protocol.loop)
        #: Method, path as sent, version and headers.
        self.head = message
        self.connection = protocol

"""Asking a worker, over the socket of its operator server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from gatehouse.errors import GatewayError

if TYPE_CHECKING:
    from pathlib import Path

#: Where a worker serves operators; the socket says which one.
_BASE = "http://localhost"


class NoAnswerError(GatewayError):
    """A worker does not answer: it is not there, or hangs."""


class Answer(NamedTuple):
    """What a worker answered."""

    status: int
    body: bytes
    content_type: str

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """Decode the body. Raises `NoAnswerError` when it is no JSON."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.MsgspecError as error:
            raise NoAnswerError("the answer is no JSON") from error


class Asking:
    """Asks one worker."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, within: float = 15.0
    ) -> Answer:
        """Ask for a path. Raises `NoAnswerError`."""
        if self._session is None:
            # Each time a new connection: an old one may lead to a worker that has ended.
            connector = aiohttp.UnixConnector(str(self._socket), force_close=True)
            self._session = aiohttp.ClientSession(connector=connector)
        timeout = aiohttp.ClientTimeout(total=within)
        try:
            async with self._session.request(
                method, URL(_BASE + path, encoded=True), data=body, timeout=timeout, allow_redirects=False
            ) as answer:
                content_type = answer.headers.get(hdrs.CONTENT_TYPE, "application/octet-stream")
                return Answer(answer.status, await answer.read(), content_type)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswerError("does not answer") from error

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()

"""What the API reads of a request. The operator page asks the API in the same process, without HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from aiohttp import web
    from multidict import MultiMapping
    from yarl import URL

T = TypeVar("T")


class ApiRequest(Protocol):
    """A request to the API. `web.Request` is one."""

    @property
    def method(self) -> str:
        """The HTTP method, in capitals."""

    @property
    def rel_url(self) -> URL:
        """The path and the query."""

    @property
    def query(self) -> MultiMapping[str]:
        """The parameters of the query."""

    @property
    def match_info(self) -> Mapping[str, str]:
        """The parameters of the path."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """The connection of whoever asks; None if it is closed."""

    def __getitem__(self, key: web.RequestKey[T]) -> T:
        """Return what the server knows of the request, such as who sent it."""

    async def read(self) -> bytes:
        """Return the body."""

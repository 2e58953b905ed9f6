"""Asks the operator API in the same process. The page has no other way to the gateway's data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import quote

import msgspec
from aiohttp import hdrs, web
from yarl import URL

from gatehouse.errors import GatewayError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from multidict import MultiMapping

    Handler = Callable[[Any], Awaitable[web.StreamResponse]]

T = TypeVar("T")

#: How long a list may search. The rest of the 100 ms of a screen is for all else.
WITHIN: Final = "60ms"
#: How long a list of refused requests waits for findings. Their search goes on while the screen is made.
FINDINGS_WITHIN: Final = "20ms"
#: The first status that is an error, and the status of a request that is not valid.
_ERRORS: Final = 400
_BAD: Final = 400
#: In front of several workers, one route takes what the others don't.
_ANY: Final = "*"


class ApiError(GatewayError):
    """The API refused a request. `status` and `code` are those of its answer."""

    def __init__(self, status: int, code: str, message: str, more: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        #: What else the error tells.
        self.more = more


class _Asked:
    """A request to the API, as `operator.api_request.ApiRequest` describes it."""

    def __init__(
        self, page: web.Request, method: str, url: URL, names: Mapping[str, str], body: object
    ) -> None:
        self._page = page
        self.method = method
        self.rel_url = url
        self.match_info = names
        self._body = b"" if body is None else msgspec.json.encode(body)

    @property
    def query(self) -> MultiMapping[str]:
        return self.rel_url.query

    @property
    def transport(self) -> asyncio.Transport | None:
        return self._page.transport

    def __getitem__(self, key: web.RequestKey[T]) -> T:
        return self._page[key]

    async def read(self) -> bytes:
        return self._body


class Api:
    """The operator API of this process. Whoever sent the page's request also sends those to the API."""

    def __init__(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        found = [route for route in routes if isinstance(route, web.RouteDef)]
        self._handlers = {(route.method, route.path): cast("Handler", route.handler) for route in found}
        rest = [cast("Handler", route.handler) for route in found if route.method == _ANY]
        self._rest = rest[0] if rest else None

    async def get(
        self, page: web.Request, path: str, query: Mapping[str, str] | None = None, **names: str
    ) -> Any:  # noqa: ANN401 - JSON
        """Return the answer to `GET`. Raises `ApiError`.

        `path` is that of the API reference, such as `/api/v1/events/{id}`. `names` replace its parameters.
        """
        return await self._ask(page, hdrs.METH_GET, path, query or {}, names, None)

    async def search(self, page: web.Request, path: str, query: Mapping[str, str]) -> tuple[Any, str]:
        """Return the answer to `GET`, or None and what is wrong with the query. Else raises `ApiError`."""
        try:
            return await self.get(page, path, query), ""
        except ApiError as error:
            if error.status != _BAD:
                raise
            return None, error.message

    async def post(self, page: web.Request, path: str, body: object = None, **names: str) -> Any:  # noqa: ANN401
        """Return the answer to `POST`. Raises `ApiError`. The role of the sender was checked before."""
        return await self._ask(page, hdrs.METH_POST, path, {}, names, body)

    async def delete(self, page: web.Request, path: str, **names: str) -> Any:  # noqa: ANN401
        """Return the answer to `DELETE`. Raises `ApiError`. The role of the sender was checked before."""
        return await self._ask(page, hdrs.METH_DELETE, path, {}, names, None)

    async def serve(self, page: web.Request, path: str) -> web.StreamResponse:
        """Answer a request to the page as this route of the API would."""
        return await self._handlers[hdrs.METH_GET, path](page)  # its handler answers HEAD too

    async def _ask(
        self,
        page: web.Request,
        method: str,
        path: str,
        query: Mapping[str, str],
        names: Mapping[str, str],
        body: object,
    ) -> Any:  # noqa: ANN401
        handler = self._handlers.get((method, path), self._rest)
        if handler is None:
            raise ApiError(404, "not_found", "the operator API has no such route", {})
        filled = path.format_map({name: quote(value, safe="") for name, value in names.items()})
        url = URL(filled, encoded=True).with_query(query or None)
        answer = await handler(_Asked(page, method, url, names, body))
        return _decoded(answer)


def _decoded(answer: web.StreamResponse) -> Any:  # noqa: ANN401
    body = answer.body if isinstance(answer, web.Response) else None
    value: Any = msgspec.json.decode(body) if isinstance(body, bytes | bytearray) and body else None
    if answer.status < _ERRORS:
        return value
    error = dict(value["error"])
    raise ApiError(answer.status, error.pop("code"), error.pop("message"), error)

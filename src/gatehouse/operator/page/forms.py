"""Reads the forms that the page sends."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict, MultiDictProxy

#: How browsers send a form without files. They write it in ASCII.
_TYPE: Final = "application/x-www-form-urlencoded"
#: Seconds to receive a form. The server limits its size.
_WITHIN: Final = 10.0
#: More than the largest form of the page has.
_MOST_FIELDS: Final = 4096
_FIELDS: Final = web.RequestKey("fields", MultiDictProxy[str])


async def sent_fields(request: web.Request) -> MultiDictProxy[str]:
    """Return the fields of the form in the body of a request. A request without a body has none.

    Anyone can send a form to the login. So nothing in its head chooses how it is decoded. Raises
    `web.HTTPException` if the body is not a form of the page, is too long, or does not arrive.
    """
    if _FIELDS not in request:
        request[_FIELDS] = MultiDictProxy(MultiDict(_parsed(request.content_type, await _body(request))))
    return request[_FIELDS]


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_WITHIN):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="the form did not arrive") from None


def _parsed(kind: str, body: bytes) -> list[tuple[str, str]]:
    if not body:
        return []
    if kind.lower() != _TYPE:
        raise web.HTTPUnsupportedMediaType(reason=f"a form has to be sent as {_TYPE}")
    try:
        return parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise web.HTTPBadRequest(reason="the form is not UTF-8, or has too many fields") from None

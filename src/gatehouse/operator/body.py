"""Reads the JSON body of an operator's request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from gatehouse.operator.queries import BadQueryError

if TYPE_CHECKING:
    from gatehouse.operator.api_request import ApiRequest

#: Seconds to receive a body. Bodies are small, so a slower client is not a tool of ours.
_BODY_WITHIN = 10.0


async def json_object(request: ApiRequest) -> dict[str, Any]:
    """Read a JSON object or an empty body. Raises `BadQueryError`. The server limits the size."""
    try:
        async with asyncio.timeout(_BODY_WITHIN):
            body = await request.read()
        return msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}
    except TimeoutError as error:
        raise BadQueryError("the body did not arrive") from error
    except msgspec.MsgspecError as error:
        raise BadQueryError("the body must be a JSON object") from error

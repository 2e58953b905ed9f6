"""Turns expected errors of a handler into answers."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from gatehouse.errors import ConflictError, StoreError
from gatehouse.operator.queries import BadQueryError
from gatehouse.operator.responses import error_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.store.records import Page

    Handler = Callable[[ApiRequest], Awaitable[web.StreamResponse]]


def with_error_answers(handler: Handler) -> Handler:
    """Answer 400 to an invalid request, 409 to a conflict, and 503 if the store is unavailable."""

    @wraps(handler)
    async def answer(request: ApiRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        except BadQueryError as error:
            return error_answer(400, "bad_request", error.message)
        except ConflictError as error:
            return error_answer(409, error.code, error.message)
        except StoreError:
            return error_answer(503, "unavailable", "the store is unavailable; try again later")

    return answer


async def page_of(listing: Awaitable[Page[Any]]) -> Page[Any]:
    """Return a page. Raises `BadQueryError` if the cursor does not belong to the list."""
    try:
        return await listing
    except ValueError as error:
        raise BadQueryError("the cursor does not belong to this list") from error

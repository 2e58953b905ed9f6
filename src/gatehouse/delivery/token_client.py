"""Posts to a destination with an access token (`auth: oauth2`)."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from gatehouse.delivery.access_tokens import AccessTokens
from gatehouse.delivery.http_client import HttpClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import aiohttp

    from gatehouse.delivery.credentials import ClientCredentials
    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.http_client import Reply


class TokenClient(HttpClient):
    """Adds an access token to each request. After a 401, it posts once more with a fresh token."""

    def __init__(
        self,
        destination: Destination,
        session: aiohttp.ClientSession,
        credentials: ClientCredentials,
        *,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(destination, session, clock=clock)
        self._tokens = AccessTokens(credentials, session, destination.tls, destination.proxy)

    async def post(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        within: float | None = None,
        deadline: float | None = None,
    ) -> Reply:
        """POST as `HttpClient.post` does. Also raises `TokenError`."""
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + self._seconds(within)
        token = await self._tokens.current(deadline)
        reply = await super().post(_with(token, headers), body, within=within, deadline=deadline)
        if reply.status == HTTPStatus.UNAUTHORIZED:
            fresh = await self._tokens.after_refusal(token, deadline)
            if fresh is None:
                return reply
            reply = await super().post(_with(fresh, headers), body, within=within, deadline=deadline)
        if reply.status != HTTPStatus.UNAUTHORIZED:
            self._tokens.mark_accepted()
        return reply


def open_client(
    destination: Destination, session: aiohttp.ClientSession, *, clock: Callable[[], float]
) -> HttpClient:
    """Return the client for a destination."""
    if destination.credentials is None:
        return HttpClient(destination, session, clock=clock)
    return TokenClient(destination, session, destination.credentials, clock=clock)


def _with(token: str, headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, "Authorization": f"Bearer {token}"}

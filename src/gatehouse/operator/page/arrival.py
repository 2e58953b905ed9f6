"""How long a request to the page has been in the gateway. The first one waits until the page is imported."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

_ARRIVED: Final = web.RequestKey("arrived", float)


def note(request: web.Request) -> None:
    """Remember that a request arrives now."""
    request[_ARRIVED] = asyncio.get_running_loop().time()


def seconds_ago(request: web.Request) -> float:
    """Return how long ago a request has arrived (seconds)."""
    return asyncio.get_running_loop().time() - request[_ARRIVED]

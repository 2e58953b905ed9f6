"""Confirms a handshake: one GET without redirects, which has to be answered with 200.

Only verified handshakes are confirmed, and only at a host that the config pins.
"""

from __future__ import annotations

import aiohttp
from yarl import URL

from gatehouse.network.forbidden_addresses import open_socket
from gatehouse.network.resolver import AiohttpResolver, SystemResolver

#: Seconds for the whole request. Meanwhile the provider waits for its answer.
DEADLINE = 5.0
#: Bytes of the reply to read; the content is ignored.
MAX_REPLY = 64 * 1024

_RESOLVER = SystemResolver(max_threads=8)


async def confirm(url: str, *, deadline: float = DEADLINE) -> bool:
    """Fetch the URL unchanged. Return whether the answer was 200. Raises nothing."""
    timeout = aiohttp.ClientTimeout(total=deadline)
    connector = aiohttp.TCPConnector(resolver=AiohttpResolver(_RESOLVER), socket_factory=open_socket)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(URL(url, encoded=True), allow_redirects=False) as answer,
        ):
            await _read(answer.content)
            return answer.status == 200  # noqa: PLR2004 - OK
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return False


async def _read(content: aiohttp.StreamReader) -> None:
    """Read the start of the reply: some services act only once it is read."""
    left = MAX_REPLY
    while left > 0 and (chunk := await content.read(left)):
        left -= len(chunk)

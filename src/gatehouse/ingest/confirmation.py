"""Confirming an address: one GET, without redirects, that has to be answered 200.

Only a verified handshake gets here, and only with a host that its config pins.
"""

from __future__ import annotations

import aiohttp
from yarl import URL

from gatehouse.network.forbidden_addresses import open_socket
from gatehouse.network.resolver import AiohttpResolver, SystemResolver

#: Seconds in all. The provider waits for our own answer meanwhile.
DEADLINE = 5.0
#: Bytes of the reply that are read; its content means nothing to us.
MAX_REPLY = 64 * 1024

_RESOLVER = SystemResolver(max_threads=8)


async def confirm(url: str, *, deadline: float = DEADLINE) -> bool:
    """Fetch the URL, as it stands, and tell whether the answer was 200. Raises nothing."""
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
    """Read the start of the reply: some services act only once it is taken."""
    left = MAX_REPLY
    while left > 0 and (chunk := await content.read(left)):
        left -= len(chunk)

"""Keys that providers publish, fetched: certificates and key sets, from the addresses that verifiers pin.

What is fetched is decided by requests that nobody has verified yet, so everything is bounded: which hosts
(the verifiers'), how long, how much, how many at once, how many new addresses a minute for each source.
Addresses that are known do not share these bounds with new ones, which may be made up.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

from gatehouse import __version__
from gatehouse.errors import UnavailableError, VerificationError
from gatehouse.network.forbidden_addresses import open_socket
from gatehouse.network.resolver import AiohttpResolver, SystemResolver
from gatehouse.telemetry.log import get_logger
from gatehouse.verify.base import PreparedKeys
from gatehouse.verify.key_cache import KeyBudget, KeyCache

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from aiohttp.abc import AbstractResolver

    from gatehouse.language.request import Request
    from gatehouse.verify.base import RemoteVerifier

#: Seconds for one fetch, from waiting for its turn to its last byte.
FETCH_TIMEOUT = 2.0
#: No certificate with its chain, and no key set, is longer.
MAX_BYTES = 64 * 1024
#: Fetches under way at a time from one host, from all, and of addresses that are known.
MAX_FETCHES_PER_HOST = 4
MAX_FETCHES = 16
#: Names that are looked up at a time.
MAX_LOOKUPS = 32

#: Nothing compressed: what is bounded are the bytes that are read.
_HEADERS = {"User-Agent": f"Gatehouse/{__version__}", "Accept-Encoding": "identity"}
_FOUND = 200
#: Statuses that say: no key here. Those of the same range that only say "not now" are left out.
_ABSENT = frozenset(range(400, 500)) - {408, 425, 429}


class _AbsentError(Exception):
    """The address answered, and holds no key."""


class RemoteKeys:
    """Fetches the keys that verifiers need, and holds them. `clock` counts seconds from anywhere.

    `resolver` and `tls` stand in for the network's names and authorities in tests.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        deadline: float = FETCH_TIMEOUT,
    ) -> None:
        self._clock = clock
        self._resolver = resolver or AiohttpResolver(SystemResolver(max_threads=MAX_LOOKUPS))
        self._tls = tls
        self._deadline = deadline
        self._session: aiohttp.ClientSession | None = None
        self._turns = asyncio.Semaphore(MAX_FETCHES)
        self._turns_of_known = asyncio.Semaphore(MAX_FETCHES)
        self._cache = KeyCache()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        #: By host: what is under way or waits for its turn there.
        self._hosts: dict[str, _Host] = {}
        self._budgets: dict[str, KeyBudget] = {}

    def get(self, url: str) -> bytes | None:
        """Return what an address holds, as far as it is known."""
        return self._cache.get(url)

    async def prepare(
        self, source: str, verifiers: Sequence[RemoteVerifier], request: Request
    ) -> PreparedKeys:
        """Get the keys that these verifiers need for a request, and let them look the keys up.

        An address that can't be asked now is no error yet: another verifier may let the request in. One that
        has no key is for the verifier to refuse, as is a request that no key would help.
        """
        addresses: list[str] = []
        missing: UnavailableError | None = None
        for verifier in verifiers:
            verifier.keys = self
            # What is wrong with the request, `verify` finds and says: in its order, if there are several.
            with suppress(VerificationError):
                url = verifier.key_url(request)
                if url is None:
                    continue
                addresses.append(url)
                try:
                    await self._provide(source, url, request.client, partial(verifier.is_outdated, request))
                except UnavailableError as error:
                    missing = missing or error
        return PreparedKeys(tuple(addresses), missing)

    def mark_verified(self, addresses: Iterable[str]) -> None:
        """Learn that a request passed that needed the keys of these addresses."""
        for url in addresses:
            if self._cache.get(url) is not None:
                self._cache.mark_verified(url)

    async def close(self) -> None:
        """Give up what is under way and close all connections."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _provide(
        self, source: str, url: str, sender: str, is_outdated: Callable[[bytes], bool]
    ) -> None:
        finding = self._cache.look_up(url, self._clock(), is_outdated=is_outdated)
        if finding == "unreachable":
            raise _unavailable()
        if finding == "fetch":
            # One request that gives up must not take the key from the others that wait for it.
            task = self._under_way.get(url) or self._start(source, url, sender)
            await asyncio.wait([task])
            task.result()

    def _start(self, source: str, url: str, sender: str) -> asyncio.Task[None]:
        """Ask an address. Raises `UnavailableError` when the source asked for too many new ones."""
        # An address that is known is not new: made-up ones can't keep it from being asked again.
        if self._cache.is_known(url):
            return self._begin(source, url)
        budget = self._budgets.setdefault(source, KeyBudget())
        for chosen in budget.urls_to_fetch(url, sender, self._clock()):
            if chosen not in self._under_way:
                self._begin(source, chosen)
        if url not in self._under_way:
            raise _unavailable()
        return self._under_way[url]

    def _begin(self, source: str, url: str) -> asyncio.Task[None]:
        task = self._under_way[url] = asyncio.create_task(self._ask(source, url))
        task.add_done_callback(partial(self._finish, url))
        return task

    def _finish(self, url: str, task: asyncio.Task[None]) -> None:
        del self._under_way[url]
        if not task.cancelled():
            task.exception()  # looked at, also when all who waited for it are gone

    async def _ask(self, source: str, url: str) -> None:
        """Ask, and hold what is answered. Raises `UnavailableError` when there is no answer and no key."""
        try:
            async with asyncio.timeout(self._deadline), self._turn(url):
                key = await self._download(url)
        except _AbsentError:
            self._cache.mark_absent(url, self._clock())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            host, fault = urlsplit(url).hostname, type(error).__name__
            get_logger().warning("keys.unavailable", source=source, host=host, error=fault)
            if not self._cache.mark_unreachable(url, self._clock()):
                raise _unavailable() from error
        else:
            self._cache.store(url, key, self._clock())

    @asynccontextmanager
    async def _turn(self, url: str) -> AsyncIterator[None]:
        """Wait for a turn: at the host, and of all. Hosts that hang delay no other, made-up ones no known."""
        if self._cache.is_known(url):
            async with self._turns_of_known:
                yield
            return
        name = urlsplit(url).hostname or ""
        host = self._hosts.setdefault(name, _Host())
        host.waiting += 1
        try:
            async with host.turns, self._turns:
                yield
        finally:
            host.waiting -= 1
            if not host.waiting:
                del self._hosts[name]

    async def _download(self, url: str) -> bytes:
        if not url.startswith("https://"):
            raise _AbsentError
        async with self._opened().get(url, allow_redirects=False) as response:
            if response.status in _ABSENT:
                raise _AbsentError
            if response.status != _FOUND:
                raise aiohttp.ClientPayloadError("an answer without a key")
            return await _read(response.content)

    def _opened(self) -> aiohttp.ClientSession:
        """Return the session, opened when first needed: no cookies, no proxies."""
        if self._session is None:
            tls: ssl.SSLContext | bool = True if self._tls is None else self._tls
            connector = aiohttp.TCPConnector(
                limit=0, force_close=True, resolver=self._resolver, ssl=tls, socket_factory=open_socket
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=_HEADERS,
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


class _Host:
    """The turns at one host, and how many have or want one."""

    __slots__ = ("turns", "waiting")

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(MAX_FETCHES_PER_HOST)
        self.waiting = 0


async def _read(content: aiohttp.StreamReader) -> bytes:
    chunks, size = [], 0
    while chunk := await content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BYTES:
            raise _AbsentError
    return b"".join(chunks)


def _unavailable() -> UnavailableError:
    return UnavailableError("the provider's key can't be fetched; send again later", reason="keys")

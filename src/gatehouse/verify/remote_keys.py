"""Fetches the keys that providers publish, certificates and key sets, from URLs that the verifiers pin.

Unverified requests cause these fetches, so there are limits for everything: the hosts (those of the
verifiers), the time, the size, the number of concurrent fetches, and the number of new URLs per minute and
source. New URLs may be made up, so known URLs have limits of their own.
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

#: Seconds for one fetch, including the wait for a free slot.
FETCH_TIMEOUT = 2.0
#: The maximum size of a response. Certificates with their chain and key sets are shorter.
MAX_BYTES = 64 * 1024
#: Concurrent fetches of new URLs from one host.
MAX_FETCHES_PER_HOST = 4
#: Concurrent fetches of new URLs from all hosts, and as many of known URLs.
MAX_FETCHES = 16
#: Concurrent DNS lookups.
MAX_LOOKUPS = 32

#: No compression, because the size limit applies to the bytes that are read.
_HEADERS = {"User-Agent": f"Gatehouse/{__version__}", "Accept-Encoding": "identity"}
_OK = 200
#: Statuses that mean that a URL serves no key. 408, 425 and 429 only mean "try later".
_ABSENT = frozenset(range(400, 500)) - {408, 425, 429}


class _AbsentError(Exception):
    """The URL serves no key."""


class RemoteKeys:
    """Fetches and caches the keys that verifiers need. `clock` is a monotonic clock, in seconds.

    Tests replace the DNS with `resolver` and the trusted certificate authorities with `tls`.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = FETCH_TIMEOUT,
    ) -> None:
        self._clock = clock
        self._resolver = resolver or AiohttpResolver(SystemResolver(max_threads=MAX_LOOKUPS))
        self._tls = tls
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(MAX_FETCHES)
        self._known_slots = asyncio.Semaphore(MAX_FETCHES)
        self._cache = KeyCache()
        self._fetches: dict[str, asyncio.Task[None]] = {}
        #: The hosts from which keys are being fetched.
        self._hosts: dict[str, _Host] = {}
        self._budgets: dict[str, KeyBudget] = {}

    def get(self, url: str) -> bytes | None:
        """Return the cached key of a URL; None if there is none."""
        return self._cache.get(url)

    async def prepare(
        self, source: str, verifiers: Sequence[RemoteVerifier], request: Request
    ) -> PreparedKeys:
        """Fetch the keys that these verifiers need for a request, unless they are cached.

        If a key can't be fetched, the result holds the error, because another verifier may accept the
        request. If a URL serves no key, or no key can help the request, the verifier refuses it.
        """
        urls: list[str] = []
        unavailable: UnavailableError | None = None
        for verifier in verifiers:
            verifier.keys = self
            # `verify` finds the same error again and reports it, in the order of its checks.
            with suppress(VerificationError):
                url = verifier.key_url(request)
                if url is None:
                    continue
                urls.append(url)
                try:
                    await self._ensure_key(
                        source, url, request.client, partial(verifier.is_outdated, request)
                    )
                except UnavailableError as error:
                    unavailable = unavailable or error
        return PreparedKeys(tuple(urls), unavailable)

    def mark_verified(self, urls: Iterable[str]) -> None:
        """Record that the keys of these URLs have verified a request."""
        for url in urls:
            if self._cache.get(url) is not None:
                self._cache.mark_verified(url)

    async def close(self) -> None:
        """Cancel all fetches and close all connections."""
        tasks = list(self._fetches.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _ensure_key(
        self, source: str, url: str, sender: str, is_outdated: Callable[[bytes], bool]
    ) -> None:
        status = self._cache.look_up(url, self._clock(), is_outdated=is_outdated)
        if status == "unreachable":
            raise _unavailable()
        if status == "fetch":
            # `wait` does not cancel the task: other requests may wait for the same key.
            task = self._fetches.get(url) or self._fetch_within_budget(source, url, sender)
            await asyncio.wait([task])
            task.result()

    def _fetch_within_budget(self, source: str, url: str, sender: str) -> asyncio.Task[None]:
        """Fetch a key. Raises `UnavailableError` if the source has spent its budget of new URLs."""
        # Known URLs don't use the budget, so made-up URLs can't prevent the refresh of a known key.
        if self._cache.is_known(url):
            return self._start_fetch(source, url)
        budget = self._budgets.setdefault(source, KeyBudget())
        for wanted in budget.urls_to_fetch(url, sender, self._clock()):
            if wanted not in self._fetches:
                self._start_fetch(source, wanted)
        if url not in self._fetches:
            raise _unavailable()
        return self._fetches[url]

    def _start_fetch(self, source: str, url: str) -> asyncio.Task[None]:
        task = self._fetches[url] = asyncio.create_task(self._fetch(source, url))
        task.add_done_callback(partial(self._end_fetch, url))
        return task

    def _end_fetch(self, url: str, task: asyncio.Task[None]) -> None:
        del self._fetches[url]
        if not task.cancelled():
            task.exception()  # retrieved even if no request waits for it any more

    async def _fetch(self, source: str, url: str) -> None:
        """Fetch and cache a key. Raises `UnavailableError` if the fetch fails and no usable key is cached."""
        try:
            async with asyncio.timeout(self._timeout), self._slot(url):
                key = await self._download(url)
        except _AbsentError:
            self._cache.mark_absent(url, self._clock())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            host, error_name = urlsplit(url).hostname, type(error).__name__
            get_logger().warning("keys.unavailable", source=source, host=host, error=error_name)
            if not self._cache.mark_unreachable(url, self._clock()):
                raise _unavailable() from error
        else:
            self._cache.store(url, key, self._clock())

    @asynccontextmanager
    async def _slot(self, url: str) -> AsyncIterator[None]:
        """Wait for a slot. A hanging host doesn't delay the others, and new URLs don't delay known ones."""
        if self._cache.is_known(url):
            async with self._known_slots:
                yield
            return
        name = urlsplit(url).hostname or ""
        host = self._hosts.setdefault(name, _Host())
        host.fetches += 1
        try:
            async with host.slots, self._slots:
                yield
        finally:
            host.fetches -= 1
            if not host.fetches:
                del self._hosts[name]

    async def _download(self, url: str) -> bytes:
        if not url.startswith("https://"):
            raise _AbsentError
        async with self._open_session().get(url, allow_redirects=False) as response:
            if response.status in _ABSENT:
                raise _AbsentError
            if response.status != _OK:
                raise aiohttp.ClientPayloadError("the response contains no key")
            return await _read(response.content)

    def _open_session(self) -> aiohttp.ClientSession:
        """Return the HTTP session, without cookies and proxies. The first call creates it."""
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
    """The slots of one host, and the number of fetches that use or await one."""

    __slots__ = ("fetches", "slots")

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(MAX_FETCHES_PER_HOST)
        self.fetches = 0


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

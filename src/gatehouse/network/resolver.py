"""Looks up host names, so that a slow look-up delays only its own name.

The system's look-up (`getaddrinfo`) blocks as long as the system's settings say, and cannot be interrupted.
Event loops run it in a few shared threads. Then a few names with unresponsive name servers block every other
name and the end of the process. Here each look-up has its own daemon thread, each name has at most two
threads, and each caller waits for a limited time. The answers are still the system's: /etc/hosts, search
domains and name services apply as configured.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiohttp.abc import AbstractResolver

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.abc import ResolveResult

#: Seconds to wait for an answer. When its first name server is down, the system takes five.
TIMEOUT: Final = 6.0
#: Seconds to wait when an earlier answer is cached, and seconds for which the cached answer may be used.
STALE_AFTER: Final = 1.0
STALE_FOR: Final = 3600.0
#: Threads per name. The second one starts when the first has run for longer than any caller waits.
_MAX_THREADS_PER_NAME: Final = 2
#: Names whose last answer is cached.
_CACHE_SIZE: Final = 512
#: The errors that say that a name has no address. They also remove a cached answer.
_NO_ADDRESS: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))

#: Addresses as the system returns them: family, kind, protocol, canonical name, address.
Addresses = list[tuple[Any, Any, int, str, Any]]


class Query(NamedTuple):
    """The arguments of a look-up."""

    host: str | bytes | None
    port: str | int | None
    family: int = 0
    kind: int = 0
    protocol: int = 0
    flags: int = 0


class _Lookup(NamedTuple):
    answer: asyncio.Future[Addresses]
    since: float


class SystemResolver:
    """Looks up names. `max_threads` limits all threads together, for names that outsiders can choose."""

    def __init__(
        self,
        *,
        max_threads: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        system: Callable[..., Addresses] | None = None,
    ) -> None:
        self._max_threads = max_threads
        self._clock = clock
        self._system = system
        #: Look-ups in progress.
        self._lookups: dict[Query, list[_Lookup]] = {}
        self._cache: OrderedDict[Query, tuple[Addresses, float]] = OrderedDict()

    async def look_up(self, query: Query) -> Addresses:
        """Return the addresses of a name. Raises `socket.gaierror`, after `TIMEOUT` at the latest."""
        if _is_numeric(query.host):
            return socket.getaddrinfo(*query)  # numeric, so no server is asked
        stale = self._stale(query)
        try:
            lookup = self._lookup(query)
            patience = TIMEOUT if stale is None else STALE_AFTER
            found = await _wait(lookup.answer, lookup.since + patience - self._clock())
        except (OSError, UnicodeError) as error:
            # This includes `TimeoutError`.
            if isinstance(error, socket.gaierror) and error.errno in _NO_ADDRESS:
                self._cache.pop(query, None)
            elif stale is not None:
                return stale
            raise _as_gaierror(error) from None
        self._cache[query] = found, self._clock()
        self._cache.move_to_end(query)
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)
        return found

    def _stale(self, query: Query) -> Addresses | None:
        found, at = self._cache.get(query, (None, 0.0))
        return found if self._clock() - at < STALE_FOR else None

    def _lookup(self, query: Query) -> _Lookup:
        """Return the look-up in progress, or start a new one when that has run for too long."""
        loop, now = asyncio.get_running_loop(), self._clock()
        lookups = [one for one in self._lookups.get(query, ()) if one.answer.get_loop() is loop]
        if lookups and now - lookups[-1].since < TIMEOUT:
            return lookups[-1]
        if len(lookups) >= _MAX_THREADS_PER_NAME:
            return _Lookup(lookups[-1].answer, now)
        if self._max_threads is not None and sum(map(len, self._lookups.values())) >= self._max_threads:
            raise socket.gaierror(socket.EAI_AGAIN, "too many look-ups are in progress")
        lookup = _Lookup(loop.create_future(), now)
        self._lookups[query] = [*lookups, lookup]
        lookup.answer.add_done_callback(partial(self._finish, query))
        # A daemon thread, so the end of the process does not wait for it.
        system = self._system or socket.getaddrinfo
        Thread(target=_run_lookup, args=(system, query, lookup.answer), name="look-up", daemon=True).start()
        return lookup

    def _finish(self, query: Query, answer: asyncio.Future[Addresses]) -> None:
        left = [one for one in self._lookups.pop(query, ()) if one.answer is not answer]
        if left:
            self._lookups[query] = left
        if not answer.cancelled():
            answer.exception()  # marks the exception as retrieved even when no caller waits


async def _wait(answer: asyncio.Future[Addresses], seconds: float) -> Addresses:
    """Wait for an answer without cancelling it, because others may wait for it too."""
    await asyncio.wait([answer], timeout=max(seconds, 0))
    if not answer.done():
        raise TimeoutError
    return answer.result()


def _run_lookup(system: Callable[..., Addresses], query: Query, answer: asyncio.Future[Addresses]) -> None:
    """Call the system's look-up, in its own thread."""
    fault, found = None, []
    try:
        found = system(*query)
    except Exception as error:  # noqa: BLE001 - the waiting callers get the error
        fault = error
    with suppress(RuntimeError):  # the event loop has ended
        answer.get_loop().call_soon_threadsafe(_settle, answer, found, fault)


def _settle(answer: asyncio.Future[Addresses], found: Addresses, fault: Exception | None) -> None:
    if answer.done():
        return
    if fault is None:
        answer.set_result(found)
    else:
        answer.set_exception(fault)


def _as_gaierror(error: Exception) -> socket.gaierror:
    if isinstance(error, TimeoutError):
        return socket.gaierror(socket.EAI_AGAIN, "the name server does not answer")
    if isinstance(error, socket.gaierror):
        return socket.gaierror(*error.args)
    # The name is invalid, or the thread could not start.
    return socket.gaierror(socket.EAI_FAIL, "the name can't be looked up")


def _is_numeric(host: str | bytes | None) -> bool:
    if host is None:
        return True
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


class AiohttpResolver(AbstractResolver):
    """Looks up names for aiohttp's connections."""

    def __init__(self, names: SystemResolver | None = None) -> None:
        self._resolver = names or SystemResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises `OSError`."""
        query = Query(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
        return [
            {
                "hostname": host,
                "host": _with_zone(address),
                "port": address[1],
                "family": found_family,
                "proto": protocol,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for found_family, _, protocol, _, address in await self._resolver.look_up(query)
        ]

    async def close(self) -> None:
        """Do nothing: look-ups end by themselves."""


def _with_zone(address: tuple[Any, ...]) -> str:
    """Format an address, with its zone if it is link-local."""
    host, _, *more = address
    return f"{host}%{more[1]}" if len(more) == 2 and more[1] else str(host)  # noqa: PLR2004 - IPv6

"""Caches published keys by URL, decides when to fetch them again, and limits fetches from new URLs. No I/O.

An unverified request can name a URL that does not exist. If Gatehouse fetched every such URL, anyone could
use it to flood the provider with requests. Therefore each source has a small budget of new URLs per minute,
and the URLs that are requested most often come first.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

#: Age at which a key is fetched again.
FRESH_SECONDS = 3600.0
#: Age from which a key is not used.
USABLE_SECONDS = 24 * 3600.0
#: Wait before the next fetch from a URL that serves no key, or that failed while its key is cached.
RETRY_SECONDS = 60.0
#: Wait before the next fetch of a key set that lacks the key id of a request.
OUTDATED_SECONDS = 10.0
#: Wait before the next fetch from a URL that was unreachable and has no cached key.
UNREACHABLE_SECONDS = 5.0
#: Keys to cache.
MAX_KEYS = 64
#: URLs without a key to remember.
MAX_MISSES = 1000

#: What to do about a key: `fetch` it, or use the `cached` one. It can also be that the URL serves none
#: (`absent`), or that the last fetch failed just now (`unreachable`).
KeyStatus = Literal["fetch", "cached", "absent", "unreachable"]


class _CachedKey:
    """A key, the time at which it was fetched, and the time of the last attempt to fetch it."""

    __slots__ = ("fetched", "key", "last_attempt")

    def __init__(self, key: bytes, now: float) -> None:
        self.key = key
        self.fetched = self.last_attempt = now


class _Miss(NamedTuple):
    until: float
    status: Literal["absent", "unreachable"]


class KeyCache:
    """The fetched keys, by URL. A full cache evicts the least recently used key.

    It evicts a key that has verified no request first, so made-up URLs can't evict the keys that are in use.
    """

    def __init__(self) -> None:
        #: URLs whose key has verified a request. They stay here when the key is evicted.
        self._verified: OrderedDict[str, None] = OrderedDict()
        self._cached: OrderedDict[str, _CachedKey] = OrderedDict()
        self._misses: OrderedDict[str, _Miss] = OrderedDict()

    def get(self, url: str) -> bytes | None:
        """Return the key of a URL; None if it is not cached."""
        entry = self._cached.get(url)
        return entry.key if entry else None

    def look_up(self, url: str, now: float, *, is_outdated: Callable[[bytes], bool]) -> KeyStatus:
        """Return what to do about a URL's key. `is_outdated` says whether a cached key set lacks the key."""
        entry = self._cached.get(url)
        if entry is not None and now - entry.fetched < USABLE_SECONDS:
            self._cached.move_to_end(url)
            if now - entry.fetched >= FRESH_SECONDS and now - entry.last_attempt >= RETRY_SECONDS:
                return "fetch"
            return (
                "fetch"
                if now - entry.last_attempt >= OUTDATED_SECONDS and is_outdated(entry.key)
                else "cached"
            )
        miss = self._misses.get(url)
        return miss.status if miss and now < miss.until else "fetch"

    def store(self, url: str, key: bytes, now: float) -> None:
        """Store the key that was fetched from a URL."""
        self._misses.pop(url, None)
        self._cached[url] = _CachedKey(key, now)
        self._cached.move_to_end(url)
        if len(self._cached) > MAX_KEYS:
            others = [one for one in self._cached if one != url]
            del self._cached[next((one for one in others if one not in self._verified), others[0])]

    def mark_verified(self, url: str) -> None:
        """Record that the key of a URL has verified a request."""
        self._verified[url] = None
        self._verified.move_to_end(url)
        if len(self._verified) > MAX_KEYS:
            self._verified.popitem(last=False)

    def is_known(self, url: str) -> bool:
        """Return whether a URL is not made up: its key is cached or has verified a request."""
        return url in self._cached or url in self._verified

    def mark_absent(self, url: str, now: float) -> None:
        """Record that a URL serves no key, or no longer serves one."""
        self._cached.pop(url, None)
        self._miss(url, _Miss(now + RETRY_SECONDS, "absent"))

    def mark_unreachable(self, url: str, now: float) -> bool:
        """Record that a URL was unreachable. Returns whether its cached key can still be used."""
        entry = self._cached.get(url)
        if entry is not None and now - entry.fetched < USABLE_SECONDS:
            entry.last_attempt = now
            return True
        self._cached.pop(url, None)
        self._miss(url, _Miss(now + UNREACHABLE_SECONDS, "unreachable"))
        return False

    def _miss(self, url: str, miss: _Miss) -> None:
        self._misses[url] = miss
        self._misses.move_to_end(url)
        if len(self._misses) > MAX_MISSES:
            self._misses.popitem(last=False)


#: New URLs from which one source may fetch per minute, and in one burst.
NEW_URLS_PER_MINUTE: Final = 30
#: A second budget of this size serves senders with at most this many new URLs within a minute. A flood from
#: other senders can't exhaust it.
_NEW_URLS_PER_SENDER: Final = 3
#: URLs, and senders, to count at a time. Those with the lowest counts are evicted first.
_MAX_COUNTED: Final = 4096
_MINUTE: Final = 60.0


class _TokenBucket:
    """A budget of `NEW_URLS_PER_MINUTE` that refills continuously up to that number."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._tokens = float(NEW_URLS_PER_MINUTE)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Take one token. Returns whether one was left."""
        if self._at is not None and now > self._at:
            self._tokens = min(
                self._tokens + (now - self._at) * NEW_URLS_PER_MINUTE / _MINUTE, NEW_URLS_PER_MINUTE
            )
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _RecentCounts:
    """Counts names. A count starts again if its name does not occur for a minute."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def add(self, name: str, now: float) -> int:
        """Count a name, and return its count."""
        count, at = self._counts.pop(name, (0, now))
        count = 1 if now - at >= _MINUTE else count + 1
        if len(self._counts) >= _MAX_COUNTED:
            self._evict()
        self._counts[name] = count, now
        return count

    def reset(self, name: str) -> None:
        """Remove the count of a name."""
        self._counts.pop(name, None)

    def most_frequent(self, now: float) -> str | None:
        """Return the name with the highest count, if it is higher than one."""
        repeated = [(count, name) for name, (count, at) in self._counts.items() if now - at < _MINUTE]
        count, name = max(repeated, default=(0, ""))
        return name if count > 1 else None

    def _evict(self) -> None:
        # The lowest count among the 16 oldest names: a flood of new names can't evict a repeated one.
        oldest = [name for name, _ in zip(self._counts, range(16), strict=False)]
        del self._counts[min(oldest, key=lambda name: self._counts[name][0])]


class KeyBudget:
    """The budget of one source for fetches from new URLs."""

    def __init__(self) -> None:
        self._shared_bucket = _TokenBucket()
        self._quiet_senders_bucket = _TokenBucket()
        self._urls = _RecentCounts()
        self._senders = _RecentCounts()

    def urls_to_fetch(self, url: str, sender: str, now: float) -> list[str]:
        """Count a new URL from a request of this sender, and return the URLs to fetch now.

        The result is usually this URL or none. It is another URL if that one was requested more often and did
        not fit the budget at the time.
        """
        self._urls.add(url, now)
        if (
            sender
            and self._senders.add(_sender_network(sender), now) <= _NEW_URLS_PER_SENDER
            and self._quiet_senders_bucket.take(now)
        ):
            self._urls.reset(url)
            return [url]
        if not self._shared_bucket.take(now):
            return []
        chosen = self._urls.most_frequent(now) or url
        self._urls.reset(chosen)
        return [chosen]


def _sender_network(sender: str) -> str:
    """Return the network that counts as one sender: a /64 for IPv6, the address itself for IPv4."""
    try:
        address = ipaddress.ip_address(sender.partition("%")[0])
    except ValueError:
        return sender
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)  # noqa: PLR2004

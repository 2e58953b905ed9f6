"""What is known of the addresses at which providers publish keys, and when to fetch them again. Pure.

Anyone can name an address that does not exist. Fetching each would let anyone send requests to the provider
in our name. So each source has a small budget of new addresses per minute, spent on the most relevant ones
first.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

#: A key that is older is fetched again.
FRESH_SECONDS = 3600.0
#: A key that is older is not used.
USABLE_SECONDS = 24 * 3600.0
#: How long to wait before an address is asked again that answered, or that failed while its key is known.
RETRY_SECONDS = 60.0
#: How long to wait before a key set is fetched again that lacks the key a request names.
OUTDATED_SECONDS = 10.0
#: How long to wait before an address is asked again that could not be reached.
UNREACHABLE_SECONDS = 5.0
#: Keys that are kept, and addresses without one that are remembered.
MAX_KEYS = 64
MAX_MISSES = 1000

#: `ask` the address; the key is `held`; it is known to be `absent`; the address was `unreached` just now.
Finding = Literal["fetch", "cached", "absent", "unreachable"]


class _Held:
    """A key, when it was fetched, and when its address was last asked."""

    __slots__ = ("asked", "fetched", "key")

    def __init__(self, key: bytes, now: float) -> None:
        self.key = key
        self.fetched = self.asked = now


class _Miss(NamedTuple):
    until: float
    finding: Literal["absent", "unreachable"]


class KeyCache:
    """Keys by address. Those that were not used for longest go first; junk can't push keys out.

    A key that a request was verified with is proved: those that are not go before it, however new they are.
    """

    def __init__(self) -> None:
        #: Addresses whose key is proved, also while it is not held.
        self._proved: OrderedDict[str, None] = OrderedDict()
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._misses: OrderedDict[str, _Miss] = OrderedDict()

    def get(self, url: str) -> bytes | None:
        """Return the key of an address."""
        held = self._held.get(url)
        return held.key if held else None

    def look_up(self, url: str, now: float, *, is_outdated: Callable[[bytes], bool]) -> Finding:
        """Say what to do for the key of an address. `is_outdated` tells whether a key will not do."""
        held = self._held.get(url)
        if held is not None and now - held.fetched < USABLE_SECONDS:
            self._held.move_to_end(url)
            if now - held.fetched >= FRESH_SECONDS and now - held.asked >= RETRY_SECONDS:
                return "fetch"
            return "fetch" if now - held.asked >= OUTDATED_SECONDS and is_outdated(held.key) else "cached"
        miss = self._misses.get(url)
        return miss.finding if miss and now < miss.until else "fetch"

    def store(self, url: str, key: bytes, now: float) -> None:
        """Keep the key that an address gave."""
        self._misses.pop(url, None)
        self._held[url] = _Held(key, now)
        self._held.move_to_end(url)
        if len(self._held) > MAX_KEYS:
            others = [one for one in self._held if one != url]
            del self._held[next((one for one in others if one not in self._proved), others[0])]

    def mark_verified(self, url: str) -> None:
        """Note that a request was verified with the key of an address."""
        self._proved[url] = None
        self._proved.move_to_end(url)
        if len(self._proved) > MAX_KEYS:
            self._proved.popitem(last=False)

    def is_known(self, url: str) -> bool:
        """Tell whether an address is no made-up one: its key is held, or is proved."""
        return url in self._held or url in self._proved

    def mark_absent(self, url: str, now: float) -> None:
        """Note that an address has no key, or none any more."""
        self._held.pop(url, None)
        self._miss(url, _Miss(now + RETRY_SECONDS, "absent"))

    def mark_unreachable(self, url: str, now: float) -> bool:
        """Note that an address was not reached. Tell whether its key is known and goes on being used."""
        held = self._held.get(url)
        if held is not None and now - held.fetched < USABLE_SECONDS:
            held.asked = now
            return True
        self._held.pop(url, None)
        self._miss(url, _Miss(now + UNREACHABLE_SECONDS, "unreachable"))
        return False

    def _miss(self, url: str, miss: _Miss) -> None:
        self._misses[url] = miss
        self._misses.move_to_end(url)
        if len(self._misses) > MAX_MISSES:
            self._misses.popitem(last=False)


#: New addresses that one source may ask for in a minute, and in one burst.
NEW_URLS_PER_MINUTE: Final = 30
#: As many again, for senders that named less than this many new addresses in the last minute.
_FEW: Final = 3
#: Addresses, and senders, that are counted at a time; those named least are forgotten first.
_MOST_COUNTED: Final = 4096
_MINUTE: Final = 60.0


class _Allowance:
    """So many a minute, and no more saved up than that."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = float(NEW_URLS_PER_MINUTE)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Take one; tell whether there was one."""
        if self._at is not None and now > self._at:
            self._left = min(
                self._left + (now - self._at) * NEW_URLS_PER_MINUTE / _MINUTE, NEW_URLS_PER_MINUTE
            )
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Counts:
    """How often each was named within a minute of the time before."""

    def __init__(self) -> None:
        self._named: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def add(self, name: str, now: float) -> int:
        """Count one, and return how many there are."""
        count, at = self._named.pop(name, (0, now))
        count = 1 if now - at >= _MINUTE else count + 1
        if len(self._named) >= _MOST_COUNTED:
            self._forget_one()
        self._named[name] = count, now
        return count

    def forget(self, name: str) -> None:
        """Count from zero again."""
        self._named.pop(name, None)

    def most_named(self, now: float) -> str | None:
        """Return what was named most, if anything was named more than once."""
        repeated = [(count, name) for name, (count, at) in self._named.items() if now - at < _MINUTE]
        count, name = max(repeated, default=(0, ""))
        return name if count > 1 else None

    def _forget_one(self) -> None:
        # The oldest of a few: what was named more than once stays ahead of a flood.
        oldest = [name for name, _ in zip(self._named, range(16), strict=False)]
        del self._named[min(oldest, key=lambda name: self._named[name][0])]


class KeyBudget:
    """The budget of one source."""

    def __init__(self) -> None:
        self._all = _Allowance()
        self._few = _Allowance()
        self._addresses = _Counts()
        self._senders = _Counts()

    def urls_to_fetch(self, url: str, sender: str, now: float) -> list[str]:
        """Note that a sender named a new address. Return the addresses to ask for now.

        Mostly it is this one or none; another one when that was named more often and could not be asked for.
        """
        self._addresses.add(url, now)
        if sender and self._senders.add(_network(sender), now) <= _FEW and self._few.take(now):
            self._addresses.forget(url)
            return [url]
        if not self._all.take(now):
            return []
        chosen = self._addresses.most_named(now) or url
        self._addresses.forget(chosen)
        return [chosen]


def _network(sender: str) -> str:
    """Return who a sender is: of IPv6, one has a whole network."""
    try:
        address = ipaddress.ip_address(sender.partition("%")[0])
    except ValueError:
        return sender
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)  # noqa: PLR2004

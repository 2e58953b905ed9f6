"""What is known of the addresses at which providers publish keys, and when to ask them again. Pure.

A key is used for an hour before its address is asked again, and for a day when that fails: a provider whose
key server is down sends all the same. What is not there is remembered as well, so that one request with a
made-up address, sent a thousand times, is one question. Times are seconds of any one clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

#: A key that is older is asked for again.
FRESH_SECONDS = 3600.0
#: A key that is older is not used.
USABLE_SECONDS = 24 * 3600.0
#: An address that gave an answer, or failed while its key is known, is let be for so long.
RETRY_SECONDS = 60.0
#: A key that lacks what a request names is asked for again after so long: the provider may have a new one.
OUTDATED_SECONDS = 10.0
#: An address that was not reached is let be for so long.
UNREACHED_SECONDS = 5.0
#: Keys that are kept, and addresses without one that are remembered.
MOST_KEYS = 64
MOST_MISSES = 1000

#: `ask` the address; the key is `held`; it is known to be `absent`; the address was `unreached` just now.
Finding = Literal["ask", "held", "absent", "unreached"]


class _Held:
    """A key, when it was fetched, and when its address was last asked."""

    __slots__ = ("asked", "fetched", "key")

    def __init__(self, key: bytes, now: float) -> None:
        self.key = key
        self.fetched = self.asked = now


class _Miss(NamedTuple):
    until: float
    finding: Literal["absent", "unreached"]


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

    def find(self, url: str, now: float, *, is_outdated: Callable[[bytes], bool]) -> Finding:
        """Say what to do for the key of an address. `is_outdated` tells whether a key will not do."""
        held = self._held.get(url)
        if held is not None and now - held.fetched < USABLE_SECONDS:
            self._held.move_to_end(url)
            if now - held.fetched >= FRESH_SECONDS and now - held.asked >= RETRY_SECONDS:
                return "ask"
            return "ask" if now - held.asked >= OUTDATED_SECONDS and is_outdated(held.key) else "held"
        miss = self._misses.get(url)
        return miss.finding if miss and now < miss.until else "ask"

    def hold(self, url: str, key: bytes, now: float) -> None:
        """Keep the key that an address gave."""
        self._misses.pop(url, None)
        self._held[url] = _Held(key, now)
        self._held.move_to_end(url)
        if len(self._held) > MOST_KEYS:
            others = [one for one in self._held if one != url]
            del self._held[next((one for one in others if one not in self._proved), others[0])]

    def prove(self, url: str) -> None:
        """Note that a request was verified with the key of an address."""
        self._proved[url] = None
        self._proved.move_to_end(url)
        if len(self._proved) > MOST_KEYS:
            self._proved.popitem(last=False)

    def is_known(self, url: str) -> bool:
        """Tell whether an address is no made-up one: its key is held, or is proved."""
        return url in self._held or url in self._proved

    def absent(self, url: str, now: float) -> None:
        """Note that an address has no key, or none any more."""
        self._held.pop(url, None)
        self._miss(url, _Miss(now + RETRY_SECONDS, "absent"))

    def unreached(self, url: str, now: float) -> bool:
        """Note that an address was not reached. Tell whether its key is known and goes on being used."""
        held = self._held.get(url)
        if held is not None and now - held.fetched < USABLE_SECONDS:
            held.asked = now
            return True
        self._held.pop(url, None)
        self._miss(url, _Miss(now + UNREACHED_SECONDS, "unreached"))
        return False

    def _miss(self, url: str, miss: _Miss) -> None:
        self._misses[url] = miss
        self._misses.move_to_end(url)
        if len(self._misses) > MOST_MISSES:
            self._misses.popitem(last=False)

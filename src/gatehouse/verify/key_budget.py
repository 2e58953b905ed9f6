"""Which new addresses of keys a source may ask for: few a minute, and the ones that matter first. Pure.

An address that nobody has verified with may be made up, and asking for each would let anyone send requests to
the provider in our name. So there is a budget, and a flood of made-up addresses spends it at once. Two things
tell a provider's own address from those: it is named again and again, while one that was made up has no key
and is not asked for twice; and it is named by an address that did not send the flood.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

#: New addresses that one source may ask for in a minute, and in one burst.
NEW_PER_MINUTE: Final = 30
#: As many again, for senders that named less than this many new addresses in the last minute.
_FEW: Final = 3
#: Addresses, and senders, that are counted at a time; those named least are forgotten first.
_MOST_COUNTED: Final = 4096
_MINUTE: Final = 60.0


class _Allowance:
    """So many a minute, and no more saved up than that."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = float(NEW_PER_MINUTE)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Take one; tell whether there was one."""
        if self._at is not None and now > self._at:
            self._left = min(self._left + (now - self._at) * NEW_PER_MINUTE / _MINUTE, NEW_PER_MINUTE)
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

    def name(self, url: str, sender: str, now: float) -> list[str]:
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

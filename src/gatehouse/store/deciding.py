"""What becomes of an arrival: the same whatever it is stored in.

A store looks up the keys of a batch that are known and the order keys that are taken. From there on all is
decided in memory, arrival by arrival, since an arrival can repeat or follow an earlier one of its batch.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from gatehouse.store.base import Receipt
from gatehouse.store.rows import digest, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gatehouse.store.base import Arrival, Reply

#: A destination and an order key.
Lock: TypeAlias = tuple[str, bytes]


class Key(NamedTuple):
    """A dedupe key in its scope. Three values, never joined to one: "a" + "bc" is not "ab" + "c"."""

    source: str
    place: int
    key: bytes


class First(NamedTuple):
    """The event that a known key belongs to."""

    event_id: str
    expires_ms: int
    #: None when the event has been purged.
    digest: bytes | None
    reply: Reply | None


def keys_in(source: str, keys: tuple[bytes | None, ...]) -> Iterator[Key]:
    """Return the keys that resolved, in their scope and order."""
    for place, key in enumerate(keys):
        if key is not None:
            yield Key(source, place, key)


def keys_of(arrival: Arrival) -> Iterator[Key]:
    """Return the keys of an arrival, in order."""
    return keys_in(arrival.event.source, arrival.keys)


def all_keys(arrivals: Sequence[Arrival]) -> list[Key]:
    """Return the keys of a batch, each once."""
    return list(dict.fromkeys(itertools.chain.from_iterable(map(keys_of, arrivals))))


def locks_of(arrivals: Sequence[Arrival]) -> set[Lock]:
    """Return the order keys of a batch; most batches have none."""
    return {
        (assignment.destination, assignment.order_key)
        for arrival in arrivals
        for assignment in arrival.assignments
        if assignment.order_key is not None
    }


def duplicate_of(source: str, keys: tuple[bytes | None, ...], known: Mapping[Key, First]) -> Receipt | None:
    """Return the receipt of a duplicate, if these keys make one."""
    first = next((known[key] for key in keys_in(source, keys) if key in known), None)
    return None if first is None else Receipt("duplicate", first.event_id, reply=first.reply)


class Batch:
    """The keys known so far, and what is to be written. A store says how it is."""

    def __init__(self, known: dict[Key, First], taken: set[Lock], now_ms: int) -> None:
        self._known = known
        #: By which event of this batch an order key is taken; "": by one of before.
        self._taken = dict.fromkeys(taken, "")
        self._now_ms = now_ms
        # By key, because an expired one can be recorded twice in a batch.
        self._new_keys: dict[Key, First] = {}

    def add(self, arrival: Arrival) -> Receipt:
        """Decide on an arrival, and keep what is to be written of it."""
        keys = tuple(keys_of(arrival))
        body_digest = digest(arrival.event.body)
        first = next((self._known[key] for key in keys if key in self._known), None)
        if first is not None:
            # Its unknown keys are not recorded: an unsigned one would let a replay block a genuine event.
            conflict = first.digest is not None and first.digest != body_digest
            return Receipt("conflict" if conflict else "duplicate", first.event_id, reply=first.reply)
        expires_ms = self._expiry(arrival)
        self._record(keys, First(arrival.event.id, expires_ms, body_digest, arrival.reply))
        return self._store(arrival, body_digest)

    def _record(self, keys: Sequence[Key], first: First) -> None:
        for key in keys:
            self._new_keys[key] = first
            if first.expires_ms > self._now_ms:
                self._known[key] = first

    def _must_wait(self, lock: Lock, event_id: str) -> bool:
        """Tell whether another event goes first; this one, named twice, is not another."""
        return self._taken.setdefault(lock, event_id) != event_id

    def _expiry(self, arrival: Arrival) -> int:
        return milliseconds(arrival.keep_keys_until)

    def _store(self, arrival: Arrival, body_digest: bytes) -> Receipt:
        raise NotImplementedError

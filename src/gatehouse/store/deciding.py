"""What becomes of an arrival: the same whatever it is stored in.

A store looks up the keys of a batch that are known and the order keys that are taken. From there on all is
decided in memory, arrival by arrival, since an arrival can repeat or follow an earlier one of its batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from gatehouse.store.base import Receipt
from gatehouse.store.rows import digest, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.store.base import Arrival, Reply

#: A destination and an order key.
Lock: TypeAlias = tuple[str, bytes]
#: A dedupe key as it is kept: source, place, and the key behind its scope, whose length is fixed: "a" + "bc"
#: is never "ab" + "c".
Key: TypeAlias = tuple[str, int, bytes]
#: The place of all keys. Version 0.1 told keys apart by their place in `dedupe.by`, from 0 on, instead.
SCOPED: Final = -1


class First(msgspec.Struct, frozen=True, gc=False):
    """The event that a known key belongs to."""

    event_id: str
    #: None when the event has been purged.
    digest: bytes | None
    reply: Reply | None
    #: When one of its dead deliveries was last asked for again, 0 for never; None when none is dead.
    dead_ms: int | None = None


def keys_in(source: str, keys: Sequence[DedupeKey | None]) -> list[Key]:
    """Return the keys that resolved, in their order."""
    return [(source, SCOPED, key.scoped) for key in keys if key is not None]


def keys_of(arrivals: Sequence[Arrival]) -> list[list[Key]]:
    """Return the keys of each arrival, in order."""
    return [keys_in(arrival.event.source, arrival.keys) for arrival in arrivals]


def locks_of(arrivals: Sequence[Arrival]) -> set[Lock]:
    """Return the order keys of a batch; most batches have none."""
    return {
        (assignment.destination, assignment.order_key)
        for arrival in arrivals
        for assignment in arrival.assignments
        if assignment.order_key is not None
    }


def duplicate_of(keys: Sequence[Key], known: Mapping[Key, First]) -> Receipt | None:
    """Return the receipt of a duplicate, if these keys make one."""
    first = next((known[key] for key in keys if key in known), None)
    return None if first is None else _receipt("duplicate", first)


class Batch:
    """The keys known so far, and what is to be written. A store says how it is."""

    def __init__(self, known: dict[Key, First], taken: set[Lock], now_ms: int) -> None:
        self._known = known
        #: By which event of this batch an order key is taken; "": by one of before.
        self._taken = dict.fromkeys(taken, "")
        self._now_ms = now_ms
        # By key, because an expired one can be recorded twice in a batch. With when it expires.
        self._new_keys: dict[Key, tuple[str, int]] = {}

    def add(self, arrival: Arrival, keys: Sequence[Key]) -> Receipt:
        """Decide on an arrival with these keys, and keep what is to be written of it."""
        event = arrival.event
        body_digest = digest(event.body)
        for key in keys:
            if key in self._known:
                # Its unknown keys are not recorded: an unsigned one would let a replay block a genuine event.
                return _repeated(self._known[key], body_digest)
        self._record(arrival, keys, First(event.id, body_digest, arrival.reply))
        return self._store(arrival, body_digest)

    def _record(self, arrival: Arrival, keys: Sequence[Key], first: First) -> None:
        number, event_id, now_ms = 0, first.event_id, self._now_ms
        for each in arrival.keys:
            if each is not None:
                key, expires_ms = keys[number], self._expiry(each.until)
                number += 1
                self._new_keys[key] = (event_id, expires_ms)
                if expires_ms > now_ms:
                    self._known[key] = first

    def _must_wait(self, lock: Lock, event_id: str) -> bool:
        """Tell whether another event goes first; this one, named twice, is not another."""
        return self._taken.setdefault(lock, event_id) != event_id

    def _expiry(self, until: float) -> int:
        return milliseconds(until)

    def _store(self, arrival: Arrival, body_digest: bytes) -> Receipt:
        raise NotImplementedError


def _repeated(first: First, body_digest: bytes) -> Receipt:
    conflict = first.digest is not None and first.digest != body_digest
    return _receipt("conflict" if conflict else "duplicate", first)


def _receipt(status: Literal["duplicate", "conflict"], first: First) -> Receipt:
    dead = None if first.dead_ms is None else first.dead_ms / 1000
    return Receipt(status, first.event_id, reply=first.reply, dead=dead)

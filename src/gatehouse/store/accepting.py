"""Decides for each arrival whether it is new, a duplicate or a conflict: the same in both stores.

A store looks up which dedupe keys of a batch are known and which order keys have pending deliveries. The rest
is decided in memory, arrival by arrival, because an arrival can repeat or follow an earlier one of its batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from gatehouse.store.base import Receipt, Reply
from gatehouse.store.rows import decode_text, digest, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.store.base import Arrival

#: A destination and an order key: the deliveries of one group are delivered one after the other.
OrderGroup: TypeAlias = tuple[str, bytes]
#: The `due_ms` of a delivery that is held back behind another one. Any real time is smaller.
HELD: Final = 2**62
#: A dedupe key as it is stored: source, place, and the scope followed by the key. All scopes have the same
#: length, so "a" + "bc" is never mistaken for "ab" + "c".
Key: TypeAlias = tuple[str, int, bytes]
#: The place of every key. Version 0.1 had no scopes: it stored the key's position in `dedupe.by` here, from 0
#: on (see legacy_keys.py).
SCOPED: Final = -1


class KnownEvent(msgspec.Struct, frozen=True, gc=False):
    """The event that a known dedupe key belongs to."""

    event_id: str
    #: None when the event has been purged.
    digest: bytes | None
    reply: Reply | None
    #: When one of its dead deliveries was last retried by request, 0 for never; None when none is dead.
    dead_ms: int | None = None


def known_event(
    event_id: str,
    body_digest: bytes | None,
    dead_ms: int | None,
    status: int | None,
    content_type: bytes | None,
    body: bytes,
) -> KnownEvent:
    """Make a `KnownEvent` of a row. The last three columns are those of the reply, if there is one."""
    reply = None if status is None else Reply(status, decode_text(content_type), body)
    return KnownEvent(event_id, body_digest, reply, dead_ms)


def resolved_keys(source: str, keys: Sequence[DedupeKey | None]) -> list[Key]:
    """Return the keys whose templates resolved, in their order."""
    return [(source, SCOPED, key.scoped) for key in keys if key is not None]


def keys_of(arrivals: Sequence[Arrival]) -> list[list[Key]]:
    """Return the keys of each arrival, in order."""
    return [resolved_keys(arrival.event.source, arrival.keys) for arrival in arrivals]


def order_groups_of(arrivals: Sequence[Arrival]) -> set[OrderGroup]:
    """Return the order groups of a batch. Most batches have none."""
    return {
        (assignment.destination, assignment.order_key)
        for arrival in arrivals
        for assignment in arrival.assignments
        if assignment.order_key is not None
    }


def duplicate_receipt(keys: Sequence[Key], known: Mapping[Key, KnownEvent]) -> Receipt | None:
    """Return the receipt of a duplicate if one of the keys is known."""
    first = next((known[key] for key in keys if key in known), None)
    return None if first is None else _receipt("duplicate", first)


class Batch:
    """The keys known so far, and what is to be written. Each store has a subclass that makes the rows."""

    def __init__(self, known: dict[Key, KnownEvent], taken: set[OrderGroup], now_ms: int) -> None:
        self._known = known
        #: Which event of this batch is first in its order group; "" for an event of an earlier batch.
        self._taken = dict.fromkeys(taken, "")
        self._now_ms = now_ms
        # By key, because a key that has expired can be recorded twice in a batch. With the time of expiry.
        self._new_keys: dict[Key, tuple[str, int]] = {}

    def add(self, arrival: Arrival, keys: Sequence[Key]) -> Receipt:
        """Decide on an arrival with these keys, and keep the rows of a new one."""
        event = arrival.event
        body_digest = digest(event.body)
        for key in keys:
            if key in self._known:
                # Its unknown keys are not recorded: an unsigned one would let a replay block a genuine event.
                return _duplicate_or_conflict(self._known[key], body_digest)
        self._add_keys(arrival, keys, KnownEvent(event.id, body_digest, arrival.reply))
        return self._add_rows(arrival, body_digest)

    def _add_keys(self, arrival: Arrival, keys: Sequence[Key], first: KnownEvent) -> None:
        number, event_id, now_ms = 0, first.event_id, self._now_ms
        for each in arrival.keys:
            if each is not None:
                key, expires_ms = keys[number], self._expiry(each.until)
                number += 1
                self._new_keys[key] = (event_id, expires_ms)
                if expires_ms > now_ms:
                    self._known[key] = first

    def _must_wait(self, group: OrderGroup, event_id: str) -> bool:
        """Tell whether another event of the group goes first. The same event, assigned twice, goes on."""
        return self._taken.setdefault(group, event_id) != event_id

    def _expiry(self, until: float) -> int:
        return milliseconds(until)

    def _add_rows(self, arrival: Arrival, body_digest: bytes) -> Receipt:
        raise NotImplementedError


def _duplicate_or_conflict(first: KnownEvent, body_digest: bytes) -> Receipt:
    conflict = first.digest is not None and first.digest != body_digest
    return _receipt("conflict" if conflict else "duplicate", first)


def _receipt(status: Literal["duplicate", "conflict"], first: KnownEvent) -> Receipt:
    dead = None if first.dead_ms is None else first.dead_ms / 1000
    return Receipt(status, first.event_id, reply=first.reply, dead=dead)

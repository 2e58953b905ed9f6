"""What a destination says about each event of a batch: read out of the body of its 2xx. Pure.

A JSON list with an entry per event: a status, or an object with a `status`. Entries whose `id`s are those of
the events (`gatehouseid`, or else the CloudEvents `id`) may come in any order; all others stand in the order
sent, whatever else they say:

    [200, 422, 503]
    [{"status": 200}, {"status": 422, "error": "no such customer"}, {"status": 503}]
    [{"id": "01JD…", "status": 503}, {"id": "01JC…", "status": 200}, …]

Anything else says nothing about single events: the answer then is for the whole batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.events.event import Event

_FIRST_STATUS, _LAST_STATUS = 200, 599


def item_statuses(reply: bytes, events: Sequence[Event]) -> list[int] | None:
    """Return a status per event, in the order sent; None when the reply does not tell them apart."""
    try:
        items = msgspec.json.decode(reply)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(items, list) or len(items) != len(events):
        return None
    statuses = [status for item in items if (status := _status(item)) is not None]
    if len(statuses) != len(items):
        return None
    ids = [item.get("id") if isinstance(item, dict) else None for item in items]
    if all(isinstance(one, str) for one in ids):
        by_id = dict(zip(ids, statuses, strict=True))
        for own in ([event.id for event in events], [event.external_id for event in events]):
            # One id for two entries is no name for either.
            if len(by_id) == len(items) and by_id.keys() == set(own):
                return [by_id[one] for one in own]
    return statuses


def _status(item: object) -> int | None:
    """Read one entry: a final status, and nothing that only looks like one."""
    status = item.get("status") if isinstance(item, dict) else item
    if isinstance(status, int) and not isinstance(status, bool) and _FIRST_STATUS <= status <= _LAST_STATUS:
        return status
    return None

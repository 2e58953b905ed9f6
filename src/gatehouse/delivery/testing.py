"""Makes the event that an operator sends to a destination as a test. It is not stored."""

from __future__ import annotations

import msgspec

from gatehouse.events.event import Event, new_id
from gatehouse.language.times import rfc3339

#: The source of the events that the gateway makes itself: name, provider and CloudEvents `source`.
GATEWAY = "gatehouse"
#: The type of a test event.
TEST_TYPE = "gatehouse.test"
_MESSAGE = "A test event of Gatehouse, which an operator sent. No provider sent it, and it is not stored."


def make_test_event(destination: str, now: float) -> Event:
    """Make a test event for a destination. `now` is in Unix seconds. Every one has an id of its own."""
    event_id = new_id(now)
    body = msgspec.json.encode({"message": _MESSAGE, "destination": destination})
    return Event(
        id=event_id,
        source=GATEWAY,
        path=GATEWAY,
        provider=GATEWAY,
        external_id=event_id,
        type=TEST_TYPE,
        time=rfc3339(now),
        received=now,
        content_type="application/json",
        body=body,
        data_span=(0, len(body)),
    )

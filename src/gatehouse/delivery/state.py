"""The state of a destination, as operators see it."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from gatehouse.config.outgoing import AuthType
from gatehouse.language.times import Rfc3339


class DestinationState(TypedDict):
    """A destination, and the state of its deliveries."""

    name: Annotated[str, Meta(description="As in the config.", examples=["billing"])]
    url: Annotated[
        str,
        Meta(
            description="Without its query, which may hold credentials.",
            examples=["http://billing.internal:8000/events"],
        ),
    ]
    format: Annotated[str, Meta(description="As in the config.", examples=["cloudevents"])]
    auth: Annotated[
        AuthType | None,
        Meta(
            description="How the gateway authenticates to it: the `type` of `auth`; `null` if it does not.",
            examples=["bearer"],
        ),
    ]
    ready: Annotated[bool, Meta(description="`false`: nothing is delivered.", examples=[True])]
    not_ready: Annotated[str | None, Meta(description="Why it is not ready.", examples=[None])]
    paused: Annotated[bool, Meta(description="Whether an operator paused it.", examples=[False])]
    breaker: Annotated[
        Literal["open", "closed"],
        Meta(description="The circuit breaker. While it is open, only probes are sent.", examples=["closed"]),
    ]
    failures: Annotated[
        int,
        Meta(
            description="How many events failed since the last success, each counted once. At the number in "
            "`breaker.failures`, the circuit breaker opens.",
            examples=[0],
        ),
    ]
    open_since: Annotated[
        Rfc3339 | None, Meta(description="When the circuit breaker opened.", examples=[None])
    ]
    next_probe: Annotated[Rfc3339 | None, Meta(description="When the next probe is due.", examples=[None])]
    pending: Annotated[int, Meta(description="Pending deliveries in the store.", examples=[42])]
    oldest_pending: Annotated[
        Rfc3339 | None,
        Meta(
            description="When the event of the oldest pending delivery was received; `null` when none is "
            "pending. While not all of them are in memory, it is as of the last count, which is at most "
            "15 seconds old.",
            examples=["2026-01-31T10:00:15Z"],
        ),
    ]
    dead: Annotated[int, Meta(description="Dead letters in the store.", examples=[0])]
    concurrency: Annotated[
        int,
        Meta(
            description="How many attempts may run at the same time now. With `concurrency: auto`, it "
            "changes. With several workers, it is the sum.",
            examples=[16],
        ),
    ]
    waiting: Annotated[int, Meta(description="Pending deliveries that are in memory now.", examples=[16])]

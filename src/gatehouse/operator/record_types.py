"""What the API answers about events, deliveries and destinations: types of the code and of its reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from gatehouse.delivery.state import DestinationState
from gatehouse.language.times import Rfc3339
from gatehouse.operator.tokens import Role
from gatehouse.store.records import Action, Status

_ID = "01JDQ3W5Z8K4M2N6P7R9S1T3V5"
_Name = Annotated[str, Meta(description="The name of the source.", examples=["shop"])]
_Cursor = Annotated[
    str | None, Meta(description="Asks for the next page; `null` on the last one.", examples=[None])
]
_SearchedTo = Annotated[
    Rfc3339 | None,
    Meta(
        description="The search has reached events that were received at this time; `null` on the last page.",
        examples=[None],
    ),
]
_Numbers = Annotated[
    dict[str, int], Meta(description="How many deliveries, by destination.", examples=[{"billing": 3}])
]
_DeliveryId = Annotated[
    str, Meta(description="The id of the event, a colon and the destination.", examples=[f"{_ID}:billing"])
]
_EventId = Annotated[
    str, Meta(description="The id of the event, which destinations get as `webhook-id`.", examples=[_ID])
]


class DeliveryCounts(TypedDict):
    """How many deliveries of an event have each status."""

    pending: Annotated[int, Meta(description="To be attempted.", examples=[0])]
    delivered: Annotated[int, Meta(description="The destination accepted them.", examples=[1])]
    dead: Annotated[int, Meta(description="Dead letters.", examples=[0])]
    discarded: Annotated[int, Meta(description="Dead letters that an operator discarded.", examples=[0])]


class _EventFacts(TypedDict):
    id: _EventId
    source: _Name
    provider: Annotated[
        str, Meta(description="The preset's name, or the source's when it has none.", examples=["mando"])
    ]
    external_id: Annotated[
        str,
        Meta(
            description="The provider's id of the event: the CloudEvents `id`.",
            examples=["evt_a1b2c3d4e5f6"],
        ),
    ]
    type: Annotated[str, Meta(description="The provider's type of it.", examples=["invoice.accepted"])]
    time: Annotated[str, Meta(description="When it happened.", examples=["2026-01-31T10:00:15Z"])]
    received: Annotated[Rfc3339, Meta(description="When Gatehouse received it.")]
    subject: Annotated[str | None, Meta(description="The CloudEvents `subject`.", examples=["inv_42"])]
    account: Annotated[
        str | None, Meta(description="The provider's account that the event is about.", examples=[None])
    ]


class EventSummary(_EventFacts):
    """An event in a list."""

    deliveries: Annotated[DeliveryCounts, Meta(description="How many deliveries it has.")]


class EventPage(TypedDict):
    """One page of events, newest first."""

    events: Annotated[list[EventSummary], Meta(description="The events of this page.")]
    cursor: _Cursor
    searched_to: _SearchedTo


class _AttemptFacts(TypedDict):
    reason: Annotated[
        str,
        Meta(
            description="`ok` if the destination accepted the event, otherwise why it failed.",
            examples=["server_error"],
        ),
    ]
    http_status: Annotated[
        int | None, Meta(description="The HTTP status of the reply; `null` without a reply.", examples=[500])
    ]
    error: Annotated[
        str | None,
        Meta(
            description="One line that TLS, the name service or the connection reported; `null` if there was "
            "a reply.",
            examples=[None],
        ),
    ]


class AttemptDetails(_AttemptFacts):
    """One try to deliver an event to a destination."""

    number: Annotated[int, Meta(description="Counted from 1 for each delivery.", examples=[1])]
    at: Annotated[Rfc3339, Meta(description="When it ended.")]
    duration_ms: Annotated[
        int | None,
        Meta(description="How long it took, in milliseconds; `null` if that is not known.", examples=[38]),
    ]
    reply: Annotated[
        str | None,
        Meta(
            description="The start of the body of the reply, up to `store.keep_replies`; `null` if nothing "
            "was kept. Bytes that are not UTF-8 are replaced.",
            examples=["<h1>Server Error (500)</h1>"],
        ),
    ]


class DestinationTested(_AttemptFacts):
    """The outcome of a test event."""

    duration_ms: Annotated[int, Meta(description="How long it took, in milliseconds.", examples=[38])]
    reply: Annotated[
        str | None,
        Meta(
            description="The start of the body of the reply, up to 1 KiB; `null` without one. Bytes that are "
            "not UTF-8 are replaced.",
            examples=["<h1>Server Error (500)</h1>"],
        ),
    ]


class DeliveryFacts(TypedDict):
    """What is known of a delivery without its attempts."""

    id: _DeliveryId
    event_id: _EventId
    source: _Name
    type: Annotated[str, Meta(description="The type of the event.", examples=["invoice.accepted"])]
    destination: Annotated[str, Meta(description="The name of the destination.", examples=["billing"])]
    status: Annotated[Status, Meta(description="What became of it.", examples=["dead"])]
    received: Annotated[Rfc3339, Meta(description="When Gatehouse received the event.")]
    due: Annotated[
        Rfc3339 | None,
        Meta(
            description="When the next attempt of a pending delivery can start; `null` when that is not "
            "known, and for every other delivery.",
            examples=[None],
        ),
    ]
    last_reason: Annotated[
        str | None, Meta(description="The reason of the last failed attempt.", examples=["server_error"])
    ]
    last_http_status: Annotated[
        int | None, Meta(description="The HTTP status of the last reply.", examples=[500])
    ]
    updated: Annotated[Rfc3339, Meta(description="When the last attempt ended, or the status changed.")]
    note: Annotated[
        str | None,
        Meta(description="Why an operator discarded it; `null` for every other delivery.", examples=[None]),
    ]
    discarded_by: Annotated[
        str | None,
        Meta(description="Who discarded it: the name of the operator token.", examples=[None]),
    ]


class DeliveryState(DeliveryFacts):
    """One event for one destination."""

    attempts: Annotated[int, Meta(description="How many attempts were made.", examples=[14])]


class DeliveryDetails(DeliveryFacts):
    """One event for one destination, with its attempts."""

    attempts_made: Annotated[int, Meta(description="How many attempts were made.", examples=[14])]
    attempts: Annotated[
        list[AttemptDetails],
        Meta(description="The attempts in order. Of more than 50, the first 10 and the last 40."),
    ]


class DeliveryPage(TypedDict):
    """One page of deliveries, newest first."""

    deliveries: Annotated[list[DeliveryState], Meta(description="The deliveries of this page.")]
    cursor: _Cursor
    searched_to: _SearchedTo


class DeadGroupState(TypedDict):
    """Dead letters of one destination whose last attempts had the same result."""

    destination: Annotated[str, Meta(description="The name of the destination.", examples=["billing"])]
    reason: Annotated[
        str | None, Meta(description="The reason of the last attempt.", examples=["server_error"])
    ]
    http_status: Annotated[int | None, Meta(description="The HTTP status of the last reply.", examples=[500])]
    count: Annotated[int, Meta(description="How many.", examples=[42])]
    oldest: Annotated[Rfc3339, Meta(description="When Gatehouse received the event of the oldest one.")]
    newest: Annotated[Rfc3339, Meta(description="When Gatehouse received the event of the newest one.")]


class DeadGroupPage(TypedDict):
    """The groups of a part of the dead letters, the largest first."""

    groups: Annotated[list[DeadGroupState], Meta(description="The groups of this part.")]
    cursor: Annotated[
        str | None, Meta(description="Asks for the next part; `null` on the last one.", examples=[None])
    ]
    searched_to: _SearchedTo


class BodyShown(TypedDict):
    """The bytes of an event, as text or as base64."""

    body: NotRequired[
        Annotated[
            str,
            Meta(
                description="The provider's bytes, when they are UTF-8.",
                examples=['{"id":"evt_a1b2c3d4e5f6"}'],
            ),
        ]
    ]
    body_base64: NotRequired[
        Annotated[str, Meta(description="The provider's bytes as base64, when they are not UTF-8.")]
    ]


class VerifiedBy(TypedDict):
    """How the request with an event was verified."""

    by: Annotated[
        str,
        Meta(description="The scheme. `nothing` if the source has `verify: none`.", examples=["HMAC-SHA256"]),
    ]
    secret: Annotated[
        str | None,
        Meta(
            description="Where the secret that verified it is kept; `null` if the scheme has none. If "
            "several verifiers had to pass, all their secrets.",
            examples=["env:SHOP_SECRET"],
        ),
    ]


class EventDetails(_EventFacts, BodyShown):
    """An event with its headers, its body, its deliveries and their attempts."""

    content_type: Annotated[
        str | None,
        Meta(description="The provider's content type.", examples=["application/json"]),
    ]
    headers: Annotated[
        list[tuple[str, str]],
        Meta(
            description="The provider's headers without credentials: pairs of a lower-case name and a value.",
            examples=[[["content-type", "application/json"]]],
        ),
    ]
    verified: Annotated[
        VerifiedBy | None,
        Meta(description="How its request was verified; `null` if an older version stored the event."),
    ]
    stored: Annotated[
        Rfc3339 | None,
        Meta(
            description="When the transaction that holds the event was written; `null` if an older version "
            "stored it. The provider gets its answer after that.",
            examples=["2026-01-31T10:00:16.004Z"],
        ),
    ]
    deliveries: Annotated[list[DeliveryDetails], Meta(description="One for each destination.")]
    routed: Annotated[
        list[str],
        Meta(
            description="The destinations that the routes give such an event to now.", examples=[["billing"]]
        ),
    ]


class DuplicateSeen(TypedDict):
    """A later request with the same event."""

    at: Annotated[Rfc3339, Meta(description="When it was received.")]
    client: Annotated[str | None, Meta(description="The address it came from.", examples=["192.0.2.7"])]


class DuplicateList(TypedDict):
    """The later requests with the same event."""

    since: Annotated[
        Rfc3339,
        Meta(
            description="All duplicates from then on are counted: when the process started, or later if "
            "older ones were forgotten to make room."
        ),
    ]
    count: Annotated[int, Meta(description="How many are known.", examples=[1])]
    latest: Annotated[list[DuplicateSeen], Meta(description="The last ones, newest first, at most 20.")]


class ReplayResult(TypedDict):
    """The answer to a replay."""

    id: _EventId
    replayed: Annotated[
        list[str], Meta(description="Destinations that get the event again.", examples=[["billing"]])
    ]
    left_alone: Annotated[
        list[str],
        Meta(
            description="Destinations where the delivery is pending, or was replayed in the last 10 seconds.",
            examples=[[]],
        ),
    ]


class RetryCount(TypedDict):
    """The answer with `dry_run`."""

    would_retry: _Numbers
    cursor: _Cursor


class RetryProgress(TypedDict):
    """One step of a retry: at most 500 deliveries."""

    retried: _Numbers
    done: Annotated[
        bool, Meta(description="`false`: ask again with the same filters and this `as_of`.", examples=[True])
    ]
    as_of: Annotated[Rfc3339, Meta(description="When the first step was asked for.")]


class DeliveryRetried(TypedDict):
    """The answer to the retry of one delivery."""

    retried: Annotated[
        dict[str, int],
        Meta(
            description="The destination and 1; empty when the delivery was not a dead letter.",
            examples=[{"billing": 1}],
        ),
    ]
    done: Annotated[Literal[True], Meta(description="Always `true`.")]


class Discarded(TypedDict):
    """What was discarded."""

    discarded: _Numbers
    done: Annotated[
        bool, Meta(description="`false`: there are more; send the same request again.", examples=[True])
    ]


class DestinationList(TypedDict):
    """Every destination, in the order of the config."""

    destinations: Annotated[list[DestinationState], Meta(description="All of them.")]


class AuditRecord(TypedDict):
    """A change that an operator made."""

    at: Annotated[Rfc3339, Meta(description="When.")]
    who: Annotated[
        str,
        Meta(
            description="The name of the token. `local`: the config has no token. `SIGHUP`: the signal.",
            examples=["alice"],
        ),
    ]
    role: Annotated[Role, Meta(description="The role of the token.", examples=["operate"])]
    action: Annotated[Action, Meta(description="What was done.", examples=["pause"])]
    what: Annotated[
        dict[str, Any],
        Meta(description="What was changed: names, ids and filters.", examples=[{"destination": "billing"}]),
    ]
    count: Annotated[int, Meta(description="How many things were changed.", examples=[1])]


class AuditPage(TypedDict):
    """One page of audit entries, newest first."""

    audit: Annotated[list[AuditRecord], Meta(description="The entries of this page.")]
    cursor: _Cursor

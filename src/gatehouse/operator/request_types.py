"""The types of what operators send to the API: query parameters and body members.

`queries.py` accepts exactly these names, and the API reference describes them.
"""

from __future__ import annotations

from typing import Annotated, Literal, Required, TypedDict

from msgspec import Meta

from gatehouse.errors import OutcomeReason
from gatehouse.store.records import Action, Status

DEFAULT_LIMIT, MAX_LIMIT = 50, 500
#: The number of names in one request.
MAX_NAMES = 500
FIRST_HTTP_STATUS, LAST_HTTP_STATUS = 100, 599
#: The limits of `at_most` of the stream: entries per second.
MIN_RATE = 2
MAX_RATE = 1000
#: The longest name or pattern of a filter.
MAX_TEXT = 1024

_Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
_Time = (
    "`1h`, `2d`, `today`, `yesterday`, `2026-01-31`, RFC 3339 or Unix seconds. "
    "A date, and a time without an offset, is in UTC"
)


_ExternalId = Annotated[
    _Text, Meta(description="The provider's id of the event.", examples=["evt_a1b2c3d4e5f6"])
]


_Reason = Annotated[
    OutcomeReason, Meta(description="The reason of any attempt of the delivery.", examples=["timeout"])
]
_HttpStatus = Annotated[
    int,
    Meta(
        ge=FIRST_HTTP_STATUS,
        le=LAST_HTTP_STATUS,
        description="The HTTP status of the reply to any attempt of the delivery. With `reason`, one attempt "
        "has to have both.",
        examples=[503],
    ),
]


class _Filters(TypedDict, total=False):
    source: Annotated[_Text, Meta(description="The name of a source.", examples=["shop"])]
    type: Annotated[
        _Text,
        Meta(description="An event type. `*` stands for any text.", examples=["invoice.*"]),
    ]


class _Times(TypedDict, total=False):
    since: Annotated[str, Meta(description=f"Received at this time or later: {_Time}.", examples=["1h"])]
    until: Annotated[str, Meta(description=f"Received before this time: {_Time}.")]


class _Paging(TypedDict, total=False):
    limit: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_LIMIT,
            description="The most entries of one page.",
            examples=[DEFAULT_LIMIT],
            extra_json_schema={"default": DEFAULT_LIMIT},
        ),
    ]
    cursor: Annotated[
        str, Meta(description="The `cursor` of the page before. The filters have to be the same.")
    ]


class EventFilters(_Filters, _Times, total=False):
    """Which events: all given conditions have to hold.

    One delivery of the event has to meet all conditions on deliveries.
    """

    external_id: _ExternalId
    subject: Annotated[_Text, Meta(description="The subject of the event.", examples=["inv_42"])]
    account: Annotated[_Text, Meta(description="The provider's account.", examples=["acct_1"])]
    contains: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_TEXT,
            description="Text that the body contains, as it was sent. Upper and lower case differ.",
            examples=["INV-2026-0042"],
        ),
    ]
    destination: Annotated[
        _Text, Meta(description="Events with a delivery to this destination.", examples=["billing"])
    ]
    status: Annotated[
        Status, Meta(description="Events with at least one delivery of this status.", examples=["dead"])
    ]
    reason: _Reason
    http_status: _HttpStatus


class _OfDeliveries(_Filters, _Times, total=False):
    external_id: _ExternalId
    destination: Annotated[_Text, Meta(description="The name of a destination.", examples=["billing"])]
    event_id: Annotated[_Text, Meta(description="The id of an event.")]
    reason: _Reason
    http_status: _HttpStatus


class DeliveryFilters(_OfDeliveries, total=False):
    """Which deliveries: all given conditions have to hold."""

    status: Annotated[Status, Meta(description="The status of the delivery.", examples=["dead"])]


class EventListQuery(EventFilters, _Paging, total=False):
    """The query of a list of events."""

    within: Annotated[
        str,
        Meta(
            description="How long the search for one page may take: from `10ms` to `150ms`.",
            examples=["50ms"],
            extra_json_schema={"default": "150ms"},
        ),
    ]


class DeliveryListQuery(DeliveryFilters, _Paging, total=False):
    """The query of a list of deliveries."""


class DeadFilters(_Filters, _Times, total=False):
    """Which dead letters: all given conditions have to hold."""

    destination: Annotated[_Text, Meta(description="The name of a destination.", examples=["billing"])]
    reason: _Reason
    http_status: _HttpStatus


class DeadListQuery(DeadFilters, total=False):
    """The query of the groups of dead letters."""

    cursor: Annotated[
        str, Meta(description="The `cursor` of the answer before. The filters have to be the same.")
    ]
    within: Annotated[
        str,
        Meta(
            description="How long to count for one answer: from `10ms` to `150ms`.",
            examples=["20ms"],
            extra_json_schema={"default": "80ms"},
        ),
    ]


class AuditFilters(TypedDict, total=False):
    """Which audit entries: all given conditions have to hold."""

    who: Annotated[_Text, Meta(description="The name of a token, `local` or `SIGHUP`.", examples=["alice"])]
    action: Annotated[Action, Meta(description="What was done.", examples=["replay"])]
    since: Annotated[str, Meta(description=f"Changed at this time or later: {_Time}.", examples=["2d"])]
    until: Annotated[str, Meta(description=f"Changed before this time: {_Time}.")]


class AuditListQuery(AuditFilters, _Paging, total=False):
    """The query of the list of audit entries."""


class RejectedListQuery(TypedDict, total=False):
    """The query of the list of refused requests."""

    source: Annotated[str, Meta(description="The name of a source.", examples=["shop"])]
    limit: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_LIMIT,
            description="The most entries of the list.",
            extra_json_schema={"default": DEFAULT_LIMIT},
        ),
    ]
    within: Annotated[
        str,
        Meta(
            description="How long to wait for findings: from `10ms` to `150ms`. Without it, the answer waits "
            "for all of them. The gateway looks for the rest after the answer.",
            examples=["50ms"],
        ),
    ]


class StreamFilters(_Filters, _Times, total=False):
    """Which entries of the stream: all given conditions have to hold."""

    destination: Annotated[
        _Text,
        Meta(
            description="The name of a destination: the events that are delivered to it, and the attempts. "
            "Requests have no destination, so they are left out.",
            examples=["billing"],
        ),
    ]
    kinds: Annotated[
        str,
        Meta(
            description="Which kinds of entries, separated by commas: `request`, `event`, `attempt`. "
            "Without it, all of them.",
            examples=["event,attempt"],
        ),
    ]


class StreamQuery(StreamFilters, total=False):
    """The query of the stream."""

    bodies: Annotated[
        Literal["1", "0"], Meta(description="`1` adds the provider's bytes to events, as `body_base64`.")
    ]
    envelope: Annotated[
        Literal["1", "0"],
        Meta(
            description="`1` adds the body that a destination gets to events, as `envelope_base64`: "
            "CloudEvents in structured mode."
        ),
    ]
    at_most: Annotated[
        int,
        Meta(
            ge=MIN_RATE,
            le=MAX_RATE,
            description="The most entries per second, for people who watch. Each half second has its newest "
            "entries, and `left_out` counts the others. Not with `since` or `until`; nothing comes from the "
            "store.",
            examples=[50],
        ),
    ]
    last_event_id: Annotated[
        str,
        Meta(
            description="The id of the last entry that the client has, if it can't send the header "
            "`Last-Event-ID`."
        ),
    ]


class EnvironmentQuery(TypedDict):
    """The query about environment variables."""

    name: Required[
        Annotated[
            list[Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,127}$")]],
            Meta(
                min_length=1,
                max_length=MAX_NAMES,
                description="The name of a variable. Repeat the parameter to ask about several.",
                examples=[["SHOP_SECRET", "SHOP_SECRET_OLD"]],
            ),
        ]
    ]


class ReloadBody(TypedDict, total=False):
    """How to reload the config."""

    dry_run: Annotated[
        bool,
        Meta(
            description="`true` only reads and checks the file, and answers what would change.",
            extra_json_schema={"default": False},
        ),
    ]


class SampleBody(TypedDict, total=False):
    """Which sample to send."""

    type: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=1024,
            description="The event type. If it has no sample, another sample gets this type. Without it, the "
            "provider's documented example is sent.",
            examples=["sale.created"],
        ),
    ]


class ReplayBody(TypedDict, total=False):
    """Where to deliver an event again."""

    destinations: Annotated[
        list[str],
        Meta(
            min_length=1,
            description="Names of destinations. Without it, the event goes to the destinations that had it.",
            examples=[["billing"]],
        ),
    ]


class RetrySteps(TypedDict, total=False):
    """How to retry dead letters, beside the filters that choose them."""

    all: Annotated[
        bool,
        Meta(
            description="`true` retries every dead letter. Needed when no filter is given.",
            extra_json_schema={"default": False},
        ),
    ]
    dry_run: Annotated[
        bool,
        Meta(description="`true` only counts the dead letters.", extra_json_schema={"default": False}),
    ]
    cursor: Annotated[str, Meta(description="With `dry_run`: the `cursor` of the answer before.")]
    as_of: Annotated[
        str | float,
        Meta(
            description="The `as_of` of the first answer, at most 24 hours ago. "
            "Deliveries that died later stay dead letters.",
        ),
    ]


class DiscardBody(TypedDict, total=False):
    """Which dead letters to discard, by their ids or by a filter, and why."""

    ids: Annotated[
        list[_Text],
        Meta(
            min_length=1,
            max_length=MAX_NAMES,
            description="Each is the id of an event, a colon and the destination.",
            examples=[["01JDQ3W5Z8K4M2N6P7R9S1T3V5:billing"]],
        ),
    ]
    filter: Annotated[
        DeliveryFilters, Meta(description="All conditions have to hold; at least one is needed.")
    ]
    note: Required[Annotated[_Text, Meta(description="Why.", examples=["the customer was deleted"])]]


class RetryBody(_OfDeliveries, RetrySteps, total=False):
    """Which dead letters to retry: filters, or `all`."""

    status: Annotated[Literal["dead"], Meta(description="Only dead letters can be retried.")]

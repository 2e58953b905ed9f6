"""What the API answers about the last 24 hours: types of the code and of its reference."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from gatehouse.language.times import Rfc3339

_Rate = float | None
_Buckets = list[int | None]
_RateSeconds = Annotated[
    int,
    Meta(
        description="How many seconds the numbers per minute cover: 300 to 360, fewer after a start. In "
        "the first minute they are `null`.",
        examples=[312],
    ),
]


class HistoryQuery(TypedDict, total=False):
    """What to show the history of: everything, or what is named."""

    source: Annotated[str, Meta(description="The name of a source.", examples=["shop"])]
    destination: Annotated[str, Meta(description="The name of a destination.", examples=["billing"])]


class SourceHistory(TypedDict):
    """What a source received."""

    name: Annotated[str, Meta(description="The name of the source.", examples=["shop"])]
    accepted_per_minute: Annotated[_Rate, Meta(description="Accepted events lately.", examples=[2.5])]
    refused_per_minute: Annotated[_Rate, Meta(description="Refused requests lately.", examples=[0.0])]
    unavailable_per_minute: Annotated[
        _Rate, Meta(description="Requests that got 5xx lately.", examples=[0.0])
    ]
    rate_seconds: _RateSeconds
    accepted: Annotated[
        _Buckets,
        Meta(description="Accepted events, by bucket; duplicates are left out.", examples=[[None, 12, 15]]),
    ]
    refused: Annotated[
        _Buckets,
        Meta(
            description="Requests that were refused with a status below 500, by bucket. `GET "
            "/api/v1/rejected` shows the latest.",
            examples=[[None, 0, 1]],
        ),
    ]
    unavailable: Annotated[
        _Buckets,
        Meta(
            description="Requests that got 5xx, by bucket: a fault of the gateway, or of the destination of "
            "a relaying source.",
            examples=[[None, 0, 0]],
        ),
    ]


class DestinationHistory(TypedDict):
    """What a destination got."""

    name: Annotated[str, Meta(description="The name of the destination.", examples=["billing"])]
    delivered_per_minute: Annotated[_Rate, Meta(description="Delivered events lately.", examples=[2.5])]
    failed_per_minute: Annotated[_Rate, Meta(description="Failed attempts lately.", examples=[0.2])]
    rate_seconds: _RateSeconds
    delivered: Annotated[
        _Buckets, Meta(description="Events that it accepted, by bucket.", examples=[[None, 12, 14]])
    ]
    failed: Annotated[_Buckets, Meta(description="Failed attempts, by bucket.", examples=[[None, 0, 3]])]
    reasons: Annotated[
        dict[str, _Buckets],
        Meta(
            description="Failed attempts by reason, and by bucket. Reasons that did not occur are left out.",
            examples=[{"timeout": [None, 0, 3]}],
        ),
    ]
    lag: Annotated[
        _Buckets,
        Meta(
            description="The age of the oldest pending delivery in seconds, 0 without any, by bucket: the "
            "highest of the samples, which are a minute apart at most.",
            examples=[[None, 0, 41]],
        ),
    ]


# `from` can't be the name of an attribute.
_From = TypedDict(
    "_From",
    {
        "from": Annotated[
            Rfc3339, Meta(description="When the first bucket begins.", examples=["2026-01-30T10:05:00Z"])
        ]
    },
)


class GatewayHistory(_From):
    """The last 24 hours in buckets.

    A bucket is `null` when nobody counted: before the gateway started, before a reload added the name, or
    while the machine was suspended.
    """

    until: Annotated[
        Rfc3339,
        Meta(
            description="When the last bucket ends, which is in progress.",
            examples=["2026-01-31T10:05:00Z"],
        ),
    ]
    step_seconds: Annotated[int, Meta(description="The length of a bucket.", examples=[300])]
    since: Annotated[Rfc3339, Meta(description="When the gateway began to count, at its start.")]
    complete_since: Annotated[
        Rfc3339 | None,
        Meta(
            description="From when on nothing is missing. It is later than `since` only with `--workers`: a "
            "worker that ends takes what it counted along. `null` while a worker does not answer.",
            examples=["2026-01-31T10:00:16Z"],
        ),
    ]
    sources: Annotated[list[SourceHistory], Meta(description="In the order of the config.")]
    destinations: Annotated[list[DestinationHistory], Meta(description="In the order of the config.")]

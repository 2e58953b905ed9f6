"""What the operator server answers about sources: types of the code and of the API reference."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from gatehouse.language.times import Rfc3339

_ID = "01JDQ3W5Z8K4M2N6P7R9S1T3V5"


class SecretUse(TypedDict):
    """How often a secret verified requests since the start."""

    position: Annotated[int, Meta(description="Its place in `secrets`, from 1.", examples=[1])]
    name: Annotated[str, Meta(description="Where the secret is kept.", examples=["env:SHOP_SECRET"])]
    matched: Annotated[int, Meta(description="How many requests it verified.", examples=[1204])]
    last_used: Annotated[Rfc3339 | None, Meta(description="When it last verified a request.")]


class LastRefused(TypedDict):
    """The last refused request of a source."""

    id: Annotated[str, Meta(description="Its id, for `gatehouse rejected ID`.", examples=[_ID])]
    time: Annotated[Rfc3339, Meta(description="When it was refused.")]
    reason: Annotated[
        str, Meta(description="Its reason, or its outcome if it has none.", examples=["wrong_signature"])
    ]


class SourceState(TypedDict):
    """A source, and whether it is ready."""

    name: Annotated[str, Meta(description="The name of the source.", examples=["shop"])]
    path: Annotated[str, Meta(description="Where it is served.", examples=["/webhooks/shop"])]
    provider: Annotated[
        str | None, Meta(description="The preset; `null` when the source has none.", examples=["mando"])
    ]
    docs: Annotated[
        str | None,
        Meta(
            description="The provider's documentation of its webhooks; `null` if the preset names none.",
            examples=["https://docs.example.com/webhooks"],
        ),
    ]
    register: Annotated[
        str,
        Meta(
            description="The address to register at the provider: `server.public_url` and the path, or only "
            "the path without `server.public_url`.",
            examples=["https://hooks.example.com/webhooks/shop"],
        ),
    ]
    methods: Annotated[
        list[str],
        Meta(
            description="The HTTP methods that it accepts: `methods` in the config, and those of handshakes.",
            examples=[["POST"]],
        ),
    ]
    answer_within: Annotated[
        float | None,
        Meta(
            description="How many seconds the provider waits for an answer; `null` if that is not known.",
            examples=[5.0],
        ),
    ]
    retried_for: Annotated[
        float | None,
        Meta(
            description="How many seconds after a request the provider may still retry it; `null` if that is "
            "not known.",
            examples=[9360.0],
        ),
    ]
    ready: Annotated[bool, Meta(description="`false`: the source answers 503.", examples=[True])]
    not_ready: Annotated[str | None, Meta(description="Why it is not ready.", examples=[None])]
    verified_by: Annotated[
        str, Meta(description="How requests are verified, in words.", examples=["HMAC-SHA256"])
    ]
    last_accepted: Annotated[
        Rfc3339 | None,
        Meta(description="When it last had an event accepted; `null`: not since the start."),
    ]
    unrouted: Annotated[
        int,
        Meta(
            description="How many of its events no route took since the start. They are not delivered.",
            examples=[0],
        ),
    ]
    refused_last_hour: Annotated[
        int, Meta(description="Its refused requests of the last hour, counted up to 20.", examples=[0])
    ]
    last_refused: Annotated[
        LastRefused | None, Meta(description="The last one; `null`: none since the start.")
    ]
    secrets: Annotated[list[SecretUse], Meta(description="In the order of the config.")]


class SourceList(TypedDict):
    """Every source, in the order of the config."""

    sources: Annotated[list[SourceState], Meta(description="All of them.")]


class SampleSent(TypedDict):
    """The answer to a sample request, as a provider gets it."""

    status: Annotated[int, Meta(description="The HTTP status.", examples=[200])]
    type: Annotated[
        str | None,
        Meta(
            description="The type of the event, or of the first event of a batch.", examples=["sale.created"]
        ),
    ]
    event_ids: Annotated[
        list[str],
        Meta(
            description="The ids of its events. Empty if it was refused, if the source has an `answers.body` "
            "or if it relays the reply of a destination.",
            examples=[[_ID]],
        ),
    ]
    answer: Annotated[
        str,
        Meta(
            description="The start of the body, up to 1 KiB. Bytes that are not UTF-8 are replaced.",
            examples=[f'{{"status":"accepted","id":"{_ID}"}}'],
        ),
    ]

"""The JSON that the operator's API answers with: the types of the code, and of the API reference."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from gatehouse.delivery.state import DestinationState
from gatehouse.ingest.handshakes import HandshakeSecret
from gatehouse.store.base import Status
from gatehouse.times import Rfc3339

_ID = "01JDQ3W5Z8K4M2N6P7R9S1T3V5"
_Name = Annotated[str, Meta(examples=["shop"])]
_File = Annotated[str, Meta(description="The file that was read.", examples=["/etc/gatehouse/gateway.yaml"])]
_Cursor = Annotated[
    str | None, Meta(description="Asks for the next page as `cursor`; `null` on the last one.")
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
_Optional = Annotated[str | None, Meta(examples=[None])]


class ErrorInfo(TypedDict):
    """What went wrong."""

    code: Annotated[str, Meta(description="For programs.", examples=["bad_request"])]
    message: Annotated[str, Meta(description="For people. Its wording may change.")]


class ErrorAnswer(TypedDict):
    """The answer to a request that failed."""

    error: ErrorInfo


class Health(TypedDict):
    """The process is alive."""

    status: Literal["alive"]


class Readiness(TypedDict):
    """Whether the gateway can accept requests."""

    status: Annotated[Literal["ready", "not_ready"], Meta(examples=["ready"])]
    parts: Annotated[
        dict[str, str],
        Meta(
            description="Each part of the gateway, or each worker: `ok`, or what is wrong with it.",
            examples=[{"store": "ok", "disk": "ok", "ingest": "ok"}],
        ),
    ]


class DeliveryCounts(TypedDict):
    """How many deliveries of an event have each status."""

    pending: Annotated[int, Meta(examples=[0])]
    delivered: Annotated[int, Meta(examples=[1])]
    dead: Annotated[int, Meta(examples=[0])]


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
    type: Annotated[str, Meta(examples=["invoice.accepted"])]
    time: Annotated[str, Meta(description="When it happened.", examples=["2026-01-31T10:00:15Z"])]
    received: Annotated[Rfc3339, Meta(description="When Gatehouse received it.")]
    subject: Annotated[str | None, Meta(description="The CloudEvents `subject`.", examples=["inv_42"])]
    account: Annotated[_Optional, Meta(description="The provider's account that the event is about.")]


class EventSummary(_EventFacts):
    """An event in a list."""

    deliveries: DeliveryCounts


class EventPage(TypedDict):
    """One page of events, newest first."""

    events: list[EventSummary]
    cursor: _Cursor


class DeliveryState(TypedDict):
    """One event for one destination."""

    id: _DeliveryId
    event_id: _EventId
    source: _Name
    type: Annotated[str, Meta(description="The type of the event.", examples=["invoice.accepted"])]
    destination: Annotated[str, Meta(examples=["billing"])]
    status: Annotated[Status, Meta(examples=["dead"])]
    attempts: Annotated[int, Meta(description="How many attempts were made.", examples=[14])]
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


class DeliveryPage(TypedDict):
    """One page of deliveries, newest first."""

    deliveries: list[DeliveryState]
    cursor: _Cursor


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


class EventDetails(_EventFacts, BodyShown):
    """An event with its headers, its body and its deliveries."""

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
    deliveries: list[DeliveryState]
    routed: Annotated[
        list[str],
        Meta(
            description="The destinations that the routes give such an event to now.", examples=[["billing"]]
        ),
    ]


class ReplayResult(TypedDict):
    """Where an event is delivered again."""

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
    done: Literal[True]


class DestinationList(TypedDict):
    """Every destination, in the order of the config."""

    destinations: list[DestinationState]


class BodyDigest(TypedDict):
    """What is shown of a refused body."""

    length: Annotated[
        int | None, Meta(description="In bytes; `null` when the body was not read.", examples=[512])
    ]
    sha256: Annotated[
        str | None,
        Meta(
            description="The first 16 hexadecimal digits of its SHA-256; `null` when the body was not kept.",
            examples=["9f86d081884c7d65"],
        ),
    ]


class RejectedRequest(TypedDict):
    """A refused request, with masked values."""

    id: Annotated[str, Meta(examples=[_ID])]
    time: Annotated[Rfc3339, Meta(description="When it was refused.")]
    source: _Name
    client: Annotated[str | None, Meta(description="The address it came from.", examples=["192.0.2.7"])]
    outcome: Annotated[str, Meta(description="As in `gatehouse_requests_total`.", examples=["unauthorized"])]
    reason: Annotated[str | None, Meta(description="As in the log.", examples=["stale_timestamp"])]
    status: Annotated[
        int, Meta(description="The HTTP status that the provider was answered with.", examples=[401])
    ]
    method: Annotated[str, Meta(examples=["POST"])]
    path: Annotated[str, Meta(examples=["/webhooks/shop"])]
    query: Annotated[list[str], Meta(description="The names of the query parameters.", examples=[[]])]
    headers: Annotated[
        list[tuple[str, str]],
        Meta(
            description="Pairs of a name and a value. Values that can be credentials are masked.",
            examples=[[["Content-Type", "application/json"], ["X-Signature", "t=17… (81 characters)"]]],
        ),
    ]
    body: BodyDigest
    signed_at: Annotated[
        int | None,
        Meta(description="When the provider signed it, as it says (Unix seconds).", examples=[1_769_853_600]),
    ]
    findings: Annotated[list[str], Meta(description="What to check.")]


class RejectedList(TypedDict):
    """The last refused requests, newest first."""

    rejected: list[RejectedRequest]


class SecretUse(TypedDict):
    """How often a secret verified requests since the start."""

    position: Annotated[int, Meta(description="Its place in `secrets`, from 1.", examples=[1])]
    name: Annotated[str, Meta(description="Where the secret is kept.", examples=["env:SHOP_SECRET"])]
    matched: Annotated[int, Meta(description="How many requests it verified.", examples=[1204])]
    last_used: Annotated[Rfc3339 | None, Meta(description="When it last verified a request.")]


class SourceState(TypedDict):
    """A source, and whether it is ready."""

    name: _Name
    path: Annotated[str, Meta(examples=["/webhooks/shop"])]
    provider: Annotated[
        str | None, Meta(description="The preset; `null` when the source has none.", examples=["mando"])
    ]
    ready: Annotated[bool, Meta(description="`false`: the source answers 503.", examples=[True])]
    not_ready: Annotated[_Optional, Meta(description="Why it is not ready.")]
    verified_by: Annotated[str, Meta(description="How requests are verified, in words.")]
    secrets: list[SecretUse]


class SourceList(TypedDict):
    """Every source, in the order of the config."""

    sources: list[SourceState]


class HandshakeList(TypedDict):
    """Secrets that providers sent in a handshake, newest first: the last five of each source."""

    handshakes: list[HandshakeSecret]


class EnvironmentNames(TypedDict):
    """Which environment variables the gateway's process has."""

    set: Annotated[
        dict[str, bool],
        Meta(
            description="By name. Values are never shown.",
            examples=[{"SHOP_SECRET": True, "SHOP_SECRET_OLD": False}],
        ),
    ]


class NameChanges(TypedDict):
    """What differs between the config before a reload and after it."""

    added: Annotated[list[str], Meta(examples=[["shop"]])]
    removed: Annotated[list[str], Meta(examples=[[]])]
    changed: Annotated[list[str], Meta(examples=[[]])]


class ReloadReport(TypedDict):
    """What a reload changed."""

    status: Literal["reloaded"]
    file: _File
    sha256: Annotated[str, Meta(description="The SHA-256 of what it held.")]
    sources: NameChanges
    destinations: NameChanges
    routes: NameChanges
    settings: Annotated[
        list[str], Meta(description="Other keys that changed.", examples=[["server.public_url"]])
    ]
    needs_restart: Annotated[
        list[str], Meta(description="Keys that are used only after a restart.", examples=[[]])
    ]
    not_ready: Annotated[
        list[str],
        Meta(description="Sources and destinations that lack a secret, and why.", examples=[[]]),
    ]
    keys_lost: Annotated[
        dict[str, list[str]],
        Meta(
            description="By source, the dedupe keys that the config no longer has. An event that only such a "
            "key identifies is accepted again when it is sent again.",
            examples=[{}],
        ),
    ]


class ConfigProblem(TypedDict):
    """One mistake in the config."""

    file: Annotated[str, Meta(examples=["gateway.yaml"])]
    line: Annotated[int, Meta(description="From 1; 0 for the file as a whole.", examples=[12])]
    path: Annotated[str, Meta(description="The place in the config.", examples=["sources.shop.provider"])]
    message: str
    hint: Annotated[str | None, Meta(description="What would be right.")]
    code: Annotated[str, Meta(description="The code of a warning; empty for an error.", examples=[""])]


class ReloadErrorInfo(TypedDict):
    """Why the config was refused."""

    code: Literal["bad_config"]
    message: str
    problems: list[ConfigProblem]
    file: _File


class ReloadRefused(TypedDict):
    """The file has a problem. The gateway continues with the config it had."""

    error: ReloadErrorInfo

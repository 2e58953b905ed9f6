"""What the operator server answers beside its records: types of the code and of the API reference."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from gatehouse.ingest.handshakes import HandshakeSecret
from gatehouse.language.times import Rfc3339

_ID = "01JDQ3W5Z8K4M2N6P7R9S1T3V5"
_Name = Annotated[str, Meta(description="The name of the source.", examples=["shop"])]
_File = Annotated[str, Meta(description="The file that was read.", examples=["/etc/gatehouse/gateway.yaml"])]


class ErrorInfo(TypedDict):
    """What went wrong."""

    code: Annotated[str, Meta(description="For programs.", examples=["bad_request"])]
    message: Annotated[
        str,
        Meta(
            description="For people. Its wording may change.",
            examples=["limit must be a number from 1 to 500"],
        ),
    ]


class ErrorAnswer(TypedDict):
    """The answer to a request that failed."""

    error: Annotated[ErrorInfo, Meta(description="What went wrong.")]


class Liveness(TypedDict):
    """The process is alive."""

    status: Annotated[Literal["alive"], Meta(description="Always `alive`.")]


class Readiness(TypedDict):
    """Whether the gateway can accept requests."""

    status: Annotated[
        Literal["ready", "not_ready"],
        Meta(description="`ready` when every part is `ok`.", examples=["ready"]),
    ]
    parts: Annotated[
        dict[str, str],
        Meta(
            description="Each part of the gateway, or each worker: `ok`, or what is wrong with it.",
            examples=[{"store": "ok", "disk": "ok", "ingest": "ok"}],
        ),
    ]


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


class ExplainedFinding(TypedDict):
    """One finding about a refused request, and its parts where the diagnosis knows them."""

    text: Annotated[
        str,
        Meta(description="Full sentences.", examples=["The timestamp is 812 s old; the limit is 5m."]),
    ]
    expected: Annotated[str | None, Meta(description="What the source expects.", examples=["at most 5m old"])]
    received: Annotated[str | None, Meta(description="What the request has.", examples=["812 s old"])]
    change: Annotated[
        str | None,
        Meta(
            description="The keys of the config to change or to check, one a line: a path and, if it is "
            "known, the new value.",
            examples=["sources.shop.verify.timestamp.tolerance: 15m"],
        ),
    ]
    certain: Annotated[
        bool,
        Meta(
            description="`true`: it was observed in the request, or the request verifies with the change. "
            "`false`: it is a possible cause.",
            examples=[True],
        ),
    ]


class RejectedRequest(TypedDict):
    """A refused request, with masked values."""

    id: Annotated[str, Meta(description="The id of the request, as in the log.", examples=[_ID])]
    time: Annotated[Rfc3339, Meta(description="When it was refused.")]
    source: _Name
    client: Annotated[str | None, Meta(description="The address it came from.", examples=["192.0.2.7"])]
    outcome: Annotated[str, Meta(description="As in `gatehouse_requests_total`.", examples=["unauthorized"])]
    reason: Annotated[str | None, Meta(description="As in the log.", examples=["stale_timestamp"])]
    status: Annotated[
        int, Meta(description="The HTTP status that the provider was answered with.", examples=[401])
    ]
    method: Annotated[str, Meta(description="Of the request.", examples=["POST"])]
    path: Annotated[str, Meta(description="Of the request.", examples=["/webhooks/shop"])]
    query: Annotated[list[str], Meta(description="The names of the query parameters.", examples=[[]])]
    headers: Annotated[
        list[tuple[str, str]],
        Meta(
            description="Pairs of a name and a value. Values that can be credentials are masked.",
            examples=[[["Content-Type", "application/json"], ["X-Signature", "t=17… (81 characters)"]]],
        ),
    ]
    body: Annotated[BodyDigest, Meta(description="Its length and its digest.")]
    signed_at: Annotated[
        int | None,
        Meta(description="When the provider signed it, as it says (Unix seconds).", examples=[1_769_853_600]),
    ]
    examined: Annotated[
        bool, Meta(description="Whether the search for findings has ended. If not, there are none yet.")
    ]
    findings: Annotated[
        list[str],
        Meta(
            description="What was found and what to do, as full sentences.",
            examples=[["The timestamp is 812 s old; the limit is 5m."]],
        ),
    ]
    explained: Annotated[list[ExplainedFinding], Meta(description="The same findings, each with its parts.")]


class RejectedList(TypedDict):
    """The last refused requests, newest first."""

    rejected: Annotated[list[RejectedRequest], Meta(description="The requests.")]


class HandshakeList(TypedDict):
    """Secrets that providers sent in a handshake, newest first: the last five of each source."""

    handshakes: Annotated[list[HandshakeSecret], Meta(description="The secrets, and when they came.")]


class EnvironmentNames(TypedDict):
    """Which environment variables the gateway's process has."""

    set: Annotated[
        dict[str, bool],
        Meta(
            description="By name. Values are never shown.",
            examples=[{"SHOP_SECRET": True, "SHOP_SECRET_OLD": False}],
        ),
    ]


class ConfigShown(TypedDict):
    """The config in use."""

    file: _File
    loaded: Annotated[Rfc3339, Meta(description="When the file was read.")]
    text: Annotated[
        str,
        Meta(
            description="The YAML as loaded. `…` stands for what can be a credential. Comments are left out.",
            examples=["sources:\n  shop: {provider: mando, secrets: env:SHOP_SECRET}\n"],
        ),
    ]
    needs_restart: Annotated[
        list[str], Meta(description="Keys of it that are used only after a restart.", examples=[[]])
    ]


class NameChanges(TypedDict):
    """What differs between the config before a reload and after it."""

    added: Annotated[list[str], Meta(description="Only in the new config.", examples=[[]])]
    removed: Annotated[list[str], Meta(description="Only in the config before.", examples=[[]])]
    changed: Annotated[list[str], Meta(description="In both, with other settings.", examples=[[]])]


class ReloadReport(TypedDict):
    """What a reload changed, or what it would change."""

    status: Annotated[
        Literal["reloaded", "checked"],
        Meta(description="`checked` after a dry run, in which nothing changed.", examples=["reloaded"]),
    ]
    dry_run: Annotated[bool, Meta(description="As in the request.", examples=[False])]
    file: _File
    sha256: Annotated[str, Meta(description="The SHA-256 of its content.", examples=["9f86d081884c7d65…"])]
    sources: Annotated[
        NameChanges,
        Meta(description="Names of sources.", examples=[{"added": ["shop"], "removed": [], "changed": []}]),
    ]
    destinations: Annotated[NameChanges, Meta(description="Names of destinations.")]
    routes: Annotated[
        NameChanges, Meta(description="Routes in words, since a route has no name. None is ever `changed`.")
    ]
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

    file: Annotated[str, Meta(description="The file.", examples=["gateway.yaml"])]
    line: Annotated[int, Meta(description="From 1; 0 for the file as a whole.", examples=[12])]
    path: Annotated[str, Meta(description="The place in the config.", examples=["sources.shop.provider"])]
    message: Annotated[str, Meta(description="What is wrong.", examples=["there is no such preset"])]
    hint: Annotated[str | None, Meta(description="What would be right.", examples=['did you mean "mando"?'])]
    code: Annotated[str, Meta(description="The code of a warning; empty for an error.", examples=[""])]


class ReloadErrorInfo(TypedDict):
    """Why the config was refused."""

    code: Annotated[Literal["bad_config"], Meta(description="Always `bad_config`.")]
    message: Annotated[str, Meta(description="For people.", examples=["the previous config stays in use"])]
    problems: Annotated[list[ConfigProblem], Meta(description="Every mistake that was found.")]
    file: _File


class ReloadRefused(TypedDict):
    """The file has a problem. The gateway continues with the config it had."""

    error: Annotated[ReloadErrorInfo, Meta(description="What went wrong.")]

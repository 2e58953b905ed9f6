"""What the API answers about the gateway as a whole: types of the code and of its reference."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from gatehouse.delivery.state import DestinationState
from gatehouse.language.times import Rfc3339
from gatehouse.operator.source_types import SourceState


class StoreState(TypedDict):
    """The store, and the disk that it is on."""

    kind: Annotated[
        Literal["sqlite", "postgresql"], Meta(description="The kind of the store.", examples=["sqlite"])
    ]
    place: Annotated[
        str,
        Meta(
            description="The file, or the URL of the database. It contains no password.",
            examples=["/var/lib/gatehouse/gatehouse.db"],
        ),
    ]
    available: Annotated[
        bool, Meta(description="`false`: it does not answer, and providers get 503.", examples=[True])
    ]
    disk_low: Annotated[
        bool,
        Meta(
            description="`true`: the disk has less free space than `store.min_free`, and providers get 503.",
            examples=[False],
        ),
    ]
    size_bytes: Annotated[int, Meta(description="The size of the store.", examples=[52428800])]
    free_bytes: Annotated[
        int | None,
        Meta(
            description="Free space on its disk; `null` when the disk is not on this machine.",
            examples=[12884901888],
        ),
    ]


class ReloadState(TypedDict):
    """The last time that the config was loaded."""

    successful: Annotated[bool, Meta(description="`false`: the previous config is in use.", examples=[True])]
    at: Annotated[Rfc3339, Meta(description="When it was loaded or refused: at the start, or by a reload.")]
    problems: Annotated[list[str], Meta(description="Why it was refused.", examples=[[]])]


class WorkerState(TypedDict):
    """One of several workers."""

    number: Annotated[int, Meta(description="Its number, from 1.", examples=[1])]
    serving: Annotated[bool, Meta(description="Whether it serves requests.", examples=[True])]


class GatewayStatus(TypedDict):
    """The gateway as a whole."""

    version: Annotated[str, Meta(description="The version of Gatehouse.", examples=["0.1.0"])]
    now: Annotated[Rfc3339, Meta(description="The time of the gateway's clock.")]
    started: Annotated[Rfc3339, Meta(description="When the process started.")]
    sources: Annotated[list[SourceState], Meta(description="In the order of the config.")]
    destinations: Annotated[list[DestinationState], Meta(description="In the order of the config.")]
    store: Annotated[StoreState, Meta(description="The store.")]
    reload: Annotated[ReloadState, Meta(description="The last reload.")]
    workers: NotRequired[
        Annotated[
            list[WorkerState],
            Meta(
                description="Only with `--workers`: the workers.",
                examples=[[{"number": 1, "serving": True}]],
            ),
        ]
    ]

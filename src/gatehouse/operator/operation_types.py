"""The JSON of replays and retries of many events: types of the code and of the API reference."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from gatehouse.language.times import Rfc3339
from gatehouse.operator.request_types import EventFilters

_ID = "01JDQ3W5Z8K4M2N6P7R9S1T3V5"
_Id = Annotated[str, Meta(description="The id of the operation.", examples=[_ID])]
#: The rate of an operation that names none.
DEFAULT_RATE = "50/s"


class OperationBody(TypedDict, total=False):
    """Which events, where to, and how fast."""

    filter: Annotated[EventFilters, Meta(description="Which events: all conditions have to hold.")]
    to: Annotated[
        list[str],
        Meta(
            min_length=1,
            description="Names of destinations. Without it, a replay goes to those that had the event, and a "
            "retry to all.",
            examples=[["billing"]],
        ),
    ]
    rate: Annotated[
        str,
        Meta(
            description="How many events at most, per `s`, `m` or `h`; at least one per day.",
            examples=[DEFAULT_RATE],
            extra_json_schema={"default": DEFAULT_RATE},
        ),
    ]
    all: Annotated[
        bool,
        Meta(
            description="`true` takes every event. Needed when no filter is given.",
            extra_json_schema={"default": False},
        ),
    ]
    dry_run: Annotated[bool, Meta(description="`true` only counts.", extra_json_schema={"default": False})]


class PlanNumbers(TypedDict):
    """How many events and deliveries, by what they have in common."""

    source: Annotated[dict[str, int], Meta(description="Events by source.", examples=[{"shop": 1204}])]
    type: Annotated[
        dict[str, int],
        Meta(description="Events by type: the 100 most frequent.", examples=[{"invoice.paid": 1204}]),
    ]
    destination: Annotated[
        dict[str, int], Meta(description="Deliveries by destination.", examples=[{"billing": 1204}])
    ]


class OperationPlan(TypedDict):
    """The answer with `dry_run`."""

    events: Annotated[int, Meta(description="How many events match.", examples=[1204])]
    deliveries: Annotated[int, Meta(description="How many deliveries that makes.", examples=[1204])]
    by: Annotated[PlanNumbers, Meta(description="The same numbers in detail.")]


class OperationStarted(TypedDict):
    """The operation runs."""

    id: _Id


class OperationProgress(TypedDict):
    """A replay or a retry of many events."""

    id: _Id
    state: Annotated[
        Literal["running", "done", "cancelled"], Meta(description="What it does.", examples=["running"])
    ]
    total: Annotated[int, Meta(description="How many events matched at the start.", examples=[1204])]
    done: Annotated[
        int,
        Meta(
            description="Events that are due again. At the end, `done` and `failed` can be less than "
            "`total`: the other events did not match any more when their turn came.",
            examples=[600],
        ),
    ]
    failed: Annotated[
        int,
        Meta(
            description="Events that are no longer kept, or whose destination is not in the config.",
            examples=[0],
        ),
    ]
    rate: Annotated[str, Meta(description="How many events at most.", examples=[DEFAULT_RATE])]
    started: Annotated[Rfc3339, Meta(description="When it started.")]
    ended: Annotated[Rfc3339 | None, Meta(description="When it ended.", examples=[None])]
    by: Annotated[str, Meta(description="Who started it: the name of the operator token.", examples=["ci"])]
    filter: Annotated[
        dict[str, str],
        Meta(description="Which events, with `until` as it was at the start.", examples=[{"source": "shop"}]),
    ]
    to: Annotated[
        list[str] | None, Meta(description="The destinations, if some were named.", examples=[["billing"]])
    ]
    waiting_for: Annotated[
        list[str],
        Meta(
            description="Destinations that are paused, can't be reached, or have to catch up first. Only the "
            "gateway that runs the operation knows them.",
            examples=[[]],
        ),
    ]


class ReplayList(TypedDict):
    """The latest replays of many events, newest first."""

    replays: Annotated[list[OperationProgress], Meta(description="At most 50.")]


class RetryList(TypedDict):
    """The latest retries of many dead letters, newest first."""

    retries: Annotated[list[OperationProgress], Meta(description="At most 50.")]

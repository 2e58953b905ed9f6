"""Defines the requests and answers of the operator API that tell where events go."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, Required, TypedDict

from msgspec import Meta

_Source = Annotated[str, Meta(description="The name of the source.", examples=["shop"])]


class RouteQuery(TypedDict):
    """Which event to find the destinations of."""

    source: Required[Annotated[str, Meta(description="The name of a source.", examples=["shop"])]]
    type: NotRequired[
        Annotated[
            str,
            Meta(
                description="The type of the event. Without it, the answer has all routes of the source.",
                examples=["invoice.paid"],
            ),
        ]
    ]


class RouteBody(TypedDict):
    """An event to find the destinations of."""

    source: Required[Annotated[str, Meta(description="The name of a source.", examples=["shop"])]]
    body: Required[
        Annotated[
            str,
            Meta(
                description="The body, as the provider sends it.",
                examples=['{"type": "invoice.paid", "livemode": true}'],
            ),
        ]
    ]
    type: NotRequired[
        Annotated[
            str,
            Meta(
                min_length=1,
                description="The type of the event. Without it, the type is read from the request.",
                examples=["invoice.paid"],
            ),
        ]
    ]
    headers: NotRequired[
        Annotated[
            dict[str, str],
            Meta(
                description="Headers. `Content-Type` is `application/json` by default.",
                examples=[{"X-Topic": "invoices"}],
            ),
        ]
    ]


_Route = TypedDict(
    "_Route",
    {
        "path": Annotated[str, Meta(description="Its path in the config.", examples=["routes.0"])],
        "line": Annotated[int, Meta(description="Its line in the config file.", examples=[24])],
        "from": Annotated[list[str], Meta(description="Its sources, as in the config.", examples=[["shop"]])],
        "types": Annotated[
            list[str], Meta(description="Its types, as in the config.", examples=[["invoice.*"]])
        ],
        "when": Annotated[
            dict[str, list[str]],
            Meta(
                description="Its conditions, as in the config, by template. Empty if it has none.",
                examples=[{"{body:livemode}": ["true"]}],
            ),
        ],
        "to": Annotated[list[str], Meta(description="Its destinations.", examples=[["billing", "ledger"]])],
        "text": Annotated[
            str,
            Meta(
                description="The route in words. The wording may change.",
                examples=["from shop, types invoice.*, when {body:livemode} is true, to billing, ledger"],
            ),
        ],
    },
)


class SelectingRoute(_Route):
    """A route that selects a destination."""


class SelectedDestination(TypedDict):
    """A destination that gets such an event."""

    name: Annotated[str, Meta(description="The name of the destination.", examples=["billing"])]
    routes: Annotated[list[SelectingRoute], Meta(description="The routes that select it.")]


class RoutesTested(TypedDict):
    """Where events of a source go."""

    source: _Source
    type: Annotated[
        str | None,
        Meta(description="The type of the event; `null`: any type.", examples=["invoice.paid"]),
    ]
    destinations: Annotated[
        list[SelectedDestination],
        Meta(
            description="Empty if no route matches: such an event is stored, and not delivered. A route with "
            "conditions selects only the events that meet them."
        ),
    ]


class ConditionTried(TypedDict):
    """A condition of a route, and the value that the event has for it."""

    template: Annotated[str, Meta(description="What is compared.", examples=["{body:livemode}"])]
    condition: Annotated[list[str], Meta(description="As in the config.", examples=[["true"]])]
    value: Annotated[
        str | None,
        Meta(
            description="The value of the event, at most 200 characters of it; `null` if it is missing or "
            "unreadable.",
            examples=["true"],
        ),
    ]
    state: Annotated[
        Literal["holds", "fails", "unreadable"],
        Meta(description="No condition holds for a value that can't be read.", examples=["holds"]),
    ]


class RouteTried(_Route):
    """A route of the source, and whether it takes the event."""

    selected: Annotated[bool, Meta(description="Whether the route takes the event.")]
    reasons: Annotated[
        list[str],
        Meta(
            description="Why it does not, in words. Empty if it does. The wording may change.", examples=[[]]
        ),
    ]
    conditions: Annotated[
        list[ConditionTried], Meta(description="Empty if the route does not take the type.")
    ]


class EventTried(TypedDict):
    """An event, and whether each route of its source takes it."""

    type: Annotated[str, Meta(description="Its type.", examples=["invoice.paid"])]
    destinations: Annotated[
        list[str],
        Meta(
            description="Empty if no route takes it: such an event is stored, and not delivered.",
            examples=[["billing", "ledger"]],
        ),
    ]
    routes: Annotated[list[RouteTried], Meta(description="Every route of the source.")]


class RoutesTried(TypedDict):
    """Where the events of a body go."""

    source: _Source
    events: Annotated[list[EventTried], Meta(description="The first 20 events of the body.")]

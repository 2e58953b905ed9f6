"""Describes a route for the API reference, at the handler that serves it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

Handler = TypeVar("Handler", bound=Callable[..., object])

_KEY = "described"


@dataclass(frozen=True, slots=True)
class RouteDescription:
    """The description of one handler."""

    #: The chapter of the reference.
    group: str
    #: By status, the types of the handler's JSON answers, or a content type.
    answers: Mapping[int, tuple[type, ...] | str]
    #: The statuses of error answers, which all have the same form.
    errors: tuple[int, ...] = ()
    #: The meaning of each path parameter.
    path: Mapping[str, str] = field(default_factory=dict)
    #: A typed dict: the query parameters.
    query: type | None = None
    #: A typed dict: the members of the JSON body.
    body: type | None = None
    #: The handler's name, without the leading underscore.
    name: str = ""
    #: The first sentence of the handler's docstring, and the paragraphs after it.
    summary: str = ""
    text: str = ""


def describe_route(
    group: str,
    answers: Mapping[int, tuple[type, ...] | str],
    *,
    errors: tuple[int, ...] = (),
    path: Mapping[str, str] | None = None,
    query: type | None = None,
    body: type | None = None,
) -> Callable[[Handler], Handler]:
    """Describe a handler. Its docstring becomes the text of the reference."""

    def describe(handler: Handler) -> Handler:
        summary, _, text = (inspect.getdoc(handler) or "").partition("\n\n")
        vars(handler)[_KEY] = RouteDescription(
            group,
            answers,
            errors,
            path or {},
            query,
            body,
            getattr(handler, "__name__", "").lstrip("_"),
            " ".join(summary.split()),
            text,
        )
        return handler

    return describe


def route_description(handler: object) -> RouteDescription | None:
    """Return the description of a handler, or None."""
    found = getattr(handler, "__dict__", {}).get(_KEY)
    return found if isinstance(found, RouteDescription) else None

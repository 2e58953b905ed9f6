"""The filters of a list: those that its API has, as fields of a form. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gatehouse.operator.request_types import MAX_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

T = TypeVar("T")


class Field(NamedTuple):
    """One filter, with the name that it has in the API."""

    name: str
    label: str
    #: What it has been set to; empty if it is not used.
    value: str = ""
    #: The values to choose from; empty if any text is allowed.
    options: tuple[str, ...] = ()
    hint: str = ""
    #: Whether the form shows it at once. The others are behind "More filters".
    is_main: bool = False


def given(query: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return the filters that a query sets. Forms send empty fields too."""
    return {name: query[name].strip() for name in names if query.get(name, "").strip()}


def has_empty(query: Mapping[str, str]) -> bool:
    """Return whether a query has parameters without a value, so that its link can be made shorter."""
    return any(not value.strip() for value in query.values())


def filled(fields: Sequence[Field], values: Mapping[str, str]) -> list[Field]:
    """Return the fields with what they were set to."""
    return [field._replace(value=values.get(field.name, "")) for field in fields]


def matching(entries: Iterable[T], values: Mapping[str, str], member: Callable[[T, str], str]) -> list[T]:
    """Return the entries of a short list that have all values. `member` returns what one has by a name."""
    return [one for one in entries if all(member(one, name) == value for name, value in values.items())]


def is_usable(value: str | None) -> bool:
    """Return whether a value of an event can be used as a filter, and be read in one."""
    return value is not None and 0 < len(value) <= MAX_TEXT and value.isprintable() and value == value.strip()

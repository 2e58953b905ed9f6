"""Groups of dead letters, as a page shows them: by destination, with the cause in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.operator.page.reasons import Explained, explain
from gatehouse.operator.page.wording import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Group = dict[str, Any]


def add_groups(counted: Iterable[Mapping[str, Any]], more: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Add up the groups of two parts. The largest comes first."""
    found: dict[tuple[Any, ...], Group] = {}
    for group in (*counted, *more):
        key = group["destination"], group["reason"], group["http_status"]
        known = found.get(key)
        if known is None:
            found[key] = dict(group)
        else:
            known["count"] += group["count"]
            known["oldest"] = min(known["oldest"], group["oldest"])
            known["newest"] = max(known["newest"], group["newest"])
    return sorted(found.values(), key=lambda group: (-group["count"], group["destination"]))


def by_destination(
    groups: Sequence[Group], destinations: Sequence[Mapping[str, Any]], filters: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the destinations that have dead letters, each with its groups. The most counted come first.

    `dead` is the number of all its dead letters; None if the config does not have the destination.
    """
    totals = {one["name"]: one["dead"] for one in destinations}
    only = filters.get("destination")
    names = {group["destination"] for group in groups}
    names |= {name for name, dead in totals.items() if dead and only in (None, name)}
    found = [
        {
            "name": name,
            "dead": totals.get(name),
            "groups": [
                {**group, **_chosen_by(group, filters), **_explained(group)}
                for group in groups
                if group["destination"] == name
            ],
            "query": {**filters, "destination": name},
        }
        for name in names
    ]
    for one in found:
        one["counted"] = sum(group["count"] for group in one["groups"])
    return sorted(found, key=lambda one: (-one["counted"], one["name"]))


def _chosen_by(group: Mapping[str, Any], filters: Mapping[str, str]) -> dict[str, Any]:
    """Return the filters that choose the events of a group, for links."""
    result = {name: str(group[name]) for name in ("reason", "http_status") if group[name] is not None}
    others = {name: value for name, value in filters.items() if name not in ("reason", "http_status")}
    return {"query": others | {"destination": group["destination"]} | result}


def _explained(group: Mapping[str, Any]) -> dict[str, Any]:
    if group["reason"] is None:
        return {"cause": Explained("unknown", "The store does not tell why."), "result": ""}
    cause = explain(group["reason"], group["http_status"])
    status = "" if group["http_status"] is None else f" {group['http_status']}"
    return {"cause": cause, "result": f"{group['reason']}{status}"}


def discarded_in_words(result: Mapping[str, Any]) -> str:
    """Say what was discarded."""
    numbers: Mapping[str, int] = result["discarded"]
    if not numbers:
        return "Nothing was discarded: no dead letter matched any more."
    each = ", ".join(f"{number(count)} of {name}" for name, count in sorted(numbers.items()))
    count = sum(numbers.values())
    text = f"Discarded {number(count)} dead {'letter' if count == 1 else 'letters'}: {each}."
    return text if result["done"] else f"{text} There are more: discard again to go on."

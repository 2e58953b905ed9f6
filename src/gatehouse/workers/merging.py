"""Merges what the workers answer about the same sources and destinations. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Entries = list[dict[str, Any]]


def merge_destinations(lists: Sequence[Entries]) -> Entries:
    """List the destinations of the first worker, with the in-memory state of all workers."""
    return list(_merged(lists, _add_destination))


def merge_sources(lists: Sequence[Entries]) -> Entries:
    """List the sources of the first worker, with the counts of all workers."""
    return list(_merged(lists, _add_source))


def merge_status(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge the status of all workers. The store is in order only if it is for every worker."""
    merged = answers[0]
    merged["sources"] = merge_sources([answer["sources"] for answer in answers])
    merged["destinations"] = merge_destinations([answer["destinations"] for answer in answers])
    stores = [answer["store"] for answer in answers]
    merged["store"] |= {
        "available": all(store["available"] for store in stores),
        "disk_low": any(store["disk_low"] for store in stores),
        "size_bytes": max(store["size_bytes"] for store in stores),
    }
    return merged


def _merged(
    lists: Sequence[Entries], add: Callable[[dict[str, Any], dict[str, Any]], None]
) -> Iterator[dict[str, Any]]:
    first, *others = ({entry["name"]: entry for entry in entries} for entries in lists)
    for name, merged in first.items():
        for other in (known[name] for known in others if name in known):
            add(merged, other)
        yield merged


def _add_destination(merged: dict[str, Any], other: dict[str, Any]) -> None:
    merged["waiting"] += other["waiting"]
    if other["breaker"] != "closed":
        merged["breaker"] = other["breaker"]
        for time in ("open_since", "next_probe"):
            merged[time] = min(_given(merged[time], other[time]), default=None)


def _add_source(merged: dict[str, Any], other: dict[str, Any]) -> None:
    if not other["ready"]:
        merged["ready"], merged["not_ready"] = False, other["not_ready"]
    merged["last_accepted"] = max(_given(merged["last_accepted"], other["last_accepted"]), default=None)
    merged["refused_last_hour"] += other["refused_last_hour"]
    refused = _given(merged["last_refused"], other["last_refused"])
    merged["last_refused"] = max(refused, key=lambda one: str(one["time"]), default=None)
    for secret, same in zip(merged["secrets"], other["secrets"], strict=False):
        secret["matched"] += same["matched"]
        secret["last_used"] = max(_given(secret["last_used"], same["last_used"]), default=None)


def _given(*values: Any) -> Iterable[Any]:  # noqa: ANN401 - JSON
    """Return the values that are not None. RFC 3339 times in UTC sort as text."""
    return [value for value in values if value is not None]

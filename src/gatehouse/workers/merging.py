"""Merges what the workers answer about the same sources and destinations. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from gatehouse.ingest.duplicates import MAX_LATEST
from gatehouse.language.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Entries = list[dict[str, Any]]
#: A number by bucket, the oldest first; None where nobody counted.
_Buckets = list[int | None]


def merge_destinations(lists: Sequence[Entries]) -> Entries:
    """List the destinations of the first worker, with the in-memory state of all workers."""
    return list(_merged(lists, _add_destination))


def merge_sources(lists: Sequence[Entries]) -> Entries:
    """List the sources of the first worker, with the counts of all workers."""
    return list(_merged(lists, _add_source))


def merge_duplicates(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge the duplicates of one event. All workers count them from the latest `since` on."""
    latest = (one for answer in answers for one in answer["latest"])
    return {
        "since": _latest(*(answer["since"] for answer in answers)),
        "count": sum(answer["count"] for answer in answers),
        "latest": newest_first(latest, by="at")[:MAX_LATEST],
    }


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


def merge_history(answers: Sequence[dict[str, Any]], *, complete: bool) -> dict[str, Any]:
    """Merge the history of all workers, bucket by bucket. `complete`: every worker has answered.

    The newest bucket of a worker that answered just before the others may be the one before theirs.
    """
    first, *others = newest_first(answers, by="until")
    for answer in others:
        _shift(answer, round((_seconds(first["until"]) - _seconds(answer["until"])) / first["step_seconds"]))
    sources, destinations = ([answer[kind] for answer in answers] for kind in ("sources", "destinations"))
    return first | {
        "since": _earliest(*(answer["since"] for answer in answers)),
        "complete_since": _latest(*(answer["since"] for answer in answers)) if complete else None,
        "sources": list(_merged(sources, _add_source_history)),
        "destinations": list(_merged(destinations, _add_destination_history)),
    }


def newest_first(entries: Iterable[dict[str, Any]], *, by: str) -> Entries:
    """Sort entries by the time in the member `by`."""
    return sorted(entries, key=lambda entry: _seconds(entry[by]), reverse=True)


def _shift(answer: dict[str, Any], missing: int) -> None:
    """Drop the oldest buckets of an answer, and add as many that are not known."""
    if missing <= 0:
        return
    for entry in (*answer["sources"], *answer["destinations"]):
        for lists in (entry, entry.get("reasons", {})):
            for name, value in lists.items():
                if isinstance(value, list):
                    lists[name] = (value + [None] * missing)[-len(value) :]


def _add_source_history(merged: dict[str, Any], other: dict[str, Any]) -> None:
    _add_counts(merged, other, ("accepted", "refused", "unavailable"))


def _add_destination_history(merged: dict[str, Any], other: dict[str, Any]) -> None:
    reasons, more = merged["reasons"], other["reasons"]
    _add_counts(merged, other, ("delivered", "failed"))
    merged["lag"] = _by_bucket(merged["lag"], other["lag"], max)
    for reason, counts in more.items():
        reasons[reason] = _by_bucket(reasons[reason], counts, sum) if reason in reasons else counts


def _add_counts(merged: dict[str, Any], other: dict[str, Any], names: Sequence[str]) -> None:
    for name in names:
        merged[name] = _by_bucket(merged[name], other[name], sum)
    _add_rates(merged, other, [f"{name}_per_minute" for name in names])


def _add_rates(merged: dict[str, Any], other: dict[str, Any], names: Sequence[str]) -> None:
    # A worker that has just started has no rates yet.
    if other[names[0]] is None:
        return
    if merged[names[0]] is None:
        merged |= {name: other[name] for name in (*names, "rate_seconds")}
        return
    merged |= {name: round(merged[name] + other[name], 2) for name in names}
    merged["rate_seconds"] = min(merged["rate_seconds"], other["rate_seconds"])


def _by_bucket(one: _Buckets, other: _Buckets, combine: Callable[[Sequence[int]], int]) -> _Buckets:
    return [
        right if left is None else left if right is None else combine((left, right))
        for left, right in zip(one, other, strict=True)
    ]


def _earliest(*times: str | None) -> str | None:
    return min(_given(*times), key=_seconds, default=None)


def _latest(*times: str | None) -> str | None:
    return max(_given(*times), key=_seconds, default=None)


def _seconds(time: str) -> float:
    # As text, `…16Z` would be after `…16.5Z`.
    return cast("float", parse_time(time))


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
    merged["failures"] += other["failures"]
    merged["concurrency"] += other["concurrency"]
    if other["breaker"] != "closed":
        merged["breaker"] = other["breaker"]
        for time in ("open_since", "next_probe"):
            merged[time] = _earliest(merged[time], other[time])


def _add_source(merged: dict[str, Any], other: dict[str, Any]) -> None:
    if not other["ready"]:
        merged["ready"], merged["not_ready"] = False, other["not_ready"]
    merged["last_accepted"] = _latest(merged["last_accepted"], other["last_accepted"])
    merged["unrouted"] += other["unrouted"]
    merged["refused_last_hour"] += other["refused_last_hour"]
    refused = _given(merged["last_refused"], other["last_refused"])
    merged["last_refused"] = next(iter(newest_first(refused, by="time")), None)
    for secret, same in zip(merged["secrets"], other["secrets"], strict=False):
        secret["matched"] += same["matched"]
        secret["last_used"] = _latest(secret["last_used"], same["last_used"])


def _given(*values: Any) -> list[Any]:  # noqa: ANN401 - JSON
    return [value for value in values if value is not None]

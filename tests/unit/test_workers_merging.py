"""The state of several workers as one answer."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from gatehouse.workers.merging import (
    merge_destinations,
    merge_duplicates,
    merge_history,
    merge_sources,
    merge_status,
    newest_first,
)


def source(**changes: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "ready": True,
        "not_ready": None,
        "last_accepted": None,
        "unrouted": 0,
        "refused_last_hour": 0,
        "last_refused": None,
        "secrets": [{"position": 1, "matched": 2, "last_used": None}],
    } | changes


def destination(**changes: Any) -> dict[str, Any]:
    return {
        "name": "billing",
        "concurrency": 16,
        "waiting": 1,
        "breaker": "closed",
        "failures": 2,
        "open_since": None,
        "next_probe": None,
    } | changes


def test_the_counts_of_a_source_are_those_of_all_workers() -> None:
    refused = {"id": "01", "time": "2026-01-01T00:00:02Z", "reason": "wrong_signature"}
    earlier = refused | {"time": "2026-01-01T00:00:01Z"}
    (merged,) = merge_sources(
        [
            [source(refused_last_hour=1, unrouted=2, last_refused=earlier)],
            [
                source(
                    refused_last_hour=2,
                    unrouted=3,
                    last_refused=refused,
                    last_accepted="2026-01-01T00:00:03Z",
                )
            ],
            [source(ready=False, not_ready="env:SECRET is not set")],
        ]
    )

    assert merged == source(
        ready=False,
        not_ready="env:SECRET is not set",
        unrouted=5,
        refused_last_hour=3,
        last_refused=refused,
        last_accepted="2026-01-01T00:00:03Z",
        secrets=[{"position": 1, "matched": 6, "last_used": None}],
    )


def test_times_of_workers_are_compared_as_times() -> None:
    """As text, a whole second would be after its fractions."""
    whole, half = "2026-01-01T00:00:16Z", "2026-01-01T00:00:16.5Z"

    def at(time: str) -> dict[str, Any]:
        secret = {"position": 1, "matched": 1, "last_used": time}
        return source(last_accepted=time, last_refused={"id": "01", "time": time}, secrets=[secret])

    for first, second in ((whole, half), (half, whole)):
        (merged,) = merge_sources([[at(first)], [at(second)]])
        assert (merged["last_accepted"], merged["last_refused"]["time"]) == (half, half)
        assert merged["secrets"][0]["last_used"] == half
        states = [destination(breaker="open", open_since=time, next_probe=time) for time in (first, second)]
        (state,) = merge_destinations([[each] for each in states])
        assert (state["open_since"], state["next_probe"]) == (whole, whole)
        listed = newest_first([{"time": first}, {"time": second}], by="time")
        assert listed == [{"time": half}, {"time": whole}]
        histories = merge_history([history(since=first), history(since=second)], complete=True)
        assert (histories["since"], histories["complete_since"]) == (whole, half)


def test_the_duplicates_of_all_workers_are_listed_newest_first_and_counted_since_the_latest_start() -> None:
    def seen(*seconds: float) -> list[dict[str, Any]]:
        return [{"at": f"2026-01-01T00:00:{each}Z", "client": None} for each in seconds]

    answers = [
        {"since": "2026-01-01T00:00:04Z", "count": 30, "latest": seen(*range(58, 18, -2))},
        {"since": "2026-01-01T00:00:04.5Z", "count": 2, "latest": seen(50.5, 17)},
        {"since": "2026-01-01T00:00:00Z", "count": 0, "latest": []},
    ]

    assert merge_duplicates(answers) == {
        "since": "2026-01-01T00:00:04.5Z",
        "count": 32,
        "latest": seen(58, 56, 54, 52, 50.5, *range(50, 20, -2)),
    }


def test_an_open_breaker_of_any_worker_shows_with_the_earliest_probe() -> None:
    first = destination(breaker="open", open_since="2026-01-01T00:00:01Z", next_probe="2026-01-01T00:00:09Z")
    second = destination(breaker="open", open_since="2026-01-01T00:00:02Z", next_probe="2026-01-01T00:00:07Z")
    other = destination(name="only in this worker")

    assert merge_destinations([[destination()], [first], [second, other]]) == [
        destination(
            concurrency=48,
            waiting=3,
            failures=6,
            breaker="open",
            open_since="2026-01-01T00:00:01Z",
            next_probe="2026-01-01T00:00:07Z",
        )
    ]


def test_the_store_is_available_if_it_is_for_every_worker() -> None:
    def status(**store: Any) -> dict[str, Any]:
        in_order = {"available": True, "disk_low": False, "size_bytes": 5}
        return {"sources": [source()], "destinations": [destination()], "store": in_order | store}

    merged = merge_status([status(), status(available=False, disk_low=True, size_bytes=7), status()])

    assert merged["store"] == {"available": False, "disk_low": True, "size_bytes": 7}


def history(**changes: Any) -> dict[str, Any]:
    """Return the history of a worker, with three buckets instead of 288."""
    rates = {"accepted_per_minute": 1.5, "refused_per_minute": 0.0, "unavailable_per_minute": 0.0}
    counts = {"accepted": [None, 2, 3], "refused": [None, 0, 1], "unavailable": [None, 0, 0]}
    app = {
        "name": "billing",
        "delivered_per_minute": 1.0,
        "failed_per_minute": 0.25,
        "rate_seconds": 320,
        "delivered": [None, 2, 3],
        "failed": [None, 0, 1],
        "reasons": {"timeout": [None, 0, 1]},
        "lag": [None, 7, 0],
    }
    return {
        "from": "2026-01-31T09:50:00Z",
        "until": "2026-01-31T10:05:00Z",
        "step_seconds": 300,
        "since": "2026-01-31T09:56:02Z",
        "complete_since": "2026-01-31T09:56:02Z",
        "sources": [{"name": "shop", "rate_seconds": 320} | rates | counts],
        "destinations": [app],
    } | changes


def test_the_history_of_all_workers_is_added_bucket_by_bucket() -> None:
    later = history(since="2026-01-31T10:00:02Z")
    later["sources"][0] |= {"accepted": [None, None, 4], "accepted_per_minute": 2.0, "rate_seconds": 311}
    later["destinations"][0] |= {
        "failed": [None, None, 2],
        "lag": [None, None, 60],
        "reasons": {"dns": [None, None, 2]},
    }
    started = history(since="2026-01-31T10:04:50Z")
    started["sources"][0] |= {"accepted": [None, None, 9], "rate_seconds": 5}
    started["sources"][0] |= {f"{name}_per_minute": None for name in ("accepted", "refused", "unavailable")}

    merged = merge_history([history(), later, started], complete=True)

    (shop,), (billing,) = merged["sources"], merged["destinations"]
    assert (merged["since"], merged["complete_since"]) == ("2026-01-31T09:56:02Z", "2026-01-31T10:04:50Z")
    assert (shop["accepted"], shop["refused"]) == ([None, 2, 16], [None, 0, 3])
    # The worker that has just started has no rates, and does not shorten what the others cover.
    assert (shop["accepted_per_minute"], shop["rate_seconds"]) == (3.5, 311)
    assert (billing["failed"], billing["failed_per_minute"]) == ([None, 0, 4], 0.75)
    assert billing["reasons"] == {"timeout": [None, 0, 2], "dns": [None, None, 2]}
    assert billing["lag"] == [None, 7, 60]
    assert merge_history([history()], complete=False) == history(complete_since=None)


def test_a_worker_that_answered_before_a_bucket_began_is_added_to_the_buckets_that_it_means() -> None:
    next_bucket = {"from": "2026-01-31T09:55:00Z", "until": "2026-01-31T10:10:00Z"}
    newer = history(**next_bucket)
    newer["sources"][0]["accepted"] = [1, 10, 0]

    for answers in ([history(), newer], [newer, history()]):
        merged = merge_history(deepcopy(answers), complete=True)
        assert {name: merged[name] for name in next_bucket} == next_bucket
        assert merged["sources"][0]["accepted"] == [3, 13, 0]
        assert merged["destinations"][0]["reasons"] == {"timeout": [0, 1, 1]}

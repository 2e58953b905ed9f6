"""The state of several workers as one answer."""

from __future__ import annotations

from typing import Any

from gatehouse.workers.merging import merge_destinations, merge_sources, merge_status


def source(**changes: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "ready": True,
        "not_ready": None,
        "last_accepted": None,
        "refused_last_hour": 0,
        "last_refused": None,
        "secrets": [{"position": 1, "matched": 2, "last_used": None}],
    } | changes


def destination(**changes: Any) -> dict[str, Any]:
    return {
        "name": "billing",
        "waiting": 1,
        "breaker": "closed",
        "open_since": None,
        "next_probe": None,
    } | changes


def test_the_counts_of_a_source_are_those_of_all_workers() -> None:
    refused = {"id": "01", "time": "2026-01-01T00:00:02Z", "reason": "wrong_signature"}
    earlier = refused | {"time": "2026-01-01T00:00:01Z"}
    (merged,) = merge_sources(
        [
            [source(refused_last_hour=1, last_refused=earlier)],
            [source(refused_last_hour=2, last_refused=refused, last_accepted="2026-01-01T00:00:03Z")],
            [source(ready=False, not_ready="env:SECRET is not set")],
        ]
    )

    assert merged == source(
        ready=False,
        not_ready="env:SECRET is not set",
        refused_last_hour=3,
        last_refused=refused,
        last_accepted="2026-01-01T00:00:03Z",
        secrets=[{"position": 1, "matched": 6, "last_used": None}],
    )


def test_an_open_breaker_of_any_worker_shows_with_the_earliest_probe() -> None:
    first = destination(breaker="open", open_since="2026-01-01T00:00:01Z", next_probe="2026-01-01T00:00:09Z")
    second = destination(breaker="open", open_since="2026-01-01T00:00:02Z", next_probe="2026-01-01T00:00:07Z")
    other = destination(name="only in this worker")

    assert merge_destinations([[destination()], [first], [second, other]]) == [
        destination(
            waiting=3, breaker="open", open_since="2026-01-01T00:00:01Z", next_probe="2026-01-01T00:00:07Z"
        )
    ]


def test_the_store_is_available_if_it_is_for_every_worker() -> None:
    def status(**store: Any) -> dict[str, Any]:
        in_order = {"available": True, "disk_low": False, "size_bytes": 5}
        return {"sources": [source()], "destinations": [destination()], "store": in_order | store}

    merged = merge_status([status(), status(available=False, disk_low=True, size_bytes=7), status()])

    assert merged["store"] == {"available": False, "disk_low": True, "size_bytes": 7}

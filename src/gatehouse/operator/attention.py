"""What needs operator action, according to `GET /api/v1/status`. Pure.

`gatehouse status` and the operator page say it in their own words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal[
    "store_unavailable",
    "disk_low",
    "worker_not_serving",
    "source_not_ready",
    "reload_failed",
    "destination_not_ready",
    "breaker_open",
    "dead_letters",
]


class Finding(NamedTuple):
    """Something that needs operator action."""

    kind: Kind
    #: The part of the status that it is about: a source, a destination, a worker, the store or the reload.
    about: Mapping[str, Any]


def findings(status: Mapping[str, Any]) -> Iterator[Finding]:
    """Return what needs operator action, with the most serious first.

    A paused destination is not among it: an operator paused it on purpose.
    """
    store, last_reload = status["store"], status["reload"]
    if not store["available"]:
        yield Finding("store_unavailable", store)
    if store["disk_low"]:
        yield Finding("disk_low", store)
    yield from (Finding("worker_not_serving", one) for one in status.get("workers", ()) if not one["serving"])
    yield from (Finding("source_not_ready", one) for one in status["sources"] if not one["ready"])
    if not last_reload["successful"]:
        yield Finding("reload_failed", last_reload)
    for destination in status["destinations"]:
        yield from destination_findings(destination)


def destination_findings(destination: Mapping[str, Any]) -> Iterator[Finding]:
    """Return what one destination needs."""
    if not destination["ready"]:
        yield Finding("destination_not_ready", destination)
    if destination["breaker"] == "open":
        yield Finding("breaker_open", destination)
    if destination["dead"]:
        yield Finding("dead_letters", destination)


def needs_restart(not_ready: str) -> bool:
    """Return whether only a restart makes a source or destination ready, since a variable is not set."""
    return "env:" in not_ready

"""What I5 and I6 say when several gateways share a store; the others say what they say of one.

A gateway that was stopped or cut off for longer than its leases does not know it. Its last attempts and
those of who took over can meet at the destination: each with a number of its own and the same key.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING

from crash.checker import INVARIANTS, keys_tell_events_apart

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crash.checker import Evidence, Invariants
    from crash.faults import Fault, Kind
    from crash.ledger import Reception

#: After so many seconds an attempt has been answered and its outcome recorded, if the database takes it.
_RECORDED_WITHIN = 5.0
#: When a stopped gateway goes on: for how long (seconds) what it had begun may still come.
_LATE_WITHIN = 3.0
#: What can keep a gateway from recording an outcome while its lease lasts.
_LOSING: tuple[Kind, ...] = ("kill", "stop", "drop", "refuse", "outage")
#: What keeps outcomes waiting.
_DELAYING: tuple[Kind, ...] = ("storm", "restart", "immediate restart", "outage", "drop", "refuse")
UNEXPLAINED = "unexplained"


def invariants(faults: Sequence[Fault], *, under_way: int, replicas: int = 3) -> Invariants:
    """Return the checker's invariants for several gateways; each has so many attempts under way."""
    return {
        **INVARIANTS,
        "I5": partial(attempts_tell_themselves_apart, faults=faults),
        "I6": partial(
            duplicates_are_few_and_explained, faults=faults, under_way=under_way, replicas=replicas
        ),
    }


def attempts_tell_themselves_apart(evidence: Evidence, faults: Sequence[Fault]) -> Iterator[str]:
    """I5: one key for an event and for no other; numbers that differ, and grow but for what comes late."""
    yield from keys_tell_events_apart(evidence)
    for name, receptions in evidence.by_id.items():
        attempts = [reception.attempt for reception in receptions]
        if len(set(attempts)) < len(attempts) or any(
            not is_late(each, faults) for each in behind(receptions)
        ):
            yield f"{name} arrived as attempts {attempts}"


def behind(receptions: Sequence[Reception]) -> Iterator[Reception]:
    """Return those that came after one with a higher number."""
    highest = 0
    for reception in receptions:
        if reception.attempt < highest:
            yield reception
        highest = max(highest, reception.attempt)


def is_late(reception: Reception, faults: Sequence[Fault]) -> bool:
    """Tell whether it can be the last of a gateway that was stopped, and goes on."""
    return any(
        fault.kind == "stop" and fault.t1 - 0.5 <= reception.at <= fault.t1 + _LATE_WITHIN for fault in faults
    )


def duplicates_are_few_and_explained(
    evidence: Evidence, faults: Sequence[Fault], under_way: int, replicas: int
) -> Iterator[str]:
    """I6: each is of an attempt under way at a fault that loses leases, and no more than fit under way."""
    reasons = explained(evidence, faults)
    if reasons[UNEXPLAINED]:
        yield f"{reasons[UNEXPLAINED]} duplicates that no fault explains"
    for kind in _LOSING:
        times = sum(fault.kind == kind for fault in faults)
        # An outage is one of the database: it concerns them all.
        allowed = times * under_way * (replicas if kind == "outage" else 1)
        if reasons[kind] > allowed:
            yield f"{reasons[kind]} duplicates by '{kind}' where {allowed} attempts can have been under way"
    for name, receptions in evidence.by_id.items():
        if any(again.attempt <= 1 and not is_late(again, faults) for again in receptions[1:]):
            yield f"{name} arrived again as a first attempt"


def explained(evidence: Evidence, faults: Sequence[Fault]) -> Counter[str]:
    """Count the duplicates by the kind of fault that they are due to."""
    found: Counter[str] = Counter()
    for receptions in evidence.by_id.values():
        taken = [reception for reception in receptions if reception.taken]
        for before in taken[:-1]:
            found[_reason(before.at, faults)] += 1
    return found


def _reason(at: float, faults: Sequence[Fault]) -> str:
    """Return what kept an outcome from being recorded that was known soon after `at`."""
    until = at + _RECORDED_WITHIN
    for fault in sorted(faults, key=lambda fault: fault.t0):
        if fault.kind in _DELAYING and fault.t0 <= until:
            until = max(until, fault.t1 + _RECORDED_WITHIN)
    near: dict[float, str] = defaultdict(str)
    for fault in faults:
        if fault.kind in _LOSING and at - 0.5 <= fault.t1 and fault.t0 <= until:
            near.setdefault(abs(fault.t0 - at), fault.kind)
    return near[min(near)] if near else UNEXPLAINED

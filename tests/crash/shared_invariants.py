"""I5 and I6 for several gateways that share a store. The other invariants are the same as for one gateway.

A gateway that is stopped or cut off for longer than its leases does not notice it. Its last attempts and
those of the gateway that took over can both reach the destination, with different numbers and the same key.
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

#: Seconds after which an attempt has ended and its outcome is recorded, if the database works.
_RECORDED_WITHIN = 5.0
#: For how long after a stopped gateway resumes its earlier attempts can still arrive (seconds).
_LATE_WITHIN = 3.0
#: The faults that can prevent a gateway from recording an outcome before its lease ends.
_LOSING: tuple[Kind, ...] = ("kill", "stop", "drop", "refuse", "outage")
#: The faults that delay the recording of outcomes.
_DELAYING: tuple[Kind, ...] = ("storm", "restart", "immediate restart", "outage", "drop", "refuse")
UNEXPLAINED = "unexplained"


def invariants(faults: Sequence[Fault], *, in_progress: int, replicas: int = 3) -> Invariants:
    """Return the checker's invariants for several gateways. `in_progress` is the maximum per gateway."""
    return {
        **INVARIANTS,
        "I5": partial(attempts_tell_themselves_apart, faults=faults),
        "I6": partial(
            duplicates_are_few_and_explained, faults=faults, in_progress=in_progress, replicas=replicas
        ),
    }


def attempts_tell_themselves_apart(evidence: Evidence, faults: Sequence[Fault]) -> Iterator[str]:
    """I5: each event has one key of its own.

    Its attempt numbers differ, and increase except for late ones.
    """
    yield from keys_tell_events_apart(evidence)
    for name, receptions in evidence.by_id.items():
        attempts = [reception.attempt for reception in receptions]
        if len(set(attempts)) < len(attempts) or any(
            not is_late(each, faults) for each in behind(receptions)
        ):
            yield f"{name} arrived as attempts {attempts}"


def behind(receptions: Sequence[Reception]) -> Iterator[Reception]:
    """Return the receptions that came after one with a higher number."""
    highest = 0
    for reception in receptions:
        if reception.attempt < highest:
            yield reception
        highest = max(highest, reception.attempt)


def is_late(reception: Reception, faults: Sequence[Fault]) -> bool:
    """Return whether it can be an earlier attempt of a stopped gateway that has resumed."""
    return any(
        fault.kind == "stop" and fault.t1 - 0.5 <= reception.at <= fault.t1 + _LATE_WITHIN for fault in faults
    )


def duplicates_are_few_and_explained(
    evidence: Evidence, faults: Sequence[Fault], in_progress: int, replicas: int
) -> Iterator[str]:
    """I6: a fault that loses leases explains each duplicate, within the number of attempts in progress."""
    reasons = explained(evidence, faults)
    if reasons[UNEXPLAINED]:
        yield f"{reasons[UNEXPLAINED]} duplicates that no fault explains"
    for kind in _LOSING:
        times = sum(fault.kind == kind for fault in faults)
        # An outage is a fault of the database, so it affects all gateways.
        allowed = times * in_progress * (replicas if kind == "outage" else 1)
        if reasons[kind] > allowed:
            yield f"{reasons[kind]} duplicates by '{kind}', but at most {allowed} attempts were in progress"
    for name, receptions in evidence.by_id.items():
        if any(again.attempt <= 1 and not is_late(again, faults) for again in receptions[1:]):
            yield f"{name} arrived again with attempt number 1"


def explained(evidence: Evidence, faults: Sequence[Fault]) -> Counter[str]:
    """Count the duplicates by the kind of fault that caused them."""
    found: Counter[str] = Counter()
    for receptions in evidence.by_id.values():
        taken = [reception for reception in receptions if reception.taken]
        for before in taken[:-1]:
            found[_reason(before.at, faults)] += 1
    return found


def _reason(at: float, faults: Sequence[Fault]) -> str:
    """Return the fault that prevented the recording of an outcome that was known soon after `at`."""
    until = at + _RECORDED_WITHIN
    for fault in sorted(faults, key=lambda fault: fault.t0):
        if fault.kind in _DELAYING and fault.t0 <= until:
            until = max(until, fault.t1 + _RECORDED_WITHIN)
    near: dict[float, str] = defaultdict(str)
    for fault in faults:
        if fault.kind in _LOSING and at - 0.5 <= fault.t1 and fault.t0 <= until:
            near.setdefault(abs(fault.t0 - at), fault.kind)
    return near[min(near)] if near else UNEXPLAINED

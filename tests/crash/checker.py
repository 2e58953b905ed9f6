"""The invariants I1 to I9: each is a function that returns its violations.

The letters stand for sets of events: U was sent, A was answered with 2xx, R was refused or not answered, S is
stored, F was received by the destinations, and L are the dead letters. A *life* is one run of a gateway
process, from its start to its end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from crash.ledger import Answer, Reception
from crash.stored import Stored


@dataclass(frozen=True)
class Scrape:
    """The metrics of one life, read between `t0` and `t1` (unix seconds)."""

    life: int
    t0: float
    t1: float
    accepted: int
    pending: int
    dead: int
    #: Whether the system was idle, so the gauges can be compared with the store.
    at_rest: bool = False
    lost_leases: int = 0


@dataclass(frozen=True)
class Evidence:
    """The evidence of a run: the logs of the sender and the destination, the metrics, and the store."""

    answers: list[Answer]
    receptions: list[Reception]
    stored: Stored
    scrapes: list[Scrape] = field(default_factory=list)
    #: The number of times the gateway was killed, and the maximum number of attempts in progress.
    kills: int = 0
    concurrency: int = 1
    #: Whether retention removes delivered events during the run.
    retires: bool = False

    @cached_property
    def sent(self) -> dict[str, str]:
        """U, with digests."""
        return {answer.id: answer.sha for answer in self.answers}

    @cached_property
    def acknowledged(self) -> set[str]:
        """A."""
        return {answer.id for answer in self.answers if answer.acknowledged}

    @cached_property
    def refused(self) -> set[str]:
        """R."""
        return {answer.id for answer in self.answers if not answer.acknowledged}

    @cached_property
    def by_id(self) -> dict[str, list[Reception]]:
        """F, in the order received."""
        found = defaultdict(list)
        for reception in self.receptions:
            found[reception.id].append(reception)
        return dict(found)

    @cached_property
    def delivered(self) -> set[str]:
        """The receptions that a destination accepted."""
        return {reception.id for reception in self.receptions if reception.taken}

    @property
    def duplicates(self) -> int:
        """The number of repeated receptions of an event that was already accepted."""
        return sum(reception.taken for reception in self.receptions) - len(self.delivered)

    @property
    def lost(self) -> set[str]:
        """The events that were acknowledged and then lost."""
        return self.acknowledged - self.delivered - self.stored.dead


def what_was_acknowledged_is_stored(evidence: Evidence) -> Iterator[str]:
    """I1: A is in S, or it was delivered and has been removed since."""
    retired = evidence.delivered if evidence.retires else set()
    for name in evidence.acknowledged - evidence.stored.rows.keys() - retired:
        yield f"{name} was acknowledged and is not stored"
    for name, sha in evidence.stored.shas.items():
        if evidence.sent.get(name) != sha:
            yield f"{name} is stored with bytes that differ from those that were sent"


def what_was_acknowledged_arrived(evidence: Evidence) -> Iterator[str]:
    """I2: A is in F or in L when the run has settled."""
    for name in evidence.lost:
        yield f"{name} was acknowledged, and is neither delivered nor a dead letter"


def nothing_arrived_that_was_not_sent(evidence: Evidence) -> Iterator[str]:
    """I3: F is in U."""
    for name in evidence.by_id.keys() - evidence.sent.keys():
        yield f"{name} arrived but was never sent"


def what_arrived_is_what_was_sent(evidence: Evidence) -> Iterator[str]:
    """I4: the digests of the received events equal those of the sent ones."""
    for reception in evidence.receptions:
        if evidence.sent.get(reception.id, reception.sha) != reception.sha:
            yield f"{reception.id} arrived with bytes that differ from those that were sent"


def keys_tell_events_apart(evidence: Evidence) -> Iterator[str]:
    """The first half of I5: all attempts of an event have the same key, and no other event has it."""
    owners: dict[str, str] = {}
    for name, receptions in evidence.by_id.items():
        keys = {reception.key for reception in receptions}
        if len(keys) != 1 or "" in keys:
            yield f"{name} arrived with {len(keys)} idempotency keys"
        for key in keys:
            if owners.setdefault(key, name) != name:
                yield f"{name} arrived with the idempotency key of {owners[key]}"


def attempts_tell_themselves_apart(evidence: Evidence) -> Iterator[str]:
    """I5: all attempts of an event have the same key, no other event has it, and the numbers increase."""
    yield from keys_tell_events_apart(evidence)
    for name, receptions in evidence.by_id.items():
        attempts = [reception.attempt for reception in receptions]
        if attempts != sorted(set(attempts)):
            yield f"{name} arrived as attempts {attempts}"


def duplicates_are_few_and_marked(evidence: Evidence) -> Iterator[str]:
    """I6: no more duplicates than attempts in progress at the kills, and none with the number 1."""
    if evidence.duplicates > (allowed := evidence.kills * evidence.concurrency):
        yield f"{evidence.duplicates} duplicates, but at most {allowed} attempts were in progress"
    for name, receptions in evidence.by_id.items():
        if any(again.attempt <= 1 for again in receptions[1:]):
            yield f"{name} arrived again with attempt number 1"


def the_file_is_sound(evidence: Evidence) -> Iterator[str]:
    """I7: SQLite's checks find nothing, and no lease outlives its process."""
    yield from evidence.stored.damage
    if evidence.stored.leased:
        yield f"{evidence.stored.leased} deliveries are leased to a process that has ended"


def what_was_sent_again_is_stored_once(evidence: Evidence) -> Iterator[str]:
    """I8: R, sent again until it was acknowledged, is in S once."""
    for name, rows in evidence.stored.rows.items():
        if rows > 1:
            yield f"{name} is stored {rows} times"
    for name in evidence.refused - evidence.acknowledged:
        yield f"{name} was refused and then never acknowledged"


def metrics_agree(evidence: Evidence) -> Iterator[str]:
    """I9: each life counts as accepted what it acknowledged. When idle, the gauges equal the store."""
    for scrape in evidence.scrapes:
        answers = [answer for answer in evidence.answers if answer.life == scrape.life]
        least = sum(answer.outcome == "accepted" and answer.t1 < scrape.t0 for answer in answers)
        most = sum(
            (answer.outcome == "accepted" or not answer.status) and answer.t0 < scrape.t1
            for answer in answers
        )
        if not least <= scrape.accepted <= most:
            yield f"life {scrape.life} counts {scrape.accepted} accepted, and answered {least} to {most}"
        if scrape.at_rest and scrape.pending != evidence.stored.pending:
            yield f"the gauge says {scrape.pending} pending, the store {evidence.stored.pending}"
        if scrape.at_rest and scrape.dead != len(evidence.stored.dead):
            yield f"the gauge says {scrape.dead} dead, the store {len(evidence.stored.dead)}"


Invariants = Mapping[str, Callable[[Evidence], Iterator[str]]]

INVARIANTS: Invariants = {
    "I1": what_was_acknowledged_is_stored,
    "I2": what_was_acknowledged_arrived,
    "I3": nothing_arrived_that_was_not_sent,
    "I4": what_arrived_is_what_was_sent,
    "I5": attempts_tell_themselves_apart,
    "I6": duplicates_are_few_and_marked,
    "I7": the_file_is_sound,
    "I8": what_was_sent_again_is_stored_once,
    "I9": metrics_agree,
}


def check(evidence: Evidence, invariants: Invariants = INVARIANTS) -> dict[str, list[str]]:
    """Return the violations by invariant. An invariant without violations holds."""
    return {name: list(invariant(evidence)) for name, invariant in invariants.items()}


def together(parts: Sequence[Evidence]) -> Evidence:
    """Combine runs with different events. Omits the metrics, because each run counts its lives from 1."""
    stored = [part.stored for part in parts]
    return Evidence(
        answers=[answer for part in parts for answer in part.answers],
        receptions=[reception for part in parts for reception in part.receptions],
        stored=Stored(
            rows=sum((one.rows for one in stored), Counter()),
            shas={name: sha for one in stored for name, sha in one.shas.items()},
            dead=frozenset().union(*(one.dead for one in stored)),
            pending=sum(one.pending for one in stored),
            leased=sum(one.leased for one in stored),
            damage=tuple(text for one in stored for text in one.damage),
        ),
        kills=sum(part.kills for part in parts),
        concurrency=max(part.concurrency for part in parts),
    )


def refused_but_stored(evidence: Evidence) -> set[str]:
    """Return the events that got only 503 and were duplicates when they were sent again."""
    answered: dict[str, list[Answer]] = defaultdict(list)
    for answer in evidence.answers:
        answered[answer.id].append(answer)
    found = set()
    for name in evidence.refused:
        *before, last = answered[name]
        if last.outcome == "duplicate" and all(answer.status for answer in before):
            found.add(name)
    return found

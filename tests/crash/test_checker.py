"""Each invariant of the checker can fail: made-up evidence violates exactly one, and clean evidence none."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from crash.checker import INVARIANTS, Evidence, Scrape, check, refused_but_stored
from crash.ledger import Answer, Ledger, Reception, read
from crash.runs import cut_off
from crash.stored import Stored


def answer(
    name: str, status: int = 200, outcome: str = "accepted", *, at: float = 1.0, life: int = 1
) -> Answer:
    return Answer(name, f"sha-{name}", status, outcome if status == 200 else "", at, at + 0.5, life)


def reception(name: str, attempt: int = 1, status: int = 200, *, key: str = "", sha: str = "") -> Reception:
    return Reception(name, key or f"key-{name}", attempt, sha or f"sha-{name}", status, 2.0)


#: a: delivered. b: unanswered because of a kill, sent again, delivered twice. c: refused, accepted, failed
#: once. d: dead.
CLEAN = Evidence(
    answers=[
        answer("a"),
        answer("b", 0),
        answer("c", 503),
        answer("d"),
        answer("b", outcome="duplicate", at=5.0, life=2),
        answer("c", at=5.0, life=2),
    ],
    receptions=[
        reception("a"),
        reception("b"),
        reception("b", 2),
        reception("c", 1, 500),
        reception("c", 2),
        reception("d", 1, 500),
    ],
    stored=Stored(
        rows=Counter("abcd"),
        shas={name: f"sha-{name}" for name in "abcd"},
        dead=frozenset("d"),
    ),
    scrapes=[Scrape(1, 4.0, 4.1, 3, 0, 0), Scrape(2, 9.0, 9.1, 1, 0, 1, at_rest=True)],
    kills=1,
    concurrency=1,
)


def rows(*names: str) -> Stored:
    return replace(CLEAN.stored, rows=Counter(names))


#: Evidence that violates exactly one invariant: the invariant, the evidence, and a part of the reported text.
VIOLATIONS = [
    ("I1", replace(CLEAN, stored=rows("b", "c", "d")), "a was acknowledged and is not stored"),
    (
        "I1",
        replace(CLEAN, stored=replace(CLEAN.stored, shas={**CLEAN.stored.shas, "a": "other"})),
        "a is stored with bytes that differ",
    ),
    (
        "I1",
        replace(CLEAN, stored=rows("a", "b", "c"), retires=True),
        "d was acknowledged and is not stored",
    ),
    (
        "I2",
        replace(CLEAN, receptions=[r for r in CLEAN.receptions if r.id != "a"]),
        "a was acknowledged, and is neither",
    ),
    (
        "I2",
        replace(CLEAN, receptions=[*CLEAN.receptions[1:], reception("a", 1, 500)]),
        "a was acknowledged, and is neither",
    ),
    ("I3", replace(CLEAN, receptions=[*CLEAN.receptions, reception("x")]), "x arrived but was never sent"),
    (
        "I4",
        replace(CLEAN, receptions=[*CLEAN.receptions[1:], reception("a", sha="other")]),
        "a arrived with bytes that differ",
    ),
    (
        "I5",
        replace(CLEAN, receptions=[*CLEAN.receptions, reception("d", 2, 500, key="another")]),
        "d arrived with 2 idempotency keys",
    ),
    (
        "I5",
        replace(CLEAN, receptions=[*CLEAN.receptions[1:], reception("a", key="key-b")]),
        "a arrived with the idempotency key of b",
    ),
    (
        "I5",
        replace(CLEAN, receptions=[*CLEAN.receptions, reception("c", 2, 500)]),
        "c arrived as attempts [1, 2, 2]",
    ),
    ("I6", replace(CLEAN, receptions=[*CLEAN.receptions, reception("a", 2)]), "2 duplicates, but at most 1"),
    ("I6", replace(CLEAN, kills=0), "1 duplicates, but at most 0"),
    ("I7", replace(CLEAN, stored=replace(CLEAN.stored, damage=("row missing from index",))), "row missing"),
    ("I7", replace(CLEAN, stored=replace(CLEAN.stored, leased=3)), "3 deliveries are leased"),
    ("I8", replace(CLEAN, stored=rows("a", "b", "c", "c", "d")), "c is stored 2 times"),
    (
        "I8",
        replace(CLEAN, answers=[*CLEAN.answers, answer("e", 503)]),
        "e was refused and then never acknowledged",
    ),
    (
        "I9",
        replace(CLEAN, scrapes=[Scrape(1, 4.0, 4.1, 1, 0, 0)]),
        "life 1 counts 1 accepted, and answered 2 to 3",
    ),
    (
        "I9",
        replace(CLEAN, scrapes=[Scrape(1, 4.0, 4.1, 4, 0, 0)]),
        "life 1 counts 4 accepted, and answered 2 to 3",
    ),
    ("I9", replace(CLEAN, scrapes=[Scrape(2, 9.0, 9.1, 1, 7, 1, at_rest=True)]), "the gauge says 7 pending"),
    ("I9", replace(CLEAN, scrapes=[Scrape(2, 9.0, 9.1, 1, 0, 0, at_rest=True)]), "the gauge says 0 dead"),
]


def test_clean_evidence_violates_nothing() -> None:
    assert check(CLEAN) == {name: [] for name in INVARIANTS}


@pytest.mark.parametrize(("name", "evidence", "said"), VIOLATIONS, ids=[said for _, _, said in VIOLATIONS])
def test_a_violated_invariant_is_reported(name: str, evidence: Evidence, said: str) -> None:
    found = check(evidence)

    assert any(said in text for text in found[name])
    assert [other for other in found if found[other]] == [name]


def test_a_repeated_attempt_with_number_1_is_a_violation() -> None:
    evidence = replace(CLEAN, receptions=[*CLEAN.receptions, reception("c", 1, 500)])

    assert check(evidence)["I6"] == ["c arrived again with attempt number 1"]


def test_every_invariant_is_shown_to_fail() -> None:
    assert {name for name, _, _ in VIOLATIONS} == set(INVARIANTS)


def test_retention_may_remove_delivered_events() -> None:
    evidence = replace(CLEAN, stored=rows("d"), retires=True)

    assert check(evidence)["I1"] == []


def test_an_event_that_was_stored_despite_its_503_is_found() -> None:
    answers = [answer("a", 503), answer("a", outcome="duplicate"), answer("b", 503), answer("b")]

    assert refused_but_stored(replace(CLEAN, answers=answers)) == {"a"}


def test_a_connection_cut_off_after_its_event_was_stored_is_found() -> None:
    answers = [answer("a", 0), answer("a", outcome="duplicate"), answer("b", 0), answer("b")]

    assert cut_off(replace(CLEAN, answers=answers)) == {"a"}


async def test_a_ledger_returns_all_lines_except_an_incomplete_last_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "answers"
    with Ledger(path) as ledger:
        await ledger.write(answer("a"))
        await ledger.write(answer("b", 503))
    with path.open("ab") as file:
        file.write(msgspec.json.encode(answer("c"))[:-5])

    assert list(read(path, Answer)) == [answer("a"), answer("b", 503)]

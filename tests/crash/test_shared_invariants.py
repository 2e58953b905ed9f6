"""The invariants for several gateways can fail: made-up evidence violates exactly one of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crash.checker import Evidence, check
from crash.faults import Fault
from crash.ledger import Reception
from crash.shared_invariants import UNEXPLAINED, behind, explained, invariants
from crash.stored import Stored
from crash.test_checker import CLEAN

#: At 100 one was killed, from 200 to 236 one was stopped, from 300 to 330 one was cut off.
FAULTS = [
    Fault("kill", 100.0, 100.1),
    Fault("stop", 200.0, 236.0),
    Fault("restart", 290.0, 296.0),
    Fault("drop", 300.0, 330.0),
]


def reception(name: str, attempt: int, at: float, *, status: int = 200, key: str = "") -> Reception:
    return Reception(name, key or f"key-{name}", attempt, f"sha-{name}", status, at)


#: a: killed, taken over. b: stopped, taken over, and its own attempt came late. c: failed twice. d: cut off.
RECEPTIONS = [
    reception("a", 1, 99.5),
    reception("a", 2, 131.0),
    reception("b", 1, 199.8),
    reception("b", 3, 231.0),
    reception("b", 2, 236.2),
    reception("c", 1, 400.0, status=500),
    reception("c", 2, 400.1, status=500),
    reception("c", 3, 400.2),
    reception("d", 4, 299.5),
    reception("d", 5, 330.5),
]


def evidence(*receptions: Reception) -> Evidence:
    return replace(CLEAN, receptions=list(receptions), stored=Stored(), scrapes=[])


def found(*receptions: Reception, in_progress: int = 10) -> dict[str, list[str]]:
    violations = check(evidence(*receptions), invariants(FAULTS, in_progress=in_progress))
    return {name: violations[name] for name in ("I5", "I6") if violations[name]}


def test_clean_evidence_violates_nothing() -> None:
    assert found(*RECEPTIONS) == {}


def test_duplicates_are_counted_by_the_fault_that_caused_them() -> None:
    assert explained(evidence(*RECEPTIONS), FAULTS) == {"kill": 1, "stop": 2, "drop": 1}


def test_an_attempt_that_arrives_after_a_later_one_is_found() -> None:
    assert list(behind(RECEPTIONS[2:5])) == [RECEPTIONS[4]]
    assert list(behind(RECEPTIONS[5:8])) == []


@pytest.mark.parametrize(
    "receptions",
    [
        [reception("a", 1, 99.5), reception("a", 2, 131.0, key="another")],
        [reception("a", 1, 50.0, key="shared"), reception("b", 1, 51.0, key="shared")],
        [reception("a", 2, 50.0, status=500), reception("a", 2, 51.0)],
        [reception("a", 3, 50.0, status=500), reception("a", 2, 51.0)],
        # Out of order at the end of a cut: a gateway that is only cut off still knows the time.
        [reception("a", 3, 329.0, status=500), reception("a", 2, 330.5)],
        # Out of order, but not when the stopped gateway resumed.
        [reception("a", 3, 210.0, status=500), reception("a", 2, 215.0)],
    ],
)
def test_attempts_with_the_same_number_violate_i5(receptions: list[Reception]) -> None:
    assert list(found(*receptions)) == ["I5"]


@pytest.mark.parametrize(
    "receptions",
    [
        # Recorded long before the kill, or started after it.
        [reception("a", 1, 90.0), reception("a", 2, 131.0)],
        [reception("a", 1, 110.0), reception("a", 2, 131.0)],
        [reception("a", 1, 150.0), reception("a", 2, 151.0)],
    ],
)
def test_a_duplicate_that_no_fault_explains_violates_i6(receptions: list[Reception]) -> None:
    assert found(*receptions) == {"I6": ["1 duplicates that no fault explains"]}
    assert explained(evidence(*receptions), FAULTS)[UNEXPLAINED] == 1


def test_an_outcome_delayed_by_the_database_is_explained_by_the_next_fault() -> None:
    late = [reception("a", 1, 289.0), reception("a", 2, 331.0)]
    assert explained(evidence(*late), FAULTS) == {"drop": 1}


def test_more_duplicates_than_attempts_in_progress_violate_i6() -> None:
    both = [reception(name, attempt, at) for name in "ab" for attempt, at in ((1, 99.5), (2, 131.0))]
    assert found(*both, in_progress=2) == {}
    assert found(*both, in_progress=1) == {
        "I6": ["2 duplicates by 'kill', but at most 1 attempts were in progress"]
    }


def test_a_second_attempt_with_number_1_violates_i5_and_i6() -> None:
    again = [reception("a", 1, 99.5), reception("a", 1, 131.0)]
    assert found(*again) == {
        "I5": ["a arrived as attempts [1, 1]"],
        "I6": ["a arrived again with attempt number 1"],
    }

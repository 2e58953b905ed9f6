"""No stage of the hot path needs noticeably more instructions than its record: see bench/instructions.py."""

from __future__ import annotations

import pytest

from bench import instructions
from bench.instructions import LEAST, MOST, REFERENCE, REGRESSED, STAGES, WATCHED, Instructions
from machine import lacking

pytestmark = pytest.mark.timeout(660)

_RECORD = {"ingest": 3.0, "store": 1.0}


@pytest.fixture(scope="module")
def found() -> Instructions:
    """Count all stages once, because loading the program takes most of the time."""
    if instructions.find_valgrind() is None:
        lacking("no valgrind: install it, run tests/bench/fetch_valgrind.sh, or set GATEHOUSE_TEST_VALGRIND")
    return instructions.measure((*STAGES, REFERENCE, REGRESSED, WATCHED))


def test_an_event_takes_no_more_instructions_than_on_record(found: Instructions) -> None:
    ratios = instructions.ratios({stage: found[stage] for stage in (*STAGES, REFERENCE)})

    assert instructions.regressions(instructions.recorded(), ratios) == []


def test_the_guard_detects_requests_that_are_verified_more_than_once(found: Instructions) -> None:
    as_it_is = instructions.ratios({stage: found[stage] for stage in (*STAGES, REFERENCE)})
    regressed = {**as_it_is, "ingest": found[REGRESSED] / found[REFERENCE]}

    (reported,) = instructions.regressions(as_it_is, regressed)

    assert reported.startswith("ingest: ")


def test_every_stage_is_on_record() -> None:
    assert set(instructions.recorded()) == set(STAGES)


def test_a_regression_names_its_stage_both_figures_and_the_command_that_records_it() -> None:
    (reported,) = instructions.regressions(_RECORD, {"ingest": 3.45, "store": 1.0})

    assert reported.startswith("ingest: 3.450 x the reference, on record 3.000;")
    assert "make bench-guard RECORD=1" in reported


def test_a_stage_that_is_not_on_record_fails() -> None:
    assert instructions.regressions(_RECORD, {"deliver": 0.1}) != []


@pytest.mark.parametrize("factor", [LEAST + 0.01, 1.0, MOST - 0.01])
def test_small_differences_are_allowed(factor: float) -> None:
    found = {stage: ratio * factor for stage, ratio in _RECORD.items()}

    assert instructions.regressions(_RECORD, found) == []
    assert instructions.gains(_RECORD, found) == []


def test_a_stage_that_got_much_cheaper_is_reported_without_a_failure() -> None:
    found = {"ingest": 2.0, "store": 1.0}

    assert instructions.regressions(_RECORD, found) == []
    assert [line.partition(":")[0] for line in instructions.gains(_RECORD, found)] == ["ingest"]


def test_a_stage_that_cannot_be_counted_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_TEST_VALGRIND", "false")

    with pytest.raises(RuntimeError, match="can't be counted"):
        instructions.measure()


def test_readers_of_the_stream_make_ingest_hardly_more_expensive(found: Instructions) -> None:
    assert 1 < found[WATCHED] / found["ingest"] < 1.05

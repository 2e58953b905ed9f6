"""Under constant load, memory, files and descriptors stop growing, and the check detects growth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crash.checker import check
from crash.soak import Sample, growth, soak

MIB = 2**20
FLAT = [Sample(90 * MIB, 50 * MIB, 4 * MIB, 60 + number % 3) for number in range(40)]


def later(**changes: int) -> list[Sample]:
    """Return samples whose last quarter differs."""
    return [*FLAT[:30], *(replace(sample, **changes) for sample in FLAT[30:])]


def test_constant_values_are_not_growth() -> None:
    assert growth(FLAT) == []


def test_growth_in_the_first_quarter_is_ignored() -> None:
    assert growth([*(replace(sample, memory=MIB, store=MIB) for sample in FLAT[:10]), *FLAT[10:]]) == []


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (later(memory=95 * MIB), "memory grew by 5.6%"),
        (later(store=56 * MIB), "the store's file changed by 12.0%"),
        (later(store=44 * MIB), "the store's file changed by -12.0%"),
        (later(descriptors=66), "5 descriptors more"),
    ],
)
def test_growth_is_detected(samples: list[Sample], said: str) -> None:
    assert growth(samples) == [said]


@pytest.mark.alone
@pytest.mark.case("D-27")
async def test_a_short_soak_loses_nothing_and_reports_its_resources(tmp_path: Path) -> None:
    findings = await soak(tmp_path, seconds=4, seed="1")

    assert {name: found for name, found in check(findings.evidence).items() if found} == {}
    assert len(findings.evidence.acknowledged) > 100
    assert "descriptors" in str(findings.facts["last quarter, median"])

"""Three gateways on one PostgreSQL, in a short form: the runs of `make crash PARTS=replicas`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crash.checker import check
from crash.faults import Step
from crash.under_fire import Plan, one_id_everywhere, under_fire

if TYPE_CHECKING:
    from pathlib import Path

    from crash.runs import Findings
    from postgres_server import Database, PostgresServer

pytestmark = pytest.mark.timeout(240)

#: The kills come first: the leases of the killed gateways end 30 s later.
SHORT = Plan(
    kills=3,
    every=1.5,
    steps=(Step("storm"), Step("drop", 2.0), Step("immediate restart"), Step("refuse", 1.0), Step("restart")),
    pause=0.4,
    rate=100.0,
    gauges=False,
)


def violations(findings: Findings) -> list[str]:
    found = check(findings.evidence, findings.invariants)
    return [f"{name}: {text}" for name, texts in found.items() for text in texts] + findings.faults


@pytest.mark.case("D-10")
async def test_three_gateways_under_faults_lose_no_acknowledged_event(
    tmp_path: Path, postgres: PostgresServer, database: Database
) -> None:
    findings = await under_fire(tmp_path, postgres, database, SHORT, seed="1")

    assert violations(findings) == []
    assert findings.evidence.kills == SHORT.kills
    assert len(findings.evidence.acknowledged) >= 300


@pytest.mark.case("D-05")
async def test_an_id_sent_to_three_gateways_on_64_connections_at_once_is_accepted_once(
    tmp_path: Path, postgres: PostgresServer, database: Database
) -> None:
    findings = await one_id_everywhere(tmp_path, postgres, database, ids=100)

    assert findings.faults == []

"""Acknowledged events survive a power cut. Without syncs they would be lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from crash.checker import check
from crash.power_loss import gone, power_loss
from gatehouse.gateway.failpoints import UNSYNCED

pytestmark = [pytest.mark.case("D-03"), pytest.mark.timeout(180)]


async def test_a_power_cut_loses_no_acknowledged_event(tmp_path: Path) -> None:
    findings = await power_loss(tmp_path, cuts=5, acknowledged=500, seed="1")

    assert {name: found for name, found in check(findings.evidence).items() if found} == {}
    assert findings.evidence.lost == set()
    assert findings.evidence.kills >= 5


async def test_the_same_cuts_lose_acknowledged_events_without_syncs(tmp_path: Path) -> None:
    findings = await power_loss(tmp_path, cuts=5, acknowledged=200, seed="1", failpoints=UNSYNCED)

    # A cut loses the events since the last checkpoint, which syncs: 0 to 110 events, by chance.
    assert len(gone(findings.evidence)) > 20

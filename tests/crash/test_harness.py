"""The runs of `make crash` in a short form: kills, failpoints, migrations, stops and backups, under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from crash import migration, runs
from crash.checker import check, refused_but_stored
from crash.rig import rigged
from crash.runs import Findings
from gatehouse.errors import GatewayError
from gatehouse.gateway import failpoints
from processes import serving

pytestmark = pytest.mark.timeout(180)


def violations(findings: Findings) -> list[str]:
    found = check(findings.evidence)
    return [f"{name}: {text}" for name, texts in found.items() for text in texts] + findings.faults


@pytest.mark.case("D-01")
async def test_repeated_kills_lose_no_acknowledged_event(tmp_path: Path) -> None:
    findings = await runs.kill(tmp_path, kills=8, acknowledged=1000, seed="1")

    assert violations(findings) == []
    assert findings.evidence.kills >= 8
    assert len(findings.evidence.acknowledged) >= 1000


@pytest.mark.case("D-02")
async def test_an_end_at_any_failpoint_loses_no_acknowledged_event(tmp_path: Path) -> None:
    findings = await runs.crash_at_failpoints(tmp_path, times=1, seed="1")

    assert violations(findings) == []
    assert findings.evidence.kills == len(runs.UNDER_LOAD) == 8
    # Events that got 503 because the store stalled were rolled back. I8 covers them.
    assert any(answer.status == 503 for answer in findings.evidence.answers)
    assert refused_but_stored(findings.evidence) == set()


@pytest.mark.case("D-02", "U-01")
async def test_an_interrupted_migration_continues_at_the_next_start(tmp_path: Path) -> None:
    findings = await runs.migrate(tmp_path, times=2, seed="1")

    assert violations(findings) == []
    assert len(findings.evidence.delivered) == 100


@pytest.mark.case("U-01")
async def test_a_migration_can_end_at_any_statement(tmp_path: Path) -> None:
    """The number of statements is correct: the process can end at the last one, and no statement follows."""
    async with rigged(tmp_path, seed="1") as rig:
        migration.write_first_schema(rig.database, "old", 1)
        count = migration.statements(since=1)
        await rig.crash_at(f"during-migration:{count}")
        await rig.start(f"during-migration:{count + 1}")
        await rig.terminate()


@pytest.mark.case("D-25")
async def test_a_stop_under_load_answers_every_request_whose_event_was_stored(tmp_path: Path) -> None:
    findings = await runs.terminate(tmp_path, times=3, seed="1")

    assert violations(findings) == []
    assert findings.evidence.duplicates == 0


@pytest.mark.case("D-20")
async def test_a_backup_under_load_contains_everything_acknowledged_before_it_began(tmp_path: Path) -> None:
    findings = await runs.back_up(tmp_path, times=3, seed="1")

    assert violations(findings) == []


@pytest.mark.parametrize(
    "text", ["after-lunch", "after-commit:0", "after-commit:0x1", "after-commit:-1", "", "after-commit:²"]
)
def test_an_unknown_failpoint_is_refused(text: str) -> None:
    with pytest.raises(GatewayError, match="no such failpoint"):
        failpoints.arm(text)


async def test_failpoints_are_logged_and_are_not_imported_unless_set(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(
        'server: {listen: "127.0.0.1:0"}\noperator: {listen: "127.0.0.1:0"}\n'
        "sources:\n  open: {verify: {type: none, insecure: true}, event: {type: it}}\n"
    )
    async with serving(config, GATEHOUSE_FAILPOINTS="after-commit:3") as armed:
        pass
    async with serving(config, PYTHONPROFILEIMPORTTIME="1") as plain:
        pass

    assert [line["failpoints"] for line in armed.log if line["event"] == "gateway.failpoints"] == [
        "after-commit:3"
    ]
    imports = [line.get("line", "") for line in plain.log]
    assert any("gatehouse.gateway.app" in line for line in imports)
    assert not any("gatehouse.gateway.failpoints" in line for line in imports)

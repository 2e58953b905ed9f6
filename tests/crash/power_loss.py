"""D-03: a power cut. The disk loses unsynced data, and may have written some of it early.

`volatile_disk.c`, preloaded into the gateway, simulates the disk. kill -9 simulates the power cut.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from random import Random

from crash import volatile_disk
from crash.checker import Evidence
from crash.rig import Rig, rigged
from crash.runs import KILL_WITHIN, Findings, Progress, silent
from doubles import shim
from gatehouse.gateway.failpoints import UNSYNCED

#: How many of 100 unsynced blocks the disk writes at once. Each life uses another value.
_EARLY = (0, 0, 10, 50, 90)


@dataclass
class Cuts:
    """The reports of the disk about the cuts."""

    #: The number of cuts that lost data, and the lost sectors (512 bytes each).
    with_loss: int = 0
    sectors: int = 0
    #: Blocks that were written early, over all lives.
    early: int = 0

    def count(self, report: volatile_disk.Report) -> None:
        """Add a life that has ended."""
        self.with_loss += report.dirty > 0
        self.sectors += report.dirty
        self.early += report.early


async def power_loss(
    folder: Path,
    *,
    cuts: int,
    acknowledged: int,
    seed: str,
    failpoints: str = "",
    progress: Progress = silent,
) -> Findings:
    """Cut the power at random moments under load until `cuts` and `acknowledged` are reached."""
    random, library, seen = Random(seed), shim.build(volatile_disk.SOURCE, folder), Cuts()
    async with rigged(folder, seed=seed) as rig:
        rig.sender.start()
        while rig.kills < cuts or rig.sender.acknowledged < acknowledged:
            report = folder / f"report-{rig.kills}"
            rig.environment = volatile_disk.environment(
                library, report, seed=random.randrange(2**32), early=random.choice(_EARLY)
            )
            await _live(rig, random, failpoints)
            seen.count(volatile_disk.read_report(report))
            progress(rig, f"{rig.kills}/{cuts} cuts")
        # After the last life, too, only synced data is left.
        rig.environment = volatile_disk.environment(library, folder / "report")
        evidence = await rig.settle()
    return Findings(evidence, facts=_facts(evidence, seen))


async def _live(rig: Rig, random: Random, failpoints: str) -> None:
    await rig.start(failpoints)
    moment = random.uniform(0, KILL_WITHIN)
    before = random.uniform(0, moment)
    await asyncio.sleep(before)
    await rig.scrape()
    await asyncio.sleep(moment - before)
    await rig.kill()


def _facts(evidence: Evidence, seen: Cuts) -> dict[str, object]:
    return {
        "cuts that lost unsynced data": f"{seen.with_loss} of {evidence.kills}",
        "taken, in KiB": seen.sectors // 2,
        "blocks written before their sync": seen.early,
    }


def gone(evidence: Evidence) -> set[str]:
    """Return the events that were acknowledged and are not in the store."""
    return evidence.acknowledged - evidence.stored.rows.keys()


async def power_loss_with_control(
    folder: Path, *, cuts: int, acknowledged: int, seed: str, progress: Progress = silent
) -> Findings:
    """Also run a control without syncs. If it loses no events, the result proves nothing."""
    for place in ("as-it-is", "control"):  # no space in the path: LD_PRELOAD is a list
        (folder / place).mkdir()
    findings = await power_loss(
        folder / "as-it-is", cuts=cuts, acknowledged=acknowledged, seed=seed, progress=progress
    )
    control = await power_loss(
        folder / "control",
        cuts=max(1, cuts // 5),
        acknowledged=0,
        seed=seed,
        failpoints=UNSYNCED,
        progress=progress,
    )
    facts = {**findings.facts, **_of_control(control.evidence)}
    faults = [] if control.evidence.lost else ["the control run lost no events"]
    return Findings(findings.evidence, [*findings.faults, *faults], facts)


def _of_control(evidence: Evidence) -> dict[str, object]:
    return {
        "control: cuts": evidence.kills,
        "control: acknowledged": len(evidence.acknowledged),
        "control: acknowledged and not stored": len(gone(evidence)),
        "control: acknowledged and lost": len(evidence.lost),
    }

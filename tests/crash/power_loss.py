"""D-03: the power is cut. The disk forgets what was not synced, and may have written some of it early.

The disk is `volatile_disk.c`, preloaded into the gateway: kill -9 is the cut.
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

#: Of 100 blocks that are not synced, how many the disk writes at once: another number in each life.
_EARLY = (0, 0, 10, 50, 90)


@dataclass
class Cuts:
    """What the disk says of the cuts."""

    #: Cuts at which something was gone, and how much: sectors of 512 bytes.
    with_loss: int = 0
    sectors: int = 0
    #: Blocks that were written early, in all lives.
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
    """Cut the power at random moments under load, until there were so many cuts and acknowledgements."""
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
        # What the last life closes is only there if it was synced, too.
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
        "cuts that took something unsynced": f"{seen.with_loss} of {evidence.kills}",
        "taken, in KiB": seen.sectors // 2,
        "blocks written before their sync": seen.early,
    }


def gone(evidence: Evidence) -> set[str]:
    """Return what was acknowledged and is not in the store."""
    return evidence.acknowledged - evidence.stored.rows.keys()


async def power_loss_with_control(
    folder: Path, *, cuts: int, acknowledged: int, seed: str, progress: Progress = silent
) -> Findings:
    """Do it, and with a gateway that does not sync, too: unless that one loses events, nothing is shown."""
    for place in ("as-it-is", "control"):  # no space: the library is in there, and LD_PRELOAD is a list
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
    faults = [] if control.evidence.lost else ["the control run lost nothing"]
    return Findings(findings.evidence, [*findings.faults, *faults], facts)


def _of_control(evidence: Evidence) -> dict[str, object]:
    return {
        "control: cuts": evidence.kills,
        "control: acknowledged": len(evidence.acknowledged),
        "control: acknowledged and not stored": len(gone(evidence)),
        "control: acknowledged and lost": len(evidence.lost),
    }

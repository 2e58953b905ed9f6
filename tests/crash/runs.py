"""The runs: each injects one kind of fault under load, and returns the evidence for the checker."""

from __future__ import annotations

import asyncio
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from crash import migration, stored
from crash.checker import INVARIANTS, Evidence, Invariants, check, together
from crash.numbered import identify
from crash.rig import Rig, rigged
from gatehouse.gateway import failpoints

#: A gateway is killed at a random moment within this time after it is ready (seconds).
KILL_WITHIN = 2.0
#: Failpoints that end the gateway under load. The failpoint of the migration is missing: it needs an old
#: file.
UNDER_LOAD = [
    name
    for name in failpoints.FAILPOINTS
    if name not in ("during-migration", failpoints.UNSYNCED, failpoints.STALLED)
]

Progress = Callable[[Rig, str], None]


def silent(_: Rig, __: str) -> None:
    """Print nothing."""


@dataclass
class Findings:
    """The results of a run besides its evidence."""

    evidence: Evidence
    #: Violations that belong to no invariant.
    faults: list[str] = field(default_factory=list)
    #: Facts to show.
    facts: Mapping[str, object] = field(default_factory=dict)
    invariants: Invariants = field(default_factory=lambda: INVARIANTS)


async def kill(
    folder: Path, *, kills: int, acknowledged: int, seed: str, progress: Progress = silent
) -> Findings:
    """D-01: kill -9 at random moments until `kills` and `acknowledged` are reached."""
    random = Random(seed)
    async with rigged(folder, seed=seed) as rig:
        rig.sender.start()
        while rig.kills < kills or rig.sender.acknowledged < acknowledged:
            await rig.start()
            moment = random.uniform(0, KILL_WITHIN)
            before = random.uniform(0, moment)
            await asyncio.sleep(before)
            await rig.scrape()
            await asyncio.sleep(moment - before)
            await rig.kill()
            progress(rig, f"{rig.kills}/{kills} kills")
        return Findings(await rig.settle())


async def crash_at_failpoints(
    folder: Path, *, times: int, seed: str, progress: Progress = silent
) -> Findings:
    """D-02: end the process at each failpoint under load, several times each, each time at another pass.

    In every second life the store stalls before that, and the requests that wait for it get 503.
    """
    random = Random(seed)
    checkpoints = 0
    # Delivered events expire at once. Otherwise retention would have nothing to remove.
    async with rigged(folder, seed=seed, keep="1s") as rig:
        rig.sender.start()
        for turn in range(times):
            for number, name in enumerate(UNDER_LOAD):
                passes = 1 if name == "during-retention" else random.randint(1, 20)
                stall = f"{failpoints.STALLED}:{random.randint(1, 3)}," if (turn + number) % 2 else ""
                await rig.crash_at(f"{stall}{name}:{passes}")
                if name == "during-checkpoint":
                    checkpoints += checkpoint_was_in_progress(rig.database)
                progress(rig, f"{name} {turn + 1}/{times}")
        evidence = await rig.settle()
    facts = {"killed inside a checkpoint, as the file shows": f"{checkpoints} of {times}"}
    return Findings(evidence, facts=facts)


async def migrate(folder: Path, *, times: int, seed: str, progress: Progress = silent) -> Findings:
    """D-02 and U-01: end the process at each statement of the migration from the first schema."""
    faults: list[str] = []
    all_evidence = []
    count = migration.statements(since=1)
    for turn in range(times):
        (place := folder / f"migration-{turn}").mkdir()
        number = 1 + turn * count // times if times < count else 1 + turn % count
        async with rigged(place, seed=f"{seed}-{turn}") as rig:
            held = migration.write_first_schema(rig.database, f"old{turn}", 50)
            await rig.crash_at(f"during-migration:{number}")
            evidence = await rig.settle()
            progress(rig, f"during-migration {turn + 1}/{times}")
        evidence = replace(evidence, answers=[*evidence.answers, *held])
        found = check(evidence)
        faults += [f"ended at statement {number}: {text}" for texts in found.values() for text in texts]
        all_evidence.append(evidence)
    return Findings(together(all_evidence), faults, {"statements": count})


async def terminate(folder: Path, *, times: int, seed: str, progress: Progress = silent) -> Findings:
    """D-25: SIGTERM under 300 requests per second."""
    random = Random(seed)
    slowest = 0.0
    async with rigged(folder, seed=seed, rate=300.0) as rig:
        rig.sender.start()
        for turn in range(times):
            await rig.start()
            await asyncio.sleep(random.uniform(0.2, 1.0))
            slowest = max(slowest, await rig.terminate())
            progress(rig, f"SIGTERM {turn + 1}/{times}")
        evidence = await rig.settle()
    faults = [
        f"{name} was stored, but its connection was closed without an answer" for name in cut_off(evidence)
    ]
    if slowest > 30.0:
        faults.append(f"a stop took {slowest:.1f} s")
    return Findings(evidence, faults, {"slowest stop": f"{slowest:.1f} s"})


def cut_off(evidence: Evidence) -> set[str]:
    """Return the events that got no answer and were duplicates when they were sent again."""
    unanswered = {answer.id for answer in evidence.answers if answer.status == 0}
    return {answer.id for answer in evidence.answers if answer.outcome == "duplicate"} & unanswered


async def back_up(folder: Path, *, times: int, seed: str, progress: Progress = silent) -> Findings:
    """D-20: backups under load. Each is intact and contains everything acknowledged before it began."""
    faults: list[str] = []
    acknowledged: set[str] = set()
    async with rigged(folder, seed=seed) as rig:
        rig.sender.on_acknowledged = acknowledged.add
        rig.sender.start()
        await rig.start()
        for turn in range(times):
            await asyncio.sleep(0.3)
            before = set(acknowledged)
            backup = folder / f"backup-{turn}.db"
            await asyncio.to_thread(_back_up, folder / "gateway.yaml", backup)
            faults += await asyncio.to_thread(_compare, backup, before)
            backup.unlink()
            progress(rig, f"backup {turn + 1}/{times}")
        await rig.terminate()
        evidence = await rig.settle()
    return Findings(evidence, faults, {"backups": times})


def _back_up(config: Path, backup: Path) -> None:
    command = [sys.executable, "-m", "gatehouse", "store", "backup", str(backup), "-c", str(config)]
    subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60, check=True)


def _compare(backup: Path, acknowledged: set[str]) -> list[str]:
    connection = sqlite3.connect(backup)
    try:
        held = {identify(body)[0] for (body,) in connection.execute("SELECT body FROM events")}
        missing = [
            f"{name} was acknowledged before {backup.name} began and is not in it"
            for name in acknowledged - held
        ]
        return [*missing, *(f"{backup.name}: {text}" for text in stored.damage(connection))]
    finally:
        connection.close()


def checkpoint_was_in_progress(database: Path) -> bool:
    """Read from the index of the `-wal` file whether a checkpoint had begun and not ended.

    Source: sqlite.org/walformat.html, section 2.1: offset 96 has the number of frames that were copied to the
    database, and offset 128 the number of frames that the last checkpoint tried to copy.
    """
    index = database.with_name(database.name + "-shm").read_bytes()
    (moved,) = struct.unpack_from("=I", index, 96)
    (attempted,) = struct.unpack_from("=I", index, 128)
    return bool(attempted > moved)

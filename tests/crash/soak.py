"""D-27: hours of the same load, with short retention. Memory, files and descriptors must stop growing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from crash.rig import Rig, rigged
from crash.runs import Findings, Progress, silent

#: Seconds between samples. Short runs use less.
_LOOK_EVERY = 60.0
#: Requests per second.
_RATE = 300.0
#: Replies of the destination. Failures are rare, so no breaker opens: retention does not remove pending
#: events.
_SHARES = (97, 2, 1)
#: The allowed growth from the second quarter to the last: as a share, and in descriptors.
_MORE_MEMORY, _MORE_STORE, _MORE_DESCRIPTORS = 0.05, 0.10, 4
#: The number of lines of the gateway's log to keep. The first lines contain its addresses.
_LINES = 50


@dataclass(frozen=True)
class Sample:
    """The gateway's resources at one moment: bytes, and the number of descriptors."""

    memory: int
    store: int
    log: int
    descriptors: int

    def __str__(self) -> str:
        memory, store, log = (f"{size / 2**20:.1f}" for size in (self.memory, self.store, self.log))
        return f"memory {memory:>6}  store {store:>6}  log {log:>5} MiB  descriptors {self.descriptors:>3}"


def look(rig: Rig) -> Sample:
    """Take a sample of the gateway's resources from outside."""
    process = Path("/proc") / str(rig.ready.process.pid)
    resident = next(
        line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS:")
    )
    return Sample(
        memory=int(resident.split()[1]) * 1024,
        store=rig.database.stat().st_size,
        log=rig.database.with_name(rig.database.name + "-wal").stat().st_size,
        descriptors=len(list((process / "fd").iterdir())),
    )


def growth(samples: Sequence[Sample]) -> list[str]:
    """Describe what continues to grow after the first quarter."""
    second, last = _quarters(samples)
    faults = []
    if (more := _ratio(second.memory, last.memory)) > _MORE_MEMORY:
        faults.append(f"memory grew by {more:.1%}")
    if abs(more := _ratio(second.store, last.store)) > _MORE_STORE:
        faults.append(f"the store's file changed by {more:.1%}")
    if (count := last.descriptors - second.descriptors) > _MORE_DESCRIPTORS:
        faults.append(f"{count} descriptors more")
    return faults


def _quarters(samples: Sequence[Sample]) -> tuple[Sample, Sample]:
    """Return the medians of the second quarter and of the last."""
    quarter = len(samples) // 4
    assert quarter, "a soak needs at least four samples"
    return _median(samples[quarter : 2 * quarter]), _median(samples[-quarter:])


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(
        memory=int(median(sample.memory for sample in samples)),
        store=int(median(sample.store for sample in samples)),
        log=int(median(sample.log for sample in samples)),
        descriptors=int(median(sample.descriptors for sample in samples)),
    )


def _ratio(before: int, after: int) -> float:
    return after / before - 1


async def soak(folder: Path, *, seconds: float, seed: str, progress: Progress = silent) -> Findings:
    """Send for `seconds`, and take a sample every minute."""
    keep = f"{max(1, int(seconds / 12))}s"
    async with rigged(
        folder, seed=seed, connections=16, rate=_RATE, keep=keep, window=keep, shares=_SHARES
    ) as rig:
        await rig.start()
        rig.sender.start()
        samples = await _samples(rig, seconds, progress)
        rig.sender.stop()
        await rig.scrape()
        await rig.terminate()
        evidence = await rig.settle()
    return Findings(evidence, growth(samples), _facts(samples, keep))


async def _samples(rig: Rig, seconds: float, progress: Progress) -> list[Sample]:
    started, samples = time.monotonic(), list[Sample]()
    every = min(_LOOK_EVERY, seconds / 8)
    while (passed := time.monotonic() - started) < seconds:
        await asyncio.sleep(min(every, seconds - passed))
        samples.append(look(rig))
        # The log is read continuously and would fill the memory of this process.
        del rig.ready.log[_LINES:]
        progress(rig, f"{(time.monotonic() - started) / 60:6.1f} min  {samples[-1]}")
    return samples


def _facts(samples: Sequence[Sample], keep: str) -> dict[str, object]:
    second, last = _quarters(samples)
    settled = samples[len(samples) // 4 :]
    return {
        "events kept for": keep,
        "second quarter, median": second,
        "last quarter, median": last,
        "store, least and most after the first quarter": _range([sample.store for sample in settled]),
        "memory, least and most after the first quarter": _range([sample.memory for sample in settled]),
        "log, most": f"{max(sample.log for sample in samples) / 2**20:.1f} MiB",
    }


def _range(sizes: Sequence[int]) -> str:
    return f"{min(sizes) / 2**20:.1f} to {max(sizes) / 2**20:.1f} MiB"

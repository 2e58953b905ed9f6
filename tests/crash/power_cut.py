"""D-04: a power cut must lose no acknowledged event, so a 2xx follows the sync of the event's frames.

The gateway runs under strace, which shows every write and sync in the order in which the kernel executed
them. An event's id is in its frames in the `-wal` file and in the answer that acknowledges it, so the trace
alone shows the order of write, sync and answer.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from crash.rig import rigged
from crash.runs import Findings, Progress, silent
from gatehouse.gateway.failpoints import UNSYNCED

ROOT = Path(__file__).parents[2]
_FETCHED = ROOT / ".tools/strace"
#: -D: strace runs as the gateway's grandchild, so signals and exit codes are those of the gateway.
_OPTIONS = ("-D", "-f", "-qq", "-y", "-s", "5000", "--signal=none")
_CALLS = "pwrite64,pwritev,write,writev,sendto,sendmsg,fsync,fdatasync"

_LINE = re.compile(r"(?P<thread>\d+) +(?P<call>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
_UNFINISHED = " <unfinished ...>"
_SYNC = re.compile(r"(fsync|fdatasync)\(\d+<[^>]*-wal>")
_WRITE = re.compile(r"p?write(64|v)?\(\d+<[^>]*-wal>")
#: There is no separator between the columns of a row, so an id can begin anywhere.
_ID = re.compile(r"(?=(0[0-9A-HJKMNP-TV-Z]{25}))")
_ANSWER = re.compile(
    r'HTTP/1\.1 2\d\d .*\\"status\\":\\"(?:accepted|duplicate)\\",\\"id\\":\\"([0-9A-Z]{26})'
)


class Order:
    """Follows a trace: which events are written, which are synced, and which are answered before the sync."""

    def __init__(self) -> None:
        #: Ids whose frames are written but not synced, with the step of the trace at which they were written.
        self._written: dict[str, int] = {}
        self._durable: set[str] = set()
        #: The step at which the sync of each thread began.
        self._syncing: dict[str, int] = {}
        self._step = 0
        self.answered = 0
        self.syncs = 0
        self.violations: list[str] = []

    def follow(self, lines: Iterable[str]) -> Order:
        """Read a whole trace."""
        for line in lines:
            if match := _LINE.match(line):
                self._step += 1
                self._read(match["thread"], match["call"])
        return self

    def _read(self, thread: str, call: str) -> None:
        if resumed := _RESUMED.match(call):
            if thread in self._syncing:
                self._synced(thread, succeeded=resumed["rest"].endswith("= 0"))
        elif _SYNC.match(call):
            self._syncing[thread] = self._step
            if not call.endswith(_UNFINISHED):
                self._synced(thread, succeeded=call.endswith("= 0"))
        elif _WRITE.match(call):
            for name in _ID.findall(call):
                self._written.setdefault(name, self._step)
        else:
            self._sent(call)

    def _synced(self, thread: str, *, succeeded: bool) -> None:
        """Everything that was written before the sync began is on disk when the sync ends."""
        began = self._syncing.pop(thread)
        if succeeded:
            self.syncs += 1
            done = [name for name, step in self._written.items() if step < began]
            self._durable.update(done)
            for name in done:
                del self._written[name]

    def _sent(self, call: str) -> None:
        for name in _ANSWER.findall(call):
            self.answered += 1
            if name not in self._durable:
                self.violations.append(f"{name} was answered before it was synced")


def find_strace() -> list[str] | None:
    """Return the strace command, or None if strace is missing or may not trace processes."""
    command = _strace()
    if command is None:
        return None
    probe = subprocess.run([*command, "-D", "-f", "-o", os.devnull, "true"], capture_output=True, check=False)
    return command if probe.returncode == 0 and not probe.stderr else None


def _strace() -> list[str] | None:
    """Return the installed strace, or the one that fetch_strace.sh fetched."""
    found = os.environ.get("GATEHOUSE_TEST_STRACE") or shutil.which("strace")
    if found is not None:
        return [found]
    if (program := _FETCHED / "usr/bin/strace").is_file():
        libraries = ":".join(str(folder) for folder in (_FETCHED / "usr/lib").glob("*-linux-gnu*"))
        loader = next(Path("/").glob("lib64/ld-linux-*.so.*"), None) or next(
            Path("/").glob("lib/ld-linux-*.so.*")
        )
        # Use the loader: a library path in the environment would also affect the gateway.
        return [str(loader), "--library-path", libraries, str(program)]
    return None


async def power_cut(
    folder: Path, *, requests: int, seed: str, failpoints: str = "", progress: Progress = silent
) -> Findings:
    """Send events under strace until `requests` are acknowledged, and check the order of write, sync and
    answer.
    """
    strace = find_strace()
    assert strace is not None, "strace is needed: install it, or run tests/crash/fetch_strace.sh"
    trace = folder / "trace"
    under = (*strace, *_OPTIONS, "-e", f"trace={_CALLS}", "-o", str(trace))
    async with rigged(folder, seed=seed, connections=16) as rig:
        await rig.start(failpoints, under)
        rig.sender.start()
        while rig.sender.acknowledged < requests:  # noqa: ASYNC110 - there is only a counter to poll
            await asyncio.sleep(0.05)
        rig.sender.stop()
        progress(rig, "under strace")
        await rig.terminate()
        evidence = await rig.settle()
    # The trace is complete: strace detaches from a process before the process can be waited for.
    with trace.open(errors="replace") as lines:
        order = Order().follow(lines)
    acknowledged = sum(answer.acknowledged and answer.life == 1 for answer in evidence.answers)
    faults = list(order.violations)
    if order.answered != acknowledged:
        faults.append(f"the trace shows {order.answered} answers, the sender got {acknowledged}")
    facts = {"answers seen in the trace": order.answered, "syncs of the log": order.syncs}
    return Findings(evidence, faults, facts)


async def power_cut_with_control(
    folder: Path, *, requests: int, seed: str, progress: Progress = silent
) -> Findings:
    """Also run a control without syncs. If the check finds no violation there, the result proves nothing."""
    for place in ("as it is", "control"):
        (folder / place).mkdir()
    findings = await power_cut(folder / "as it is", requests=requests, seed=seed, progress=progress)
    control = await power_cut(
        folder / "control", requests=requests, seed=seed, failpoints=UNSYNCED, progress=progress
    )
    violations = f"{len(control.faults):,} of {control.facts['answers seen in the trace']:,}"
    facts = {**findings.facts, "answered before the sync in the control run": violations}
    faults = (
        findings.faults
        if control.faults
        else [*findings.faults, "the check found no violation in the control run"]
    )
    return Findings(findings.evidence, faults, facts)

"""The program that runs under callgrind: `python -m bench.instructions_child FOLDER STAGE...`.

It imports everything once, which takes longer than all the rest, and forks for each stage.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

from bench.instructions_memory import MemoryLoop, stop_clocks

Stage = Callable[[Path], Coroutine[None, None, None]]

#: How many stages run at once.
_AT_ONCE = 2
#: Seconds until a stage is terminated. Normally it takes a few seconds.
_WITHIN = 120


def run(folder: Path, names: Sequence[str]) -> int:
    """Run stages, and print the number of counted events and the process id of each stage.

    Returns the exit code: 1 if a stage failed. The stage itself prints the reason.
    """
    # Before any module is imported that could keep a reference to a real clock.
    stop_clocks()
    from bench import instructions_stages  # noqa: PLC0415

    # When the garbage collector runs, and what it finds, varies between runs.
    gc.collect()
    gc.freeze()
    gc.disable()
    processes: dict[str, int] = {}
    statuses: dict[int, int] = {}
    for name in names:
        if len(processes) - len(statuses) == _AT_ONCE:
            statuses.update([os.wait()])
        processes[name] = _fork(instructions_stages.STAGES[name], folder / name)
    while len(statuses) < len(processes):
        statuses.update([os.wait()])
    for name, process in processes.items():
        if statuses[process]:
            sys.stderr.write(f"{name} ended with status {statuses[process]}\n")
    sys.stdout.write(json.dumps({"events": instructions_stages.EVENTS, "processes": processes}))
    return 1 if any(statuses.values()) else 0


def _fork(stage: Stage, scratch: Path) -> int:
    """Run a stage in its own process. Returns the process id."""
    process = os.fork()
    if process:
        return process
    try:
        # A stage that waits for something that never happens would otherwise run forever.
        signal.alarm(_WITHIN)
        scratch.mkdir()
        with asyncio.Runner(loop_factory=MemoryLoop) as runner:
            runner.run(stage(scratch))
            # Dump before the teardown, which is not to be counted.
            os._exit(0)
    except BaseException:  # noqa: BLE001 - every error is printed, and this process exits here
        traceback.print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))

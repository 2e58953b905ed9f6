"""What runs under callgrind: `python -m bench.instructions_child FOLDER STAGE...`.

Everything is loaded once, which takes longer than all the rest; each stage is a fork of that.
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
#: Seconds after which a stage is ended: it takes a few.
_WITHIN = 120


def run(folder: Path, names: Sequence[str]) -> int:
    """Run stages, and print how many events they count and which process was which.

    Returns the exit code: 1 when a stage failed, which has said why.
    """
    # Before anything that could keep a clock that goes is loaded.
    stop_clocks()
    from bench import instructions_stages  # noqa: PLC0415

    # Which objects a collection finds, and when it comes, is chance.
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
    """Run a stage in a process of its own; returns its number."""
    process = os.fork()
    if process:
        return process
    try:
        # One that waits for what does not come would wait for ever.
        signal.alarm(_WITHIN)
        scratch.mkdir()
        with asyncio.Runner(loop_factory=MemoryLoop) as runner:
            runner.run(stage(scratch))
            # Before anything is taken down: that is not what is counted.
            os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it is, it is told, and this process ends here
        traceback.print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))

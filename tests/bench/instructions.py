"""Guards against regressions: counts the instructions per event, as a multiple of what bare aiohttp needs.

`make bench-guard` and the tests run it. Valgrind's callgrind counts instructions and not time, so the result
does not depend on the machine or on its load. All stages run together and are compared with the reference of
the same run, because a change of aiohttp or the processor affects both. The ratios differ between versions of
Python and between builds, so each has a record. `make bench-guard RECORD=1` writes the ratios to
`instructions.json`, and `make bench-guard BUILD=compiled` measures the compiled build.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gatehouse
from bench.machine import IS_COMPILED

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("instructions.json")
#: The version of Python, and the build. Each has a record.
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}{' compiled' * IS_COMPILED}"
#: The maximum ratio of a stage to its record. The same code varies far less than this between runs.
MOST = 1.08
#: Below this ratio of a stage to its record, the record should be lowered.
LEAST = 0.85
REFERENCE = "reference"
STAGES = ("ingest", "store", "deliver")
#: `ingest` with a deliberate regression, to show that the guard detects it.
REGRESSED = "regressed"
#: `ingest` while somebody reads the stream.
WATCHED = "watched"

_FETCHED = ROOT / ".tools/valgrind"
#: Seconds. A run takes about a minute, and much longer on a busy machine.
_WITHIN = 600.0
#: The C library contains one of these names of the function.
_MARKS = ("--dump-before=sched_yield", "--dump-before=__sched_yield")
_TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)
#: The suffix of callgrind's second dump: from the first mark to the second. The last dump has no number.
_COUNTED = ".2"

#: The instructions per event, by stage.
Instructions = Mapping[str, float]
#: The instructions per event as a multiple of those of the reference, by stage.
Ratios = Mapping[str, float]


def find_valgrind() -> tuple[str, dict[str, str]] | None:
    """Return the installed valgrind, or the one that fetch_valgrind.sh fetched, and its environment."""
    found = os.environ.get("GATEHOUSE_TEST_VALGRIND") or shutil.which("valgrind")
    if found is not None:
        return found, {}
    # Debian's wrapper script next to it would look for this program in the installed location.
    program, tools = _FETCHED / "usr/bin/valgrind.bin", _FETCHED / "usr/libexec/valgrind"
    return (str(program), {"VALGRIND_LIB": str(tools)}) if program.is_file() else None


def measure(stages: Sequence[str] = (*STAGES, REFERENCE)) -> Instructions:
    """Return the number of instructions per event in each stage.

    Raises `RuntimeError` with the output of the stage if a stage fails.
    """
    with tempfile.TemporaryDirectory(prefix="gatehouse-guard-") as folder:
        done = _run(Path(folder), stages)
        events: int = done["events"]
        processes: Mapping[str, int] = done["processes"]
        return {stage: _counted(Path(folder), processes[stage]) / events for stage in stages}


def _run(folder: Path, stages: Sequence[str]) -> Mapping[str, Any]:
    """Run the stages under callgrind. Returns their output: see `instructions_child.run`."""
    valgrind = find_valgrind()
    assert valgrind is not None, "valgrind is needed: install it, or run tests/bench/fetch_valgrind.sh"
    program, settings = valgrind
    options = ["-q", "--vgdb=no", "--tool=callgrind", f"--callgrind-out-file={folder}/part.%p", *_MARKS]
    python = [sys.executable, "-m", "bench.instructions_child", str(folder), *stages]
    done = subprocess.run(
        [program, *options, *python],
        env=_environment() | settings,
        capture_output=True,
        text=True,
        timeout=_WITHIN,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the stages can't be counted:\n{done.stderr[-4000:]}")
    said: Mapping[str, Any] = json.loads(done.stdout)
    return said


def _environment() -> dict[str, str]:
    """Return this process's environment without variables that affect Python or valgrind."""
    dropped = ("PYTHON", "VALGRIND_OPTS", "GATEHOUSE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    # The package that this process imports: the sources, or a compiled build.
    package = Path(gatehouse.__file__).parents[1]
    return kept | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{package}", "PYTHONHASHSEED": "0"}


def _counted(folder: Path, process: int) -> int:
    parts = {file.suffix for file in folder.glob(f"part.{process}.*")}
    assert parts == {".1", ".2"}, "a stage must set two marks, and nothing else may set one"
    total = _TOTAL.search((folder / f"part.{process}{_COUNTED}").read_text())
    assert total is not None, "callgrind wrote no total"
    return int(total[1])


def ratios(found: Instructions) -> Ratios:
    """Return the instructions of each stage as a multiple of the reference."""
    return {stage: number / found[REFERENCE] for stage, number in found.items() if stage != REFERENCE}


def recorded() -> Ratios:
    """Return the ratios on record for this version of Python; none if it has no record."""
    return _records().get(PYTHON, {})


def _records() -> dict[str, Ratios]:
    records: dict[str, Ratios] = json.loads(RECORD.read_text())
    return records


def regressions(recorded: Ratios, found: Ratios) -> list[str]:
    """Describe each stage that exceeds its record by more than noise, or that has no record."""
    return [
        f"{stage}: {found[stage]:.3f} x the reference, on record {recorded.get(stage, 0.0):.3f};"
        f" the limit is {MOST} times the record. If the increase is necessary: make bench-guard RECORD=1"
        for stage in found
        if found[stage] > recorded.get(stage, 0.0) * MOST
    ]


def gains(recorded: Ratios, found: Ratios) -> list[str]:
    """Describe each stage that is so far below its record that a regression could go unnoticed."""
    return [
        f"{stage}: {found[stage]:.3f} x the reference, on record {recorded[stage]:.3f};"
        " lower the record with make bench-guard RECORD=1"
        for stage in found
        if found[stage] < recorded.get(stage, 0.0) * LEAST
    ]


def _show(found: Instructions) -> None:
    before = recorded()
    print(f"{'stage':12} {'per event':>14} {'ratio':>8} {'on record':>10}")
    for stage, number in found.items():
        on_record = f"{before[stage]:.3f}" if stage in before else "-"
        print(f"{stage:12} {number:14,.0f} {number / found[REFERENCE]:8.3f} {on_record:>10}")


def main(arguments: Sequence[str]) -> int:
    """Measure, and compare with the record or, with `--record`, replace it. Returns the exit code."""
    found = measure()
    _show(found)
    if "--record" in arguments:
        rounded = {stage: round(ratio, 3) for stage, ratio in ratios(found).items()}
        RECORD.write_text(json.dumps({**_records(), PYTHON: rounded}, indent=2, sort_keys=True) + "\n")
        return 0
    before, now = recorded(), ratios(found)
    problems = regressions(before, now)
    for line in (*problems, *gains(before, now)):
        print(line)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the operator page adds to the start of a gateway."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench import startup

_GOAL_MS: Final = 20.0
_WITH: Final = [sys.executable, "-m", "gatehouse"]
_WITHOUT: Final = [sys.executable, "-m", "bench.page_serve"]


def compare(cores: set[int], turns: int) -> None:
    """Start gateways with and without the page, by turns, and print the differences."""
    found: dict[bool, list[startup.Start]] = {True: [], False: []}
    for turn in range(turns):
        for has_page in (True, False) if turn % 2 else (False, True):
            with tempfile.TemporaryDirectory(prefix="gatehouse-page-") as folder:
                started = startup.start(Path(folder), cores, _WITH if has_page else _WITHOUT)
            found[has_page].append(started)
    print("\nstart until ready        without page   with page   difference (median of the turns)")
    for name, index in (("wall time", 0), ("processor time", 1)):
        without, with_page = ([one[index] * 1000 for one in found[has]] for has in (False, True))
        differences = [b - a for a, b in zip(without, with_page, strict=True)]
        median = statistics.median(differences)
        print(
            f"  {name:20} {statistics.median(without):9.0f} ms {statistics.median(with_page):8.0f} ms "
            f"{median:9.1f} ms (goal: at most {_GOAL_MS:.0f} ms {'✓' if median <= _GOAL_MS else '✗'})"
        )

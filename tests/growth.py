"""Finds out whether work takes longer than its size explains, on a machine of any speed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

#: Four times the size takes four times as long if each part costs the same, and 16 times as long if each part
#: costs as much as all parts before it.
_MOST = 8.0
#: Other processes can only add to the time, so the shortest of several runs counts.
_RUNS = 3


def growing(size: int) -> Iterator[int]:
    """Yield sizes up to `size`, for the caller to do work of each size.

    Fails if the processor time of this process grows faster than the size.
    """
    part = size // 4
    yield part  # the first time includes what is only done once
    least = {part: math.inf, size: math.inf}
    for _ in range(_RUNS):
        for each in (part, size):
            started = time.process_time()
            yield each
            least[each] = min(least[each], time.process_time() - started)
        if least[size] <= _MOST * least[part]:
            return
    raise AssertionError(f"4 times the size takes {least[size] / least[part]:.1f} times as long: {least}")

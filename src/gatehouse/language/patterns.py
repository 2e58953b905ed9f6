"""Patterns over names and event types: `invoice.*` matches `invoice.paid`. Pure."""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    first, *rest = map(re.escape, pattern.split("*"))
    if not rest:
        return re.compile(first)
    *middle, last = rest
    # Atomic groups: what stands between two stars fits best where it fits first, so there is no way back to
    # try, and a type of a thousand characters costs about a thousand steps, however many stars there are.
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last, re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Tell whether `*`, which stands for any text, makes `pattern` fit: `invoice.*` fits `invoice.paid`."""
    return _compiled(pattern).fullmatch(text) is not None

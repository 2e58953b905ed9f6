"""Matches names and event types with patterns: `invoice.*` matches `invoice.paid`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    first, *rest = map(re.escape, pattern.split("*"))
    if not rest:
        return re.compile(first)
    *middle, last = rest
    # With atomic groups, the text between two stars matches at its first position and there is no
    # backtracking. The cost is linear in the length of the text, however many stars the pattern has.
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last, re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Return whether `pattern` matches the whole text. `*` stands for any text."""
    return _compiled(pattern).fullmatch(text) is not None


def matcher(pattern: str) -> Callable[[str], object]:
    """Return a function that is true for the texts that match `pattern`. Compiled once, for frequent use."""
    return _compiled(pattern).fullmatch

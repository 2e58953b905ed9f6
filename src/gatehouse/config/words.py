"""What problems and hints say about names."""

from __future__ import annotations

import difflib
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_SHOWN = 80
#: More names than these help nobody who reads them.
_MAX_NAMES = 40
#: Among more than these, looking for near ones takes long.
_MAX_COMPARED = 500


def shown(text: str, limit: int = _MAX_SHOWN) -> str:
    """Make text from a file fit for one line of a message."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    return cut if cut.isprintable() else cut.encode("unicode_escape").decode()


def expected(given: str, known: Iterable[str]) -> str:
    """List what is known, the nearest to what was given first."""
    names = sorted(itertools.islice(known, _MAX_COMPARED))
    if not names:
        return "none is configured"
    close = difflib.get_close_matches(given[:_MAX_SHOWN], names, n=1)
    prefix = f'did you mean "{shown(close[0])}"? ' if close else ""
    if len(names) > _MAX_NAMES:
        return f"{prefix}expected one of {len(names)}, from {shown(names[0])} to {shown(names[-1])}"
    return f"{prefix}expected one of: {', '.join(map(shown, names))}"

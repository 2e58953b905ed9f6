"""Characters that a browser would hide or obey. Pure."""

from __future__ import annotations

import re
from typing import Final

#: Control characters except tab and line feed, invisible and bidirectional format characters, and
#: surrogates: Unicode's categories Cc, Cf, Cs, Zl and Zp.
HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0001\U000e0020-\U000e007f]"
)


def hidden_count(text: str) -> int:
    """Return how many hidden characters text has."""
    return sum(1 for _ in HIDDEN.finditer(text))

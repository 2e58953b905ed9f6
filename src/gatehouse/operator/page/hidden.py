"""Characters that a browser would hide or obey. Pure."""

from __future__ import annotations

import re
from typing import Final

#: Control characters except tab and line feed, and surrogates: Unicode's categories Cc, Cs, Zl and Zp.
_CONTROLS: Final = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
#: Invisible and bidirectional format characters: category Cf.
_FORMATS: Final = (
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
)
#: Letters, marks and tags without a shape, and variation selectors.
_BLANKS: Final = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0000-\U000e0fff"
)
#: These select how a symbol looks. After anything else they hide.
_SELECTORS: Final = "(?<![\xa9\xae\u2000-\u3299\U0001f000-\U0001faff])[\ufe0e\ufe0f]"
HIDDEN: Final = re.compile(f"[{_CONTROLS}{_FORMATS}{_BLANKS}]|{_SELECTORS}")


def hidden_count(text: str) -> int:
    """Return how many hidden characters text has."""
    return sum(1 for _ in HIDDEN.finditer(text))

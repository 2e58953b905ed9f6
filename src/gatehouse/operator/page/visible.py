"""Makes characters visible that a browser would hide or obey. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from markupsafe import Markup, escape

#: Control characters except tab and line feed, invisible and bidirectional format characters, and
#: surrogates: Unicode's categories Cc, Cf, Cs, Zl and Zp.
_HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0001\U000e0020-\U000e007f]"
)


def visible(text: object) -> Markup:
    """Return text as HTML. Each hidden character is shown by its code, with its name as a tooltip."""
    parts, position, whole = [], 0, str(text)
    for match in _HIDDEN.finditer(whole):
        parts += [escape(whole[position : match.start()]), _shown(match.group())]
        position = match.end()
    return Markup("").join([*parts, escape(whole[position:])])


def is_plain(text: str) -> bool:
    """Return whether text has no hidden character."""
    return _HIDDEN.search(text) is None


def _shown(character: str) -> Markup:
    code = f"U+{ord(character):04X}"
    name = unicodedata.name(character, "control character")
    return Markup('<span class="hidden-char" title="{} {}">{}</span>').format(code, name, code)

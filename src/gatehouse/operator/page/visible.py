"""Makes characters visible that a browser would hide or obey. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from markupsafe import Markup, escape

from gatehouse.operator.page.hidden import HIDDEN

_CODE: Final = re.compile(r"`([^`\n]+)`")


def visible(text: object) -> Markup:
    """Return text as HTML. Each hidden character is shown by its code, with its name as a tooltip."""
    parts, position, whole = [], 0, str(text)
    for match in HIDDEN.finditer(whole):
        parts += [escape(whole[position : match.start()]), _shown(match.group())]
        position = match.end()
    return Markup("").join([*parts, escape(whole[position:])])


def marked(text: object) -> Markup:
    """Return a sentence of the gateway as HTML. What is in `…` is code."""
    parts, position, whole = [], 0, str(text)
    for match in _CODE.finditer(whole):
        parts += [
            visible(whole[position : match.start()]),
            Markup("<code>{}</code>").format(visible(match[1])),
        ]
        position = match.end()
    return Markup("").join([*parts, visible(whole[position:])])


def is_plain(text: str) -> bool:
    """Return whether text has no hidden character."""
    return HIDDEN.search(text) is None


def _shown(character: str) -> Markup:
    code = f"U+{ord(character):04X}"
    name = unicodedata.name(character, "control character")
    return Markup('<span class="hidden-char" title="{} {}">{}</span>').format(code, name, code)

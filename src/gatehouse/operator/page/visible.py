"""Makes characters visible that a browser would hide or obey. Pure."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

from markupsafe import Markup, escape

from gatehouse.operator.page.hidden import HIDDEN

#: Characters.
_START: Final = 160
_CODE: Final = re.compile(r"`([^`\n]+)`")


def visible(text: object) -> Markup:
    """Return text as HTML. Each hidden character is shown by its code, with its name as a tooltip."""
    # Escaping adds and removes no hidden character. A sender decides how many there are.
    return Markup(HIDDEN.sub(lambda match: _shown(match[0]), str(escape(str(text)))))  # noqa: S704


def start(text: object) -> Markup:
    """Return the first characters of a text as HTML, for a list. The screen of its entry shows all of them.

    A list shows three lines at most. The rest would be sent in vain, and a hidden character takes 70 bytes.
    """
    whole = str(text)
    return visible(whole if len(whole) <= _START else f"{whole[:_START]}…")


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


@lru_cache(maxsize=256)
def _shown(character: str) -> Markup:
    code = f"U+{ord(character):04X}"
    name = unicodedata.name(character, "control character")
    return Markup('<span class="hidden-char" title="{} {}">{}</span>').format(code, name, code)

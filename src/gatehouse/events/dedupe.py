"""Dedupe keys: what makes two requests the same event, read from what templates see of it.

A key counts within its scope: what it is made of. The scope is worked out from the template's text, or, in a
list of templates, from the text of the one that resolved. So keys may be added, removed and put in another
order, in the config or in a preset, and the keys that stay go on to know the events that they knew.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from gatehouse.language.document import MalformedDocumentError
from gatehouse.language.template import Placeholder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.config.model import DedupeConfig
    from gatehouse.language.scope import Scope
    from gatehouse.language.template import Template

#: Bytes of a key that name its scope.
SCOPE_LENGTH: Final = 8
#: Longer keys are kept as a hash. The mark makes a hash longer than any key kept whole.
_HASH_MARK = b"sha256:"
_MAX_WHOLE_KEY = len(_HASH_MARK) + 31


class DedupeKey(msgspec.Struct, frozen=True, gc=False):
    """A key of one event."""

    #: Its scope, and behind it the key itself: as the store keeps them.
    scoped: bytes
    #: Until when it makes duplicates (unix seconds).
    until: float

    @property
    def scope(self) -> bytes:
        """What it is made of."""
        return self.scoped[:SCOPE_LENGTH]

    @property
    def key(self) -> bytes:
        """The key itself."""
        return self.scoped[SCOPE_LENGTH:]


class KeyReader:
    """Reads the dedupe keys of one source's events; all that can be worked out is worked out here."""

    def __init__(self, config: DedupeConfig) -> None:
        templates, windows = config.templates, config.windows
        #: One that is made of the same thing in two entries has the longer of their windows.
        longest: dict[bytes, float] = {}
        for template, window in zip(templates, windows, strict=True):
            for scope in scopes_of(template):
                longest[scope] = max(window, longest.get(scope, window))
        self._readers = tuple(_reader(template, longest) for template in templates)
        self._longest = max(windows, default=config.window)

    def read(self, scope: Scope, now: float) -> tuple[DedupeKey | None, ...]:
        """Return a key for each entry of `dedupe.by`; None where it does not resolve."""
        readers = self._readers
        if len(readers) == 1:
            return (readers[0](scope, now),)
        return tuple([read(scope, now) for read in readers])

    def unreadable(self, signed: bytes, now: float) -> DedupeKey:
        """Return the key of signed bytes that nothing could be read from, in a scope of its own."""
        return DedupeKey(UNREADABLE_SCOPE + shortened(signed), now + self._longest)


def scopes_of(template: Template) -> tuple[bytes, ...]:
    """Return the scope of each alternative of a template."""
    return tuple(map(_scope_of, template.alternatives))


def render_key(template: Template, scope: Scope) -> bytes | None:
    """Resolve an order key, a long one to its hash; None, and never a shared empty key, without one."""
    try:
        key = template.render(scope)
    except MalformedDocumentError:
        return None
    return shortened(key) if key else None


def shortened(key: bytes) -> bytes:
    """Return a key as it is kept: a long one as its hash. Keys are equal when what they stand for is."""
    return key if len(key) <= _MAX_WHOLE_KEY else _HASH_MARK + hashlib.sha256(key).digest()


def _reader(template: Template, windows: dict[bytes, float]) -> Callable[[Scope, float], DedupeKey | None]:
    ways = [
        (scope, resolve, windows[scope])
        for scope, resolve in zip(scopes_of(template), template.resolves, strict=True)
    ]

    def read(scope: Scope, now: float) -> DedupeKey | None:
        for made_of, resolve, window in ways:
            try:
                key = resolve(scope)
            except MalformedDocumentError:
                continue
            if key is not None:
                # Never a shared empty key.
                if not key:
                    return None
                kept = key if len(key) <= _MAX_WHOLE_KEY else shortened(key)
                return DedupeKey(made_of + kept, now + window)
        return None

    return read


def _scope_of(parts: Sequence[bytes | Placeholder]) -> bytes:
    return _hash("".join(map(_canonical, parts)))


def _canonical(part: bytes | Placeholder) -> str:
    """Write a part in the one way that all spellings of it share.

    What may be missing is made of the same thing as what has to be there.
    """
    if isinstance(part, bytes):
        return part.decode().replace("{", "{{").replace("}", "}}")
    argument = part.argument.lower() if part.name == "header" else part.argument
    return str(Placeholder(part.name, argument))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:SCOPE_LENGTH]


#: No template has a character in it that can't be printed.
UNREADABLE_SCOPE: Final = _hash("\0unreadable")

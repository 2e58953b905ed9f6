"""Computes the dedupe keys of events.

A key is only compared with keys of the same scope. The scope is a hash of the template that made the key. In
a list of templates, it is a hash of the one that resolved. You can therefore add, remove and reorder keys in
the config or in a preset, and the remaining keys still recognize earlier events.
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

#: The length of the scope at the start of a key (bytes).
SCOPE_LENGTH: Final = 8
#: Longer keys are stored as a hash. The prefix makes a hash longer than any key that is stored in full.
_HASH_MARK = b"sha256:"
_MAX_WHOLE_KEY = len(_HASH_MARK) + 31


class DedupeKey(msgspec.Struct, frozen=True, gc=False):
    """A dedupe key of one event."""

    #: The scope and then the key itself, as the store keeps them.
    scoped: bytes
    #: The end of the dedupe window (Unix seconds).
    until: float

    @property
    def scope(self) -> bytes:
        """The scope of the key."""
        return self.scoped[:SCOPE_LENGTH]

    @property
    def key(self) -> bytes:
        """The key without its scope."""
        return self.scoped[SCOPE_LENGTH:]


class KeyReader:
    """Reads the dedupe keys of the events of one source."""

    def __init__(self, config: DedupeConfig) -> None:
        templates, windows = config.templates, config.windows
        #: If two entries have the same scope, the longer window applies to both.
        longest: dict[bytes, float] = {}
        for template, window in zip(templates, windows, strict=True):
            for scope in scopes_of(template):
                longest[scope] = max(window, longest.get(scope, window))
        self._readers = tuple(_reader(template, longest) for template in templates)
        self._longest = max(windows, default=config.window)

    def read(self, scope: Scope, now: float) -> tuple[DedupeKey | None, ...]:
        """Return the key of each entry of `dedupe.by`, or None if it does not resolve."""
        readers = self._readers
        if len(readers) == 1:
            return (readers[0](scope, now),)
        return tuple([read(scope, now) for read in readers])

    def unreadable(self, signed: bytes, now: float) -> DedupeKey:
        """Return the key of an unreadable event, made of the signed bytes, in a separate scope."""
        return DedupeKey(UNREADABLE_SCOPE + stored_key(signed), now + self._longest)


def scopes_of(template: Template) -> tuple[bytes, ...]:
    """Return the scope of each alternative of a template."""
    return tuple(map(_scope_of, template.alternatives))


def read_order_key(template: Template, scope: Scope) -> bytes | None:
    """Return the order key of an event, hashed if it is long. None if it is missing or empty."""
    try:
        key = template.render(scope)
    except MalformedDocumentError:
        return None
    return stored_key(key) if key else None


def stored_key(key: bytes) -> bytes:
    """Return a key as it is stored: a long one as its hash."""
    return key if len(key) <= _MAX_WHOLE_KEY else _HASH_MARK + hashlib.sha256(key).digest()


def _reader(template: Template, windows: dict[bytes, float]) -> Callable[[Scope, float], DedupeKey | None]:
    alternatives = [
        (scope, resolve, windows[scope])
        for scope, resolve in zip(scopes_of(template), template.resolves, strict=True)
    ]

    def read(scope: Scope, now: float) -> DedupeKey | None:
        for scope_bytes, resolve, window in alternatives:
            try:
                key = resolve(scope)
            except MalformedDocumentError:
                continue
            if key is not None:
                # An empty key would make unrelated events duplicates.
                if not key:
                    return None
                kept = key if len(key) <= _MAX_WHOLE_KEY else stored_key(key)
                return DedupeKey(scope_bytes + kept, now + window)
        return None

    return read


def _scope_of(parts: Sequence[bytes | Placeholder]) -> bytes:
    return _hash("".join(map(_canonical, parts)))


def _canonical(part: bytes | Placeholder) -> str:
    """Return the canonical text of a part. Optional and required placeholders have the same one."""
    if isinstance(part, bytes):
        return part.decode().replace("{", "{{").replace("}", "}}")
    argument = part.argument.lower() if part.name == "header" else part.argument
    return str(Placeholder(part.name, argument))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:SCOPE_LENGTH]


#: No template contains an unprintable character, so no other scope is equal.
UNREADABLE_SCOPE: Final = _hash("\0unreadable")

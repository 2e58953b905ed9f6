"""Events: read out of a verified request, identified, and given their dedupe keys."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gatehouse.config.coverage import resists_replay
from gatehouse.events.dedupe import KeyReader
from gatehouse.language.document import MARK, MalformedDocumentError, NoTextError, is_json, without_mark
from gatehouse.language.scope import Scope
from gatehouse.language.split import EventScopes
from gatehouse.language.times import as_rfc3339, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.config.model import ProviderConfig
    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.language.template import Template
    from gatehouse.verify.base import VerifiedRequest

#: The type of what was verified but could not be read.
UNREADABLE = "gatehouse.unreadable"

_MAX_ATTRIBUTE = 1024
#: What a CloudEvents string may not hold (CloudEvents 1.0.2, type system): control characters.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: Bytes by which a value is mostly found in the text it is part of.
_BEGINNING = 32


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The verified, identified, normalised fact."""

    #: The gateway's id (a ULID): the idempotency key at every destination.
    id: str
    #: The source's name.
    source: str
    #: The path the source is served at: the CloudEvents `source`.
    path: str
    #: The preset's name, or the source's own when it spells everything out.
    provider: str
    #: The provider's id of the event, or the gateway's when it gave none: the CloudEvents `id`.
    external_id: str
    type: str
    #: When it happened (RFC 3339).
    time: str
    #: When it was received (unix seconds).
    received: float
    subject: str | None = None
    account: str | None = None
    #: The provider's content type.
    content_type: str | None = None
    #: The provider's headers, without credentials: (lower-case name, value).
    headers: tuple[tuple[str, str], ...] = ()
    #: The bytes as sent: of the request, or of the item for a batch request.
    body: bytes
    #: The JSON that the data is part of, when it is not the body: a form's, or what is around an item.
    document: bytes | None = None
    #: Where in the document, or else the body, the data is: start and end; None when the event has no data.
    data_span: tuple[int, int] | None = None
    #: Whether the data is JSON. If not, it travels as base64.
    data_is_json: bool = True

    @property
    def data(self) -> bytes | None:
        """The exact bytes of the data."""
        if self.data_span is None:
            return None
        start, end = self.data_span
        return (self.body if self.document is None else self.document)[start:end]


class ReadEvent(NamedTuple):
    """An event as it was read, and what it was read from."""

    event: Event
    #: Its dedupe key for each entry of `dedupe.by`.
    keys: tuple[DedupeKey | None, ...]
    #: What templates see of it, for those that a destination brings.
    scope: Scope


class EventReader:
    """Reads the events of one source; everything that can be worked out at load time is."""

    def __init__(self, name: str, path: str, config: ProviderConfig, *, provider: str) -> None:
        self._name = name
        self._path = path
        self._provider = provider
        self._templates = templates = config.event
        self._attributes = (
            templates.id,
            templates.type,
            templates.time,
            templates.subject,
            templates.account,
        )
        self._data_parts = tuple(
            (part.name == "outer", part.path)
            for (part,) in config.event.data.alternatives
            if not isinstance(part, bytes)
        )
        self._scopes = EventScopes(document=config.event.document, split=config.event.split)
        self._is_plain = self._scopes.is_plain
        self._keys = KeyReader(config.dedupe)
        self._resists_replay = resists_replay(config)

    def read(
        self, verified: VerifiedRequest, now: float, headers: tuple[tuple[str, str], ...]
    ) -> list[ReadEvent]:
        """Read the events of a request.

        What can't be read becomes one event of type `gatehouse.unreadable`: never lost, never an error.
        """
        if self._is_plain:
            scope = verified.scopes[0] if verified.scopes else Scope(verified.request, facts=verified.facts)
            return [self._read(scope, now, headers)]
        try:
            scopes = self.scopes(verified)
        except MalformedDocumentError:
            whole = Scope(verified.request, facts=verified.facts)
            return [
                ReadEvent(self._unreadable(whole, now, headers), self._unreadable_keys(whole, now), whole)
            ]
        return [self._read(scope, now, headers) for scope in scopes]

    def scopes(self, verified: VerifiedRequest) -> tuple[Scope, ...]:
        """Return what the templates see of each event. Raises `MalformedDocumentError`."""
        return verified.scopes or self._scopes.of(verified.request, verified.facts)

    def _read(self, scope: Scope, now: float, headers: tuple[tuple[str, str], ...]) -> ReadEvent:
        """Read one event. An item that can't be read does not take its neighbours with it."""
        try:
            return ReadEvent(self._event(scope, now, headers), self._keys.read(scope, now), scope)
        except MalformedDocumentError:
            return ReadEvent(self._unreadable(scope, now, headers), self._unreadable_keys(scope, now), scope)

    def _event(self, scope: Scope, now: float, headers: tuple[tuple[str, str], ...]) -> Event:
        external_id, event_type, time, subject, account = _resolved(self._attributes, scope)
        if event_type is None:
            raise MalformedDocumentError("no type")
        around, span, data_is_json = self._data(scope)
        event_id = new_id(now)
        # A document that is the whole request in another form goes beside it; an item stands for itself.
        body = scope.body if scope.is_item else scope.request.body
        document = scope.body if body is not scope.body else None
        return Event(
            id=event_id,
            source=self._name,
            path=self._path,
            provider=self._provider,
            external_id=external_id or event_id,
            type=event_type,
            time=(as_rfc3339(time) if time else None) or rfc3339(now),
            received=now,
            subject=subject,
            account=account,
            content_type=self._content_type(scope),
            headers=headers,
            body=body,
            document=document if around is None else around,
            data_span=span,
            data_is_json=data_is_json,
        )

    def _unreadable(self, scope: Scope, now: float, headers: tuple[tuple[str, str], ...]) -> Event:
        event_id = new_id(now)
        body = scope.body if scope.is_item else scope.request.body
        return Event(
            id=event_id,
            source=self._name,
            path=self._path,
            provider=self._provider,
            external_id=event_id,
            type=UNREADABLE,
            time=rfc3339(now),
            received=now,
            content_type=self._content_type(scope),
            headers=headers,
            body=body,
            data_span=(0, len(body)),
            data_is_json=False,
        )

    def _content_type(self, scope: Scope) -> str | None:
        if scope.is_item and self._templates.document is not None:
            return "application/json"  # an item of a document inside the body: the request's says form
        return scope.request.headers.get("Content-Type")

    def _data(self, scope: Scope) -> tuple[bytes | None, tuple[int, int] | None, bool]:
        """Find the data: what is around an item, when it is that, and start and end; whether it is JSON."""
        for is_outer, path in self._data_parts:
            if is_outer:
                around = next((raw for one in scope.outer if (raw := one.raw(path)) is not None), None)
                if around is not None:
                    return around, (0, len(around)), True
                continue
            if not path:
                plain = without_mark(scope.body) if scope.body.startswith(MARK) else scope.body
                as_json = is_json(plain)
                return None, (len(scope.body) - len(plain) if as_json else 0, len(scope.body)), as_json
            raw = scope.document.raw(path)
            if raw is not None:
                start = _place(raw, scope.body)
                return None, (start, start + len(raw)), True
        return None, None, True

    def _unreadable_keys(self, scope: Scope, now: float) -> tuple[DedupeKey | None, ...]:
        """Give what can't be read one more key: the signed bytes, in a scope of their own.

        A captured request can be made unreadable in many ways that its signature does not see. An item has no
        signature that its neighbours do not share.
        """
        keys = self._keys.read(scope, now)
        signed = scope.facts.get("signed")
        if signed is None or scope.is_item or not self._resists_replay:
            return keys
        return (*keys, self._keys.unreadable(signed, now))


def _place(part: bytes, whole: bytes) -> int:
    """Return where a part begins, which is somewhere in it."""
    # Looking for all of a long part takes longer than reading it: its beginning is mostly enough.
    start = whole.find(part[:_BEGINNING])
    return start if whole.startswith(part, start) else whole.find(part)


def _resolved(templates: Iterable[Template | None], scope: Scope) -> list[str | None]:
    """Resolve templates to what CloudEvents attributes may hold; None for what isn't there or can't be read.

    The first is that of the id: raises `NoTextError` when it is there and no text.
    All in one go: with calls for each of them, this was a tenth of what taking in an event costs.
    """
    found: list[str | None] = []
    for template in templates:
        try:
            text = template.text(scope) if template else None
        except NoTextError:
            if not found:
                raise  # the id: another one in its place would say that this event has none
            text = None
        except MalformedDocumentError:
            text = None
        # What can be printed holds no control character.
        if not text or len(text) > _MAX_ATTRIBUTE or not (text.isprintable() or not _CONTROL.search(text)):
            text = None
        found.append(text)
    return found


# The format is that of the ULID specification (github.com/ulid/spec): 48 bits of unix milliseconds and 80
# random bits in Crockford's base32, 26 characters.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
#: From a random byte to a character: each comes from as many bytes as any other.
_FROM_BYTE = (_ALPHABET * 8).encode()
_RANDOM_CHARACTERS = 16
_TIME_SHIFTS = range(45, -1, -5)


def new_id(now: float) -> str:
    """Make the id of an event that was received at `now` (unix seconds)."""
    # From the system: a seeded generator would repeat itself in a forked process.
    random = os.urandom(_RANDOM_CHARACTERS).translate(_FROM_BYTE).decode()
    return _time_part(int(now * 1000)) + random


@lru_cache(maxsize=16)
def _time_part(milliseconds: int) -> str:
    return "".join([_ALPHABET[milliseconds >> shift & 31] for shift in _TIME_SHIFTS])

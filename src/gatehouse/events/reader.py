"""Reads the events of a verified request, with their ids and dedupe keys."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from multidict import CIMultiDict

from gatehouse.config.coverage import resists_replay
from gatehouse.events.dedupe import KeyReader
from gatehouse.events.event import CONTENT_ENCODING, UNREADABLE, Event, ReadEvent, new_id
from gatehouse.language.codings import (
    DecodedTooLargeError,
    MalformedCodingError,
    codings_of,
    decode,
    supported_codings,
)
from gatehouse.language.document import BOM, MalformedDocumentError, UnreadableTextError, is_json, without_bom
from gatehouse.language.request import Request
from gatehouse.language.scope import Scope
from gatehouse.language.split import EventScopes
from gatehouse.language.times import as_rfc3339, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.config.model import ProviderConfig
    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.language.document import Document, Path
    from gatehouse.language.template import Template
    from gatehouse.verify.base import VerifiedRequest

#: The longest body that a source can accept (`max_body`).
_MAX_DECODED = 64 * 1024 * 1024

_MAX_ATTRIBUTE = 1024
#: Control characters, which a CloudEvents string must not contain (CloudEvents 1.0.2, type system).
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: The number of bytes that are usually enough to find a value in the text around it.
_BEGINNING = 32


class EventReader:
    """Reads the events of one source. It compiles everything at load time."""

    def __init__(self, name: str, path: str, config: ProviderConfig, *, provider: str) -> None:
        self._name = name
        #: The URL path of the source.
        self.path = path
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
        """Return the events of a request.

        An unreadable request becomes one event of the type `gatehouse.unreadable`, so that it is never lost.
        """
        if self._is_plain:
            scope = verified.scopes[0] if verified.scopes else Scope(verified.request, facts=verified.facts)
            return [self._read(scope, now, headers)]
        try:
            scopes = self.scopes(verified)
        except MalformedDocumentError:
            return self.unreadable(verified, now, headers)
        return [self._read(scope, now, headers) for scope in scopes]

    def unreadable(
        self, verified: VerifiedRequest, now: float, headers: tuple[tuple[str, str], ...]
    ) -> list[ReadEvent]:
        """Return the event that keeps a request from which no event can be read."""
        whole = Scope(verified.request, facts=verified.facts)
        return [ReadEvent(self._unreadable(whole, now, headers), self._unreadable_keys(whole, now), whole)]

    def scopes(self, verified: VerifiedRequest) -> tuple[Scope, ...]:
        """Return the scope of each event. Raises `MalformedDocumentError`."""
        return verified.scopes or self._scopes.of(verified.request, verified.facts)

    def stored_scope(self, event: Event) -> Scope:
        """Return what templates can read of a stored event: its body, headers and path.

        The query of its request, the credentials, and the values around the item of a batch are not stored.
        """
        body = _decoded_body(event)
        request = Request("POST", event.path, "", CIMultiDict(event.headers), body)
        is_data = any(is_outer for is_outer, _ in self._data_parts)
        return Scope(request, body=body if event.document is None or is_data else event.document)

    def _read(self, scope: Scope, now: float, headers: tuple[tuple[str, str], ...]) -> ReadEvent:
        """Return one event. An unreadable item does not affect the other items."""
        try:
            return ReadEvent(self._event(scope, now, headers), self._keys.read(scope, now), scope)
        except MalformedDocumentError:
            return ReadEvent(self._unreadable(scope, now, headers), self._unreadable_keys(scope, now), scope)

    def _event(self, scope: Scope, now: float, headers: tuple[tuple[str, str], ...]) -> Event:
        external_id, event_type, time, subject, account = _resolve_attributes(self._attributes, scope)
        if event_type is None:
            raise MalformedDocumentError("no type")
        around, span, data_is_json = self._data(scope)
        event_id = new_id(now)
        # An item replaces the body. A document that contains the whole request is stored beside the body.
        body = scope.body if scope.is_item else scope.request.body
        document = scope.body if body is not scope.body else None
        return Event(
            event_id,
            self._name,
            path=self.path,
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
            event_id,
            self._name,
            path=self.path,
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
            return "application/json"  # the Content-Type of the request describes the form around it
        return scope.request.headers.get("Content-Type")

    def _data(self, scope: Scope) -> tuple[bytes | None, tuple[int, int] | None, bool]:
        """Return the enclosing document with the data or None, start and end, and whether it is JSON."""
        for is_outer, path in self._data_parts:
            if is_outer:
                around = _around(scope.outer, path)
                if around is not None:
                    return around, (0, len(around)), True
                continue
            if not path:
                plain = without_bom(scope.body) if scope.body.startswith(BOM) else scope.body
                as_json = is_json(plain)
                return None, (len(scope.body) - len(plain) if as_json else 0, len(scope.body)), as_json
            raw = scope.document.raw(path)
            if raw is not None:
                start = _position(raw, scope.body)
                return None, (start, start + len(raw)), True
        return None, None, True

    def _unreadable_keys(self, scope: Scope, now: float) -> tuple[DedupeKey | None, ...]:
        """Return the keys of an unreadable event, with one more key of the signed bytes.

        A sender can make a captured request unreadable in many ways without affecting its signature. Items
        have no such key, because all items of a request share its signature.
        """
        keys = self._keys.read(scope, now)
        signed = scope.facts.get("signed")
        if signed is None or scope.is_item or not self._resists_replay:
            return keys
        return (*keys, self._keys.unreadable(signed, now))


def with_body_as_sent(read: ReadEvent, sent: Request) -> ReadEvent:
    """Return an event of a decoded request with the body as it was sent, and its Content-Encoding.

    The data is then in the document. An item of a batch stays as it is, because it is no body.
    """
    event, document = read.event, read.event.document
    if read.scope.is_item:
        return read
    if document is None and event.body is not sent.body:
        document = event.body
    headers = (*event.headers, (CONTENT_ENCODING, ", ".join(sent.headers.getall(CONTENT_ENCODING))))
    stored = msgspec.structs.replace(event, body=sent.body, document=document, headers=headers)
    return read._replace(event=stored)


def _decoded_body(event: Event) -> bytes:
    """Return the body of a stored event as templates read it. A body that can't be decoded stays as it is."""
    if event.headers and event.headers[-1][0] == CONTENT_ENCODING:
        codings = codings_of([event.headers[-1][1]])
        if set(codings) <= set(supported_codings()):
            with suppress(MalformedCodingError, DecodedTooLargeError):
                return decode(event.body, codings, _MAX_DECODED)
    return event.body


def _around(outer: Iterable[Document], path: Path) -> bytes | None:
    """Return the first value at `path` in the documents around an item."""
    for document in outer:
        value = document.raw(path)
        if value is not None:
            return value
    return None


def _position(part: bytes, whole: bytes) -> int:
    """Return the position of a part in the whole, which must contain it."""
    # Searching for a long part is slow. Its beginning is usually enough.
    start = whole.find(part[:_BEGINNING])
    return start if whole.startswith(part, start) else whole.find(part)


def _resolve_attributes(templates: Iterable[Template | None], scope: Scope) -> list[str | None]:
    """Return the values of CloudEvents attributes. None for a missing or unreadable value.

    The first template is that of the id. Raises `UnreadableTextError` if the id is present but unreadable.
    One call resolves all attributes, because separate calls took a tenth of the time to accept an event.
    """
    found: list[str | None] = []
    for template in templates:
        try:
            text = template.text(scope) if template else None
        except UnreadableTextError:
            if not found:
                raise  # a generated id would hide that the event has one
            text = None
        except MalformedDocumentError:
            text = None
        # A printable text has no control characters.
        if not text or len(text) > _MAX_ATTRIBUTE or not (text.isprintable() or not _CONTROL.search(text)):
            text = None
        found.append(text)
    return found

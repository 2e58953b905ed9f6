"""Events: read out of a verified request, identified, and given their dedupe keys."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from gatehouse.document import MalformedDocumentError, is_json
from gatehouse.ids import new_id
from gatehouse.template import Scope
from gatehouse.times import parse_time, rfc3339

if TYPE_CHECKING:
    from gatehouse.config.model import ProviderConfig
    from gatehouse.document import Path
    from gatehouse.template import Template
    from gatehouse.verify.base import VerifiedRequest

#: The type of what was verified but could not be read.
UNREADABLE = "gatehouse.unreadable"

_MAX_ATTRIBUTE = 1024
#: What a CloudEvents string may not hold (CloudEvents 1.0.2, type system): control characters.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: Longer dedupe keys are kept as a hash. The mark makes a hash longer than any key kept whole.
_HASH_MARK = b"sha256:"
_MAX_WHOLE_KEY = len(_HASH_MARK) + 31


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
    #: Where in `body` the data is, as start and end; None when the event has no data.
    data_span: tuple[int, int] | None = None
    #: Whether the data is JSON. If not, it travels as base64.
    data_is_json: bool = True

    @property
    def data(self) -> bytes | None:
        """The exact bytes of the data."""
        if self.data_span is None:
            return None
        start, end = self.data_span
        return self.body[start:end]


class EventReader:
    """Reads the events of one source; everything that can be worked out at load time is."""

    def __init__(self, name: str, path: str, config: ProviderConfig, *, provider: str) -> None:
        self._name = name
        self._path = path
        self._provider = provider
        self._templates = config.event
        self._data_paths = _body_paths(config.event.data)
        self._split_paths = _body_paths(config.event.split) if config.event.split else ()
        self._dedupe = config.dedupe.by

    def read(
        self, verified: VerifiedRequest, now: float, headers: tuple[tuple[str, str], ...]
    ) -> list[tuple[Event, tuple[bytes | None, ...]]]:
        """Read the events of a request, each with its dedupe keys by place.

        What can't be read becomes one event of type `gatehouse.unreadable`: never lost, never an error.
        """
        whole = _scope(verified)
        try:
            scopes = self._scopes(verified, whole)
            return [(self._event(scope, now, headers), self._keys(scope)) for scope in scopes]
        except MalformedDocumentError:
            return [(self._unreadable(whole, now, headers), self._keys(whole))]

    def _scopes(self, verified: VerifiedRequest, whole: Scope) -> list[Scope]:
        if not self._split_paths:
            return [whole]
        for path in self._split_paths:
            if whole.document.raw(path) is not None:
                return [_scope(verified, body=item) for item in whole.document.items(path)]
        raise MalformedDocumentError("nothing to split")

    def _event(self, scope: Scope, now: float, headers: tuple[tuple[str, str], ...]) -> Event:
        templates = self._templates
        event_type = _attribute(templates.type, scope)
        if event_type is None:
            raise MalformedDocumentError("no type")
        span, data_is_json = self._data(scope)
        event_id = new_id(now)
        return Event(
            id=event_id,
            source=self._name,
            path=self._path,
            provider=self._provider,
            external_id=_attribute(templates.id, scope) or event_id,
            type=event_type,
            time=_time(templates.time, scope, now),
            received=now,
            subject=_attribute(templates.subject, scope),
            account=_attribute(templates.account, scope),
            content_type=scope.request.headers.get("Content-Type"),
            headers=headers,
            body=scope.body,
            data_span=span,
            data_is_json=data_is_json,
        )

    def _unreadable(self, scope: Scope, now: float, headers: tuple[tuple[str, str], ...]) -> Event:
        event_id = new_id(now)
        return Event(
            id=event_id,
            source=self._name,
            path=self._path,
            provider=self._provider,
            external_id=event_id,
            type=UNREADABLE,
            time=rfc3339(now),
            received=now,
            content_type=scope.request.headers.get("Content-Type"),
            headers=headers,
            body=scope.body,
            data_span=(0, len(scope.body)),
            data_is_json=False,
        )

    def _data(self, scope: Scope) -> tuple[tuple[int, int] | None, bool]:
        for path in self._data_paths:
            if not path:
                return (0, len(scope.body)), is_json(scope.body)
            raw = scope.document.raw(path)
            if raw is not None:
                start = scope.body.find(raw)
                return (start, start + len(raw)), True
        return None, True

    def _keys(self, scope: Scope) -> tuple[bytes | None, ...]:
        return tuple([_key(template, scope) for template in self._dedupe])


def _scope(verified: VerifiedRequest, *, body: bytes | None = None) -> Scope:
    return Scope(verified.request, timestamp=verified.timestamp, signed=verified.signed, body=body)


def _body_paths(template: Template) -> tuple[Path, ...]:
    """Return the paths of a template of lone `{body:path}`s; the empty path is the whole body."""
    return tuple(part.path for (part,) in template.alternatives if not isinstance(part, bytes))


def _attribute(template: Template | None, scope: Scope) -> str | None:
    """Resolve a template to what a CloudEvents attribute may hold, or None."""
    text = template.text(scope) if template else None
    if not text or len(text) > _MAX_ATTRIBUTE or _CONTROL.search(text):
        return None
    return text


def _time(template: Template | None, scope: Scope, now: float) -> str:
    text = template.text(scope) if template else None
    seconds = parse_time(text) if text else None
    return rfc3339(now if seconds is None else seconds)


def _key(template: Template, scope: Scope) -> bytes | None:
    """Resolve a dedupe key; None, and never a shared empty key, when nothing tells the events apart."""
    try:
        key = template.render(scope)
    except MalformedDocumentError:
        return None
    if not key:
        return None
    return key if len(key) <= _MAX_WHOLE_KEY else _HASH_MARK + hashlib.sha256(key).digest()

"""Defines the scope of a template: one request, or one item of a batch. Its parts are parsed when needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gatehouse.language.document import Document, MalformedDocumentError, without_bom
from gatehouse.language.multipart_form import MULTIPART, Parts, read_parts
from gatehouse.language.request import as_sent

if TYPE_CHECKING:
    from gatehouse.language.request import Request

#: Values that a scope may have in addition to the request.
FACTS = ("timestamp", "id", "signed", "claims", "challenge", "proof", "token")
NO_FACTS: Mapping[str, bytes | None] = {}
#: The maximum number of form fields. A body with more is not a form.
MAX_FORM_FIELDS = 1000
_FORM_TYPE = "application/x-www-form-urlencoded"
#: A percent sign that is not an escape. Forms do not contain any.
_STRAY = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_MAX_STRAY = 10_000


class Scope:
    """The values that templates read: one request, or one item of a batch."""

    __slots__ = ("_form", "_parts", "_query", "body", "document", "facts", "is_item", "outer", "request")

    def __init__(
        self,
        request: Request,
        *,
        facts: Mapping[str, bytes | None] = NO_FACTS,
        body: bytes | None = None,
        outer: tuple[Document, ...] = (),
        is_item: bool = False,
    ) -> None:
        self.request = request
        #: Values from a verifier or a handshake: timestamp, id, signed, challenge, proof, token.
        self.facts = facts
        #: The JSON that `{body:…}` reads: the body of the request, a document inside it, or an item of a
        #: batch.
        self.body = request.body if body is None else body
        #: The body as a JSON document, which is parsed when needed.
        self.document = Document(self.body)
        #: The documents around an item, the nearest first. The last may be the body around a document.
        self.outer = outer
        #: Whether this is an item of a batch.
        self.is_item = is_item
        self._form: dict[str, str] | None = None
        self._parts: Parts | None = None
        self._query: dict[str, str] | None = None

    @property
    def form(self) -> Mapping[str, str]:
        """The fields of a form body, without those that occur more than once."""
        if self._form is None:
            self._form = _single_fields(self.form_fields)
        return self._form

    @property
    def form_fields(self) -> list[tuple[str, str]]:
        """All fields of a form body, in order."""
        request = self.request
        if not is_form(request):
            return []
        return self.parts.fields if _is_multipart(request) else _fields(request.body)

    @property
    def parts(self) -> Parts:
        """The parts of a `multipart/form-data` body; none of any other body."""
        if self._parts is None:
            request = self.request
            is_multipart = is_form(request) and _is_multipart(request)
            content_type = request.headers.get("Content-Type", "")
            self._parts = read_parts(request.body, content_type) if is_multipart else Parts([], [])
        return self._parts

    def file(self, name: str) -> bytes | None:
        """Return the content of the only uploaded file with this name; None without one."""
        found = [content for of, content in self.parts.files if of == name]
        return found[0] if len(found) == 1 else None

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters, without those that occur more than once."""
        if self._query is None:
            self._query = _single_fields(_fields(as_sent(self.request.query)))
        return self._query


def is_form(request: Request) -> bool:
    """Return whether the Content-Type says that the body is a form, and the body does not begin like JSON.

    Any bytes can be parsed as a form. In JSON, `&payload=` inside a string that anyone can write would be a
    field. The Content-Type alone is not enough, because providers rarely sign it.
    """
    is_form_type = _media_type(request) in (_FORM_TYPE, MULTIPART)
    return is_form_type and not without_bom(request.body).lstrip().startswith((b"{", b"["))


def is_urlencoded(request: Request) -> bool:
    """Return whether the body is a form in `application/x-www-form-urlencoded`."""
    return is_form(request) and not _is_multipart(request)


def _is_multipart(request: Request) -> bool:
    return _media_type(request) == MULTIPART


def _media_type(request: Request) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _fields(raw: bytes) -> list[tuple[str, str]]:
    escaped, stray = _STRAY.subn(b"%25", raw, _MAX_STRAY)
    if raw.count(b"&") >= MAX_FORM_FIELDS or stray == _MAX_STRAY:
        raise MalformedDocumentError("not a form")
    pairs = (field.partition(b"=") for field in escaped.split(b"&") if field)
    return [(_unescaped(name), _unescaped(value)) for name, _, value in pairs]


def _unescaped(raw: bytes) -> str:
    """Decode the escapes of a form, like `urllib.parse.unquote_plus`. All of them must be valid.

    `unquote_plus` needs more than a tenth of a second for 1 MB of escapes from an unverified sender. The
    decoder of Python's string escapes needs some milliseconds.
    """
    plain = raw.replace(b"+", b" ")
    if b"%" in plain:
        python = plain.replace(b"\\", rb"\\").replace(b"%", rb"\x")
        plain = python.decode("unicode_escape").encode("latin-1")
    return plain.decode("utf-8", "surrogateescape")


def _single_fields(fields: list[tuple[str, str]]) -> dict[str, str]:
    seen: dict[str, str] = {}
    repeated: set[str] = set()
    for name, value in fields:
        if name in seen:
            repeated.add(name)
        seen[name] = value
    return {name: value for name, value in seen.items() if name not in repeated}

"""What a template sees: one request, or one item of a batch, read as far as somebody asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gatehouse.language.document import Document, MalformedDocumentError, without_mark
from gatehouse.language.request import as_sent

if TYPE_CHECKING:
    from gatehouse.language.request import Request

#: What a scope may know besides the request.
FACTS = ("timestamp", "id", "signed", "claims", "challenge", "proof", "token")
NO_FACTS: Mapping[str, bytes | None] = {}
#: More form fields than any provider sends; more than this is not read as a form.
MAX_FORM_FIELDS = 1000
_FORM_TYPE = "application/x-www-form-urlencoded"
#: A percent sign that stands for itself. Whoever writes forms writes none.
_STRAY = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_MAX_STRAY = 10_000


class Scope:
    """What a template sees: one request, or one item of a batch request."""

    __slots__ = ("_form", "_query", "body", "document", "facts", "is_item", "outer", "request")

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
        #: What a verifier or a handshake found: timestamp, id, signed; challenge, proof, token.
        self.facts = facts
        #: The JSON that `{body:…}` reads: the request's body, a document inside it, or an item of a batch.
        self.body = request.body if body is None else body
        #: The body as JSON; read when something is asked of it.
        self.document = Document(self.body)
        #: What encloses an item, the nearest first; the last may be the body around a document.
        self.outer = outer
        #: Whether this is one of several events of the request.
        self.is_item = is_item
        self._form: dict[str, str] | None = None
        self._query: dict[str, str] | None = None

    @property
    def form(self) -> Mapping[str, str]:
        """The fields of a form body. A field that occurs twice is left out: it has no one value."""
        if self._form is None:
            self._form = _single_fields(self.form_fields)
        return self._form

    @property
    def form_fields(self) -> list[tuple[str, str]]:
        """All fields, in their order, of a form body."""
        return _fields(self.request.body) if is_form(self.request) else []

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters, without those that occur twice."""
        if self._query is None:
            self._query = _single_fields(_fields(as_sent(self.request.query)))
        return self._query


def is_form(request: Request) -> bool:
    """Tell whether a body that says it is a form can be one.

    Any bytes can be read as a form: inside JSON, `&payload=` in a text that anyone writes would be a field.
    So it has to say so; and as hardly anyone signs what it says, what begins as JSON does is none even then.
    """
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return content_type == _FORM_TYPE and not without_mark(request.body).lstrip().startswith((b"{", b"["))


def _fields(raw: bytes) -> list[tuple[str, str]]:
    escaped, stray = _STRAY.subn(b"%25", raw, _MAX_STRAY)
    if raw.count(b"&") >= MAX_FORM_FIELDS or stray == _MAX_STRAY:
        raise MalformedDocumentError("not a form")
    pairs = (field.partition(b"=") for field in escaped.split(b"&") if field)
    return [(_unescaped(name), _unescaped(value)) for name, _, value in pairs]


def _unescaped(raw: bytes) -> str:
    """Undo the escapes of a form, none of them stray, as `urllib.parse.unquote_plus` does.

    That takes a tenth of a second and more for a megabyte of escapes, and nobody is verified yet. The decoder
    of Python's own escapes takes some milliseconds.
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

"""The one little language of verification and events: `"{timestamp}.{body}"`.

A template is text with placeholders; it resolves against a `Scope` to bytes, or to None when something it
names is not there. A list of templates means the first that resolves fully. `{{` and `}}` stand for braces.

    {body}           the raw bytes                  {body:a.b.0.c}   a value of the JSON body, as text
    {body_sorted}    the JSON with sorted keys      {header:Name}    a header that is there once
    {form:name}      a field of a form body         {form_sorted}    all fields: name and value, sorted
    {query:name}     a query parameter              {url} {path} {method}
    {timestamp}      as sent, from `timestamp:`     {signed}         the signed bytes
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from gatehouse.document import Document, MalformedDocumentError, Path, sorted_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.verify.base import Request

#: More form fields than any provider sends; more than this is not read as a form.
MAX_FORM_FIELDS = 1000


class TemplateError(ValueError):
    """The text is not a template."""


class Scope:
    """What a template sees: one request, or one item of a batch request."""

    __slots__ = ("_document", "_form", "_query", "body", "request", "signed", "timestamp")

    def __init__(
        self,
        request: Request,
        *,
        timestamp: bytes | None = None,
        signed: bytes | None = None,
        body: bytes | None = None,
    ) -> None:
        self.request = request
        self.timestamp = timestamp
        self.signed = signed
        self.body = request.body if body is None else body
        self._document: Document | None = None
        self._form: dict[str, str] | None = None
        self._query: dict[str, str] | None = None

    @property
    def document(self) -> Document:
        """The body as JSON, read lazily."""
        if self._document is None:
            self._document = Document(self.body)
        return self._document

    @property
    def form(self) -> Mapping[str, str]:
        """The fields of a form body. A field that occurs twice is left out: it has no one value."""
        if self._form is None:
            self._form = _single_fields(_fields(self.body))
        return self._form

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters, without those that occur twice."""
        if self._query is None:
            self._query = _single_fields(_fields(_as_sent(self.request.query)))
        return self._query


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`{name:argument}`."""

    name: str
    argument: str = ""

    @property
    def path(self) -> Path:
        """The argument as a path into a JSON document."""
        return tuple(self.argument.split(".")) if self.argument else ()


class Template:
    """A compiled template, or a list of them of which the first that resolves counts."""

    __slots__ = ("_alternatives", "alternatives")

    def __init__(self, text: str | tuple[str, ...]) -> None:
        texts = (text,) if isinstance(text, str) else text
        if not texts:
            raise TemplateError("a list of templates needs at least one")
        #: Each template as its literals and placeholders.
        self.alternatives = tuple(_parse(one) for one in texts)
        self._alternatives = tuple(tuple(map(_compile, parts)) for parts in self.alternatives)

    @property
    def placeholders(self) -> frozenset[Placeholder]:
        """Every placeholder of every alternative."""
        return frozenset(
            part for parts in self.alternatives for part in parts if isinstance(part, Placeholder)
        )

    def render(self, scope: Scope) -> bytes | None:
        """Resolve to bytes; None when no alternative resolves fully.

        Raises `MalformedDocumentError` when a value is to be read from a body that is not JSON.
        """
        for parts in self._alternatives:
            resolved = _resolve(parts, scope)
            if resolved is not None:
                return resolved
        return None

    def text(self, scope: Scope) -> str | None:
        """Resolve to text; None as well when the bytes are not UTF-8."""
        resolved = self.render(scope)
        if resolved is None:
            return None
        try:
            return resolved.decode()
        except UnicodeDecodeError:
            return None


def _resolve(parts: tuple[Callable[[Scope], bytes | None], ...], scope: Scope) -> bytes | None:
    if len(parts) == 1:
        return parts[0](scope)
    resolved = []
    for part in parts:
        value = part(scope)
        if value is None:
            return None
        resolved.append(value)
    return b"".join(resolved)


_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


def _parse(text: str) -> tuple[bytes | Placeholder, ...]:
    parts: list[bytes | Placeholder] = []
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word in ("{", "}"):
            raise TemplateError(f'a lone "{word}" in the template; write it twice to mean the character')
        if token[1] is not None:
            parts.append(_placeholder(token[1]))
        else:
            parts.append({"{{": "{", "}}": "}"}.get(word, word).encode())
    if not parts:
        raise TemplateError("an empty template")
    return tuple(parts)


def _placeholder(inside: str) -> Placeholder:
    name, colon, argument = inside.partition(":")
    if name not in _WITHOUT_ARGUMENT and name not in _WITH_ARGUMENT:
        known = ", ".join(sorted({*_WITHOUT_ARGUMENT, *_WITH_ARGUMENT}))
        raise TemplateError(f'unknown placeholder "{{{inside}}}"; expected one of: {known}')
    if colon and (name not in _WITH_ARGUMENT or not argument):
        raise TemplateError(f'"{{{inside}}}": write {{{name}}} or {{{name}:…}} with a name behind the colon')
    if not colon and name not in _WITHOUT_ARGUMENT:
        raise TemplateError(f'"{{{inside}}}" needs a name, as in {{{name}:…}}')
    return Placeholder(name, argument)


def _compile(part: bytes | Placeholder) -> Callable[[Scope], bytes | None]:
    if isinstance(part, bytes):
        return lambda _: part
    if part.argument:
        return _WITH_ARGUMENT[part.name](part)
    return _WITHOUT_ARGUMENT[part.name]


def _body_value(placeholder: Placeholder) -> Callable[[Scope], bytes | None]:
    path = placeholder.path

    def resolve(scope: Scope) -> bytes | None:
        text = scope.document.text(path)
        return None if text is None else text.encode()

    return resolve


def _header(placeholder: Placeholder) -> Callable[[Scope], bytes | None]:
    name = placeholder.argument

    def resolve(scope: Scope) -> bytes | None:
        values = scope.request.headers.getall(name, ())
        return _as_sent(values[0]) if len(values) == 1 else None

    return resolve


def _form_value(placeholder: Placeholder) -> Callable[[Scope], bytes | None]:
    return lambda scope: _encoded(scope.form.get(placeholder.argument))


def _query_value(placeholder: Placeholder) -> Callable[[Scope], bytes | None]:
    return lambda scope: _encoded(scope.query.get(placeholder.argument))


def _url(scope: Scope) -> bytes | None:
    request = scope.request
    if not request.public_url:
        return None
    return _as_sent(request.public_url + request.path + ("?" + request.query if request.query else ""))


def _form_sorted(scope: Scope) -> bytes | None:
    fields = sorted(set(_fields(scope.body)))
    return _as_sent("".join(name + value for name, value in fields)) if fields else None


_WITHOUT_ARGUMENT: dict[str, Callable[[Scope], bytes | None]] = {
    "body": lambda scope: scope.body,
    "body_sorted": lambda scope: sorted_json(scope.body),
    "form_sorted": _form_sorted,
    "method": lambda scope: scope.request.method.encode(),
    "path": lambda scope: _as_sent(scope.request.path),
    "signed": lambda scope: scope.signed,
    "timestamp": lambda scope: scope.timestamp,
    "url": _url,
}

_WITH_ARGUMENT: dict[str, Callable[[Placeholder], Callable[[Scope], bytes | None]]] = {
    "body": _body_value,
    "form": _form_value,
    "header": _header,
    "query": _query_value,
}


def _as_sent(text: str) -> bytes:
    """Undo what the HTTP parser did to bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else _as_sent(text)


def _fields(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            raw.decode("utf-8", "surrogateescape"),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=MAX_FORM_FIELDS,
        )
    except ValueError as error:
        raise MalformedDocumentError("not a form") from error


def _single_fields(fields: list[tuple[str, str]]) -> dict[str, str]:
    seen: dict[str, str] = {}
    repeated: set[str] = set()
    for name, value in fields:
        if name in seen:
            repeated.add(name)
        seen[name] = value
    return {name: value for name, value in seen.items() if name not in repeated}

"""Places in a request that hold a text: a header, a query parameter, a form field or a value in the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, urlencode

import msgspec
from multidict import CIMultiDict

from gatehouse.errors import VerificationError
from gatehouse.language.document import Document, MalformedDocumentError, with_value
from gatehouse.language.request import Request, as_sent
from gatehouse.verify.base import single_header

if TYPE_CHECKING:
    from gatehouse.language.scope import Scope


class Place(Protocol):
    """A place from which `verify` reads a text, and to which `sign` writes it."""

    def read(self, scope: Scope) -> str | None:
        """Return the text; None if missing. Raises `VerificationError` if it is ambiguous or malformed."""

    def write(self, request: Request, text: str) -> Request:
        """Return the request with this text in this place."""

    def header_names(self) -> frozenset[str]:
        """Return the headers (lower case) that may contain the text."""


def place(*, headers: tuple[str, ...] = (), query: str | None, form: str | None, body: str | None) -> Place:
    """Create the place that a config names."""
    if headers:
        return HeaderPlace(headers)
    if query is not None:
        return QueryPlace(query)
    return FormPlace(form) if form is not None else BodyPlace(body or "")


class HeaderPlace:
    """A header, or the first one present of several."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def read(self, scope: Scope) -> str | None:
        for name in self._names:
            value = single_header(scope.request, name)
            if value is not None:
                return value
        return None

    def write(self, request: Request, text: str) -> Request:
        return with_header(request, self._names[0], text)

    def header_names(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self._names)


class QueryPlace:
    """A query parameter that occurs once."""

    def __init__(self, name: str) -> None:
        self._name = name

    def read(self, scope: Scope) -> str | None:
        try:
            return scope.query.get(self._name)
        except MalformedDocumentError:
            return None

    def write(self, request: Request, text: str) -> Request:
        return msgspec.structs.replace(request, query=_with_field(request.query, self._name, text))

    def header_names(self) -> frozenset[str]:
        return frozenset()


class FormPlace:
    """A form field that occurs once."""

    def __init__(self, name: str) -> None:
        self._name = name

    def read(self, scope: Scope) -> str | None:
        try:
            return scope.form.get(self._name)
        except MalformedDocumentError as error:
            raise VerificationError("malformed_body") from error

    def write(self, request: Request, text: str) -> Request:
        body = _with_field(request.body.decode(), self._name, text)
        return msgspec.structs.replace(request, body=as_sent(body))

    def header_names(self) -> frozenset[str]:
        return frozenset()


class BodyPlace:
    """A value of the JSON body."""

    def __init__(self, path: str) -> None:
        self._path = tuple(path.split("."))

    def read(self, scope: Scope) -> str | None:
        try:
            return scope.document.text(self._path)
        except MalformedDocumentError as error:
            raise VerificationError("malformed_body") from error

    def write(self, request: Request, text: str) -> Request:
        """Write a JSON string, or a number if the value is a number now."""
        try:
            present = Document(request.body).raw(self._path)
            is_number = present is not None and present.isdigit() and text.isdigit()
            value = as_sent(text) if is_number else msgspec.json.encode(text)
            body = with_value(request.body, self._path, value)
        except MalformedDocumentError as error:
            raise VerificationError("malformed_body") from error
        return msgspec.structs.replace(request, body=body)

    def header_names(self) -> frozenset[str]:
        return frozenset()


def with_header(request: Request, name: str, value: str) -> Request:
    """Return the request with this header. It replaces all headers of the same name."""
    headers = CIMultiDict(request.headers)
    headers[name] = value
    return msgspec.structs.replace(request, headers=headers)


def _with_field(encoded: str, name: str, value: str) -> str:
    """Replace a field in its position, or append it. Other fields do not change."""
    fields = parse_qsl(encoded, keep_blank_values=True)
    if all(known != name for known, _ in fields):
        return "&".join(filter(None, (encoded, urlencode({name: value}))))
    return urlencode([(known, value if known == name else old) for known, old in fields])

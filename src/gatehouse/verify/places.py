"""Places in a request that hold one text: a header, a query parameter, a form field, a value in the body."""

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
    """Where something is read, and written by those who sign."""

    def read(self, scope: Scope) -> str | None:
        """Return the text; None when there is none. Raises `VerificationError` when it has no one meaning."""

    def write(self, request: Request, text: str) -> Request:
        """Return the request with this text in its place."""

    def header_names(self) -> frozenset[str]:
        """Name the headers (lower case) that it may be in."""


def place(*, headers: tuple[str, ...] = (), query: str | None, form: str | None, body: str | None) -> Place:
    """Make the place that a config names."""
    if headers:
        return HeaderPlace(headers)
    if query is not None:
        return QueryPlace(query)
    return FormPlace(form) if form is not None else BodyPlace(body or "")


class HeaderPlace:
    """A header, or the first present one of several."""

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
    """A query parameter that is there once."""

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
    """A form field that is there once."""

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
        """Write a JSON string, or a bare number where one stands."""
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
    """Return the request with this header, and no other of its name."""
    headers = CIMultiDict(request.headers)
    headers[name] = value
    return msgspec.structs.replace(request, headers=headers)


def _with_field(encoded: str, name: str, value: str) -> str:
    """Replace a field where it stands, or add it at the end. Other fields stay as they are."""
    fields = parse_qsl(encoded, keep_blank_values=True)
    if all(known != name for known, _ in fields):
        return "&".join(filter(None, (encoded, urlencode({name: value}))))
    return urlencode([(known, value if known == name else old) for known, old in fields])

"""Defines the placeholders of templates, each as a function that reads its value from a scope."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import msgspec

from gatehouse.language.document import MalformedDocumentError, Path, sorted_json
from gatehouse.language.request import as_sent
from gatehouse.language.scope import FACTS, Scope

#: Reads a value from a scope. Returns None if the value is missing.
Resolve = Callable[[Scope], bytes | None]

_DOT = re.compile(r"(?<!\\)\.")


def steps(argument: str) -> Path:
    """Parse an argument as a path in a JSON document. After a backslash, a dot is part of a name."""
    return tuple(step.replace("\\.", ".") for step in _DOT.split(argument)) if argument else ()


def _body_value(argument: str) -> Resolve:
    *parent, name = steps(argument)
    inside = tuple(parent)

    def resolve(scope: Scope) -> bytes | None:
        text = scope.document.text_of(inside, name)
        return None if text is None else as_sent(text)

    return resolve


def _body_name(argument: str) -> Resolve:
    names = argument.split("|")

    def resolve(scope: Scope) -> bytes | None:
        document = scope.document
        return next((as_sent(name) for name in names if document.raw_unchecked((name,)) is not None), None)

    return resolve


def _outer_value(argument: str) -> Resolve:
    path = steps(argument)

    def resolve(scope: Scope) -> bytes | None:
        for document in scope.outer:
            try:
                text = document.text(path)
            except MalformedDocumentError:
                continue
            if text is not None:
                return as_sent(text)
        return None

    return resolve


def _fact(name: str) -> Resolve:
    return lambda scope: scope.facts.get(name)


def _header(argument: str) -> Resolve:
    name = argument

    def resolve(scope: Scope) -> bytes | None:
        values = scope.request.headers.getall(name, ())
        return as_sent(values[0]) if len(values) == 1 else None

    return resolve


def _form_value(argument: str) -> Resolve:
    return lambda scope: _encoded(scope.form.get(argument))


def _file_content(argument: str) -> Resolve:
    return lambda scope: scope.file(argument)


def _query_value(argument: str) -> Resolve:
    return lambda scope: _encoded(scope.query.get(argument))


def _query_lower(argument: str) -> Resolve:
    def resolve(scope: Scope) -> bytes | None:
        value = _encoded(scope.query.get(argument))
        return None if value is None else value.lower()  # ASCII letters only

    return resolve


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else as_sent(text)


def _url(scope: Scope) -> bytes | None:
    request = scope.request
    if not request.public_url:
        return None
    return as_sent(request.public_url + request.path + ("?" + request.query if request.query else ""))


#: The escapes that HubSpot decodes in a URL before it signs it.
#: https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation
_HUBSPOT_ESCAPES = {f"%{ord(char):02X}": char for char in ":/?@!$'()*,;"}
_HUBSPOT_ESCAPE = re.compile("|".join(_HUBSPOT_ESCAPES), re.IGNORECASE)


def _url_decoded(scope: Scope) -> bytes | None:
    url = _url(scope)
    if url is None:
        return None
    text = url.decode("utf-8", "surrogateescape")
    return as_sent(_HUBSPOT_ESCAPE.sub(lambda escape: _HUBSPOT_ESCAPES[escape[0].upper()], text))


def _form_sorted(scope: Scope) -> bytes | None:
    if scope.parts.files:
        return None  # a signature of the fields would not cover the files
    fields = sorted(set(scope.form_fields))
    return as_sent("".join(name + value for name, value in fields)) if fields else None


#: Encodings that contain ASCII, which the names and separators of a form need.
_CHARSET = re.compile(
    r"(us-ascii|utf-?8|(cp|windows-?|ibm)\d+|iso-?8859-?\d+|latin-?\d+|koi8-[ru]|gb\w+|big5|euc-?\w+|shift.?jis)"
)


def _form(scope: Scope) -> bytes | None:
    """Return a form as a JSON object. A repeated field becomes a list."""
    sent = scope.form_fields
    if not sent:
        return None
    declared = _charset(scope.request.headers.get("Content-Type", ""))
    fields: dict[str, str | list[str]] = {}
    for name, value in sent:
        name, value = (_readable(as_sent(text), declared) for text in (name, value))  # noqa: PLW2901
        known = fields.get(name)
        fields[name] = value if known is None else [*([known] if isinstance(known, str) else known), value]
    return msgspec.json.encode(fields)


def _charset(content_type: str) -> str | None:
    found = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", content_type, re.IGNORECASE)
    name = found[1].lower() if found else ""
    return name if _CHARSET.fullmatch(name) else None


def _readable(raw: bytes, declared: str | None) -> str:
    """Decode bytes of a form: with the declared encoding, or as UTF-8, or as Windows-1252."""
    for encoding in (declared, "utf-8", "cp1252"):
        try:
            if encoding is not None:
                return raw.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return raw.decode("latin-1")


WITHOUT_ARGUMENT: dict[str, Resolve] = {
    "body": lambda scope: scope.body,
    # The hash of the whole request body, for schemes that sign a hash of the body.
    "body_sha256": lambda scope: hashlib.sha256(scope.request.body).hexdigest().encode(),
    "body_sorted": lambda scope: sorted_json(scope.body),
    # The hash of `{body}`: the item of a batch, or the document inside a form.
    "item_sha256": lambda scope: hashlib.sha256(scope.body).hexdigest().encode(),
    "form": _form,
    "form_sorted": _form_sorted,
    "method": lambda scope: as_sent(scope.request.method),
    "path": lambda scope: as_sent(scope.request.path),
    "query": lambda scope: as_sent(scope.request.query),
    "url": _url,
    "url_decoded": _url_decoded,
} | {name: _fact(name) for name in FACTS}

WITH_ARGUMENT: dict[str, Callable[[str], Resolve]] = {
    "body": _body_value,
    "body_name": _body_name,
    "file": _file_content,
    "form": _form_value,
    "header": _header,
    "outer": _outer_value,
    "query": _query_value,
    "query_lower": _query_lower,
    # The values of a source are inserted before its templates are compiled.
    "value": lambda _: lambda _: None,
}

"""Compiles the templates of verifiers and events: `"{timestamp}.{body}"`.

A template is text with placeholders. It resolves in a `Scope` to bytes, or to None if a value is missing. In
a list of templates, the first that resolves is used. `{{` and `}}` stand for braces.

    {body}           the raw bytes                  {body:a.b.0.c}    a value of the JSON body
    {body_sorted}    the JSON with sorted keys      {body_name:a|b}   the name of the member that is present
    {outer:a.b}      a value around a split item    {header:Name}     a header that occurs once
    {form:name}      a field of a form body         {form_sorted}     all fields, sorted: names and values
    {form}           all fields, as a JSON object   {query:name}      a query parameter; {query}: the query
    {file:name}      a file in a multipart form
    {url} {path} {method}                           {url_decoded}     as HubSpot signs it
    {body_sha256}    the hash of the body, in hex   {item_sha256}     the hash of one item of a batch
    {query_lower:name}  a query parameter in lower case
    {timestamp}      as sent, from `timestamp:`     {id}              the signed id, from `id:`
    {signed}         the signed bytes               {value:name}      a value of `values:` of the source
    {challenge} {proof} {token}                     values of a handshake

A `?` at the end makes a placeholder optional: `{body:Subject?}` is empty if the value is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatehouse.language.document import MalformedDocumentError, Path
from gatehouse.language.placeholders import WITH_ARGUMENT, WITHOUT_ARGUMENT, Resolve, steps

if TYPE_CHECKING:
    from gatehouse.language.scope import Scope


class TemplateError(ValueError):
    """The text is not a valid template."""

    def __init__(self, message: str, *, inside: str = "", possible: str = "") -> None:
        """`inside` is the invalid text between braces. `possible` lists the valid placeholders."""
        super().__init__(f"{message}; expected one of: {possible}" if possible else message)
        self.brief = message
        self.inside = inside


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`{name:argument}`, or `{name:argument?}` if it is optional."""

    name: str
    argument: str = ""
    optional: bool = False

    def __str__(self) -> str:
        return "{" + self.name + (f":{self.argument}" if self.argument else "") + "?" * self.optional + "}"

    @property
    def path(self) -> Path:
        """The argument as a path in a JSON document."""
        return steps(self.argument)


class Template:
    """A compiled template or list of templates. Of a list, the first that resolves is used."""

    __slots__ = ("alternatives", "render", "resolves", "text")

    #: Resolves the template to bytes, or None if no alternative resolves.
    #:
    #: Raises `MalformedDocumentError` if a value must be read from a body that is not JSON, and no
    #: alternative resolves without it.
    render: Callable[[Scope], bytes | None]
    #: Resolves the template to text. Also None if the bytes are not UTF-8. Raises the same errors as
    #: `render`.
    text: Callable[[Scope], str | None]

    def __init__(self, text: str | tuple[str, ...]) -> None:
        texts = (text,) if isinstance(text, str) else text
        if not texts:
            raise TemplateError("the list of templates is empty")
        #: The literals and placeholders of each template.
        self.alternatives = tuple(_parse(one) for one in texts)
        # Most templates are a single placeholder, whose function is used directly. Each event resolves about
        # six templates, and wrapper functions would cost more than reading the values.
        #: One function per alternative.
        self.resolves = tuple(map(_joined, self.alternatives))
        self.render = _first(self.resolves)
        self.text = _lone_body_text(self.alternatives) or _decoded(self.render)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self.alternatives == other.alternatives

    def __hash__(self) -> int:
        return hash(self.alternatives)

    @property
    def placeholders(self) -> frozenset[Placeholder]:
        """Every placeholder of every alternative."""
        return frozenset(
            part for parts in self.alternatives for part in parts if isinstance(part, Placeholder)
        )


def _first(alternatives: tuple[Resolve, ...]) -> Resolve:
    """Return a function that resolves the first alternative that resolves."""
    if len(alternatives) == 1:
        return alternatives[0]

    def render(scope: Scope) -> bytes | None:
        malformed: MalformedDocumentError | None = None
        for resolve in alternatives:
            try:
                resolved = resolve(scope)
            except MalformedDocumentError as error:
                malformed = error
                continue
            if resolved is not None:
                return resolved
        if malformed is not None:
            raise malformed
        return None

    return render


def _joined(parts: tuple[bytes | Placeholder, ...]) -> Resolve:
    """Return a function that joins all parts. It returns None if a part is missing."""
    resolves = tuple(map(_compile, parts))
    if len(resolves) == 1:
        return resolves[0]

    def render(scope: Scope) -> bytes | None:
        resolved = []
        for resolve in resolves:
            value = resolve(scope)
            if value is None:
                return None
            resolved.append(value)
        return b"".join(resolved)

    return render


def _decoded(render: Resolve) -> Callable[[Scope], str | None]:
    def text(scope: Scope) -> str | None:
        resolved = render(scope)
        if resolved is None:
            return None
        try:
            return resolved.decode()
        except UnicodeDecodeError:
            return None

    return text


def _lone_body_text(
    alternatives: tuple[tuple[bytes | Placeholder, ...], ...],
) -> Callable[[Scope], str | None] | None:
    """Return a function that reads a single `{body:path}` as text, or None for any other template."""
    ((first, *rest), *others) = alternatives
    if rest or others or not isinstance(first, Placeholder) or first.name != "body" or first.optional:
        return None
    *parent, name = first.path or ("",)
    inside = tuple(parent)
    return (lambda scope: scope.document.text_of(inside, name)) if first.path else None


_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


def _parse(text: str) -> tuple[bytes | Placeholder, ...]:
    parts: list[bytes | Placeholder] = []
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word in ("{", "}"):
            raise TemplateError(f'unmatched "{word}": write it twice for the character itself')
        if token[1] is not None:
            parts.append(_placeholder(token[1]))
        else:
            parts.append({"{{": "{", "}}": "}"}.get(word, word).encode())
    if not parts:
        raise TemplateError("the template is empty")
    return tuple(parts)


def _placeholder(inside: str) -> Placeholder:
    text = inside.removesuffix("?")
    name, colon, argument = text.partition(":")
    if name not in WITHOUT_ARGUMENT and name not in WITH_ARGUMENT:
        known = ", ".join(sorted({*WITHOUT_ARGUMENT, *WITH_ARGUMENT}))
        raise TemplateError(f'unknown placeholder "{{{inside}}}"', inside=inside, possible=known)
    if argument != argument.strip():
        raise TemplateError(f'"{{{inside}}}": spaces are not allowed', inside=inside)
    if colon and (name not in WITH_ARGUMENT or not argument):
        raise TemplateError(f'"{{{inside}}}": write {{{name}}}, or {{{name}:…}} with a name after the colon')
    if not colon and name not in WITHOUT_ARGUMENT:
        raise TemplateError(f'"{{{inside}}}" needs a name, as in {{{name}:…}}')
    return Placeholder(name, argument, optional=text != inside)


def _compile(part: bytes | Placeholder) -> Resolve:
    if isinstance(part, bytes):
        return lambda _: part
    resolve = WITH_ARGUMENT[part.name](part.argument) if part.argument else WITHOUT_ARGUMENT[part.name]
    return _optional(resolve) if part.optional else resolve


def _optional(resolve: Resolve) -> Resolve:
    return lambda scope: resolve(scope) or b""

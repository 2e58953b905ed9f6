"""Masks the text of a config file for operators: hides every value that can be a credential.

Secrets are references, so the file has no place for them. But a URL may carry credentials, and an operator
may write one into text that is free: a user name, an audience, a value for a handshake. So only the text of
keys that are known to hold something else is shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel

from gatehouse.config.model import Config
from gatehouse.language.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: What becomes of the text of a key. `shown`: the user, the query and the fragment of each URL in it are
#: hidden. `url`: it is one URL. `template`: long literals between placeholders are hidden too.
Treatment = Literal["exact", "shown", "url", "template", "hidden"]

#: Keys whose text names something: headers, paths in bodies, sources, types, and what an event is made of.
_SHOWN: Final = frozenset(
    {
        *("trusted_proxies", "name", "networks", "provider", "path", "title", "setup", "types"),
        *("header", "headers", "body", "form", "key", "pair", "query", "each", "claim", "confirm_hosts"),
        *("ca", "cert", "scope"),
        *("id", "type", "time", "subject", "account", "document", "data", "split", "order_by"),
        *("sources", "to", "retries", "retries_resigned", "no_max_age", "disables", "unique_bodies"),
        *("unconfirmed", "roots", "leaf", "intermediate"),
    }
)
_URLS: Final = frozenset({"url", "token_url", "proxy", "jwks", "public_url", "docs", "issuer"})
_TEMPLATES: Final = frozenset({"signed", "prefix", "of", "token", "challenge", "show", "confirm", "text"})
#: Keys that mean something else in another model. The URL of the store can't have a password.
_OF_MODELS: Final[Mapping[tuple[str, str], Treatment]] = {
    ("StoreConfig", "url"): "exact",
    ("HandshakeAnswer", "headers"): "template",
    ("HandshakeAnswer", "json_"): "template",
    ("AnswersConfig", "body"): "hidden",
    ("DestinationConfig", "add_headers"): "template",
    ("SampleConfig", "headers"): "hidden",
    ("SampleConfig", "body"): "hidden",
}
#: In the order of how much they hide.
_STRICTNESS: Final[tuple[Treatment, ...]] = get_args(Treatment)

HIDDEN: Final = "…"
#: A comment that has its line for itself, and one behind a value. Both can contain anything.
_COMMENT: Final = re.compile(r"(?<=\n)[ \t]*#[^\r\n\x85\u2028\u2029]*\r?\n|[ \t]*#[^\r\n\x85\u2028\u2029]*")
_BLANK_LINES: Final = re.compile(r"\n{3,}")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_USER: Final = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY: Final = re.compile(r"([?#])\S+")
#: Bytes: the least that a secret has, unless its provider issues shorter ones.
_SHORTEST_SECRET: Final = 16
_LITERAL: Final = re.compile(r"(\{[^{}]*\})")


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


def masked_text(text: bytes) -> str:
    """Return the text of a valid config file without comments, and without values that can be credentials."""
    plain = text.decode("utf-8-sig")
    node = yaml.compose(plain, Loader=yaml.SafeLoader)
    edits = sorted([*_comments(plain), *_Masking().edits(node)] if node else _comments(plain))
    parts, end = [], 0
    for edit in edits:
        # A comment can be within a value that is hidden.
        if edit.start >= end:
            parts += [plain[end : edit.start], edit.text]
            end = edit.end
    return _BLANK_LINES.sub("\n\n", "".join([*parts, plain[end:]])).lstrip("\n")


def treatment(model: str, field: str, annotation: Any) -> Treatment:
    """Return what becomes of the text of a key of a model. A key that is not listed is hidden."""
    if not _holds_text(annotation):
        return "shown"
    if (model, field) in _OF_MODELS:
        return _OF_MODELS[model, field]
    if field in _URLS:
        return "url"
    if field in _TEMPLATES:
        return "template"
    return "shown" if field in _SHOWN else "hidden"


def _holds_text(annotation: Any) -> bool:
    """Return whether a value is free text, not a number, a word of a list, or a reference to a secret."""
    if annotation in (str, Template):
        return True
    if get_origin(annotation) is Literal:
        return False
    arguments = get_args(annotation)
    if _is_mapping(annotation):
        arguments = arguments[1:]
    return annotation is Any or any(map(_holds_text, arguments))


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is Mapping


class _Key(NamedTuple):
    """What may be at one place of the file."""

    treatment: Treatment
    #: The models that a mapping here may be.
    models: tuple[type[BaseModel], ...]
    #: The keys of a mapping here are names that the operator chose.
    has_names: bool


class _Masking:
    def __init__(self) -> None:
        #: By node: an alias leads to the same node, which is treated as its strictest place requires.
        self._scalars: dict[int, tuple[yaml.ScalarNode, Treatment]] = {}

    def edits(self, node: yaml.Node) -> Iterator[_Edit]:
        self._visit(node, _Key("hidden", (Config,), has_names=False))
        for scalar, how in self._scalars.values():
            shown = _shown(scalar.value, how)
            if shown != scalar.value:
                start, end = scalar.start_mark.index, scalar.end_mark.index
                yield _Edit(start, end, _quoted(shown, scalar.style))

    def _visit(self, node: yaml.Node, key: _Key) -> None:
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                self._visit(value, _member(key, name.value))
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self._visit(item, key)
        elif isinstance(node, yaml.ScalarNode):
            _, before = self._scalars.get(id(node), (node, "exact"))
            self._scalars[id(node)] = node, _strictest([before, key.treatment])


def _member(key: _Key, name: str) -> _Key:
    if key.has_names:
        return key._replace(has_names=False)
    found = [
        (model, field, info.annotation)
        for model in key.models
        for field, info in model.model_fields.items()
        if (info.alias or field) == name
    ]
    if not found:
        return _Key(key.treatment, (), has_names=False)
    return _Key(
        _strictest(treatment(model.__name__, field, annotation) for model, field, annotation in found),
        tuple(inner for *_, annotation in found for inner in member_models(annotation)),
        has_names=any(_is_mapping(annotation) and member_models(annotation) for *_, annotation in found),
    )


def member_models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a value of this type can be or contain."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in member_models(argument)]


def _strictest(treatments: Iterable[Treatment]) -> Treatment:
    return max(treatments, key=_STRICTNESS.index)


def _shown(value: str, how: Treatment) -> str:
    if how == "exact":
        return value
    if how == "hidden":
        return value if value in ("", "*") else HIDDEN
    if how == "template":
        value = "".join(map(_short_literal, _LITERAL.split(value)))
    if how == "url":
        return _without_credentials(value)
    return _URL.sub(lambda found: _without_credentials(found[0]), value)


def _without_credentials(url: str) -> str:
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(f"{HIDDEN}@", url), count=1)


def _short_literal(part: str) -> str:
    is_literal = not part.startswith("{")
    return HIDDEN if is_literal and len(part.encode()) >= _SHORTEST_SECRET else part


def _quoted(value: str, style: str | None) -> str:
    quoted = value if style is None else json.dumps(value, ensure_ascii=False)
    return quoted + "\n" if style in ("|", ">") else quoted


def _comments(text: str) -> Iterator[_Edit]:
    """Yield an edit for each comment: what is between two tokens and not white space."""
    before = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        start, end = token.start_mark.index, token.end_mark.index
        for found in _COMMENT.finditer(text, before, max(before, start)):
            yield _Edit(*found.span(), "")
        if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
            # Behind the sign of a block, a comment is part of its token.
            first_line = text.find("\n", start, end)
            for found in _COMMENT.finditer(text, start, end if first_line < 0 else first_line):
                yield _Edit(*found.span(), "")
        before = max(before, end)

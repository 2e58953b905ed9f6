"""Checks rules within one source: verifiers, secrets, templates, and replies that it relays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.config.base import parse_template, parse_text
from gatehouse.config.hints import escaped
from gatehouse.config.model import DedupeConfig
from gatehouse.config.quantities import format_duration, parse_duration
from gatehouse.config.rules import entries, mappings, parse_or_none, text_entries, value_at
from gatehouse.language.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.document import KeyPath, YamlDocument
    from gatehouse.config.presets import Merged
    from gatehouse.errors import Problem
    from gatehouse.language.template import Placeholder, Template

_SIGNING = ("hmac", "ed25519", "ecdsa", "rsa")
_WITH_SECRET = (*_SIGNING, "token", "basic", "jwt", "twilio", "ebay")
_NOTHING = (None, ())
_TYPES = (*_WITH_SECRET, "allowlist", "paypal", "aws-sns", "truelayer", "any", "none")
#: Placeholder → what provides it, and a hint.
_PROVIDED_BY = {
    "signed": ("a verifier that signs", "add a verifier, as in verify: {type: hmac, …}"),
    "timestamp": ("a verifier with a timestamp", "add timestamp: {header: NAME} to the verifier"),
    "id": ("a verifier with a signed id", 'add id: "{header:webhook-id}" to the verifier'),
    "claims": ("a verifier of type jwt", "add a verifier, as in verify: {type: jwt, …}"),
    "challenge": ("a handshake", "use it only in `handshakes`"),
    "proof": ("a handshake", "use it only in `handshakes`"),
    "token": ("a handshake", "use it only in `handshakes`"),
}


_OR_ACCEPT = "or use respond: accept"


def source_problems(merged: Merged, document: YamlDocument) -> Iterator[Problem]:
    """Return the problems between the keys of each source."""
    has_url = value_at(merged.data, "server", "public_url") is not None
    for name, source in mappings(value_at(merged.data, "sources")).items():
        path: KeyPath = ("sources", name)
        verifiers = [
            (merged.in_file(where), verifier)
            for where, verifier in entries(source.get("verify"), (*path, "verify"))
            if value_at(verifier, "type") in _TYPES
        ]
        yield from _none_alone(verifiers, document)
        yield from _placeholders(path, source, verifiers, document)
        yield from _constants(path, source, document)
        yield from _values(path, source, document)
        yield from _max_age(path, source, document)
        every = [one for verifier in verifiers for one in _inside(*verifier)]
        yield from _secrets(path, source, every, document)
        yield from _each(source, every, document)
        yield from _credentials_in_body(source, every, document)
        yield from _compressed(source, every, document)
        yield from _proofs(path, source, every, document)
        if not has_url:
            yield from _signed_url(every, document)
            yield from _hashed_url(path, source, document)
    yield from _relays(merged.data, document)


Verifiers = list[tuple["KeyPath", dict[str, Any]]]


def _inside(where: KeyPath, verifier: dict[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Return the verifiers inside `any`, or the verifier itself."""
    if verifier["type"] != "any":
        yield where, verifier
        return
    for inner, one in entries(verifier.get("of"), (*where, "of")):
        if value_at(one, "type") in _TYPES:
            yield inner, one


def _secrets(
    path: KeyPath, source: dict[str, Any], verifiers: Verifiers, document: YamlDocument
) -> Iterator[Problem]:
    # The key `secret` is reported as unknown. A missing `secrets` only follows from that.
    shared = source.get("secrets") not in _NOTHING or "secret" in source
    for where, verifier in verifiers:
        needs = (
            verifier["type"] in _WITH_SECRET and verifier.get("jwks", verifier.get("certificates")) is None
        )
        if needs and not shared and verifier.get("secrets") in _NOTHING:
            message = f"the verifier {verifier['type']} has no secret"
            hint = f"add secrets: [env:{str(path[1]).upper().replace('-', '_')}_SECRET]"
            yield document.problem(where if document.locate(where)[1] == where else path, message, hint)


def _none_alone(verifiers: Verifiers, document: YamlDocument) -> Iterator[Problem]:
    for where, verifier in verifiers:
        if verifier["type"] == "none" and len(verifiers) > 1:
            yield document.problem(where, "`none` cannot be combined with other verifiers", "remove it")


def _placeholders(
    path: KeyPath, source: dict[str, Any], verifiers: Verifiers, document: YamlDocument
) -> Iterator[Problem]:
    """Find templates that can never resolve, because no verifier provides their placeholders.

    Checks only templates in the file. A dedupe key of the preset may remain when the source sets another
    verifier.
    """
    if len(verifiers) != len(list(entries(source.get("verify"), path))):
        return  # the placeholders of an unreadable verifier are unknown
    given = set().union(*(_provides(one) for verifier in verifiers for _, one in _inside(*verifier)))
    outside = not any(value_at(source, "event", key) for key in ("split", "document"))
    for where, template in _templates(path, source):
        if document.locate(where)[1] != where:
            continue
        if outside and _always_contains("outer", template):
            message = "{outer:…} needs event.split or event.document"
            yield document.problem(where, message, "use {body:…}, or add event.split or event.document")
        for name, (origin, hint) in _PROVIDED_BY.items():
            if name not in given and _always_contains(name, template):
                yield document.problem(where, f"{{{name}}} needs {origin}", hint)


def _provides(verifier: dict[str, Any]) -> set[str]:
    """Return the placeholders that a verifier provides."""
    kind = verifier["type"]
    if verifier.get("each") is not None:
        return set()  # each item has its own values
    found = {"signed"} if kind in (*_SIGNING, "twilio", "ebay", "paypal", "aws-sns", "truelayer") else set()
    found |= {"id"} if kind == "twilio" else set()
    if kind == "jwt":
        covers_body = verifier.get("body") or verifier.get("body_hash")
        found = {"claims", "signed"} if covers_body else {"claims"}
    found |= {"timestamp"} if kind in ("paypal", "aws-sns", "truelayer") else set()
    return found | {name for name in ("timestamp", "id") if verifier.get(name) is not None}


def _constants(path: KeyPath, source: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find dedupe keys that are the same for every request."""
    for where, template in _templates(path, source):
        if where[2] == "dedupe" and any(map(_is_constant, template.alternatives)):
            message = "the key is the same for every request: all events but the first would be duplicates"
            yield document.problem(where, message, 'add a placeholder, as in "{body:id}"')


def _is_constant(parts: tuple[bytes | Placeholder, ...]) -> bool:
    return all(isinstance(part, bytes) for part in parts)


def _values(path: KeyPath, source: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find values that the preset requires and the source does not set."""
    values = source.get("values")
    for name, value in (values if isinstance(values, dict) else {}).items():
        if value == "":
            where = (*path, "values", name)
            yield document.problem(where, f"`values.{name}` is required", f"add values: {{{name}: …}}")


def _max_age(path: KeyPath, source: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find an age limit that is longer than the dedupe window.

    A captured request could be replayed between the two. The limit of a preset is shortened instead.
    """
    where = (*path, "max_age")
    max_age, window = (
        parse_or_none(parse_duration, source.get("max_age")),
        value_at(source, "dedupe", "window"),
    )
    known_for = DedupeConfig().window if window is None else parse_or_none(parse_duration, window)
    if max_age is None or known_for is None or document.locate(where)[1] != where:
        return
    if max_age > known_for:
        message = f"longer than the dedupe window of {format_duration(known_for)}"
        yield document.problem(where, message, "use a shorter max_age, or a longer dedupe.window")


def _each(source: dict[str, Any], verifiers: Verifiers, document: YamlDocument) -> Iterator[Problem]:
    """Find `each` without the same `event.split`.

    Only the items are verified, so events must not contain more.
    """
    split = value_at(source, "event", "split")
    for where, verifier in verifiers:
        each = verifier.get("each")
        is_complete = verifier["type"] != "token" or verifier.get("body") is not None
        if isinstance(each, str) and is_complete and split != f"{{body:{each}}}":
            hint = f'set event.split to "{{body:{each}}}"'
            yield document.problem((*where, "each"), "`each` needs the same path in event.split", hint)


def _compressed(source: dict[str, Any], verifiers: Verifiers, document: YamlDocument) -> Iterator[Problem]:
    """Find verifiers that read a value of a body that is still compressed."""
    decode = source.get("decode")
    if decode is False or decode is None or value_at(decode, "verify") == "decoded":
        return
    for where, verifier in verifiers:
        if _reads_body(verifier):
            message = "reads a value of the body, which is still compressed when it is verified"
            hint = "use decode: {verify: decoded} if the provider signs the data before it compresses it"
            yield document.problem(where, message, hint)


#: Placeholders that need no more than the bytes of the body.
_WHOLE_BODY = ("body", "body_sha256")


def _reads_body(verifier: dict[str, Any]) -> bool:
    if verifier["type"] in ("paypal", "aws-sns") or verifier.get("each") is not None:
        return True
    parts = (verifier, value_at(verifier, "signature"), value_at(verifier, "timestamp"))
    if any(isinstance(value_at(part, place), str) for part in parts for place in ("body", "form")):
        return True
    templates = (parse_or_none(parse_template, verifier.get(key)) for key in ("signed", "id"))
    return any(
        placeholder.name.startswith(("body", "form", "file", "item"))
        and (placeholder.name not in _WHOLE_BODY or bool(placeholder.argument))
        for template in templates
        if template is not None
        for placeholder in template.placeholders
    )


def _credentials_in_body(
    source: dict[str, Any], verifiers: Verifiers, document: YamlDocument
) -> Iterator[Problem]:
    """Find values that are read from a JSON body although the body is a form or a token.

    A token inside a JSON body proves nothing about the rest of the body, so events are read from the token.
    """
    inside = parse_or_none(parse_template, value_at(source, "event", "document"))
    for where, verifier in verifiers:
        if (
            verifier["type"] == "jwt"
            and isinstance(verifier.get("body"), str)
            and not _begins_with_claims(inside)
        ):
            message = "proves nothing about the rest of the body"
            yield document.problem((*where, "body"), message, 'set event.document to "{claims}"')
    if inside is None or any(part.name == "body" for part in inside.placeholders):
        return
    for where, verifier in verifiers:
        if verifier["type"] == "jwt":
            continue
        places = [(), *(("signature",), ("timestamp",))] if verifier["type"] in _SIGNING else [()]
        for place in places:
            part = value_at(verifier, *place) if place else verifier
            if isinstance(value_at(part, "body"), str):
                message = "needs a JSON body, but event.document says that the body is not JSON"
                yield document.problem(
                    (*where, *place, "body"), message, "read a form field instead, as in form: NAME"
                )


def _begins_with_claims(document: Template | None) -> bool:
    """Return whether the document is the content of the token, which every verified token has."""
    return document is not None and list(map(str, document.alternatives[0])) == ["{claims}"]


def _always_contains(placeholder: str, template: Template) -> bool:
    """Return whether every alternative of the template contains a placeholder."""
    return all(
        any(not isinstance(part, bytes) and part.name == placeholder for part in parts)
        for parts in template.alternatives
    )


def _templates(path: KeyPath, source: dict[str, Any]) -> Iterator[tuple[KeyPath, Template]]:
    event, by = source.get("event"), value_at(source, "dedupe", "by")
    found = [
        ((*path, "event", key), value) for key, value in (event if isinstance(event, dict) else {}).items()
    ]
    for where, value in entries(by, (*path, "dedupe", "by")):
        found.append(((*where, "key"), value.get("key")) if isinstance(value, dict) else (where, value))
    for where, value in found:
        template = parse_or_none(parse_template, value)
        if template is not None:
            yield where, template


def _signed_url(verifiers: Verifiers, document: YamlDocument) -> Iterator[Problem]:
    for where, verifier in verifiers:
        template = parse_or_none(parse_template, verifier.get("signed"))
        named = template is not None and any(
            _always_contains(name, template) for name in ("url", "url_decoded")
        )
        if named or verifier["type"] == "twilio":
            message = "{url} is signed, but server.public_url is not set"
            path = (*where, "signed") if named else where
            yield document.problem(path, message, "set server.public_url, as in https://hooks.example.com")


def _handshakes(path: KeyPath, source: dict[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    for where, handshake in entries(source.get("handshakes"), (*path, "handshakes")):
        proof = value_at(handshake, "proof")
        if isinstance(proof, dict):
            yield (*where, "proof"), proof


def _proofs(
    path: KeyPath, source: dict[str, Any], verifiers: Verifiers, document: YamlDocument
) -> Iterator[Problem]:
    """Find proofs without a secret, and proofs that would reveal signatures."""
    for where, proof in _handshakes(path, source):
        if proof.get("type") != "hmac":
            continue
        if source.get("secrets") in _NOTHING:
            hint = "add secrets to the source; those of a verifier are not used"
            yield document.problem(where, "the proof has no secret", hint)
        if any(verifier.get("each") is not None for _, verifier in verifiers):
            message = "a proof could be a valid signature of an item of a verifier with `each`"
            yield document.problem(where, message, "use proof: {type: hash, …}, or a separate source")


def _hashed_url(path: KeyPath, source: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    for where, proof in _handshakes(path, source):
        template = parse_or_none(parse_template, proof.get("of"))
        if template is not None and _always_contains("url", template):
            message = "{url} is hashed, but server.public_url is not set"
            yield document.problem(
                (*where, "of"), message, "set server.public_url, as in https://hooks.example.com"
            )


def _relays(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find why a source cannot relay the reply of a destination."""
    for name, source in mappings(data.get("sources")).items():
        if source.get("respond") == "relay":
            for message, hint in _reasons(name, source, data):
                yield document.problem(("sources", name, "respond"), message, f"{hint}, {_OR_ACCEPT}")


def _reasons(name: str, source: dict[str, Any], data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if value_at(source, "event", "split") is not None:
        yield "the events of one request would have several replies", "remove event.split"
    destinations, routes = mappings(data.get("destinations")), data.get("routes", ())
    if not isinstance(routes, tuple):
        return
    reached = _reached(name, routes)
    if len(reached) != 1:
        found = ", ".join(map(escaped, reached)) or "no destination"
        yield f"its routes lead to {found}", "add routes to exactly one destination"
    for destination in reached:
        yield from _unfit(destination, destinations.get(destination, {}))


def _unfit(name: str, destination: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if destination.get("format") == "cloudevents-batch":
        yield f"{name} gets batches, and a reply is for a whole batch", f"use another format for {name}"
    if destination.get("order_by") is not None:
        yield f"{name} is ordered, and a reply cannot wait for other events", f"remove order_by from {name}"


def _reached(source: str, routes: tuple[Any, ...]) -> list[str]:
    """Return the destinations that events of a source may go to."""
    return list(
        dict.fromkeys(
            to
            for route in routes
            if any(
                _matches_source(pattern, source) for _, pattern in text_entries(value_at(route, "from"), ())
            )
            for _, to in text_entries(value_at(route, "to"), ())
        )
    )


def _matches_source(pattern: str, source: str) -> bool:
    return parse_or_none(parse_text, pattern) is not None and matches(pattern, source)

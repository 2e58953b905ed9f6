"""Problems within one destination: what stands beside what it can't stand beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.config.credentials import names_credential
from gatehouse.config.model import BreakerConfig, RetryConfig
from gatehouse.config.readable import at, mappings, read, texts
from gatehouse.config.scalars import format_duration, parse_duration
from gatehouse.config.texts import parse_template
from gatehouse.config.words import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.document import YamlDocument
    from gatehouse.errors import Problem

#: What no event of any source is ordered by: of handshakes alone, filled in per source, or another one each
#: time, so that nothing would ever wait for anything.
_NOT_IN_AN_EVENT = ("challenge", "proof", "token", "value", "signed", "timestamp", "id")
_LONGEST_LINGER = 1.0
#: Between these the greatest age of a connection has to be.
_CONNECTION_AGES = (1.0, 86400.0)
#: A destination that is back is not left waiting longer than this for its deliveries (seconds).
_LONGEST_OPEN = 3600.0
_BATCH = "cloudevents-batch"


def destination_problems(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find what each value of a destination alone can't know."""
    has_url = at(data, "server", "public_url") is not None
    signature_headers = set(_signature_headers(data.get("sources")))
    for name, destination in mappings(data.get("destinations")).items():
        yield from _headers(name, destination, signature_headers, document)
        yield from _retry(name, destination, document)
        yield from _connections(name, destination, document)
        yield from _breaker(name, destination, document)
        yield from _batch(name, destination, document)
        yield from _order(name, destination, document, has_url=has_url)


def _headers(
    name: str, destination: dict[str, Any], signature_headers: set[str], document: YamlDocument
) -> Iterator[Problem]:
    """Find headers that are never forwarded, whatever a config allows: those that carry credentials."""
    for where, pattern in texts(destination.get("headers"), ("destinations", name, "headers")):
        if names_credential(pattern.lower()) or pattern.lower() in signature_headers:
            message = f'"{shown(pattern)}" carries credentials, which are never stored or forwarded'
            yield document.problem(where, message, "leave it out: the gateway has verified the request")


def _signature_headers(value: Any) -> Iterator[str]:
    """Name the headers (lower case) that signatures and tokens are read from."""
    if isinstance(value, dict):
        proof = at(value, "signature") if "signature" in value else value if value.get("type") else {}
        yield from (text.lower() for _, text in texts(at(proof, "header"), ()))
        for one in value.values():
            yield from _signature_headers(one)
    elif isinstance(value, tuple):
        for one in value:
            yield from _signature_headers(one)


def _retry(name: str, destination: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Compare the durations of `retry`, with the defaults where it says nothing."""
    defaults, own = RetryConfig(), destination.get("retry")
    if not isinstance(own, dict):
        return
    path = ("destinations", name, "retry")
    first = read(parse_duration, own.get("first"), defaults.first)
    for key in ("max", "give_up_after"):
        limit = read(parse_duration, own.get(key), getattr(defaults, key))
        if first is not None and limit is not None and limit < first:
            message = f"{key} is shorter than first"
            hint = f"{key}: at least {format_duration(first)}, or a shorter first"
            yield document.problem((*path, key if key in own else "first"), message, hint)


def _connections(name: str, destination: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    age = read(parse_duration, destination.get("max_connection_age"))
    least, most = _CONNECTION_AGES
    if age is not None and not least <= age <= most:
        hint = f"{format_duration(least)} to {format_duration(most)}, as in max_connection_age: 5m"
        fault = "too short: each attempt would open its own" if age < least else "too long: a name may move"
        yield document.problem(("destinations", name, "max_connection_age"), fault, hint)


def _breaker(name: str, destination: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Compare the durations of `breaker`, with the defaults where it says nothing."""
    defaults, own = BreakerConfig(), destination.get("breaker")
    if not isinstance(own, dict):
        return
    path = ("destinations", name, "breaker")
    first = read(parse_duration, own.get("open"), defaults.open)
    longest = read(parse_duration, own.get("max_open"), defaults.max_open)
    if longest is not None and longest > _LONGEST_OPEN:
        message = "a destination that is back would wait too long for its deliveries"
        yield document.problem((*path, "max_open"), message, f"at most {format_duration(_LONGEST_OPEN)}")
    elif first is not None and longest is not None and longest < first:
        hint = f"max_open: at least {format_duration(first)}, or a shorter open"
        key = "max_open" if "max_open" in own else "open"
        yield document.problem((*path, key), "max_open is shorter than open", hint)


def _batch(name: str, destination: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    batch, path = destination.get("batch"), ("destinations", name, "batch")
    if batch is not None and destination.get("format") != _BATCH:
        yield document.problem(path, "only batches have one", f"format: {_BATCH}, or leave it out")
    linger = read(parse_duration, at(batch, "linger"))
    if linger is not None and linger > _LONGEST_LINGER:
        message = "longer than any event should wait for company"
        yield document.problem((*path, "linger"), message, f"at most {format_duration(_LONGEST_LINGER)}")


def _order(
    name: str, destination: dict[str, Any], document: YamlDocument, *, has_url: bool
) -> Iterator[Problem]:
    template = read(parse_template, destination.get("order_by"))
    for part in sorted(template.placeholders, key=str) if template else ():
        path = ("destinations", name, "order_by")
        if part.name in _NOT_IN_AN_EVENT:
            hint = 'what several events share, as in "{body:data.id}"'
            yield document.problem(path, f"{part} is nothing to order events by", hint)
        elif part.name in ("url", "url_decoded") and not has_url:
            message = f"{part} is not known, since server.public_url is not set"
            yield document.problem(path, message, "server: {public_url: https://…}")

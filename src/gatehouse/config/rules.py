"""Checks rules between keys: routes, paths, listeners, the store, and the keys of one destination.

The rules read the data as written, not the models, so that one invalid value hides no other problem.
They skip values that cannot be read, because the models report those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from gatehouse.config.addresses import Address, BindAddresses, parse_address, parse_bind_addresses, parse_path
from gatehouse.config.base import parse_template, parse_text
from gatehouse.config.hints import escaped, suggest_name
from gatehouse.config.model import BreakerConfig, OperatorConfig, RetryConfig, ServerConfig
from gatehouse.config.quantities import format_duration, parse_duration
from gatehouse.config.secrets import names_credential
from gatehouse.config.store_url import parse_store_url
from gatehouse.language.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatehouse.config.document import KeyPath, YamlDocument
    from gatehouse.errors import Problem


#: Placeholders that cannot order events. They are for handshakes only, are replaced per source, or differ for
#: each request.
_NOT_FOR_ORDERING = ("challenge", "proof", "token", "value", "signed", "timestamp", "id")
#: The upper bound of `batch.linger` (seconds).
_MAX_LINGER = 1.0
#: The bounds of `max_connection_age` (seconds).
_CONNECTION_AGES = (1.0, 86400.0)
#: The upper bound of `breaker.max_open` (seconds).
_MAX_OPEN = 3600.0
_BATCH = "cloudevents-batch"
#: Audit entries name changes that no token of `operator.tokens` made like this.
_RESERVED_TOKEN_NAMES = ("operator", "local", "SIGHUP", "supervisor")
#: Keys of `store` that have no meaning for a SQLite file.
_POSTGRES_KEYS = ("password", "connections", "allow_unsynced")


def value_at(data: Any, *path: str) -> Any:
    """Return the value at `path`, or None."""
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def mappings(data: Any) -> dict[str, dict[str, Any]]:
    """Return the members that are mappings."""
    members = data.items() if isinstance(data, dict) else ()
    return {name: value for name, value in members if isinstance(value, dict)}


def entries(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Return the entries of a list with their paths. A single value stands for a list with one entry."""
    if isinstance(value, tuple):
        for index, entry in enumerate(value):
            yield (*path, index), entry
    elif value is not None:
        yield path, value


def text_entries(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Return the entries that are text, with their paths."""
    return ((where, entry) for where, entry in entries(value, path) if isinstance(entry, str))


def parse_or_none(parse: Callable[[Any], Any], value: Any, default: Any = None) -> Any:
    """Parse a value. Return the default if it is absent, and None if it is invalid."""
    if value is None:
        return default
    try:
        return parse(value)
    except PydanticCustomError:
        return None


def source_path(name: str, path: str | None) -> str:
    """Return the URL path of a source."""
    return path or f"/webhooks/{name}"


def rule_problems(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Return the problems between keys that the models cannot find."""
    yield from _routes(data, document)
    yield from _paths(data, document)
    yield from _listeners(data, document)
    yield from _token_names(data, document)
    yield from _store(data, document)
    yield from _destinations(data, document)


def _routes(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    sources, destinations = data.get("sources"), data.get("destinations", {})
    routes = data.get("routes")
    for index, route in enumerate(routes if isinstance(routes, tuple) else ()):
        for where, pattern in text_entries(value_at(route, "from"), ("routes", index, "from")):
            if isinstance(sources, dict) and not _matches_any(pattern, sources):
                message = f'no source matches "{escaped(pattern)}"'
                yield document.problem(where, message, _name_hint(pattern, sources))
        for where, pattern in text_entries(value_at(route, "types"), ("routes", index, "types")):
            if "," in pattern:
                yield document.problem(
                    where, "several patterns in one text", f"write a list: {_listed(pattern)}"
                )
        for where, name in text_entries(value_at(route, "to"), ("routes", index, "to")):
            if isinstance(destinations, dict) and name not in destinations:
                message = f'unknown destination "{escaped(name)}"'
                yield document.problem(where, message, _name_hint(name, destinations))


def _name_hint(given: str, known: dict[str, Any]) -> str:
    """Suggest a list for several names in one text. Otherwise list the known names."""
    if "," in given and all(_matches_any(name.strip(), known) for name in given.split(",")):
        return f"write a list: {_listed(given)}"
    return suggest_name(given, known)


def _listed(given: str) -> str:
    return "[" + ", ".join(escaped(name.strip()) for name in given.split(",")) + "]"


def _matches_any(pattern: str, names: dict[str, Any]) -> bool:
    if "*" not in pattern or pattern == "*":
        return pattern in names or (pattern == "*" and bool(names))
    usable = parse_or_none(parse_text, pattern) is not None
    return not usable or any(matches(pattern, name) for name in names)


def _paths(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for name, source in mappings(data.get("sources")).items():
        path = parse_or_none(parse_path, source.get("path"), source_path(name, None))
        if path is None:
            continue
        # Proxies and people add and remove a final slash, so two paths must differ in more than that.
        owner = owners.setdefault(path.rstrip("/"), name)
        if owner != name:
            message = f'the source "{escaped(owner)}" already has the path {escaped(path)}'
            hint = "set another path; a final slash makes no difference"
            yield document.problem(("sources", name, "path"), message, hint)


def _listeners(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    server: BindAddresses | None = parse_or_none(
        parse_bind_addresses, value_at(data, "server", "listen"), ServerConfig().listen
    )
    operator: Address | None = parse_or_none(
        parse_address, value_at(data, "operator", "listen"), OperatorConfig().listen
    )
    if operator is None:
        return
    has_token = value_at(data, "operator", "token") is not None or value_at(data, "operator", "tokens")
    if not operator.is_loopback and not has_token:
        yield document.problem(
            ("operator", "listen"),
            "the operator listener is not on loopback and has no token",
            "set operator.token, as in token: env:GATEHOUSE_OPERATOR_TOKEN, or listen on 127.0.0.1",
        )
    if server is not None and any(map(operator.overlaps, server.addresses)):
        message = f"server.listen already uses {operator}"
        yield document.problem(("operator", "listen"), message, "use another port, as in 127.0.0.1:9090")


def _token_names(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find token names that would not tell in an audit entry who made a change."""
    tokens, seen = value_at(data, "operator", "tokens"), set()
    for index, one in enumerate(tokens if isinstance(tokens, tuple) else ()):
        name, path = value_at(one, "name"), ("operator", "tokens", index, "name")
        if not isinstance(name, str):
            continue
        if name in _RESERVED_TOKEN_NAMES:
            what = f'"{escaped(name)}" is a name that the gateway uses itself'
            yield document.problem(path, what, "use the name of a person or tool, as in name: ci")
        elif name in seen:
            message = f'"{escaped(name)}" is the name of an earlier token'
            yield document.problem(path, message, "give each token a name of its own")
        seen.add(name)


def _store(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find keys for PostgreSQL with a SQLite store."""
    url = parse_or_none(parse_store_url, value_at(data, "store", "url"), "sqlite:///")
    if url is None or not url.startswith("sqlite:"):
        return
    for key in _POSTGRES_KEYS:
        if value_at(data, "store", key) is not None:
            hint = "remove it, or set store.url to a postgresql:// URL"
            yield document.problem(("store", key), "is only for PostgreSQL", hint)


def _destinations(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Check the keys of each destination against each other."""
    has_url = value_at(data, "server", "public_url") is not None
    signature_headers = set(_signature_headers(data.get("sources")))
    for name, destination in mappings(data.get("destinations")).items():
        yield from _headers(name, destination, signature_headers, document)
        yield from _added_headers(name, destination, document)
        yield from _tls(name, destination, document)
        yield from _retry(name, destination, document)
        yield from _connections(name, destination, document)
        yield from _breaker(name, destination, document)
        yield from _batch(name, destination, document)
        yield from _order(name, destination, document, has_url=has_url)


def _headers(
    name: str, destination: dict[str, Any], signature_headers: set[str], document: YamlDocument
) -> Iterator[Problem]:
    """Find headers that carry credentials. They are never forwarded."""
    for where, pattern in text_entries(destination.get("headers"), ("destinations", name, "headers")):
        if names_credential(pattern.lower()) or pattern.lower() in signature_headers:
            message = f'"{escaped(pattern)}" carries credentials, which the gateway never stores or forwards'
            yield document.problem(where, message, "remove it; the gateway has already verified the request")


def _added_headers(name: str, destination: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find headers that each request would have twice. Names that differ only in case are the same."""
    auth, added = destination.get("auth"), destination.get("add_headers")
    own = {value_at(auth, "name")} if value_at(auth, "type") == "header" else set()
    seen = {one.lower() for one in own if isinstance(one, str)}
    for header in added if isinstance(added, dict) else ():
        if isinstance(header, str) and header.lower() in seen:
            path = ("destinations", name, "add_headers", header)
            yield document.problem(path, "each request would have this header twice", "remove one of them")
        seen.add(str(header).lower())


def _tls(name: str, destination: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find settings of TLS that would have no effect."""
    path, tls, url = ("destinations", name, "tls"), destination.get("tls"), destination.get("url")
    if value_at(tls, "key") is not None and value_at(tls, "cert") is None:
        yield document.problem((*path, "key"), "`key` needs `cert`", "add cert: client.pem, or remove key")
    for_tokens = str(value_at(destination, "auth", "token_url")).startswith("https:")
    if tls and isinstance(url, str) and url.startswith("http:") and not for_tokens:
        yield document.problem(path, "`tls` has no effect: the url is not https", "use https, or remove tls")


def _signature_headers(value: Any) -> Iterator[str]:
    """Return the headers (lower case) that carry signatures and tokens."""
    if isinstance(value, dict):
        proof = value_at(value, "signature") if "signature" in value else value if value.get("type") else {}
        yield from (text.lower() for _, text in text_entries(value_at(proof, "header"), ()))
        for one in value.values():
            yield from _signature_headers(one)
    elif isinstance(value, tuple):
        for one in value:
            yield from _signature_headers(one)


def _retry(name: str, destination: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Compare the durations of `retry`, including its defaults."""
    defaults, own = RetryConfig(), destination.get("retry")
    if not isinstance(own, dict):
        return
    path = ("destinations", name, "retry")
    first = parse_or_none(parse_duration, own.get("first"), defaults.first)
    for key in ("max", "give_up_after"):
        limit = parse_or_none(parse_duration, own.get(key), getattr(defaults, key))
        if first is not None and limit is not None and limit < first:
            message = f"`{key}` is shorter than `first`"
            hint = f"set {key} to at least {format_duration(first)}, or use a shorter first"
            yield document.problem((*path, key if key in own else "first"), message, hint)


def _connections(name: str, destination: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    age = parse_or_none(parse_duration, destination.get("max_connection_age"))
    least, most = _CONNECTION_AGES
    if age is not None and not least <= age <= most:
        hint = f"use {format_duration(least)} to {format_duration(most)}, as in max_connection_age: 5m"
        message = "too short: each attempt would open a connection"
        if age > most:
            message = "too long: the gateway would miss a change of the host's addresses"
        yield document.problem(("destinations", name, "max_connection_age"), message, hint)


def _breaker(name: str, destination: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Compare the durations of `breaker`, including its defaults."""
    defaults, own = BreakerConfig(), destination.get("breaker")
    if not isinstance(own, dict):
        return
    path = ("destinations", name, "breaker")
    first = parse_or_none(parse_duration, own.get("open"), defaults.open)
    longest = parse_or_none(parse_duration, own.get("max_open"), defaults.max_open)
    if longest is not None and longest > _MAX_OPEN:
        message = "too long: deliveries would wait although the destination is up again"
        yield document.problem((*path, "max_open"), message, f"use at most {format_duration(_MAX_OPEN)}")
    elif first is not None and longest is not None and longest < first:
        hint = f"set max_open to at least {format_duration(first)}, or use a shorter open"
        key = "max_open" if "max_open" in own else "open"
        yield document.problem((*path, key), "`max_open` is shorter than `open`", hint)


def _batch(name: str, destination: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    batch, path = destination.get("batch"), ("destinations", name, "batch")
    if batch is not None and destination.get("format") != _BATCH:
        yield document.problem(
            path, "`batch` needs the batch format", f"add format: {_BATCH}, or remove batch"
        )
    linger = parse_or_none(parse_duration, value_at(batch, "linger"))
    if linger is not None and linger > _MAX_LINGER:
        message = "too long: events would wait for a batch"
        yield document.problem((*path, "linger"), message, f"use at most {format_duration(_MAX_LINGER)}")


def _order(
    name: str, destination: dict[str, Any], document: YamlDocument, *, has_url: bool
) -> Iterator[Problem]:
    template = parse_or_none(parse_template, destination.get("order_by"))
    for part in sorted(template.placeholders, key=str) if template else ():
        path = ("destinations", name, "order_by")
        if part.name in _NOT_FOR_ORDERING:
            hint = 'use a value that several events share, as in "{body:data.id}"'
            yield document.problem(path, f"{part} cannot order events", hint)
        elif part.name in ("url", "url_decoded") and not has_url:
            message = f"{part} needs server.public_url"
            yield document.problem(path, message, "set server.public_url, as in https://hooks.example.com")

"""Checks rules between keys: routes, paths, listeners, the store, and the keys of one destination.

The rules read the data as written, not the models, so that one invalid value hides no other problem.
They skip values that cannot be read, because the models report those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from gatehouse.config.addresses import Address, Listens, parse_address, parse_listens, parse_path
from gatehouse.config.base import parse_template, parse_text
from gatehouse.config.hints import expected, shown
from gatehouse.config.model import BreakerConfig, OperatorConfig, RetryConfig, ServerConfig
from gatehouse.config.quantities import format_duration, parse_duration
from gatehouse.config.secrets import names_credential
from gatehouse.config.store_url import parse_store_url
from gatehouse.language.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatehouse.config.document import KeyPath, YamlDocument
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
#: Keys of `store` that have no meaning for a SQLite file.
_FOR_POSTGRES = ("password", "connections", "allow_unsynced")


def at(data: Any, *path: str) -> Any:
    """Return the value at `path`; None when there is none."""
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def mappings(data: Any) -> dict[str, dict[str, Any]]:
    """Return the members that are mappings themselves."""
    members = data.items() if isinstance(data, dict) else ()
    return {name: value for name, value in members if isinstance(value, dict)}


def entries(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Walk a list, or a lone value that stands for a list of one, each entry with its path."""
    if isinstance(value, tuple):
        for index, entry in enumerate(value):
            yield (*path, index), entry
    elif value is not None:
        yield path, value


def texts(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Walk the entries that are text."""
    return ((where, entry) for where, entry in entries(value, path) if isinstance(entry, str))


def read(parse: Callable[[Any], Any], value: Any, default: Any = None) -> Any:
    """Parse a value, or take the default when it is absent. None when it is wrong."""
    if value is None:
        return default
    try:
        return parse(value)
    except PydanticCustomError:
        return None


def source_path(name: str, path: str | None) -> str:
    """Return where a source is served."""
    return path or f"/webhooks/{name}"


def rule_problems(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find what each part alone can't know."""
    yield from _routes(data, document)
    yield from _paths(data, document)
    yield from _listeners(data, document)
    yield from _store(data, document)
    yield from _destinations(data, document)


def _routes(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    sources, destinations = data.get("sources"), data.get("destinations", {})
    routes = data.get("routes")
    for index, route in enumerate(routes if isinstance(routes, tuple) else ()):
        for where, pattern in texts(at(route, "from"), ("routes", index, "from")):
            if isinstance(sources, dict) and not _fits_any(pattern, sources):
                message = f'no source matches "{shown(pattern)}"'
                yield document.problem(where, message, _several(pattern, sources))
        for where, pattern in texts(at(route, "types"), ("routes", index, "types")):
            if "," in pattern:
                yield document.problem(where, "several patterns in one text", f"a list: {_listed(pattern)}")
        for where, name in texts(at(route, "to"), ("routes", index, "to")):
            if isinstance(destinations, dict) and name not in destinations:
                message = f'unknown destination "{shown(name)}"'
                yield document.problem(where, message, _several(name, destinations))


def _several(given: str, known: dict[str, Any]) -> str:
    """Say how several names are written where they stand in one text."""
    if "," in given and all(_fits_any(name.strip(), known) for name in given.split(",")):
        return f"a list: {_listed(given)}"
    return expected(given, known)


def _listed(given: str) -> str:
    return "[" + ", ".join(shown(name.strip()) for name in given.split(",")) + "]"


def _fits_any(pattern: str, names: dict[str, Any]) -> bool:
    if "*" not in pattern or pattern == "*":
        return pattern in names or (pattern == "*" and bool(names))
    usable = read(parse_text, pattern) is not None
    return not usable or any(matches(pattern, name) for name in names)


def _paths(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for name, source in mappings(data.get("sources")).items():
        path = read(parse_path, source.get("path"), source_path(name, None))
        if path is None:
            continue
        # Proxies and people add and drop a slash at the end: two sources that differ in it alone are a trap.
        owner = owners.setdefault(path.rstrip("/"), name)
        if owner != name:
            message = f'{shown(path)} is the path of "{shown(owner)}" already'
            hint = "every source has its own path; a slash at the end makes no difference"
            yield document.problem(("sources", name, "path"), message, hint)


def _listeners(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    server: Listens | None = read(parse_listens, at(data, "server", "listen"), ServerConfig().listen)
    operator: Address | None = read(parse_address, at(data, "operator", "listen"), OperatorConfig().listen)
    if operator is None:
        return
    if not operator.is_loopback and at(data, "operator", "token") is None:
        yield document.problem(
            ("operator", "listen"),
            "the operator listener is not on loopback and has no token",
            "operator: {token: env:GATEHOUSE_OPERATOR_TOKEN}, or listen on 127.0.0.1",
        )
    if server is not None and any(map(operator.overlaps, server.addresses)):
        message = f"both listeners want {operator}"
        yield document.problem(("operator", "listen"), message, "another port, as in 127.0.0.1:9090")


def _store(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find keys that are for a store of the other kind."""
    url = read(parse_store_url, at(data, "store", "url"), "sqlite:///")
    if url is None or not url.startswith("sqlite:"):
        return
    for key in _FOR_POSTGRES:
        if at(data, "store", key) is not None:
            hint = "leave it out, or give store.url a postgresql:// URL"
            yield document.problem(("store", key), "is for a store in PostgreSQL", hint)


def _destinations(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
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

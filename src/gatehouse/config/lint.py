"""Warns about configs that load but are probably not what was meant.

The codes of the warnings never change.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gatehouse.config.addresses import UNIX, is_loopback
from gatehouse.config.base import format_template
from gatehouse.config.coverage import (
    covers_body,
    effective_max_age,
    has_unsigned_timestamp,
    replay_window,
    resists_replay,
    signs,
    signs_time,
)
from gatehouse.config.model import AllowlistConfig, NoneConfig, TokenConfig
from gatehouse.config.quantities import format_duration
from gatehouse.config.route_conditions import why_never
from gatehouse.config.store_url import postgres_parts
from gatehouse.language.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.document import KeyPath, YamlDocument
    from gatehouse.config.model import Config, RouteConfig, SourceConfig
    from gatehouse.errors import Problem

#: Code → subject. docs/configuration.md explains each.
CODES = {
    "GH01": "no route matches a source",
    "GH02": "nothing is verified",
    "GH03": "no dedupe keys",
    "GH04": "the dedupe window is shorter than the retry horizon",
    "GH05": "dedupe only by values that are not signed",
    "GH06": "the signature does not cover the body",
    "GH07": "a timestamp that is not signed",
    "GH08": "short secrets are accepted",
    "GH09": "a route that adds nothing",
    "GH10": "a route for a type that no provider documents",
    "GH11": "no route leads to a destination",
    "GH12": "an allowlist that checks the address of a proxy, or one that a client can claim",
    "GH13": "a commit may take longer than the provider waits",
    "GH14": "a handshake without its secret",
    "GH15": "a token in the URL",
    "GH16": "an unencrypted connection to the database",
    "GH17": "an age limit shorter than the retry horizon",
    "GH18": "an age limit without a signed time",
    "GH19": "a signed dedupe key that expires before a captured request is too old",
    "GH20": "quotes or white space around a secret",
    "GH21": "a condition of a route that can never hold",
    "GH22": "credentials for a destination over an unencrypted connection",
}
_SHORTEST_SECRET = 16
_NEVER_HINT = "change the condition, or remove the route"


def lint(config: Config, document: YamlDocument) -> list[Problem]:
    """Return all warnings, in the order of the file."""
    linter = _Linter(config, document)
    found = [*linter.store(), *linter.sources(), *linter.destinations(), *linter.routes()]
    return sorted(found, key=lambda problem: problem.line)


class _Linter:
    def __init__(self, config: Config, document: YamlDocument) -> None:
        self._config = config
        self._document = document

    def store(self) -> Iterator[Problem]:
        parts = postgres_parts(self._config.store.url)
        if parts is not None and parts.is_unencrypted:
            message = "the connection to the database may be unencrypted"
            hint = "add sslmode=verify-full&sslrootcert=/path, or sslmode=require"
            yield self._warn("GH16", ("store", "url"), message, hint)

    def sources(self) -> Iterator[Problem]:
        for name, source in self._config.sources.items():
            path: KeyPath = ("sources", name)
            if not any(_fits(route, name) for route in self._config.routes):
                message = "no route matches: its events are stored and not forwarded"
                yield self._warn("GH01", path, message, f"add a route: {{from: {name}, to: […]}}")
            yield from self._verify(path, source)
            yield from self._dedupe(path, source)
            yield from self._max_age(path, source)
            yield from self._allowlist(path, source)
            yield from self._timing(path, source)
            yield from self._handshakes(path, source)

    def destinations(self) -> Iterator[Problem]:
        reached = {name for route in self._config.routes for name in route.to}
        for name, destination in self._config.destinations.items():
            parts = urlsplit(destination.url)
            if destination.auth and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
                message = "sends credentials over an unencrypted connection"
                where = ("destinations", name, "auth")
                yield self._warn("GH22", where, message, "use https, with tls.ca for a private authority")
            if name not in reached:
                hint = f"add a route: {{from: …, to: [{name}]}}"
                yield self._warn("GH11", ("destinations", name), "no route names it: it gets no events", hint)

    def routes(self) -> Iterator[Problem]:
        for index, route in enumerate(self._config.routes):
            yield from self._types(index, route)
            yield from self._conditions(index, route)
            earlier = self._config.routes[:index]
            if any(_includes(other, route) for other in earlier):
                message = "an earlier route takes the same events to the same destinations"
                yield self._warn("GH09", ("routes", index), message, "remove this route, or change its types")

    def _verify(self, path: KeyPath, source: SourceConfig) -> Iterator[Problem]:
        where = (*path, "verify")
        if any(isinstance(verifier, NoneConfig) for verifier in source.verify):
            message = "nothing is verified: anyone who can reach the path can send events"
            yield self._warn("GH02", where, message, "add a verifier, as in verify: {type: hmac, …}")
        if source.provider and self._document.locate(where)[1] != where:
            return  # the verifiers of the preset; its documentation covers this
        if not all(map(covers_body, source.verify)):
            message = "the signature does not cover the body: it is valid for any other body"
            yield self._warn("GH06", where, message, 'add the body, as in signed: "{timestamp}.{body}"')
        if any(map(has_unsigned_timestamp, source.verify)):
            message = "the timestamp is checked but not signed: a replayed request can have a new one"
            yield self._warn("GH07", where, message, 'add the timestamp, as in signed: "{timestamp}.{body}"')
        if any(isinstance(verifier, TokenConfig) and verifier.query for verifier in source.verify):
            message = "proxies log URLs, and this URL contains a token"
            yield self._warn("GH15", where, message, "use a header if the provider can send one")
        if source.min_secret < _SHORTEST_SECRET and not source.provider:
            message = f"secrets of fewer than {_SHORTEST_SECRET} bytes can be guessed"
            yield self._warn(
                "GH08", (*path, "min_secret"), message, "use a longer secret, and remove min_secret"
            )

    def _dedupe(self, path: KeyPath, source: SourceConfig) -> Iterator[Problem]:
        dedupe, horizon = source.dedupe, source.retry_horizon
        where = (*path, "dedupe")
        if not dedupe.by and source.provider and self._document.locate(where)[1] != where:
            return  # the provider sends nothing that identifies a retry; its preset says why
        if not dedupe.by:
            message = "no dedupe keys: each retry of the provider becomes a new event"
            yield self._warn("GH03", (*path, "dedupe"), message, 'add a key, as in by: ["{body:id}"]')
            return
        if signs(source) and not resists_replay(source):
            message = "no dedupe key is signed as a whole: a captured request with other ids is a new event"
            yield self._warn("GH05", (*path, "dedupe", "by"), message, 'add "{signed}", or an id in the body')
        if horizon is not None and max(dedupe.windows) < horizon:
            shown = format_duration(horizon)
            message = (
                f"shorter than the provider's retry horizon of {shown}: late retries would become new events"
            )
            # A single key may have a shorter window if another key has a longer one.
            where = (*path, "dedupe", "window")
            if all(one.window is not None for one in dedupe.by):
                longest = dedupe.windows.index(max(dedupe.windows))
                where = (*path, "dedupe", "by", longest, "window")
            yield self._warn("GH04", where, message, f"set at least {shown}")

    def _max_age(self, path: KeyPath, source: SourceConfig) -> Iterator[Problem]:
        if source.max_age is not None and not signs_time(source):
            message = "the provider signs no time: requests of any age pass"
            yield self._warn(
                "GH18",
                (*path, "max_age"),
                message,
                "add event: {time: …} from a signed value, or remove max_age",
            )
        max_age, horizon = source.max_age, source.retry_horizon
        if max_age is not None and horizon is not None and max_age < horizon:
            shown = format_duration(horizon)
            message = f"shorter than the provider's retry horizon of {shown}: late retries are refused"
            yield self._warn("GH17", (*path, "max_age"), message, f"set at least {shown}")

        signed_for = replay_window(source)
        if max_age is not None and signed_for is not None and signed_for < (effective_max_age(source) or 0):
            shown = format_duration(signed_for)
            message = f"signed dedupe keys last only {shown}: a captured request can be replayed after that"
            yield self._warn("GH19", (*path, "dedupe"), message, "set a longer window for a signed key")

    def _allowlist(self, path: KeyPath, source: SourceConfig) -> Iterator[Problem]:
        if not any(isinstance(verifier, AllowlistConfig) for verifier in source.verify):
            return
        server, where = self._config.server, (*path, "verify")
        networks = [ipaddress.ip_network(proxy) for proxy in server.trusted_proxies if proxy != UNIX]
        if any(network.prefixlen == 0 for network in networks):
            message = "every address is a trusted proxy: any client can claim the provider's address"
            yield self._warn("GH12", where, message, "name only the proxy in server.trusted_proxies")
        elif server.public_url and not server.trusted_proxies:
            message = "behind a proxy, every request comes from the address of the proxy"
            yield self._warn("GH12", where, message, "name the proxy in server.trusted_proxies")

    def _timing(self, path: KeyPath, source: SourceConfig) -> Iterator[Problem]:
        deadline = self._config.server.commit_deadline
        if source.answer_deadline is not None and source.answer_deadline < deadline:
            waits = format_duration(source.answer_deadline)
            message = f"the provider waits only {waits}, but a commit may take {format_duration(deadline)}"
            hint = f"set server.commit_deadline to less than {waits}"
            yield self._warn("GH13", (*path, "answer_deadline"), message, hint)

    def _handshakes(self, path: KeyPath, source: SourceConfig) -> Iterator[Problem]:
        names = [handshake.name for handshake in source.handshakes if handshake.needs_secret]
        if names and not source.handshake_secrets:
            message = f"the handshake {names[0]} has no secret, so the gateway refuses it"
            yield self._warn("GH14", path, message, "add handshake_secrets: [env:NAME]")

    def _types(self, index: int, route: RouteConfig) -> Iterator[Problem]:
        taken = [source for name, source in self._config.sources.items() if _fits(route, name)]
        if not taken or not all(source.types for source in taken):
            return  # a source without documented types may send any type
        known = [event_type for source in taken for event_type in source.types]
        for pattern in route.types:
            if not any(matches(pattern, event_type) or matches(event_type, pattern) for event_type in known):
                message = f'"{pattern}" matches no documented event type'
                hint = f"these sources send: {', '.join(dict.fromkeys(known))}"
                yield self._warn("GH10", ("routes", index, "types"), message, hint)

    def _conditions(self, index: int, route: RouteConfig) -> Iterator[Problem]:
        taken = [(name, source) for name, source in self._config.sources.items() if _fits(route, name)]
        for template, condition in route.when.items():
            if why := why_never(template, condition, taken):
                path: KeyPath = ("routes", index, "when", str(format_template(template)))
                yield self._warn("GH21", path, f"never holds: {why}", _NEVER_HINT)

    def _warn(self, code: str, path: KeyPath, message: str, hint: str) -> Problem:
        return self._document.problem(path, message, hint)._replace(code=code)


def _fits(route: RouteConfig, source: str) -> bool:
    return any(matches(pattern, source) for pattern in route.sources)


def _includes(earlier: RouteConfig, route: RouteConfig) -> bool:
    """Return whether a route adds nothing to an earlier one."""
    pairs = ((earlier.sources, route.sources), (earlier.types, route.types))
    wider = all(all(any(matches(wide, one) for wide in wides) for one in narrow) for wides, narrow in pairs)
    return wider and earlier.when.items() <= route.when.items() and set(route.to) <= set(earlier.to)

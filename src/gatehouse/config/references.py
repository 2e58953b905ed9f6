"""Problems between the parts of a config: names that lead nowhere, two sources on one path, a listener too open."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from gatehouse.routing import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.document import YamlDocument
    from gatehouse.config.model import Config
    from gatehouse.errors import Problem


def source_path(name: str, path: str | None) -> str:
    """Return where a source is served."""
    return path or f"/webhooks/{name}"


def is_loopback(host: str) -> bool:
    """Tell whether an address is reachable from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reference_problems(config: Config, document: YamlDocument) -> Iterator[Problem]:
    """Find what each part alone can't know."""
    yield from _routes(config, document)
    yield from _paths(config, document)
    yield from _verifiers(config, document)
    yield from _networks(config, document)
    if config.operator.token is None and not is_loopback(config.operator.listen.host):
        yield document.problem(
            ("operator", "listen"),
            "the operator listener is not on loopback and has no token",
            "operator: {token: env:GATEHOUSE_OPERATOR_TOKEN}, or listen on 127.0.0.1",
        )


def _routes(config: Config, document: YamlDocument) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        for pattern in route.sources:
            if not any(matches(pattern, name) for name in config.sources):
                message = f'no source matches "{pattern}"'
                yield document.problem(("routes", index, "from"), message, _known(config.sources))
        for name in route.to:
            if name not in config.destinations:
                message = f'unknown destination "{name}"'
                yield document.problem(("routes", index, "to"), message, _known(config.destinations))


def _paths(config: Config, document: YamlDocument) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for name, source in config.sources.items():
        path = source_path(name, source.path)
        if path in owners:
            message = f'{path} is the path of "{owners[path]}" already'
            yield document.problem(("sources", name, "path"), message, "every source has its own path")
        owners.setdefault(path, name)


def _verifiers(config: Config, document: YamlDocument) -> Iterator[Problem]:
    for name, source in config.sources.items():
        for verifier in source.verify:
            if verifier.type != "none" and not (verifier.secrets or source.secrets):
                message = f"{verifier.type} has no secret to check with"
                yield document.problem(("sources", name), message, "secrets: [env:NAME]")
        if len(source.verify) > 1 and any(verifier.type == "none" for verifier in source.verify):
            yield document.problem(
                ("sources", name, "verify"), "none stands beside other verifiers", "leave it out"
            )


def _networks(config: Config, document: YamlDocument) -> Iterator[Problem]:
    for index, network in enumerate(config.server.trusted_proxies):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            path = ("server", "trusted_proxies", index)
            yield document.problem(path, f'"{network}" is not a network', "as in 10.0.0.0/8 or 127.0.0.1")


def _known(names: object) -> str:
    listed = ", ".join(sorted(names)) if names else ""  # type: ignore[call-overload]
    return f"expected one of: {listed}" if listed else "none is configured"

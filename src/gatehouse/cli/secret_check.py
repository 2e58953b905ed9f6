"""Finds the secrets of a config that are missing or unusable here, or missing in the running gateway."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic import BaseModel

from gatehouse.config.model import AnyConfig, VerifierConfig
from gatehouse.config.secrets import SecretError, SecretRef, Secrets
from gatehouse.delivery.destination import build_destinations
from gatehouse.errors import Problem
from gatehouse.ingest.source import Source
from gatehouse.network.sockets import client_host
from gatehouse.operator.tokens import DUPLICATE_HINT, OperatorTokens, duplicate_message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gatehouse.config.document import KeyPath, YamlDocument
    from gatehouse.config.load import LoadedConfig
    from gatehouse.config.model import SourceConfig

#: Where a secret is named, the references there, and the minimum length of each in bytes.
_Place = tuple["KeyPath", "Sequence[SecretRef]", int]

#: How long to wait for a running gateway (seconds).
_TIMEOUT = 2.0


def secret_problems(loaded: LoadedConfig) -> list[Problem]:
    """Find every secret that is missing, empty, too short or in the wrong form. Values are never shown."""
    secrets = Secrets(loaded.directory)
    return [
        *_operator(loaded, secrets),
        *_store(loaded, secrets),
        *_sources(loaded, secrets),
        *_destinations(loaded, secrets),
    ]


def secret_warnings(loaded: LoadedConfig) -> list[Problem]:
    """Find secrets that probably contain characters by mistake, such as quotes around the secret."""
    secrets, found = Secrets(loaded.directory), []
    for path, reference in _references(loaded.config, ()):
        oddity = secrets.likely_mistake(reference)
        if oddity is not None:
            message = f"{reference} has {oddity}, which Gatehouse uses as part of the secret"
            hint = "set only the secret itself, as the provider shows it"
            found.append(loaded.document.problem(path, message, hint)._replace(code="GH20"))
    return found


def restart_notes(loaded: LoadedConfig) -> list[str]:
    """Name the variables of the config that are set here, but not in the running gateway.

    Returns nothing if no gateway answers at the config's operator listener.
    """
    from gatehouse.gateway.compiled import secret_references

    config = loaded.config
    parts = [config.operator, config.store, *config.sources.values(), *config.destinations.values()]
    references = secret_references(parts)
    names = sorted({one.name for one in references if one.kind == "env" and one.name in os.environ})
    if not names or not _is_listening(loaded):
        return []
    known: dict[str, Any] = {}
    # The check of the file succeeds even if this request fails.
    with contextlib.suppress(Exception):
        known = _gateway_environment(loaded, names)
    return [
        f"restart needed: env:{name} is set here, but not in the running gateway"
        for name in names
        if known.get(name) is False
    ]


def _references(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, SecretRef]]:  # noqa: ANN401 - any config part
    """Find every reference to a secret in a part of a config, with its path."""
    if isinstance(value, SecretRef):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _references(getattr(value, name), (*path, name))
    elif isinstance(value, tuple):
        for index, one in enumerate(value):
            yield from _references(one, (*path, index))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _references(one, (*path, key))


def _operator(loaded: LoadedConfig, secrets: Secrets) -> Iterator[Problem]:
    document, tokens = loaded.document, OperatorTokens(loaded.config.operator, secrets)
    effect = "serve starts, but the operator listener answers 401"
    if loaded.config.operator.tokens:
        effect = "serve starts, but requests with this token get 401"
    for path, why in tokens.not_ready.items():
        yield document.problem(path, why, effect)
    for path, name in tokens.duplicates():
        yield document.problem(path, duplicate_message(name), f"serve does not start; {DUPLICATE_HINT}")


def _store(loaded: LoadedConfig, secrets: Secrets) -> Iterator[Problem]:
    config, document = loaded.config.store, loaded.document
    if not config.url.startswith("sqlite:") and find_spec("asyncpg") is None:
        from gatehouse.store.backends import INSTALL_DRIVER

        hint = f"serve does not start; {INSTALL_DRIVER}"
        yield document.problem(("store", "url"), "the driver asyncpg is not installed", hint)
    references = () if config.password is None else (config.password,)
    path: KeyPath = ("store", "password")
    yield from _unusable(loaded, secrets, (path, references, 1), "serve does not start")


def _sources(loaded: LoadedConfig, secrets: Secrets) -> Iterator[Problem]:
    effect = "serve starts, but this source answers 503"
    for name, settings in loaded.config.sources.items():
        problems = [
            problem
            for place in _places(name, settings, loaded.document)
            for problem in _unusable(loaded, secrets, place, effect)
        ]
        not_ready = Source(name, settings, loaded.config, secrets).not_ready
        if not_ready and not problems:  # each secret is readable, but a verifier can't use it
            problems = [loaded.document.problem(("sources", name, "secrets"), not_ready, effect)]
        place: _Place = ("sources", name, "handshake_secrets"), settings.handshake_secrets, 1
        problems += _unusable(loaded, secrets, place, "serve starts, but handshakes of this source get 503")
        yield from dict.fromkeys(problems)


def _destinations(loaded: LoadedConfig, secrets: Secrets) -> Iterator[Problem]:
    effect = "serve starts, but deliveries to this destination wait"
    for name, destination in build_destinations(loaded.config, secrets).items():
        for fault in destination.faults:
            yield loaded.document.problem(("destinations", name, *fault.path), fault.why, effect)


def _places(name: str, settings: SourceConfig, document: YamlDocument) -> Iterator[_Place]:
    """Find the places that each verifier of a source takes its secrets from."""
    for index, entry in enumerate(settings.verify):
        if isinstance(entry, AnyConfig):
            own = tuple(reference for one in entry.of for reference in getattr(one, "secrets", ()))
            yield _verifier_path(document, ("sources", name), index), own, settings.min_secret
            if any(isinstance(one, VerifierConfig) and not one.secrets for one in entry.of):
                yield ("sources", name, "secrets"), settings.secrets, settings.min_secret
        if not isinstance(entry, VerifierConfig):
            continue
        minimum = entry.min_secret or settings.min_secret
        if entry.secrets:
            yield _verifier_path(document, ("sources", name), index), entry.secrets, minimum
        else:
            yield ("sources", name, "secrets"), settings.secrets, minimum


def _verifier_path(document: YamlDocument, source: KeyPath, index: int) -> KeyPath:
    """Find the secrets of one verifier. `verify` is a mapping or a list, and may come from the preset."""
    for path in ((*source, "verify", index, "secrets"), (*source, "verify", "secrets")):
        if document.locate(path)[1] == path:
            return path
    return (*source, "verify")


def _unusable(loaded: LoadedConfig, secrets: Secrets, place: _Place, effect: str) -> Iterator[Problem]:
    path, references, minimum = place
    for index, reference in enumerate(references):
        try:
            secrets.resolve(reference, minimum)
        except SecretError as error:
            line, _ = loaded.document.locate((*path, index))
            yield Problem(loaded.document.file, line, ".".join(map(str, path)), str(error), effect)


def _gateway_environment(loaded: LoadedConfig, names: Iterable[str]) -> dict[str, Any]:
    """Ask the running gateway which of these variables it has."""
    from gatehouse.cli.access import access_of
    from gatehouse.cli.operator_client import fetch

    query = urlencode([("name", name) for name in names])
    answer = fetch(access_of(loaded, None), f"/api/v1/environment?{query}", within=_TIMEOUT)
    return dict(answer["set"])


def _is_listening(loaded: LoadedConfig) -> bool:
    """Return whether a server listens at the operator address, without importing the HTTP client."""
    listen = loaded.config.operator.listen
    try:
        with socket.create_connection((client_host(listen.host), listen.port), timeout=_TIMEOUT):
            return True
    except OSError:
        return False

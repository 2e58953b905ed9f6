"""Which secrets of a config can't be used, each with its line: `check` fails for them, `serve` may start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from gatehouse.config.model import AnyConfig, VerifierConfig
from gatehouse.config.secrets import SecretError, SecretRef, Secrets
from gatehouse.delivery.destination import build_destinations
from gatehouse.errors import Problem
from gatehouse.ingest.source import Source
from gatehouse.network.forbidden_addresses import host_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.document import KeyPath, YamlDocument
    from gatehouse.config.load import LoadedConfig
    from gatehouse.config.model import SourceConfig

#: Where a secret is named, the references there, and how many bytes each needs.
_Place = tuple["KeyPath", "Sequence[SecretRef]", int]


def secret_problems(loaded: LoadedConfig) -> list[Problem]:
    """Find every secret that is missing, empty, short or of the wrong form. What it is, is never said."""
    secrets = Secrets(loaded.directory)
    return [
        *_operator(loaded, secrets),
        *_store(loaded, secrets),
        *_sources(loaded, secrets),
        *_destinations(loaded, secrets),
    ]


def secret_warnings(loaded: LoadedConfig) -> list[Problem]:
    """Find secrets with something around them that is hardly part of them, as quotes are."""
    secrets, found = Secrets(loaded.directory), []
    for path, reference in _named(loaded.config, ()):
        oddity = secrets.oddity(reference)
        if oddity is not None:
            message = f"{reference} has {oddity}, which counts as part of the secret"
            problem = loaded.document.problem(path, message, "the secret alone, as the provider shows it")
            found.append(replace(problem, code="GH20"))
    return found


def _named(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, SecretRef]]:  # noqa: ANN401 - any part of a config
    """Find every reference to a secret in a part of a config, with its place."""
    if isinstance(value, SecretRef):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _named(getattr(value, name), (*path, name))
    elif isinstance(value, tuple):
        for index, one in enumerate(value):
            yield from _named(one, (*path, index))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _named(one, (*path, key))


def _operator(loaded: LoadedConfig, secrets: Secrets) -> Iterator[Problem]:
    token = loaded.config.operator.token
    if token is not None:
        path: KeyPath = ("operator", "token")
        yield from _unusable(
            loaded, secrets, (path, (token,), 16), "serve would start; metrics would answer 401"
        )


def _store(loaded: LoadedConfig, secrets: Secrets) -> Iterator[Problem]:
    config, document = loaded.config.store, loaded.document
    if not config.url.startswith("sqlite:") and find_spec("asyncpg") is None:
        from gatehouse.store.backends import INSTALL_DRIVER

        hint = f"serve would not start; {INSTALL_DRIVER}"
        yield document.problem(("store", "url"), "the driver asyncpg is not installed", hint)
    references = () if config.password is None else (config.password,)
    path: KeyPath = ("store", "password")
    yield from _unusable(loaded, secrets, (path, references, 1), "serve would not start")


def _sources(loaded: LoadedConfig, secrets: Secrets) -> Iterator[Problem]:
    meanwhile = "serve would start; this source would answer 503"
    for name, settings in loaded.config.sources.items():
        problems = [
            problem
            for place in _places(name, settings, loaded.document)
            for problem in _unusable(loaded, secrets, place, meanwhile)
        ]
        not_ready = Source(name, settings, loaded.config, secrets).not_ready
        if not_ready and not problems:  # each can be read, but a verifier can't use it
            problems = [loaded.document.problem(("sources", name, "secrets"), not_ready, meanwhile)]
        place: _Place = ("sources", name, "handshake_secrets"), settings.handshake_secrets, 1
        problems += _unusable(loaded, secrets, place, "serve would start; its handshakes would answer 503")
        yield from dict.fromkeys(problems)


def _destinations(loaded: LoadedConfig, secrets: Secrets) -> Iterator[Problem]:
    meanwhile = "serve would start; its deliveries would wait"
    for name, destination in build_destinations(loaded.config, secrets).items():
        if destination.not_ready:
            key = "url" if host_problem(destination.url.raw_host or "") else "secret"
            path: KeyPath = ("destinations", name, key)
            yield loaded.document.problem(path, destination.not_ready, meanwhile)


def _places(name: str, settings: SourceConfig, document: YamlDocument) -> Iterator[_Place]:
    """Find where each verifier of a source gets its secrets from."""
    for index, entry in enumerate(settings.verify):
        if isinstance(entry, AnyConfig):
            own = tuple(reference for one in entry.of for reference in getattr(one, "secrets", ()))
            yield _own_place(document, ("sources", name), index), own, settings.min_secret
            if any(isinstance(one, VerifierConfig) and not one.secrets for one in entry.of):
                yield ("sources", name, "secrets"), settings.secrets, settings.min_secret
        if not isinstance(entry, VerifierConfig):
            continue
        minimum = entry.min_secret or settings.min_secret
        if entry.secrets:
            yield _own_place(document, ("sources", name), index), entry.secrets, minimum
        else:
            yield ("sources", name, "secrets"), settings.secrets, minimum


def _own_place(document: YamlDocument, source: KeyPath, index: int) -> KeyPath:
    """Find the secrets of one verifier: `verify` is one mapping or a list, perhaps with a preset's in it."""
    for path in ((*source, "verify", index, "secrets"), (*source, "verify", "secrets")):
        if document.locate(path)[1] == path:
            return path
    return (*source, "verify")


def _unusable(loaded: LoadedConfig, secrets: Secrets, place: _Place, meanwhile: str) -> Iterator[Problem]:
    path, references, minimum = place
    for index, reference in enumerate(references):
        try:
            secrets.resolve(reference, minimum)
        except SecretError as error:
            line, _ = loaded.document.locate((*path, index))
            yield Problem(loaded.document.file, line, ".".join(map(str, path)), str(error), meanwhile)

"""Problems between the parts of one source: its verifiers, its secrets, what its templates need of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.config.readable import at, entries, mappings, read
from gatehouse.config.texts import parse_template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.document import Path, YamlDocument
    from gatehouse.config.presets import Merged
    from gatehouse.errors import Problem
    from gatehouse.template import Template

_WITH_SECRET = ("hmac", "token", "basic")
_NOTHING = (None, ())
_TYPES = (*_WITH_SECRET, "none")


def source_problems(merged: Merged, document: YamlDocument) -> Iterator[Problem]:
    """Find what is wrong between the parts of each source."""
    has_url = at(merged.data, "server", "public_url") is not None
    for name, source in mappings(at(merged.data, "sources")).items():
        path: Path = ("sources", name)
        verifiers = [
            (merged.in_file(where), verifier)
            for where, verifier in entries(source.get("verify"), (*path, "verify"))
            if at(verifier, "type") in _TYPES
        ]
        yield from _secrets(path, source, verifiers, document)
        yield from _none_alone(verifiers, document)
        yield from _placeholders(path, source, verifiers, document)
        if not has_url:
            yield from _signed_url(verifiers, document)


Verifiers = list[tuple["Path", dict[str, Any]]]


def _secrets(
    path: Path, source: dict[str, Any], verifiers: Verifiers, document: YamlDocument
) -> Iterator[Problem]:
    shared = source.get("secrets") not in _NOTHING
    for where, verifier in verifiers:
        if verifier["type"] in _WITH_SECRET and not shared and verifier.get("secrets") in _NOTHING:
            message = f"{verifier['type']} has no secret to check with"
            hint = f"secrets: [env:{str(path[1]).upper().replace('-', '_')}_SECRET]"
            yield document.problem(where if document.locate(where)[1] == where else path, message, hint)


def _none_alone(verifiers: Verifiers, document: YamlDocument) -> Iterator[Problem]:
    for where, verifier in verifiers:
        if verifier["type"] == "none" and len(verifiers) > 1:
            yield document.problem(where, "none stands beside other verifiers", "leave it out")


def _placeholders(
    path: Path, source: dict[str, Any], verifiers: Verifiers, document: YamlDocument
) -> Iterator[Problem]:
    """Find templates that can never resolve: what they name comes from a verifier that is not there.

    Only those that the file says: a preset's dedupe key may stay behind when another verifier comes in.
    """
    if len(verifiers) != len(list(entries(source.get("verify"), path))):
        return  # what the unreadable verifier would give is not known
    signs = any(verifier["type"] == "hmac" for _, verifier in verifiers)
    times = any(verifier.get("timestamp") is not None for _, verifier in verifiers)
    for where, template in _templates(path, source):
        if document.locate(where)[1] != where:
            continue
        if not signs and _always_names("signed", template):
            hint = 'verify: {type: hmac, …}, or "{body:id}"'
            yield document.problem(where, "{signed} needs a verifier that signs", hint)
        if not times and _always_names("timestamp", template):
            hint = "verify: {timestamp: {header: NAME}}"
            yield document.problem(where, "{timestamp} needs a verifier with a timestamp", hint)


def _always_names(placeholder: str, template: Template) -> bool:
    """Tell whether no alternative of the template does without a placeholder."""
    return all(
        any(not isinstance(part, bytes) and part.name == placeholder for part in parts)
        for parts in template.alternatives
    )


def _templates(path: Path, source: dict[str, Any]) -> Iterator[tuple[Path, Template]]:
    event, by = source.get("event"), at(source, "dedupe", "by")
    found = [
        ((*path, "event", key), value) for key, value in (event if isinstance(event, dict) else {}).items()
    ]
    found += list(entries(by, (*path, "dedupe", "by")))
    for where, value in found:
        template = read(parse_template, value)
        if template is not None:
            yield where, template


def _signed_url(verifiers: Verifiers, document: YamlDocument) -> Iterator[Problem]:
    for where, verifier in verifiers:
        template = read(parse_template, verifier.get("signed"))
        if template is not None and _always_names("url", template):
            message = "{url} is signed, but server.public_url is not set"
            yield document.problem((*where, "signed"), message, "server: {public_url: https://…}")

"""Gives a sample another event type, in the places where the source reads the type."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from gatehouse.config import describe
from gatehouse.errors import GatewayError
from gatehouse.language.document import Document, MalformedDocumentError, with_value
from gatehouse.language.template import Placeholder
from gatehouse.samples.editing import edited_document, edited_items, renamed, with_field, without
from gatehouse.samples.sample import Sample, replaced, scopes_of, type_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatehouse.config.model import ProviderConfig

Parts = tuple[bytes | Placeholder, ...]

#: Placeholders whose values can be written.
_WRITABLE = ("header", "form", "body", "outer", "body_name")


def with_type(sample: Sample, settings: ProviderConfig, event_type: str) -> Sample:
    """Replace the event type, also in headers that repeat it. Raises `GatewayError` if that is impossible."""
    old = type_of(sample, settings)
    if old == event_type:
        return sample
    for changed in _attempts(sample, settings, event_type):
        headers = {name: event_type if value == old else value for name, value in changed.headers.items()}
        found = replace(changed, headers=headers)
        if type_of(found, settings) == event_type:
            return found
    raise GatewayError(f'the event type "{event_type}" can\'t be set in this body', hint=_hint(settings, old))


def _attempts(sample: Sample, settings: ProviderConfig, event_type: str) -> Iterator[Sample]:
    """Make samples that may have the type. The first one changes the least."""
    alternatives = settings.event.type.alternatives
    simple = sample
    for parts in alternatives:
        if len(parts) == 1 and isinstance(parts[0], Placeholder):
            simple = replaced(simple, settings, parts[0], lambda _: event_type)
    yield simple
    for number in _by_preference(sample, settings):
        for values in _assignments(alternatives[number], event_type):
            try:
                changed = sample
                for placeholder, value in values.items():
                    changed = _with(changed, settings, placeholder, value)
                yield _without_earlier(changed, settings, number, values)
            except MalformedDocumentError:
                continue


def _by_preference(sample: Sample, settings: ProviderConfig) -> list[int]:
    """Sort the alternatives: first the one that gives the type now, then those with text of their own."""
    alternatives = settings.event.type.alternatives

    def rank(number: int) -> tuple[bool, bool]:
        has_text = any(isinstance(part, bytes) for part in alternatives[number])
        return not _resolves(sample, settings, number), not has_text

    return sorted(range(len(alternatives)), key=rank)


def _resolves(sample: Sample, settings: ProviderConfig, number: int) -> bool:
    resolve = settings.event.type.resolves[number]
    try:
        return any(resolve(scope) is not None for scope in scopes_of(sample, settings))
    except MalformedDocumentError:
        return False


def _assignments(parts: Parts, event_type: str) -> Iterator[dict[Placeholder, str]]:
    """Yield the values of the placeholders with which the alternative gives the type."""
    placeholders = [part for part in parts if isinstance(part, Placeholder)]
    if any(one.name not in _WRITABLE for one in placeholders):
        return
    pattern = "".join(_pattern(part) for part in parts)
    # Either place may hold a dot: `pull_request.opened` and `a.b.c`.
    for form in (pattern, pattern.replace("(.+?)", "(.+)")):
        found = re.fullmatch(form, event_type, re.DOTALL)
        if found:
            yield dict(zip(placeholders, found.groups(), strict=True))


def _pattern(part: bytes | Placeholder) -> str:
    if isinstance(part, bytes):
        return re.escape(part.decode())
    if part.name == "body_name":
        return f"({'|'.join(map(re.escape, part.argument.split('|')))})"
    return "(.+?)"


def _without_earlier(
    sample: Sample, settings: ProviderConfig, chosen: int, values: Mapping[Placeholder, str]
) -> Sample:
    """Remove what makes an alternative before the chosen one resolve."""
    for number, parts in enumerate(settings.event.type.alternatives[:chosen]):
        removable = [one for one in parts if isinstance(one, Placeholder) and one not in values]
        if removable and _resolves(sample, settings, number):
            sample = _with(sample, settings, removable[-1], None)
    return sample


def _with(sample: Sample, settings: ProviderConfig, placeholder: Placeholder, value: str | None) -> Sample:
    """Set the value of a placeholder in every event, or remove it. Raises `MalformedDocumentError`."""
    if placeholder.name == "header":
        wanted = placeholder.argument.lower()
        kept = {name: text for name, text in sample.headers.items() if name.lower() != wanted}
        return replace(sample, headers=kept if value is None else kept | {placeholder.argument: value})
    if placeholder.name == "form":
        return with_field(sample, placeholder.argument, value)
    if placeholder.name == "body_name":
        names = placeholder.argument.split("|")
        return edited_items(sample, settings, lambda item: _with_name(item, names, value))
    path = placeholder.path
    edit = edited_document if placeholder.name == "outer" else edited_items
    if value is None:
        return edit(sample, settings, lambda item: without(item, path))
    return edit(sample, settings, lambda item: with_value(item, path, msgspec.json.encode(value)))


def _with_name(item: bytes, names: list[str], value: str | None) -> bytes:
    present = [name for name in names if Document(item).raw((name,)) is not None]
    if value is not None:
        return renamed(item, present[0], value) if present else with_value(item, (value,), b"{}")
    for name in present:
        item = without(item, (name,))
    return item


def _hint(settings: ProviderConfig, old: str | None) -> str:
    """Say which types are possible."""
    placeholders = settings.event.type.placeholders
    body = "pass a body of this type with --body FILE, and --header for its headers"
    if not placeholders:
        return f"leave --type out: every event of this source has the type {old}"
    names = [one for part in placeholders if part.name == "body_name" for one in part.argument.split("|")]
    if old in names:
        return f"use one of the types that this source reads: {', '.join(names)}; or {body}"
    return f"use a type of the form {describe.template(settings.event.type)}; or {body}"

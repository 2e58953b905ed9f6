"""Every preset recognizes a provider's retries, however late, and treats no new event as a retry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatehouse import providers
from gatehouse.config.model import JwtConfig, ProviderConfig, SigningConfig
from gatehouse.config.presets import shipped_preset
from gatehouse.language.document import MalformedDocumentError
from gatehouse.language.scope import Scope
from gatehouse.language.template import Placeholder, Template
from presets import FILES, Vector, built, entries, is_symmetric

each_preset = pytest.mark.parametrize("name", providers.names())
#: Placeholders for everything that was sent or signed.
BYTES = ("signed", "body", "body_sha256", "item_sha256", "body_sorted", "form", "form_sorted", "claims")
#: Placeholders that distinguish two events only by their type.
SAYS_NOTHING = ("body_name", "value", "method", "path")


def tolerances(settings: ProviderConfig) -> list[float]:
    """List the times for which a request of the provider verifies."""
    signed = [
        entry.timestamp.tolerance
        for entry in entries(settings)
        if isinstance(entry, SigningConfig) and entry.timestamp
    ]
    tokens = [entry.max_age for entry in entries(settings) if isinstance(entry, JwtConfig) and entry.max_age]
    return signed + tokens


@pytest.mark.case("F-20")
@each_preset
def test_a_retry_that_carries_the_first_timestamp_is_not_too_old(name: str) -> None:
    settings = shipped_preset(name)
    if settings.retries_resigned:
        assert settings.retries_resigned.startswith("https://")
        return

    limits = [*tolerances(settings), settings.max_age or float("inf")]
    assert all(limit >= (settings.retry_horizon or 0) for limit in limits)


@pytest.mark.case("F-20")
@each_preset
def test_keys_are_kept_for_longer_than_a_request_verifies(name: str) -> None:
    """A captured request verifies for as long as the tolerance, so the keys must be kept for longer."""
    settings = shipped_preset(name)
    checked = [tolerance for tolerance in tolerances(settings) if tolerance != float("inf")]

    # A time in the future is accepted too, and verifies until it is equally far in the past.
    assert all(settings.dedupe.window >= 2 * tolerance for tolerance in checked)


@pytest.mark.case("F-20")
@each_preset
def test_the_last_retry_with_the_bytes_of_the_first_request_verifies(name: str) -> None:
    settings = shipped_preset(name)
    if settings.retries_resigned or not tolerances(settings) or not is_symmetric(settings):
        return
    vector = next(vector for vector in FILES[name].vectors if vector.refused is None)
    of = built(name, vector)

    of.verification.verify(vector.request(), signed_at(name, vector) + (settings.retry_horizon or 0))


def signed_at(name: str, vector: Vector) -> float:
    """Return the time when a request was signed. The vector's own time may be a little later."""
    of = built(name, vector)
    facts = of.verification.verify(vector.request(), vector.now).facts
    units = {
        entry.timestamp.unit
        for entry in entries(of.settings)
        if isinstance(entry, SigningConfig) and entry.timestamp
    }
    digits = (facts.get("timestamp") or b"").decode()
    return int(digits) / (1000 if "ms" in units else 1) if digits.isdecimal() else vector.now


@pytest.mark.case("F-21")
@each_preset
def test_no_key_is_made_of_bytes_alone_where_bodies_repeat(name: str) -> None:
    """Bytes alone are a key only if the preset says why they are unique, or for as long as retries come."""
    settings = shipped_preset(name)
    if settings.unique_bodies:
        return
    scopes = list(seen(name))
    for template, window in zip(settings.dedupe.templates, settings.dedupe.windows, strict=True):
        for place, parts in enumerate(template.alternatives):
            if is_bytes_alone(parts, settings) and window > (settings.retry_horizon or 0):
                assert place, f"{name}: the bytes are the first alternative"
                # After an id, such a key covers what the provider does not document.
                assert all(comes_before(template, place, scope) for scope in scopes), (
                    f"{name}: bytes are used"
                )


def is_bytes_alone(parts: tuple[bytes | Placeholder, ...], settings: ProviderConfig) -> bool:
    """Tell whether equal bodies have equal keys."""
    types = settings.event.type.placeholders
    signed = {
        template
        for entry in entries(settings)
        if isinstance(entry, SigningConfig)
        for alternative in entry.signed.alternatives
        if len(alternative) == 1
        for template in alternative
    }
    placeholders = {part for part in parts if isinstance(part, Placeholder)}
    telling = {part for part in placeholders - types if part.name not in SAYS_NOTHING}
    return bool(telling) and all(
        (part.name in BYTES and not part.argument) or part in signed for part in telling
    )


def seen(name: str) -> Iterator[Scope]:
    """Yield what templates can read of every event in the vectors."""
    for vector in FILES[name].vectors:
        if vector.events:  # the other vectors sign bodies that are not events
            of = built(name, vector)
            try:
                yield from of.reader.scopes(of.verification.verify(vector.request(), vector.now))
            except MalformedDocumentError:
                continue


def comes_before(template: Template, place: int, scope: Scope) -> bool:
    """Tell whether an earlier alternative resolves, so that this one does not apply."""
    earlier = [part for parts in template.alternatives[:place] for part in (parts,)]
    return any(resolves(parts, scope) for parts in earlier)


def resolves(parts: tuple[bytes | Placeholder, ...], scope: Scope) -> bool:
    text = "".join(
        part.decode().replace("{", "{{").replace("}", "}}") if isinstance(part, bytes) else str(part)
        for part in parts
    )
    try:
        return Template(text).render(scope) is not None
    except MalformedDocumentError:
        return False

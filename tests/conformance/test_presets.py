"""Checks every preset with its vectors: what verifies, the resulting events, and changes of signed parts."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import msgspec
import pytest
from multidict import CIMultiDict

from doubles.dedupe import values
from gatehouse import providers
from gatehouse.config.coverage import effective_max_age, limits_age, resists_replay, signs, signs_time
from gatehouse.config.model import BasicConfig, SigningConfig, TokenConfig
from gatehouse.config.presets import shipped_preset
from gatehouse.errors import VerificationError
from gatehouse.events.event import UNREADABLE, Event
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request
from gatehouse.language.scope import Scope
from gatehouse.language.times import rfc3339
from gatehouse.samples.sample import Sample, documented_sample, sign_sample, type_of, with_new_ids, with_time
from gatehouse.verify.base import VerifiedRequest
from presets import FILES, VECTORS, Vector, built, entries, is_symmetric, made_secrets, source

each_vector = pytest.mark.parametrize(
    ("preset", "vector"),
    [pytest.param(preset, vector, id=f"{preset}-{number}") for preset, number, vector in VECTORS],
)
each_good_vector = pytest.mark.parametrize(
    ("preset", "vector"),
    [
        pytest.param(preset, vector, id=f"{preset}-{number}")
        for preset, number, vector in VECTORS
        if vector.refused is None
    ],
)
#: Two changes of one Dropbox account have equal bytes, so a key would lose the second one.
WITHOUT_IDENTITY = ("dropbox",)
#: Their types are in unsigned headers, and equal bodies may have different types.
TYPE_IN_A_KEY = ("netlify", "shopify", "woocommerce")
#: The key is the delivery id, which is not signed. The provider recommends it, and bodies repeat.
BY_DELIVERY = ("shopify",)

each_preset = pytest.mark.parametrize("name", providers.names())


def verify(of: Source, request: Request, now: float) -> VerifiedRequest:
    return of.verification.verify(request, now)


def changed(request: Request, **changes: object) -> Request:
    return msgspec.structs.replace(request, **changes)


def test_every_preset_has_vectors_and_every_vector_file_has_a_preset() -> None:
    assert {file.preset for file in FILES.values()} == set(FILES) == set(providers.names())


def test_there_are_at_least_sixty_presets() -> None:
    assert len(providers.names()) >= 60


@pytest.mark.parametrize("name", FILES)
def test_every_preset_has_a_vector_with_events(name: str) -> None:
    assert any(vector.events for vector in FILES[name].vectors)
    assert all(
        vector.proof in ("published", "sdk", "hand") and vector.source for vector in FILES[name].vectors
    )


@each_vector
def test_the_vector_verifies_or_is_refused_for_its_reason(preset: str, vector: Vector) -> None:
    of = built(preset, vector)
    if vector.refused is None:
        verify(of, vector.request(), vector.now)
        return
    with pytest.raises(VerificationError) as caught:
        verify(of, vector.request(), vector.now)
    assert caught.value.reason == vector.refused


@each_good_vector
def test_the_events_are_those_of_the_vector(preset: str, vector: Vector) -> None:
    if vector.events is None:
        return
    of = built(preset, vector)
    read = of.reader.read(verify(of, vector.request(), vector.now), vector.now, ())

    assert [described(event, values(keys)) for event, keys, _ in read] == [
        {"subject": None, "account": None, "time": rfc3339(vector.now)} | expected
        for expected in vector.events
    ]


def described(event: Event, keys: tuple[bytes | None, ...]) -> dict[str, object]:
    shown = [key and ("sha256:" if key.startswith(b"sha256:") else key.decode()) for key in keys]
    own = event.external_id == event.id  # the provider sent none
    identity = {"id": None if own else event.external_id, "type": event.type, "time": event.time}
    return identity | {"subject": event.subject, "account": event.account, "keys": shown}


@pytest.mark.case("S-15")
@each_good_vector
@pytest.mark.parametrize("position", [0, 0.3, 0.6, 0.999])
def test_one_changed_byte_of_what_is_signed_is_refused(preset: str, vector: Vector, position: float) -> None:
    """If the signature covers the raw body, no byte of it can change. The same applies to each other part."""
    of = built(preset, vector)
    request = vector.request()
    signed_parts = verify(of, request, vector.now).facts.get("signed", b"")
    if request.body and request.body in signed_parts:
        body = bytearray(request.body)
        body[int(position * len(body))] ^= 1
        with pytest.raises(VerificationError):
            verify(of, changed(request, body=bytes(body)), vector.now)
    for name, value in request.headers.items():
        if len(value) > 3 and value.encode() in signed_parts and name.lower() not in ("host", "content-type"):
            headers = CIMultiDict(request.headers)
            headers[name] = value[:-1] + ("0" if value[-1] != "0" else "1")
            if any(f"{{header:{name.lower()}}}" in template for template in signed_templates(of)):
                with pytest.raises(VerificationError):
                    verify(of, changed(request, headers=headers), vector.now)
    if any(name in template for template in signed_templates(of) for name in ("{url}", "{url_decoded}")):
        with pytest.raises(VerificationError):
            verify(of, changed(request, path=request.path + "x"), vector.now)


def signed_templates(of: Source) -> list[str]:
    """Return the signed bytes, in lower case."""
    return [
        "".join(str(part) for part in parts if not isinstance(part, bytes)).lower()
        for entry in entries(of.settings)
        if isinstance(entry, SigningConfig)
        for template in (entry.signed, entry.id)
        if template is not None
        for parts in template.alternatives
    ]


@each_good_vector
def test_another_secret_is_refused(preset: str, vector: Vector) -> None:
    if not any(
        isinstance(entry, SigningConfig | TokenConfig | BasicConfig)
        for entry in entries(built(preset, vector).settings)
    ):
        return  # keys are fetched or are not secrets; their own tests change them
    settings = shipped_preset(preset)
    if not is_symmetric(settings):
        return  # an arbitrary text is not a public key; refused vectors cover another key
    of = source(preset, made_secrets(settings), values=vector.values)

    with pytest.raises(VerificationError) as caught:
        verify(of, vector.request(), vector.now)
    assert caught.value.reason in ("wrong_signature", "wrong_credentials", "malformed_signature")


def recut(request: Request) -> Iterator[Request]:
    """Yield variants of the request: with rarely signed parts changed, or signed parts split differently."""
    for name, value in request.headers.items():
        for text in ("application/json", "application/x-www-form-urlencoded", value[:-1], value[1:]):
            yield changed(request, headers=with_header(request, name, text))
        if value.isascii():
            yield changed(
                request,
                headers=with_header(request, name, value[:-1]),
                body=value[-1:].encode() + request.body,
            )
        if request.body.isascii():
            longer = request.body[-1:].decode() + value
            yield changed(request, headers=with_header(request, name, longer), body=request.body[:-1])
    yield changed(request, query=request.query + "&id=2", headers=with_header(request, "Content-Type", "x"))
    fields = sorted(set(Scope(request).form_fields))
    text = "".join(name + value for name, value in fields)
    start = text.find("id")
    if start >= 0:
        yield changed(request, body=urlencode([(text[:start], ""), ("id", text[start + 2 :])]).encode())


def with_header(request: Request, name: str, value: str) -> CIMultiDict[str]:
    headers = CIMultiDict(request.headers)
    headers[name] = value
    return headers


@pytest.mark.case("S-10", "S-25")
@each_good_vector
def test_a_modified_captured_request_gives_at_most_one_new_event_which_is_unreadable(
    preset: str, vector: Vector
) -> None:
    of = built(preset, vector)
    if not signs(of.settings) or preset in WITHOUT_IDENTITY or preset in TYPE_IN_A_KEY:
        return
    if preset == "zendesk" and b"zendesk_event_version" not in vector.content:
        return  # an admin wrote the body: its only id is that of the delivery, and it may repeat
    known = keys_of(of, vector.request(), vector.now)
    new: list[str] = []
    for request in recut(vector.request()):
        try:
            read = of.reader.read(verify(of, request, vector.now), vector.now, ())
        except VerificationError:
            continue
        new += [event.type for event, keys, _ in read if not known & {key.scoped for key in keys if key}]
        known |= keys_of(of, request, vector.now)

    assert new in ([], [UNREADABLE])


def keys_of(of: Source, request: Request, now: float) -> set[bytes]:
    read = of.reader.read(verify(of, request, now), now, ())
    return {key.scoped for _, keys, _ in read for key in keys if key}


@pytest.mark.case("S-05")
@each_good_vector
def test_without_its_credentials_it_is_refused(preset: str, vector: Vector) -> None:
    of = built(preset, vector)
    names = frozenset().union(*(one.credential_headers() for one in of.verification.verifiers))
    request = vector.request()
    kept = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in names)
    # If the credentials are elsewhere, remove the body or the query that contains them.
    bare = (
        changed(request, headers=kept, query="")
        if names & {n.lower() for n in request.headers}
        else changed(request, query="", body=b"{}")
    )

    with pytest.raises(VerificationError):
        verify(of, bare, vector.now)


@each_good_vector
def test_a_signed_timestamp_keeps_old_and_future_requests_out(preset: str, vector: Vector) -> None:
    of = built(preset, vector)
    limits = [
        entry.timestamp.tolerance
        for entry in entries(of.settings)
        if isinstance(entry, SigningConfig) and entry.timestamp and entry.timestamp.tolerance < 1e9
    ]
    for limit in limits[:1]:
        for offset in (2 * limit + 1, -2 * limit - 1):
            with pytest.raises(VerificationError):
                verify(of, vector.request(), vector.now + offset)


@each_preset
def test_its_samples_are_readable_and_have_their_own_dedupe_keys(name: str) -> None:
    settings = shipped_preset(name)
    for given in settings.samples:
        sample = Sample(given.headers, given.body.encode())
        event_type = type_of(with_new_ids(sample, settings), settings)

        assert event_type
        assert event_type != "gatehouse.unreadable"


@each_preset
def test_a_source_verifies_what_it_signs_as_a_new_event(name: str) -> None:
    settings = shipped_preset(name)
    if not is_symmetric(settings):
        return
    of = source(name)
    known: set[bytes] = set()
    for now in (1_800_000_000, 1_800_000_001):
        sample = with_new_ids(documented_sample(settings) or pytest.fail("no sample"), settings)
        sample = with_time(sample, settings, now)
        request = sign_sample(of, sample, now)
        read = of.reader.read(verify(of, request, now), now, ())
        keys = {key.scoped for _, found, _ in read for key in found if key}

        assert keys or name in WITHOUT_IDENTITY, "no dedupe key resolves"
        assert not keys & known, "a fresh sample repeats a key"
        known |= keys


@each_preset
def test_a_preset_says_what_an_operator_needs(name: str) -> None:
    preset = shipped_preset(name)
    unconfirmed = " ".join(preset.unconfirmed).lower()

    assert preset.title
    assert preset.docs.startswith("https://")
    assert preset.dedupe.by or name in WITHOUT_IDENTITY
    assert preset.samples
    assert preset.event.id
    assert preset.answer_deadline or "deadline" in unconfirmed
    assert (
        preset.retry_horizon or "horizon" in unconfirmed or "retries" in unconfirmed or "retry" in unconfirmed
    )
    assert preset.retries or "retr" in unconfirmed
    assert preset.dedupe.window >= (preset.retry_horizon or 0)


@pytest.mark.case("F-03")
@each_preset
def test_a_captured_request_becomes_too_old_or_the_preset_says_why_not(name: str) -> None:
    preset = shipped_preset(name)
    limit = effective_max_age(preset)

    assert limits_age(preset) != bool(preset.no_max_age), "either an age limit or a reason for none"
    assert limit is None or preset.retry_horizon is None or limit >= preset.retry_horizon
    assert limit is None or (signs_time(preset) and limit <= preset.dedupe.window)


@pytest.mark.case("S-10")
@each_preset
def test_no_preset_deduplicates_by_unsigned_values_alone(name: str) -> None:
    """A captured request that is sent again under another delivery id must be a duplicate."""
    settings = shipped_preset(name)

    assert resists_replay(settings) or not signs(settings) or name in (*WITHOUT_IDENTITY, *BY_DELIVERY)

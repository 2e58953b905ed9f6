"""Samples keep the text of the documented example, except for the values that must change."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from doubles.dedupe import values
from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.errors import GatewayError, VerificationError
from gatehouse.ingest.source import Source
from gatehouse.samples.event_type import with_type
from gatehouse.samples.sample import (
    Sample,
    documented_sample,
    fresh_id,
    sign_sample,
    tampered,
    type_of,
    with_delivery_id,
    with_new_ids,
)

NOW = 1_750_000_000.0
FIRST = ("mandato", "mando", "e-invoice-be", "getpeppr", "hisab")
SECRETS = {"S": "s3cr3t-of-at-least-16-bytes"}


def source(name: str = "mando", environment: dict[str, str] | None = None, **extra: Any) -> Source:
    settings = {"provider": name, "secrets": ["env:S"], **extra}
    loaded = parse(json.dumps({"sources": {"it": settings}}))
    secrets = Secrets(Path(), SECRETS if environment is None else environment)
    return Source("it", loaded.config.sources["it"], loaded.config, secrets)


def sample(of: Source) -> Sample:
    found = documented_sample(of.settings)
    assert found is not None
    return found


@pytest.mark.parametrize("provider", FIRST)
def test_a_signed_example_of_every_provider_verifies(provider: str) -> None:
    of = source(provider)
    made = with_new_ids(sample(of), of.settings)
    of.verification.verify(sign_sample(of, made, NOW), NOW)


@pytest.mark.parametrize("provider", FIRST)
def test_two_fresh_examples_share_no_dedupe_key(provider: str) -> None:
    of = source(provider)

    def keys() -> tuple[bytes | None, ...]:
        made = with_new_ids(sample(of), of.settings)
        request = sign_sample(of, made, NOW)
        ((_, found, _),) = of.reader.read(of.verification.verify(request, NOW), NOW, ())
        return values(found)

    first, second = keys(), keys()
    assert any(first)
    assert not {key for key in first if key} & {key for key in second if key}


def test_a_fresh_example_keeps_everything_but_its_ids() -> None:
    of = source("mando")
    old, new = sample(of).body, with_new_ids(sample(of), of.settings, new_id=lambda _: "evt_new").body
    assert new == old.replace(b"evt_abc123", b"evt_new")
    assert b'"total": 45.50' in new


@pytest.mark.parametrize(
    ("provider", "kept"),
    [
        ("adyen", [b'"AUTHORISATION"', b'"TestMerchant"', b'"EUR"', b"1130"]),
        ("github", [b'"opened"', b"https://github.com/octo-org/octo-repo/issues/"]),
    ],
)
def test_a_fresh_example_keeps_type_account_and_amount_though_keys_name_them(
    provider: str, kept: list[bytes]
) -> None:
    of = source(provider)
    old, new = sample(of).body, with_new_ids(sample(of), of.settings).body
    assert old != new
    assert all(value in new for value in kept)


def test_an_unsigned_delivery_id_in_a_header_is_made_fresh_too() -> None:
    of = source("mandato")
    made = with_new_ids(sample(of), of.settings, new_id=lambda old: old[:4] + "new")
    assert made.headers["X-Mandato-Delivery-Id"] == "dlv_new"
    assert b'"id": "evt_new"' in made.body
    assert b'"id": "inv_a1b2c3d4e5f6"' in made.body


def test_values_that_events_share_are_not_replaced() -> None:
    """One of getpeppr's dedupe keys contains the type: a fresh event still has it."""
    of = source("getpeppr")
    body = b'{"id":"evt_1","type":"inbound.received","data":{"receivedDocumentId":"doc_1"}}'
    made = with_new_ids(Sample({}, body), of.settings, new_id=lambda old: old + "x")
    assert made.body == b'{"id":"evt_1x","type":"inbound.received","data":{"receivedDocumentId":"doc_1x"}}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id": 12, "n": 12.5, "m": 12}', b'{"id": 99, "n": 12.5, "m": 12}'),
        (b'{"id": 1, "x": {"id": 12}}', b'{"id": 99, "x": {"id": 12}}'),
        (b'{"id":"a\\u0062"}', b'{"id":"99"}'),
        (b'{"id": null}', b'{"id": null}'),
        (b'{"no": 1}', b'{"no": 1}'),
        (b"not JSON", b"not JSON"),
        (b'{"id":1,"id":2}', b'{"id":1,"id":2}'),
    ],
)
def test_an_id_is_replaced_only_in_its_member(body: bytes, expected: bytes) -> None:
    made = with_new_ids(Sample({}, body), source("mando").settings, new_id=lambda _: "99")
    assert made.body == expected


def test_the_type_is_replaced_in_the_body_and_in_headers_that_repeat_it() -> None:
    of = source("mandato")
    made = with_type(sample(of), of.settings, "invoice.rejected")
    assert type_of(made, of.settings) == "invoice.rejected"
    assert made.headers["X-Mandato-Event"] == "invoice.rejected"
    assert b'"status": "accepted"' in made.body


@pytest.mark.parametrize("body", [b"not JSON", b"[]", b'"text"', b""])
def test_a_body_that_has_no_place_for_a_type_gets_none(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        with_type(Sample({}, body), source("mando").settings, "sale.voided")
    assert caught.value.hint


@pytest.mark.parametrize("body", [b'{"n": 45.50}', b'{"type": null, "n": 45.50}'])
def test_a_body_without_a_type_gets_one(body: bytes) -> None:
    made = with_type(Sample({}, body), source("mando").settings, "sale.voided")
    assert b'"type": "sale.voided"' in made.body
    assert b'"n": 45.50' in made.body


def test_the_example_of_the_requested_type_is_returned() -> None:
    settings = source("mando", samples=[{"body": '{"type":"a"}'}, {"body": '{"type":"b"}'}]).settings
    found = documented_sample(settings, "b")
    assert found is not None
    assert found.body == b'{"type":"b"}'


def test_a_source_without_examples_has_none() -> None:
    assert documented_sample(source("mando", samples=[]).settings) is None


def test_a_delivery_id_is_replaced_alone() -> None:
    of = source("hisab")
    made = with_delivery_id(sample(of), of.settings, new_id=lambda _: "del_new")
    assert made is not None
    assert made.headers["X-Webhook-Delivery-Id"] == "del_new"
    assert made.body == sample(of).body
    assert with_delivery_id(sample(source("mando")), source("mando").settings) is None


@pytest.mark.parametrize("provider", FIRST)
def test_a_tampered_example_differs_in_one_byte_and_does_not_verify(provider: str) -> None:
    of = source(provider)
    made = sample(of)
    forged = Sample(made.headers, tampered(made.body))
    assert sum(a != b for a, b in zip(made.body, forged.body, strict=True)) == 1
    with pytest.raises(VerificationError):
        of.verification.verify(msgspec.structs.replace(sign_sample(of, made, NOW), body=forged.body), NOW)


def test_a_body_without_a_digit_cannot_be_tampered_with() -> None:
    assert tampered(b'{"a": 9}') == b'{"a": 0}'
    with pytest.raises(ValueError, match="no digit"):
        tampered(b"{}")


@pytest.mark.parametrize(
    ("like", "form"),
    [
        ("evt_abc123", "evt_"),
        ("evt-e7wyc7gtpqx4", "evt-"),
        ("42", ""),
        ("abc", ""),
        ("https://acme.example/orders/7", "https://acme.example/orders/"),
    ],
)
def test_fresh_ids_are_new_and_keep_their_prefix(like: str, form: str) -> None:
    made = {fresh_id(like) for _ in range(50)}
    assert len(made) == 50
    assert all(one.startswith(form) for one in made)
    assert all(one.isdigit() for one in made) == like.isdigit()


def test_a_fresh_uuid_is_a_uuid() -> None:
    assert uuid.UUID(fresh_id("550e8400-e29b-41d4-a716-446655440000")).version == 4


def test_a_source_without_its_secret_does_not_sign() -> None:
    of = source("mando", environment={})
    with pytest.raises(GatewayError, match="env:S is not set"):
        sign_sample(of, sample(of), NOW)


def test_a_body_that_the_scheme_cannot_sign_is_an_error_with_a_hint() -> None:
    with pytest.raises(GatewayError, match="malformed_body") as caught:
        sign_sample(source("e-invoice-be"), Sample({}, b"not JSON"), NOW)
    assert caught.value.hint

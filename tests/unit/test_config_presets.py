"""A source with a provider has every key of the preset that it does not override."""

from __future__ import annotations

import pytest

import presets
from gatehouse import providers
from gatehouse.config.base import format_template
from gatehouse.config.load import parse
from gatehouse.config.model import BasicConfig, HmacConfig, SourceConfig, TokenConfig
from gatehouse.config.presets import merge, raw_preset, shipped_preset
from gatehouse.errors import ConfigError


def source(text: str) -> SourceConfig:
    """Load a config of one source, `one`."""
    return parse(f"sources:\n  one: {{{text}}}").config.sources["one"]


def hmac_of(text: str) -> HmacConfig:
    (verifier,) = source(text).verify
    assert isinstance(verifier, HmacConfig)
    return verifier


@pytest.mark.parametrize("name", providers.names())
def test_a_source_without_overrides_equals_its_preset(name: str) -> None:
    loaded = presets.source(name).settings
    preset = shipped_preset(name)
    own = {"values", "min_secret", "handshakes", "verify"}

    assert loaded.model_dump(include=set(type(preset).model_fields) - own) == preset.model_dump(exclude=own)
    assert [verifier.type for verifier in loaded.verify] == [verifier.type for verifier in preset.verify]


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("title: Mine", "title", "Mine"),
        ("min_secret: 20", "min_secret", 20),
        ("answer_deadline: 1s", "answer_deadline", 1.0),
        ("answer_deadline: ", "answer_deadline", None),
        ("retry_horizon: 1d", "retry_horizon", 86400.0),
        ("answers: {accepted: 202}", "answers.accepted", 202),
        ("dedupe: {window: 1d}", "dedupe.window", 86400.0),
        ("dedupe: {by: []}", "dedupe.by", ()),
        ("dedupe: ", "dedupe.by", ()),
        ("types: [a.b]", "types", ("a.b",)),
        ("event: {subject: }", "event.subject", None),
    ],
)
def test_a_source_overrides_any_part_of_its_preset(override: str, path: str, value: object) -> None:
    loaded: object = source(f"provider: hisab, secrets: env:A, {override}")
    for step in path.split("."):
        loaded = getattr(loaded, step)

    assert loaded == value


def test_overriding_one_key_of_a_verifier_keeps_the_others() -> None:
    verifier = hmac_of("provider: hisab, secrets: env:A, verify: {timestamp: {tolerance: 10m}}")

    assert verifier.timestamp is not None
    assert (verifier.timestamp.tolerance, verifier.timestamp.header) == (600.0, "X-Webhook-Timestamp")
    assert (verifier.signature.header, verifier.signature.prefix) == (("X-Webhook-Signature",), "v1=")
    assert format_template(verifier.signed) == "{timestamp}.{body}"


def test_overriding_one_key_of_the_event_keeps_the_others() -> None:
    event = source('provider: hisab, secrets: env:A, event: {account: "{body:tenant}"}').event

    assert event.account is not None
    assert format_template(event.account) == "{body:tenant}"
    assert format_template(event.type) == "{body:event}"


def test_another_place_replaces_that_of_the_preset() -> None:
    signature = hmac_of("provider: mando, secrets: env:A, verify: {signature: {body: proof.sig}}").signature
    timestamp = hmac_of(
        "provider: hisab, secrets: env:A, verify: {signature: {format: pairs, key: v1, prefix: ''}, "
        "timestamp: {pair: t}}"
    ).timestamp

    assert (signature.header, signature.body, signature.prefix) == ((), "proof.sig", "sha256=")
    assert timestamp is not None
    assert (timestamp.pair, timestamp.header) == ("t", None)


def test_a_verifier_of_another_type_replaces_that_of_the_preset() -> None:
    (verifier,) = source("provider: mandato, secrets: env:A, verify: {type: basic, username: u}").verify

    assert verifier == BasicConfig(type="basic", username="u")


def test_repeating_the_type_replaces_nothing() -> None:
    assert hmac_of("provider: hisab, secrets: env:A, verify: {type: hmac}").signature.prefix == "v1="


@pytest.mark.parametrize("verify", ["preset", "[preset]"])
def test_the_word_preset_stands_for_the_verifiers_of_the_preset(verify: str) -> None:
    plain = hmac_of("provider: hisab, secrets: env:A")
    named = hmac_of(f"provider: hisab, secrets: env:A, verify: {verify}")

    assert (named.signature, named.timestamp) == (plain.signature, plain.timestamp)


def test_a_list_adds_to_the_preset() -> None:
    loaded = source(
        "provider: e-invoice-be, secrets: env:A, verify: "
        "[{type: token, header: X-Token, secrets: env:T}, preset, {type: basic, secrets: env:B}]"
    )

    assert [type(verifier) for verifier in loaded.verify] == [TokenConfig, HmacConfig, BasicConfig]


def test_a_list_without_the_word_preset_replaces_the_preset() -> None:
    loaded = source("provider: mandato, secrets: env:A, verify: [{type: basic}]")

    assert [type(verifier) for verifier in loaded.verify] == [BasicConfig]


def test_merging_does_not_change_the_preset() -> None:
    before = providers.text("hisab"), str(raw_preset("hisab"))
    source("provider: hisab, secrets: env:A, verify: {timestamp: {tolerance: 1m}}, event: {id: x}")

    assert (providers.text("hisab"), str(raw_preset("hisab"))) == before


def test_a_source_works_without_a_preset() -> None:
    loaded = source(
        'secrets: env:A, verify: {type: hmac, signature: {header: X-S}}, event: {type: "{body:t}"}'
    )

    assert loaded.provider == ""
    assert loaded.verify[0].type == "hmac"


@pytest.mark.parametrize("verify", ["", "[]", "[presett]", "[[]]", "[{}]", "{}", "5", "{type: }"])
def test_no_override_removes_all_verifiers(verify: str) -> None:
    for start in ("provider: mandato,", 'event: {type: "{body:t}"},'):
        text = f"{start} secrets: env:A, verify: {verify}"
        try:
            loaded = source(text)
        except ConfigError:
            continue
        assert loaded.verify
        assert all(verifier.type == "hmac" for verifier in loaded.verify)


def test_secrets_of_a_rotation_are_all_kept_in_order() -> None:
    loaded = source('provider: mandato, secrets: [env:NEW, "file:old"]')

    assert list(map(str, loaded.secrets)) == ["env:NEW", "file:old"]


@pytest.mark.parametrize(
    ("preset", "own", "merged"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": (1, 2)}, {"a": (3,)}, {"a": (3,)}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({"a": {"b": 1}}, {"a": 5}, {"a": 5}),
        ({"header": "X", "prefix": "p"}, {"form": "f"}, {"form": "f", "prefix": "p"}),
        ({"header": "X"}, {"prefix": "p"}, {"header": "X", "prefix": "p"}),
        ({}, {"a": 1}, {"a": 1}),
    ],
)
def test_mappings_are_merged_by_key_and_other_values_replaced(
    preset: object, own: object, merged: object
) -> None:
    assert merge(preset, own) == merged

"""Header values of refused requests are masked, unless the header certainly contains no credential."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from multidict import CIMultiDict

from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request
from gatehouse.operator.masking import mask, masked_headers, query_names

VALUE = "a-value-of-some-length"
CONFIG = """
sources:
  s:
    verify:
      type: hmac
      signature: {header: X-Sig}
      timestamp: {header: X-Time}
      signed: "{timestamp}.{body}"
      secrets: env:S
    event: {type: "{header:X-Topic}", id: "{header:X-Sig}"}
    dedupe: {by: ["{header:X-Delivery}{body}"]}
"""


def masked(*names: str, is_ready: bool = True, value: str = VALUE) -> list[tuple[str, str]]:
    config = parse(CONFIG).config
    secrets = Secrets(Path(), {"S": "s3cr3t-of-at-least-16-bytes"} if is_ready else {})
    source = Source("s", config.sources["s"], config, secrets)
    headers = CIMultiDict(dict.fromkeys(names, value))
    return masked_headers(Request("POST", "/", "", headers, b""), source)


@pytest.mark.parametrize("name", ["Content-Type", "user-agent", "X-Topic", "X-Time", "X-Delivery", "Host"])
def test_transport_headers_and_headers_that_the_config_reads_are_shown(name: str) -> None:
    assert masked(name) == [(name, VALUE)]


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-Sig", "X-Unknown", "X-Other-Topic"])
@pytest.mark.case("S-48")
def test_everything_else_is_masked(name: str) -> None:
    assert masked(name) == [(name, "a-va… (22 characters)")]


def ebay_signature(kid: object) -> str:
    signature = {"alg": "ecdsa", "kid": kid, "signature": "MEYCIQCfx", "digest": "SHA1"}
    return base64.b64encode(json.dumps(signature).encode()).decode()


@pytest.mark.case("S-48")
def test_a_masked_ebay_signature_shows_its_key_id() -> None:
    value = ebay_signature("9936261a-7d7b-4621-a0f1-96ccb428af49")

    ((_, shown),) = masked("X-EBAY-SIGNATURE", value=value)

    assert shown == f"eyJh… ({len(value)} characters), kid 9936261a-7d7b-4621-a0f1-96ccb428af49"


@pytest.mark.case("S-48")
@pytest.mark.parametrize("kid", [None, "", "with space", "x" * 65, "\x1b[31m"])
def test_an_unusual_key_id_stays_masked(kid: object) -> None:
    value = ebay_signature(kid)

    assert masked("X-EBAY-SIGNATURE", value=value) == [("X-EBAY-SIGNATURE", mask(value))]


@pytest.mark.case("S-48")
@pytest.mark.parametrize(
    "value", ["e30=", "not-base64-at-all-!", "bm90IGpzb24gYXQgYWxs", "W10=" * 9, "é" * 20]
)
def test_an_ebay_signature_without_a_key_id_stays_masked(value: str) -> None:
    assert masked("X-EBAY-SIGNATURE", value=value) == [("X-EBAY-SIGNATURE", mask(value))]


def test_a_source_that_is_not_ready_shows_none_of_its_own_headers() -> None:
    assert masked("X-Topic", "Host", is_ready=False) == [("X-Topic", mask(VALUE)), ("Host", VALUE)]


def test_a_short_value_shows_only_its_length() -> None:
    assert mask("0123456789") == "… (10 characters)"


@pytest.mark.case("S-47")
def test_a_masked_value_contains_no_terminal_control_characters() -> None:
    assert "\x1b" not in mask("\x1b[31m" + VALUE)


@pytest.mark.case("S-48")
def test_only_the_names_of_query_parameters_are_shown() -> None:
    request = Request("POST", "/", "token=hush&bare-secret&a=", CIMultiDict(), b"")

    assert query_names(request) == ["token", "…", "a"]

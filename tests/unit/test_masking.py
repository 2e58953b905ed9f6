"""Header values of refused requests are masked, unless the header certainly contains no credential."""

from __future__ import annotations

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


def masked(*names: str, is_ready: bool = True) -> list[tuple[str, str]]:
    config = parse(CONFIG).config
    secrets = Secrets(Path(), {"S": "s3cr3t-of-at-least-16-bytes"} if is_ready else {})
    source = Source("s", config.sources["s"], config, secrets)
    headers = CIMultiDict(dict.fromkeys(names, VALUE))
    return masked_headers(Request("POST", "/", "", headers, b""), source)


@pytest.mark.parametrize("name", ["Content-Type", "user-agent", "X-Topic", "X-Time", "X-Delivery", "Host"])
def test_transport_headers_and_headers_that_the_config_reads_are_shown(name: str) -> None:
    assert masked(name) == [(name, VALUE)]


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-Sig", "X-Unknown", "X-Other-Topic"])
@pytest.mark.case("S-48")
def test_everything_else_is_masked(name: str) -> None:
    assert masked(name) == [(name, "a-va… (22 characters)")]


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

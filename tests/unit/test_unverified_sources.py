"""No source accepts unverified requests by mistake: `type: none` requires `insecure: true`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatehouse.config.lint import lint
from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.errors import ConfigError
from gatehouse.verify.build import build_verification

SOURCE = "sources: {{acme: {{secrets: env:S, event: {{type: x}}{rest}}}}}"


@pytest.mark.case("S-02")
@pytest.mark.parametrize(
    ("rest", "path"),
    [
        ("", "verify"),
        (", verify: null", "verify"),
        (", verify: []", "verify"),
        (", verify: [null]", "verify.0"),
        (", verify: {}", "verify"),
        (", verify: none", "verify"),
        (", verify: {type: hmc, signature: {header: X}}", "verify.type"),
        (", verify: {type: HMAC, signature: {header: X}}", "verify.type"),
        (", verify: {type: null}", "verify.type"),
        (", verify: {tpye: hmac, signature: {header: X}}", "verify"),
        (", verify: {type: hmac}", "verify.signature"),
        (", verify: {type: none}", "verify.insecure"),
        (", verify: {type: none, insecure: false}", "verify.insecure"),
        (", verify: {type: none, insecure: yes-please}", "verify.insecure"),
        (", verify: [{type: none, insecure: true}, {type: token, header: X}]", "verify.0"),
        (", verify: {type: any, of: [{type: none, insecure: true}]}", "verify.of.0.type"),
        (", verify: {type: any, of: []}", "verify.of"),
        (", provider: mandatoo", "provider"),
        (", verfy: {type: hmac, signature: {header: X}}", "verfy"),
    ],
)
def test_a_source_without_a_verifier_is_refused(rest: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(SOURCE.format(rest=rest))

    assert f"sources.acme.{path}" in [problem.path for problem in caught.value.problems]


@pytest.mark.case("S-02")
def test_an_intended_none_accepts_every_request_and_causes_a_warning() -> None:
    loaded = parse("sources: {acme: {event: {type: x}, verify: {type: none, insecure: true}}}")
    codes = [problem.code for problem in lint(loaded.config, loaded.document)]

    assert build_verification(loaded.config.sources["acme"], Secrets(Path(), {})).verifiers == ()
    assert "GH02" in codes

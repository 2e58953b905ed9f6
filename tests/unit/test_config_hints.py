"""Common mistakes in configs: each is reported on its line, with a hint."""

from __future__ import annotations

import re

import pytest

from gatehouse import providers
from gatehouse.config.hints import suggest_name
from gatehouse.config.load import parse
from gatehouse.errors import ConfigError, Problem

PRESET = """\
sources:
  shop:
    provider: mando
    secrets: [env:S]
destinations:
  billing: {url: "http://127.0.0.1:1/e"}
  ledger: {url: "http://127.0.0.1:2/e"}
routes:
  - {from: shop, to: billing}
"""
OWN = """\
sources:
  acme:
    secrets: [env:S]
    verify:
      type: hmac
      signature: {header: X-Sig}
      signed: "{timestamp}.{body}"
      timestamp: {header: X-T}
    event: {id: "{body:id}", type: "{body:type}"}
    dedupe: {by: ["{body:id}", "{signed}"]}
"""
ROUTE, URL = "{from: shop, to: billing}", '"http://127.0.0.1:1/e"'


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return caught.value.problems


def only_problem(base: str, old: str, new: str) -> Problem:
    assert base.count(old) == 1
    (problem,) = problems_of(base.replace(old, new))
    return problem


@pytest.mark.case("F-57")
@pytest.mark.parametrize(
    ("new", "line", "hint"),
    [
        ("from: *\n    to: billing", 9, 'put it in quotes: from: "*"'),
        ("from: * # every source\n    to: billing", 9, 'put it in quotes: from: "*"'),
        ("{from: *, to: billing}", 9, 'put it in quotes: from: "*"'),
        ("{from: [*], to: billing}", 9, 'put it in quotes: from: "*"'),
        ("from: shop\n    types: [*.paid]\n    to: billing", 10, 'put text that begins with "*" in quotes'),
        ("from: shop\n    to: *", 10, 'put it in quotes: to: "*"'),
        ("{from: shop, to: billing", 9, "add the closing }"),
        ('{from: "shop, to: billing}', 9, 'add the closing "'),
        ("from:shop\n    to: billing", 9, "key: value"),
        ("from: shop\n      to: billing", 10, "by 4 spaces like the key above, not by 6"),
        ("from: shop\n\tto: billing", 10, "indent with spaces, not with tabs"),
        ("from: @shop\n    to: billing", 9, 'put text that begins with "@" in quotes'),
    ],
)
def test_a_syntax_error_is_reported_on_the_line_of_the_mistake(new: str, line: int, hint: str) -> None:
    problem = only_problem(PRESET, ROUTE, new)

    assert problem.line == line
    assert problem.message.startswith("not YAML: ")
    assert hint in str(problem.hint)


@pytest.mark.case("F-57")
@pytest.mark.parametrize(
    ("old", "new", "line", "hint"),
    [
        ('signed: "{timestamp}.{body}"', "signed: {body}", 7, 'put it in quotes: "{body}"'),
        ('signed: "{timestamp}.{body}"', "signed: {timestamp}.{body}", 7, 'as in "{timestamp}.{body}"'),
        ('id: "{body:id}"', "id: {body:id}", 9, 'put it in quotes: "{body:id}"'),
        ('id: "{body:id}"', "id: {body: id}", 9, 'without a space after the colon: "{body:…}"'),
        ('["{body:id}", "{signed}"]', "[{body:id}]", 10, 'put it in quotes: "{body:id}"'),
        ('["{body:id}", "{signed}"]', "[id]", 10, 'a placeholder, as in "{body:id}"'),
        ("{body:type}", "{body.type}", 9, 'did you mean "{body:type}"?'),
        ("{body:type}", "{body: type}", 9, 'did you mean "{body:type}"?'),
        ("{body:type}", "{body[type]}", 9, 'did you mean "{body:type}"?'),
        ("{body:type}", "{body['data'].type}", 9, 'did you mean "{body:data.type}"?'),
        ("{body:type}", "{$.type}", 9, 'did you mean "{body:type}"?'),
        ("{body:type}", "$.type", 9, 'did you mean "{body:type}"?'),
        ("{body:type}", "{{ body.type }}", 9, 'did you mean "{body:type}"?'),
        ("{body:type}", "${body.type}", 9, 'did you mean "{body:type}"?'),
        ("{body:type}", "{type}", 9, 'did you mean "{body:type}"?'),
        ("{body:type}", "{data.object.id}", 9, 'did you mean "{body:data.object.id}"?'),
        ("{body:type}", "{headers.X-Type}", 9, 'did you mean "{header:X-Type}"?'),
        ("{body:type}", "{Header:X-Type}", 9, 'did you mean "{header:X-Type}"?'),
        ("{body:type}", "{query.type}", 9, 'did you mean "{query:type}"?'),
        ("{timestamp}.{body}", "{timestamp}.{raw_body}", 7, 'did you mean "{body}"?'),
        ("{timestamp}.{body}", "{timestmp}.{body}", 7, 'did you mean "{timestamp}"?'),
        ("type: hmac", "type: hmac-sha256", 5, "did you mean type: hmac with digest: sha256?"),
        ("type: hmac", "type: HMAC-SHA512", 5, "did you mean type: hmac with digest: sha512?"),
        ("type: hmac", "type: sha1", 5, "did you mean type: hmac with digest: sha1?"),
        ("type: hmac", "type: HMAC", 5, "did you mean type: hmac?"),
        ("type: hmac", "type: bearer", 5, 'type: token with header: Authorization and prefix: "Bearer "'),
        ("type: hmac", "type: api-key", 5, "did you mean type: token with header: NAME?"),
        ("type: hmac", "type: RS256", 5, "did you mean type: jwt with algorithm: RS256?"),
        (
            "type: hmac",
            "type: stripe",
            5,
            "did you mean provider: stripe? Set it on the source, instead of verify",
        ),
        ("type: hmac", "type: hmac\n      digest: SHA-256", 6, "did you mean sha256?"),
        ("type: hmac", "type: hmac\n      algorithm: sha256", 6, 'did you mean "digest"?'),
        ("type: hmac", "type: hmac\n      tolerance: 5m", 6, "did you mean timestamp: {tolerance: …}?"),
        ("{header: X-T}", "{header: X-T, unit: seconds}", 8, "did you mean s?"),
        ("{header: X-T}", "{header: X-T, tolerance: 300}", 8, "did you mean 300s?"),
        ("{header: X-Sig}", "X-Sig", 6, "as in {header: X-Signature}"),
    ],
)
def test_a_mistake_in_a_source_without_a_preset_has_a_hint(old: str, new: str, line: int, hint: str) -> None:
    problem = only_problem(OWN, old, new)

    assert problem.line == line
    assert hint in str(problem.hint)


@pytest.mark.case("F-57")
@pytest.mark.parametrize(
    ("old", "new", "line", "hint"),
    [
        ("[env:S]", '["${SHOP_SECRET}"]', 4, "env:SHOP_SECRET"),
        ("[env:S]", "[${SHOP_SECRET}]", 4, "env:SHOP_SECRET"),
        ("[env:S]", "[$SHOP_SECRET]", 4, "env:SHOP_SECRET"),
        ("[env:S]", "[ENV:SHOP]", 4, "in lower case"),
        ("[env:S]", "[env: SHOP]", 4, "without a space after the colon"),
        ("[env:S]", "[SHOP_SECRET]", 4, "env: before the name of the variable"),
        ("[env:S]", "[/run/secrets/shop]", 4, "file:/run/secrets/shop"),
        ("[env:S]", "[whsec_c29tZXRoaW5n]", 4, "never the secret itself"),
        ("secrets:", "secret:", 4, 'did you mean "secrets"?'),
        ("mando", "Stripe", 3, 'did you mean "stripe"?'),
        ("mando", "github.com", 3, 'did you mean "github"?'),
        ("mando", "github:latest", 3, 'did you mean "github"?'),
        ("mando", "Amazon SNS", 3, 'did you mean "aws-sns"?'),
        ("mando", "Standard Webhooks", 3, 'did you mean "standard-webhooks"?'),
        ("mando", "strpe", 3, 'did you mean "stripe"?'),
        (URL, '"billing:8000/events"', 6, "http:// or https:// before it"),
        (URL, '"${BILLING_URL}"', 6, "the config file supports no variables"),
        (URL, '"http://me:word@billing/"', 6, "remove user:password@"),
        (URL, URL + ", timeout: 10", 6, "did you mean 10s?"),
        (URL, URL + ", timeout: 10 seconds", 6, "did you mean 10s?"),
        (URL, URL + ", timeout: PT10S", 6, "did you mean 10s?"),
        (URL, URL + ", retry: {give_up_after: 1w}", 6, "did you mean 7d?"),
        (URL, URL + ", rate: 100", 6, "did you mean 100/s?"),
        (URL, URL + ", rate: 100 per minute", 6, "did you mean 100/m?"),
        (URL, URL + ", format: json", 6, "did you mean cloudevents?"),
        (ROUTE, '{from: shop, to: "billing,ledger"}', 9, "a list: [billing, ledger]"),
        (ROUTE, "{from: shop, types: 'a.*, b.*', to: billing}", 9, "a list: [a.*, b.*]"),
        (ROUTE, "{from: shop, to: billing, type: a}", 9, 'did you mean "types"?'),
        (f"  - {ROUTE}", "  shop: billing", 8, "as in - {from: SOURCE, to: DESTINATION}"),
        ('{url: "http://127.0.0.1:1/e"}', "http://127.0.0.1:1/e", 6, "app: {url: http://host:port/path}"),
    ],
)
def test_a_mistake_in_a_preset_or_a_route_has_a_hint(old: str, new: str, line: int, hint: str) -> None:
    problem = only_problem(PRESET, old, new)

    assert problem.line == line
    assert hint in str(problem.hint)


@pytest.mark.case("F-57")
@pytest.mark.parametrize(
    ("section", "hint"),
    [
        ("server: {listen: 8080}", '":8080"'),
        ("server: {listen: localhost}", "localhost:8080"),
        ("server: {listen: 'http://0.0.0.0:8080'}", "without a scheme"),
        ("server: {request_deadline: 5min}", "did you mean 5m?"),
        ("server: {max_body: 1 MB}", "did you mean 1MB?"),
        ("server: {public_url: hooks.example.com}", "https:// before it"),
        ("listen: ':8080'", "did you mean server: {listen: …}?"),
    ],
)
def test_a_mistake_in_a_setting_of_the_gateway_has_a_hint(section: str, hint: str) -> None:
    (problem,) = problems_of(f"{section}\n{PRESET}")

    assert problem.line == 1
    assert hint in str(problem.hint)


@pytest.mark.parametrize(
    ("given", "suggested"),
    [
        *(("nope", None), ("none", None), ("", None), ("shop", None)),
        *(("stipre", "stripe"), ("slak", "slack"), ("payapl", "paypal"), ("GitHub", "github")),
        *(("github.com", "github"), ("paypal-sandbox", "paypal"), ("stripe_eu", "stripe")),
    ],
)
def test_only_a_similar_name_is_suggested(given: str, suggested: str | None) -> None:
    hint = suggest_name(given, providers.names())

    assert hint.startswith("expected one of" if suggested is None else f'did you mean "{suggested}"? ')


@pytest.mark.case("F-57")
def test_a_section_that_is_a_list_and_a_key_of_the_wrong_depth_have_a_hint() -> None:
    listed = problems_of("sources:\n  - name: shop\n    provider: mando\n")
    assert "names as keys, not a list, as in shop: {provider: NAME" in str(listed[0].hint)
    shallow = problems_of(PRESET.replace("    secrets", "  secrets"))
    assert [problem.path for problem in shallow] == ["sources.shop", "sources.secrets"]
    assert "indent it if it is a key of an entry" in str(shallow[1].hint)


@pytest.mark.parametrize(
    "value", ["${S3cret}", "$S3cretS3cret", "ENV:S3cret", "S3cret,S3cret", "S3cret 5min", "/S3cret"]
)
@pytest.mark.parametrize("place", ["secrets: [%s]", "path: %s", "max_body: %s", "provider: mando%s"])
def test_no_hint_repeats_a_value_that_may_be_a_secret(place: str, value: str) -> None:
    problems = problems_of(PRESET.replace("secrets: [env:S]", place % f'"{value}"'))

    said = " ".join(f"{problem.hint}" for problem in problems)
    assert not re.search(r"S3cret(?!\")", said), said

"""The models of the config, their defaults, and the rules between keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from gatehouse.config.addresses import Address
from gatehouse.config.load import load, parse
from gatehouse.config.location import config_file
from gatehouse.config.model import Config, HmacConfig, RetryConfig, ServerConfig, StoreConfig
from gatehouse.config.rules import source_path
from gatehouse.errors import ConfigError

SMALLEST = "sources: {a: {provider: mandato, secrets: env:A}}\ndestinations: {b: {url: http://b}}"


def models_in(model: BaseModel) -> list[BaseModel]:
    found = [model]
    for value in model.__dict__.values():
        parts = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else (value,)
        found += [inner for part in parts if isinstance(part, BaseModel) for inner in models_in(part)]
    return found


def test_defaults_are_those_of_the_design() -> None:
    """Design, section 9."""
    config = parse(SMALLEST).config
    source, destination = config.sources["a"], config.destinations["b"]

    assert config.server == ServerConfig()
    assert config.server.max_body == 1024 * 1024
    assert (config.server.request_deadline, config.server.commit_deadline) == (10.0, 0.8)
    assert source.dedupe.window == 7 * 86400
    assert (destination.timeout, destination.concurrency, destination.rate) == (10.0, "auto", None)
    assert destination.retry == RetryConfig()
    assert (destination.retry.first, destination.retry.max, destination.retry.give_up_after) == (
        1,
        3600,
        259_200,
    )


@pytest.mark.case("S-50")
def test_defaults_are_safe() -> None:
    config = parse(SMALLEST).config

    assert config.operator.listen.is_loopback
    assert config.store == StoreConfig()
    assert (config.store.keep_events, config.store.keep_dead) == (7 * 86400, 30 * 86400)
    assert config.server.trusted_proxies == ()
    assert config.sources["a"].min_secret == 16
    assert config.sources["a"].answers.unauthorized == 401


def test_every_model_is_frozen() -> None:
    parts = models_in(parse(SMALLEST).config)

    assert len(parts) > 10
    for part in parts:
        with pytest.raises(ValidationError):
            setattr(part, next(iter(type(part).model_fields)), None)


@pytest.mark.parametrize("model", [Config, HmacConfig, RetryConfig])
def test_an_error_of_a_model_does_not_show_its_input(model: type[BaseModel]) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate({"type": "S3cret", "unknown": "S3cret", "sources": "S3cret", "first": "S3cret"})

    assert "S3cret" not in str(caught.value)


@pytest.mark.parametrize("section", ["server", "operator", "store", "destinations", "routes"])
def test_a_section_without_a_value_is_treated_as_absent(section: str) -> None:
    text = f"sources: {{a: {{provider: mandato, secrets: env:A}}}}\n{section}:\n  # nothing yet\n"

    assert getattr(parse(text).config, section) == getattr(Config(sources={}), section)


def test_the_order_of_problems_is_that_of_the_file() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("routes: [{from: x, to: y}]\nsources:\n  A: {}\n  b: {provider: c}\nserver: {listen: x}\n")

    lines = [problem.line for problem in caught.value.problems]
    assert lines == sorted(lines)
    assert len(caught.value.problems) == len(set(caught.value.problems)) == 7


def test_a_problem_is_one_line_with_file_line_path_and_hint() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("sources: {}\nserver:\n  max_body: 1XB\n", "my.yaml")

    assert re.fullmatch(r"my\.yaml:3: server\.max_body: not a size \(write bytes, .*\)", str(caught.value))


def test_a_problem_in_the_preset_points_at_the_source() -> None:
    """The line of the source, not a line of the preset, which the operator does not see."""
    with pytest.raises(ConfigError) as caught:
        parse("sources:\n\n  a:\n    provider: hisab\n    secrets: env:A\n    verify:\n      timestamp:\n")

    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (6, "sources.a.verify.signed")


@pytest.mark.parametrize(
    ("server", "operator", "clash"),
    [
        ("127.0.0.1:9090", "127.0.0.1:9090", True),
        (":9090", "127.0.0.1:9090", True),
        ("[::]:9090", "127.0.0.1:9090", True),
        ("127.0.0.2:9090", "127.0.0.1:9090", False),
        ("127.0.0.1:8080", "127.0.0.1:9090", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_two_listeners_on_one_address_are_refused(server: str, operator: str, clash: bool) -> None:
    text = f"sources: {{}}\nserver: {{listen: '{server}'}}\noperator: {{listen: '{operator}'}}"
    found = ""
    try:
        parse(text)
    except ConfigError as error:
        found = str(error)

    assert ("server.listen already uses" in found) is clash


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com")],
    ],
)
def test_recognizes_loopback_addresses(host: str, loopback: bool) -> None:
    assert Address(host, 1).is_loopback is loopback


def test_an_operator_listener_may_be_open_with_a_token() -> None:
    config = parse("sources: {}\noperator: {listen: ':9090', token: env:TOKEN}").config

    assert str(config.operator.token) == "env:TOKEN"


def test_a_verifier_with_secrets_does_not_need_those_of_the_source() -> None:
    assert (
        parse("sources: {a: {provider: mandato, verify: {secrets: env:A}}}").config.sources["a"].secrets == ()
    )


def test_a_scheme_that_signs_the_url_requires_the_public_url() -> None:
    verify = '{type: hmac, signature: {header: X-S}, signed: ["{url}", "{body}"]}'
    text = f"sources: {{a: {{secrets: env:A, verify: {verify}, event: {{type: x}}}}}}"

    parse(text)  # there is another way to resolve it
    with pytest.raises(ConfigError, match="public_url"):
        parse(text.replace(', "{body}"]', "]"))
    parse(text.replace(', "{body}"]', "]") + "\nserver: {public_url: https://a}")


def test_a_source_is_served_under_its_name() -> None:
    assert source_path("shop", None) == "/webhooks/shop"
    assert source_path("shop", "/in/shop") == "/in/shop"


def test_the_option_overrides_the_variable_and_the_default_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GATEHOUSE_CONFIG", raising=False)
    assert config_file(None) == Path("gateway.yaml")
    monkeypatch.setenv("GATEHOUSE_CONFIG", "/etc/gatehouse.yaml")
    assert config_file(None) == Path("/etc/gatehouse.yaml")
    assert config_file("other.yaml") == Path("other.yaml")


@pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b"])
def test_an_unreadable_file_is_a_config_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name)

    assert "can't be read" in str(caught.value)
    assert caught.value.problems[0].hint


def test_relative_paths_start_at_the_directory_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(SMALLEST)

    assert load(tmp_path / "gateway.yaml").directory == tmp_path

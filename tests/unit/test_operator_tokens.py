"""The tokens of a config: their names, their roles, and which of them can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatehouse.cli.access import access_of, find_access
from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.errors import ConfigError, GatewayError
from gatehouse.gateway.compiled import CompiledConfig
from gatehouse.gateway.reload import keep_restart_only
from gatehouse.operator.tokens import SUPERVISOR, Identity, OperatorTokens

SOURCES = "sources:\n  mandato: {provider: mandato, secrets: env:SECRET}\n"
CONFIG = """
operator:
  token: env:OPERATOR
  tokens:
    - {name: ci, token: env:CI_TOKEN, role: read}
    - {name: alice, token: env:ALICE, role: operate}
"""
VALUES = {
    "SECRET": "a-secret-for-signatures-of-mandato",
    "OPERATOR": "token-of-the-operator",
    "CI_TOKEN": "token-of-the-pipeline",
    "ALICE": "token-of-alice-herself",
}


def tokens(config: str = CONFIG, **changed: str) -> OperatorTokens:
    loaded = parse(config + SOURCES)
    values = {name: value for name, value in (VALUES | changed).items() if value}
    return OperatorTokens(loaded.config.operator, Secrets(Path(), values))


def bearer(name: str) -> list[bytes]:
    return [b"Bearer " + VALUES[name].encode()]


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("OPERATOR", Identity("operator", "operate")),
        ("CI_TOKEN", Identity("ci", "read")),
        ("ALICE", Identity("alice", "operate")),
    ],
)
def test_a_token_identifies_the_sender_and_the_role(name: str, identity: Identity) -> None:
    assert tokens().find(bearer(name)) == identity


@pytest.mark.parametrize(
    "given",
    [
        [],
        [b"Bearer token-of-nobody-at-all"],
        [b"Bearer "],
        [b"token-of-the-pipeline"],
        [b"bearer token-of-the-pipeline"],
        [b"Bearer token-of-the-pipelin"],
        [b"Bearer token-of-the-pipelinee"],
        [b"Bearer token-of-the-pipeline", b"Bearer token-of-the-pipeline"],
    ],
)
def test_anything_but_one_whole_token_is_refused(given: list[bytes]) -> None:
    assert tokens().find(given) is None


def test_a_token_that_is_missing_or_too_short_grants_nothing_and_the_others_work() -> None:
    found = tokens(CI_TOKEN="", ALICE="short")

    assert found.not_ready == {
        ("operator", "tokens", 0, "token"): "env:CI_TOKEN is not set",
        ("operator", "tokens", 1, "token"): "env:ALICE is shorter than 16 bytes",
    }
    assert found.find([b"Bearer short"]) is None
    assert found.find(bearer("OPERATOR")) is not None


def test_without_any_usable_token_every_request_is_still_refused() -> None:
    found = tokens(OPERATOR="", CI_TOKEN="", ALICE="")

    assert found.required
    assert found.find([b"Bearer "]) is None


def test_tokens_are_not_required_when_the_config_has_none() -> None:
    assert not tokens("operator: {}\n").required


def test_two_tokens_with_the_same_value_are_a_problem_and_the_value_is_not_shown() -> None:
    loaded = parse(CONFIG + SOURCES)

    with pytest.raises(ConfigError) as caught:
        CompiledConfig(loaded, VALUES | {"ALICE": VALUES["CI_TOKEN"]}, None)

    (problem,) = caught.value.problems
    assert problem.path == "operator.tokens.1.token"
    assert problem.message == "has the same value as the token of ci"
    assert VALUES["CI_TOKEN"] not in str(problem)


def test_tokens_show_no_value() -> None:
    found = tokens()

    assert not any(value in f"{found!r}{vars(found)['not_ready']}" for value in VALUES.values())


@pytest.mark.parametrize("identity", [Identity("ci", "read"), SUPERVISOR])
def test_an_identity_survives_the_header_between_processes(identity: Identity) -> None:
    assert Identity.from_header(identity.header) == identity


@pytest.mark.parametrize("text", ["", "ci", "read", "read ", "admin ci", "operateci"])
def test_a_header_that_names_no_identity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an identity"):
        Identity.from_header(text)


def test_a_public_listener_keeps_its_tokens_until_the_restart() -> None:
    before = parse(CONFIG.replace("operator:", 'operator:\n  listen: ":9090"', 1) + SOURCES).config
    after = parse("operator: {}\n" + SOURCES).config

    config, kept = keep_restart_only(before, after)

    assert set(kept) == {"operator.listen", "operator.token", "operator.tokens"}
    assert config.operator.tokens == before.operator.tokens


@pytest.mark.parametrize(
    ("present", "sent"),
    [
        (["OPERATOR", "CI_TOKEN", "ALICE"], "OPERATOR"),
        (["CI_TOKEN", "ALICE"], "ALICE"),
        (["CI_TOKEN"], "CI_TOKEN"),
    ],
)
def test_a_command_sends_the_token_that_is_set_and_may_do_most(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: list[str], sent: str
) -> None:
    for name in present:
        monkeypatch.setenv(name, VALUES[name])

    assert access_of(parse(CONFIG + SOURCES), None).token == VALUES[sent]
    (tmp_path / "gateway.yaml").write_text(CONFIG + SOURCES)
    assert find_access(str(tmp_path / "gateway.yaml"), None).token == VALUES[sent]


def test_a_command_without_a_token_names_the_variable_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VALUES:
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(GatewayError, match=r"operator\.token: env:OPERATOR is not set") as caught:
        access_of(parse(CONFIG + SOURCES), None)
    assert caught.value.hint == "set the token where this command runs"
    assert access_of(parse("operator: {}\n" + SOURCES), None).token is None

"""Secrets: where they are read from, which are refused, and that none is ever shown."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from gatehouse.cli.secret_check import secret_warnings
from gatehouse.config.load import parse
from gatehouse.config.secrets import SecretError, SecretRef, Secrets
from gatehouse.errors import ConfigError
from gatehouse.verify.build import build_verification

SECRET = "S3cret-of-sixteen-bytes"


def test_reads_a_variable_of_the_environment(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path, {"A": SECRET})

    assert secrets.resolve(SecretRef("env", "A")) == SECRET.encode()


def test_reads_the_bytes_that_the_environment_holds(tmp_path: Path) -> None:
    """Python represents bytes that are not UTF-8 as surrogates. The secret is the original bytes."""
    assert Secrets(tmp_path, {"A": "caf\udce9"}).resolve(SecretRef("env", "A")) == b"caf\xe9"


@pytest.mark.case("F-29")
@pytest.mark.parametrize("ending", ["", "\n", "\r\n", " ", "\t", " \n\n", "\r"])
def test_white_space_at_the_end_is_not_part_of_a_secret(tmp_path: Path, ending: str) -> None:
    (tmp_path / "secret").write_bytes((SECRET + ending).encode())
    secrets = Secrets(tmp_path, {"A": SECRET + ending})

    for reference in (SecretRef("file", "secret"), SecretRef("env", "A")):
        assert secrets.resolve(reference) == SECRET.encode()
        assert secrets.likely_mistake(reference) is None


@pytest.mark.case("F-29")
def test_white_space_before_a_secret_is_kept(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b" two \n\n")

    assert Secrets(tmp_path, {}).resolve(SecretRef("file", "secret")) == b" two"


@pytest.mark.case("F-29")
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (f'"{SECRET}"', "quotes"),
        (f"'{SECRET}'\n", "quotes"),
        (f"\ufeff{SECRET}", "byte order mark"),
        (f" {SECRET}", "white space before"),
    ],
)
def test_check_warns_about_quotes_or_white_space_around_any_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, told: str
) -> None:
    (tmp_path / "secret").write_text(value)
    monkeypatch.setenv("E_SECRET", value)
    text = """
operator: {token: env:E_SECRET}
sources:
  a:
    verify: {type: any, of: [{type: hmac, signature: {header: X-A}, secrets: "file:secret"}]}
    event: {type: x}
    handshake_secrets: [env:E_SECRET]
destinations:
  d: {url: "http://d.example/", secret: [env:E_SECRET]}
routes: [{from: a, to: d}]
"""
    warnings = secret_warnings(parse(text, directory=tmp_path))

    assert {warning.code for warning in warnings} == {"GH20"}
    assert {warning.path.partition(".")[0] for warning in warnings} == {"operator", "sources", "destinations"}
    assert len(warnings) == 4
    assert all(told in warning.message and SECRET not in str(warning) for warning in warnings)


def test_reads_an_absolute_path(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)

    assert Secrets(Path("/nowhere"), {}).resolve(SecretRef("file", str(tmp_path / "secret")))


@pytest.mark.case("S-01")
@pytest.mark.parametrize("value", ["", " ", "\t \n"])
def test_refuses_an_empty_secret(tmp_path: Path, value: str) -> None:
    (tmp_path / "secret").write_text(value)

    for reference in (SecretRef("env", "A"), SecretRef("file", "secret")):
        with pytest.raises(SecretError, match=f"{reference} is empty"):
            Secrets(tmp_path, {"A": value}).resolve(reference)


@pytest.mark.case("S-01")
def test_refuses_a_short_secret(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path, {"A": "x" * 15, "B": "x" * 16})

    with pytest.raises(SecretError, match="env:A is shorter than 16 bytes"):
        secrets.resolve(SecretRef("env", "A"), minimum=16)
    assert secrets.resolve(SecretRef("env", "B"), minimum=16)


def test_refuses_a_file_that_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 20_000)

    with pytest.raises(SecretError, match="longer than a secret can be"):
        Secrets(tmp_path, {}).resolve(SecretRef("file", "secret"))


@pytest.mark.case("S-01")
@pytest.mark.parametrize("reference", [SecretRef("env", "NOT_THERE"), SecretRef("file", "not/there")])
def test_says_which_secret_is_missing(tmp_path: Path, reference: SecretRef) -> None:
    with pytest.raises(SecretError, match=str(reference)):
        Secrets(tmp_path, {}).resolve(reference)


def test_refuses_a_directory(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="can't be read"):
        Secrets(tmp_path, {}).resolve(SecretRef("file", "."))


def test_a_missing_secret_of_a_rotation_is_an_error(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path, {"A": SECRET})

    with pytest.raises(SecretError, match="env:B is not set"):
        secrets.resolve_all([SecretRef("env", "A"), SecretRef("env", "B")])


@pytest.mark.parametrize("key", ["hex", "base64", "whsec"])
def test_a_secret_of_the_wrong_form_is_not_quoted(tmp_path: Path, key: str) -> None:
    verify = f"{{type: hmac, key: {key}, signature: {{header: X-S}}}}"
    text = f'sources: {{a: {{secrets: env:A, verify: {verify}, event: {{type: "{{body:t}}"}}}}}}'
    config = parse(text).config

    with pytest.raises(SecretError) as caught:
        build_verification(config.sources["a"], Secrets(tmp_path, {"A": "S3cret (of no encoding)!"}))

    assert "env:A" in str(caught.value)
    assert "S3cret" not in str(caught.value)


def test_a_config_shows_the_places_of_secrets_and_not_their_values(tmp_path: Path) -> None:
    config = parse("sources: {a: {provider: mandato, secrets: env:A}}").config
    verification = build_verification(config.sources["a"], Secrets(tmp_path, {"A": SECRET}))

    shown = f"{config!r} {config} {config.model_dump()} {verification!r} {Secrets(tmp_path, {'A': SECRET})!r}"

    assert "'A'" in shown
    assert "S3cret" not in shown


@pytest.mark.parametrize(
    "text",
    [
        f"sources: {{a: {{provider: mandato, secrets: {SECRET}}}}}",
        f"sources: {{a: {{provider: mandato, secrets: [{SECRET}]}}}}",
        f"sources: {{a: {{provider: mandato, secrets: [[{SECRET}]]}}}}",
        f"sources: {{a: {{provider: mandato, secrets: {{{SECRET}: x}}}}}}",
        f"sources: {{a: {{provider: mandato, secrets: 'env:{SECRET}'}}}}",
        f"sources: {{a: {{provider: mandato, secrets: '{SECRET}:x'}}}}",
        f"sources: {{a: {{provider: mandato, secret: {SECRET}}}}}",
        f"sources: {{a: {{provider: mandato, secrets: env:A, verify: {SECRET}}}}}",
        f"sources: {{a: {{provider: mandato, secrets: env:A, verify: [preset, {SECRET}]}}}}",
        f"sources: {{a: {{provider: mandato, secrets: env:A, verify: {{secrets: {SECRET}}}}}}}",
        f"sources: {{a: {{provider: mandato, secrets: env:A, verify: {{signature: {SECRET}}}}}}}",
        f"sources: {{a: {SECRET}}}",
        f"sources: {SECRET}",
        SECRET,
        f"sources: {{}}\noperator: {{token: {SECRET}}}",
        f"sources: {{}}\ndestinations: {{a: {{url: http://a, secret: whsec_{SECRET}}}}}",
        f"sources: {{}}\ndestinations: {{a: {{url: 'http://u:{SECRET}@a'}}}}",
        f"sources: {{}}\nserver: {{public_url: 'http://u:{SECRET}@a'}}",
        f"sources: {{}}\nstore: {{url: 'postgresql://u:{SECRET}@a/b'}}",
        f"sources: {{}}\nstore: {{url: 'postgresql://u@a/b?password={SECRET}'}}",
        f"sources: {{}}\nstore: {{url: 'postgresql://u@a/b?{SECRET}=1'}}",
        f"sources: {{}}\nstore: {{url: 'postgresql://u@a/b?sslmode={SECRET}'}}",
        f"sources: {{}}\nstore: {{url: 'postgresql://u@a/b', password: {SECRET}}}",
        f"sources: {{a: {{provider: mandato, secrets: *{SECRET}}}}}",
        f"sources: {{a: {{provider: mandato, secrets: !{SECRET}}}}}",
        f"sources: {{a: {{provider: mandato, secrets: '{SECRET}}}}}",
    ],
)
@pytest.mark.case("S-48")
def test_a_secret_in_the_wrong_place_is_never_repeated(text: str) -> None:
    """Neither in the problems nor in the errors that caused them, which a log could contain."""
    with pytest.raises(ConfigError) as caught:
        parse(text)

    assert "S3cret" not in "".join(traceback.format_exception(caught.value))
    assert "S3cret" not in repr(caught.value.problems)
    assert caught.value.__context__ is None

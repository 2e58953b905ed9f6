"""How a command finds the running gateway: from the section `operator` of the config, or from a URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatehouse.cli.access import Access, access_of, find_access
from gatehouse.config.load import load
from gatehouse.errors import ConfigError, GatewayError

SOURCES = "sources:\n  shop: {provider: mando, secrets: env:SECRET}\n"
TOKEN = "a-token-of-the-operator"
TWO_TOKENS = """\
operator:
  listen: ":9191"
  tokens:
    - {name: a, token: env:NOT_SET, role: operate}
    - {name: b, token: env:TOKEN, role: read}
"""


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKEN", TOKEN)
    monkeypatch.delenv("GATEHOUSE_CONFIG", raising=False)
    monkeypatch.delenv("GATEHOUSE_OPERATOR_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text(f"{TOKEN}\n")


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("", Access("http://127.0.0.1:9090", None)),
        ("operator:\n", Access("http://127.0.0.1:9090", None)),
        ('operator: {listen: ":9191", token: env:TOKEN}\n', Access("http://127.0.0.1:9191", TOKEN)),
        ('operator: {listen: "[::1]:9191"}\n', Access("http://[::1]:9191", None)),
        ('operator: {listen: "[::]:9191", token: file:token}\n', Access("http://127.0.0.1:9191", TOKEN)),
        ("operator:\n  # a comment\n  listen: localhost:9191\n", Access("http://localhost:9191", None)),
        (
            TWO_TOKENS,
            Access("http://127.0.0.1:9191", TOKEN),
        ),
    ],
)
def test_the_section_alone_says_the_same_as_the_whole_config(operator: str, expected: Access) -> None:
    Path("gateway.yaml").write_text(operator + SOURCES)

    assert find_access(None, None) == expected
    assert access_of(load(Path("gateway.yaml")), None) == expected
    assert find_access(None, "https://gw.example/") == expected._replace(url="https://gw.example")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sources: [",
        "[]",
        "operator: 3\n" + SOURCES,
        "operator: {listen: 9090}\n" + SOURCES,
        "operator: {listen: [a]}\n" + SOURCES,
        "operator: {token: not-a-reference}\n" + SOURCES,
        "operator: {tokens: {a: b}}\n" + SOURCES,
        "operator: {tokens: [{name: a}]}\n" + SOURCES,
    ],
)
def test_a_config_that_does_not_load_is_reported_with_its_problems(text: str) -> None:
    Path("gateway.yaml").write_text(text)

    with pytest.raises(ConfigError) as caught:
        find_access(None, None)
    assert caught.value.problems


def test_a_listener_on_any_port_needs_a_url() -> None:
    Path("gateway.yaml").write_text('operator: {listen: "127.0.0.1:0"}\n' + SOURCES)

    with pytest.raises(GatewayError, match="takes any free port"):
        find_access(None, None)
    assert find_access(None, "http://127.0.0.1:1").url == "http://127.0.0.1:1"


def test_without_a_config_file_a_url_and_a_variable_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_access(None, "https://gw.example/ops/") == Access("https://gw.example/ops", None)
    monkeypatch.setenv("GATEHOUSE_OPERATOR_TOKEN", TOKEN)
    assert find_access(None, "https://gw.example") == Access("https://gw.example", TOKEN)
    Path("gateway.yaml").write_text(SOURCES)
    assert find_access(None, "https://gw.example") == Access("https://gw.example", TOKEN)
    assert find_access(None, None).token is None
    Path("gateway.yaml").unlink()
    with pytest.raises(ConfigError):
        find_access(None, None)
    with pytest.raises(ConfigError):
        find_access("missing.yaml", "https://gw.example")

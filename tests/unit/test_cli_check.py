"""The commands `check`, `route` and `providers`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gatehouse import providers
from gatehouse.cli import main

SECRET = "a-secret-that-nobody-may-see"
WHSEC = "whsec_c2VjcmV0LXRoYXQtbm9ib2R5LW1heS1zZWU="
GOOD = """\
sources:
  mandato: {provider: mandato, secrets: [env:MANDATO]}
destinations:
  billing: {url: "http://127.0.0.1:1/a", secret: env:BILLING}
  archive: {url: "http://127.0.0.1:1/b"}
routes:
  - {from: mandato, types: ["invoice.*"], to: billing}
  - {from: "*", to: [archive, billing]}
"""

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that writes a config and runs a command beside it."""
    monkeypatch.chdir(tmp_path)

    def call(config: str, *arguments: str, **environment: str) -> Result:
        Path("gateway.yaml").write_text(config)
        variables = {"MANDATO": SECRET, "BILLING": WHSEC} | environment
        return CliRunner(env=variables).invoke(main, arguments)

    return call


def test_check_of_a_valid_config_lists_its_parts(run: Run) -> None:
    result = run(GOOD, "check")
    assert result.exit_code == 0
    assert result.stdout.startswith("Checking 'gateway.yaml'  SUCCESS\nFound:\n")
    for part in (
        "1 source",
        "provider   mandato",
        "path       /webhooks/mandato",
        "verified   HMAC-SHA256 of {body} in X-Mandato-Signature",
        "secrets    configured",
        "2 destinations",
        "secret     none: deliveries are not signed",
        "routes.1  from *, types *, to archive, billing",
    ):
        assert part in result.stdout
    assert result.stderr == ""


def test_check_never_shows_a_secret(run: Run) -> None:
    for environment in ({}, {"BILLING": "whsec_not-base64!"}, {"MANDATO": "short-one"}):
        result = run(GOOD, "check", **environment)
        for secret in (SECRET, WHSEC, "not-base64", "short-one"):
            assert secret not in result.output


@pytest.mark.case("S-01")
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"MANDATO": ""}, "gateway.yaml:2: sources.mandato.secrets: env:MANDATO is empty"),
        (
            {"MANDATO": "short"},
            "gateway.yaml:2: sources.mandato.secrets: env:MANDATO is shorter than 16 bytes",
        ),
        ({"BILLING": "x" * 40}, "gateway.yaml:4: destinations.billing.secret: env:BILLING: a signing secret"),
    ],
)
def test_check_fails_for_a_secret_that_cannot_be_used(
    run: Run, environment: dict[str, str], said: str
) -> None:
    result = run(GOOD, "check", **environment)
    assert result.exit_code == 1
    assert "'gateway.yaml'  FAILED" in result.stdout
    assert "not usable: " in result.stdout
    assert f"Error: {said}" in result.stderr
    assert "serve starts, but " in result.stderr
    assert "Try: fix it, then run gatehouse check -c gateway.yaml" in result.stderr


def test_check_reports_that_a_source_without_its_secret_answers_503(run: Run) -> None:
    config = GOOD.replace("env:MANDATO", "file:nowhere")
    result = run(config, "check")
    assert "file:nowhere can't be read" in result.stderr
    assert "serve starts, but this source answers 503" in result.stderr


def test_check_finds_the_secret_of_each_verifier(run: Run) -> None:
    source = """\
  both:
    provider: mandato
    secrets: [env:MANDATO]
    verify:
      - preset
      - type: basic
        secrets: [env:NOWHERE]
"""
    result = run(GOOD.replace("destinations:", f"{source}destinations:"), "check")
    assert "gateway.yaml:9: sources.both.verify.1.secrets: env:NOWHERE is not set" in result.stderr
    assert result.stderr.count("Error:") == 1


def test_check_reports_a_secret_in_the_wrong_form_for_its_scheme(run: Run) -> None:
    config = GOOD.replace("secrets: [env:MANDATO]", "secrets: [env:MANDATO], verify: {key: hex}")
    result = run(config, "check")
    assert result.exit_code == 1
    assert "env:MANDATO: not a secret in the form that hmac needs" in result.stderr


def test_check_fails_for_an_operator_token_that_is_missing(run: Run) -> None:
    result = run(GOOD + "operator: {token: env:NOWHERE}\n", "check")
    assert result.exit_code == 1
    message = "gateway.yaml:9: operator.token: env:NOWHERE is not set"
    assert f"{message} (serve starts, but the operator listener answers 401)" in result.stderr


STORE = 'store: {url: "postgresql://gatehouse@127.0.0.1:5432/gatehouse", password: env:STORE_PASSWORD}\n'


def test_check_shows_a_database_without_its_password(run: Run) -> None:
    result = run(GOOD + STORE, "check", STORE_PASSWORD=SECRET)
    assert result.exit_code == 0
    assert " - store postgresql://gatehouse@127.0.0.1:5432/gatehouse, with a password\n" in result.stdout
    assert SECRET not in result.output


def test_check_fails_for_a_database_password_that_is_missing(run: Run) -> None:
    result = run(GOOD + STORE, "check")
    assert result.exit_code == 1
    expected = "gateway.yaml:9: store.password: env:STORE_PASSWORD is not set (serve does not start)"
    assert expected in result.stderr


def test_serve_does_not_start_without_the_databases_password(run: Run) -> None:
    result = run(GOOD + STORE, "serve")
    assert result.exit_code == 1
    assert "store.password: env:STORE_PASSWORD is not set" in result.stderr
    assert "the store can't be opened without it" in result.stderr


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide asyncpg, as if it were not installed."""
    for name in [name for name in sys.modules if name.startswith(("asyncpg", "gatehouse.store.postgres"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Blind(finder) for finder in sys.meta_path])


class _Blind:
    """Finds what another finder finds, except for the driver."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)

    def find_spec(self, name: str, *where: Any) -> Any:
        return None if name == "asyncpg" else self._finder.find_spec(name, *where)


@pytest.mark.usefixtures("no_driver")
def test_a_database_needs_its_driver_and_a_file_does_not(run: Run) -> None:
    checked = run(GOOD + STORE, "check", STORE_PASSWORD=SECRET)
    assert checked.exit_code == 1
    assert "gateway.yaml:9: store.url: the driver asyncpg is not installed" in checked.stderr
    served = run(GOOD + STORE, "serve", STORE_PASSWORD=SECRET)
    assert served.exit_code == 1
    for said in (checked, served):
        assert 'pip install "asyncpg>=0.32,<0.33"' in said.stderr
    assert run(GOOD, "check").exit_code == 0


@pytest.mark.case("O-06")
def test_check_prints_every_problem_with_its_line(run: Run) -> None:
    result = run("sources: {a: {provider: nobody}}\nroutes: 3\nstray: 1\n", "check")
    assert result.exit_code == 1
    assert result.stdout == "Checking 'gateway.yaml'  FAILED\n"
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert [line.split(": ")[1] for line in errors] == [f"gateway.yaml:{line}" for line in (1, 2, 3)]
    assert result.stderr.endswith("Try: fix these 3 problems, then run gatehouse check -c gateway.yaml\n")


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        (
            "secrets: [env:MANDATO]",
            "secrets: [env:MANDATO], dedupe: {window: 1h}",
            "sources.mandato.dedupe.window: shorter than the provider's retry horizon of 14h36m",
        ),
        (
            "secrets: [env:MANDATO]",
            "secrets: [env:MANDATO], dedupe: {by: []}",
            "sources.mandato.dedupe: no dedupe keys: each retry of the provider becomes a new event",
        ),
        (
            "provider: mandato, secrets: [env:MANDATO]",
            "verify: {type: none, insecure: true}, event: {type: x}",
            "sources.mandato.verify: nothing is verified",
        ),
        (
            "archive: {",
            'idle: {url: "http://127.0.0.1:1/c"}\n  archive: {',
            "destinations.idle: no route names it",
        ),
        (
            '"invoice.*"',
            '"invioce.*"',
            'routes.0.types: "invioce.*" matches no documented event type',
        ),
    ],
)
def test_check_warns_of_probable_mistakes(run: Run, old: str, new: str, warning: str) -> None:
    result = run(GOOD.replace(old, new), "check")
    assert result.exit_code == 0
    assert warning in next(line for line in result.stderr.splitlines() if line.startswith("Warning: "))


def test_check_warns_of_a_source_without_a_route(run: Run) -> None:
    config = GOOD.replace('  - {from: "*", to: [archive, billing]}\n', "  - {from: mandato, to: archive}\n")
    config = config.replace("destinations:", "  lost: {provider: mando, secrets: env:MANDATO}\ndestinations:")
    result = run(config, "check")
    assert result.exit_code == 0
    warning = "gateway.yaml:3: sources.lost: no route matches: its events are stored and not forwarded"
    assert f"Warning: {warning}" in result.stderr


def test_check_of_a_source_without_a_preset(run: Run) -> None:
    source = """\
  own:
    verify:
      - {type: token, header: X-Token, secrets: env:MANDATO}
      - {type: basic, secrets: env:MANDATO, username: u}
      - {type: token, query: key, secrets: env:MANDATO}
    event: {type: "{body:t}"}
"""
    result = run(GOOD.replace("destinations:", f"{source}destinations:"), "check")
    assert result.exit_code == 0
    wanted = "token in X-Token and HTTP Basic credentials and token in query parameter key"
    assert f"verified   {wanted}" in result.stdout
    assert "provider   none: described in the config" in result.stdout


def test_route_names_each_destination_with_the_routes_that_lead_there(run: Run) -> None:
    result = run(GOOD, "route", "mandato", "invoice.accepted")
    assert result.exit_code == 0
    assert result.stdout == (
        "billing  routes.0 (gateway.yaml:7), routes.1 (gateway.yaml:8)\narchive  routes.1 (gateway.yaml:8)\n"
    )
    assert result.stderr == ""


def test_route_reports_that_no_route_matches(run: Run) -> None:
    config = GOOD.replace('from: "*"', "from: mandato, types: invoice.paid")
    result = run(config, "route", "mandato", "connection.active")
    assert result.exit_code == 0
    assert "stored, not delivered" in result.stdout


def test_route_warns_of_a_type_that_the_provider_does_not_document(run: Run) -> None:
    result = run(GOOD, "route", "mandato", "invoice.acepted")
    assert "Warning: Mandato does not document invoice.acepted, only: invoice.created" in result.stderr


BY_CONTENT = GOOD.replace(
    'types: ["invoice.*"],',
    'types: ["invoice.*"], when: {"{body:amount}": ">= 10", "{header:X-Env}": "live"},',
).replace('from: "*"', "from: mandato, types: [connection.*]")


@pytest.mark.parametrize(
    ("body", "header", "shown"),
    [
        (
            '{"type": "invoice.paid", "amount": 10}',
            "X-Env: live",
            "to billing\n  routes.0 (gateway.yaml:7)  takes it\n",
        ),
        (
            '{"type": "invoice.paid", "amount": "a\x1b"}',
            "X-Env: test",
            (
                "to no destination: stored, not delivered\n  routes.0 (gateway.yaml:7)  does not take it: "
                '{body:amount} is "a\\x1b", and the condition is >= 10; '
                '{header:X-Env} is "test", and the condition is live\n'
            ),
        ),
    ],
)
def test_route_says_of_each_route_why_it_takes_a_body(run: Run, body: str, header: str, shown: str) -> None:
    Path("body.json").write_text(body.replace("\x1b", "\\u001b"))
    result = run(BY_CONTENT, "route", "mandato", "--body", "body.json", "--header", header)
    other = "  routes.1 (gateway.yaml:8)  does not take it: its types are connection.*\n"
    assert (result.exit_code, result.stdout) == (0, f"invoice.paid from mandato {shown}{other}")
    answer = json.loads(
        run(
            BY_CONTENT, "route", "mandato", "invoice.x", "--body", "body.json", "--header", header, "--json"
        ).stdout
    )
    (event,) = answer["events"]
    assert event["type"] == "invoice.x"
    assert event["routes"][0]["selected"] is (header == "X-Env: live")
    assert event["routes"][0]["when"] == {"{body:amount}": [">= 10"], "{header:X-Env}": ["live"]}


def test_route_without_a_body_names_the_routes_with_conditions(run: Run) -> None:
    result = run(BY_CONTENT, "route", "mandato", "invoice.paid")
    assert result.stdout == "billing  routes.0 (gateway.yaml:7, with conditions)\n"
    assert result.stderr.startswith("Note: routes with conditions need the content")
    assert run(BY_CONTENT, "route", "mandato").exit_code == 2
    assert run(BY_CONTENT, "route", "mandato", "x", "--header", "A: b").exit_code == 2


@pytest.mark.parametrize("command", [("route", "mandatoo", "x"), ("sign", "mandatoo"), ("send", "mandatoo")])
def test_an_unknown_source_is_an_error_that_lists_the_known_ones(run: Run, command: tuple[str, ...]) -> None:
    result = run(GOOD, *command)
    assert result.exit_code == 1
    assert result.stderr.startswith('Error: unknown source "mandatoo"\nTry: ')
    assert "one of: mandato" in result.stderr


@pytest.mark.parametrize("columns", [100, 200])
def test_providers_lists_every_preset_within_the_width(run: Run, columns: int) -> None:
    result = run(GOOD, "providers", COLUMNS=str(columns))
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= columns
    for name in providers.names():
        assert f"\n{name} " in result.stdout


def test_providers_prints_a_preset_as_shipped(run: Run) -> None:
    result = run(GOOD, "providers", "mando")
    assert result.stdout == providers.text("mando")


def test_an_unknown_provider_is_an_error_that_lists_the_known_ones(run: Run) -> None:
    result = run(GOOD, "providers", "mandos")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        'Error: unknown provider "mandos"\nTry: did you mean "mando"? use one of 1'
    )
    assert "gatehouse providers" in result.stderr or "one of" in result.stderr


def test_check_reports_secrets_that_are_not_used(run: Run) -> None:
    source = "{provider: paypal, values: {webhook_id: 1AB}, secrets: env:NOWHERE}"
    result = run(f"sources: {{wallet: {source}}}\n", "check")
    assert result.exit_code == 0
    assert "secrets    none needed: the configured ones are not used" in result.stdout


@pytest.mark.parametrize(
    ("dedupe", "where"),
    [
        ("{by: ['{header:X-A}', {key: '{signed}', window: 6h}], window: 2d}", None),
        ("{by: ['{header:X-A}', {key: '{signed}', window: 9d}], window: 1h}", None),
        ("{by: ['{header:X-A}', {key: '{signed}', window: 6h}], window: 1h}", "dedupe.window"),
        ("{by: [{key: '{header:X-A}', window: 1h}, {key: '{signed}', window: 6h}]}", "dedupe.by.1.window"),
    ],
)
def test_check_warns_if_all_dedupe_windows_are_shorter_than_the_retry_horizon(
    run: Run, dedupe: str, where: str | None
) -> None:
    result = run(GOOD.replace("mandato: {", f"mandato: {{dedupe: {dedupe}, "), "check")
    warnings = [line for line in result.stderr.splitlines() if "GH04" in line]

    assert [f"sources.mandato.{where}: shorter than the provider's" in line for line in warnings] == (
        [True] if where else []
    )


TOKENS = """operator:
  tokens:
    - {name: ci, token: env:CI_TOKEN, role: read}
    - {name: alice, token: env:ALICE, role: operate}
"""


def test_check_reports_operator_tokens_that_are_missing_or_too_short(run: Run) -> None:
    result = run(GOOD + TOKENS, "check", ALICE="short")

    assert result.exit_code == 1
    effect = "(serve starts, but requests with this token get 401)"
    assert f"gateway.yaml:11: operator.tokens.0.token: env:CI_TOKEN is not set {effect}" in result.stderr
    assert (
        f"gateway.yaml:12: operator.tokens.1.token: env:ALICE is shorter than 16 bytes {effect}"
        in result.stderr
    )


def test_check_reports_operator_tokens_with_the_same_value(run: Run) -> None:
    value = "a-token-for-two-people"
    result = run(GOOD + TOKENS, "check", CI_TOKEN=value, ALICE=value)

    assert result.exit_code == 1
    assert "gateway.yaml:12: operator.tokens.1.token: has the same value as the token of ci" in result.stderr
    assert value not in result.output


def test_check_counts_the_operator_tokens(run: Run) -> None:
    result = run(GOOD + TOKENS, "check", CI_TOKEN="token-of-the-pipeline", ALICE="token-of-alice-herself")

    assert result.exit_code == 0
    assert "operator server on 127.0.0.1:9090, with 2 tokens" in result.stdout

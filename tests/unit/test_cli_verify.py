"""The command `verify` gives the same verdict as the gateway, and the reason."""

from __future__ import annotations

import gzip
import hmac
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from doubles import providers
from gatehouse.cli import main

NOW = 1_750_000_000
SECRET = providers.SECRET
CONFIG = """\
server: {listen: "127.0.0.1:18080", public_url: "https://hooks.example.com", max_body: 1KB}
operator: {listen: "127.0.0.1:0"}
sources:
  mandato: {provider: mandato, secrets: env:S}
  hisab: {provider: hisab, secrets: env:S}
  slack-like:
    verify: {type: token, header: X-Token, secrets: env:S}
    event: {type: "{body:t}"}
    handshakes:
      - {name: hello, when: {"{body:t}": hello}, challenge: "{body:c}", answer: {text: "{challenge}"}}
  office: {verify: {type: allowlist, networks: [203.0.113.0/24]}, event: {type: "{body:t}"}}
  paypal: {provider: paypal, values: {webhook_id: WH-1}}
  none: {provider: mando, secrets: env:UNSET}
destinations:
  billing: {url: "http://127.0.0.1:1/"}
  ledger: {url: "http://127.0.0.1:1/"}
routes:
  - {from: mandato, types: ["invoice.*"], to: [billing, ledger]}
"""
BODY = (
    b'{"id": "evt_1", "type": "invoice.accepted", "createdAt": "2025-01-15T10:00:15Z",'
    b' "data": {"id": "inv_1", "text": "unmistakable"}}'
)

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs the command beside the config."""
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text(CONFIG)

    def call(*arguments: str, stdin: bytes = b"") -> Result:
        return CliRunner(env={"S": SECRET}).invoke(main, ["verify", *arguments], input=stdin)

    return call


def saved(source: str, headers: dict[str, str], body: bytes = BODY, *, line_end: str = "\r\n") -> bytes:
    lines = [f"POST /webhooks/{source} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return line_end.join([*lines, "", ""]).encode() + body


def test_a_request_that_verifies_is_shown_with_its_events(run: Run) -> None:
    Path("request.http").write_bytes(saved("mandato", providers.mandato(BODY)))

    result = run("mandato", "request.http")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "Verified by HMAC-SHA256 of {body} in X-Mandato-Signature",
        "Event",
        "  id       evt_1",
        "  type     invoice.accepted",
        "  time     2025-01-15T10:00:15Z",
        "  subject  inv_1",
        "  dedupe   1. dlv_1",
        "  dedupe   2. evt_1",
        "  to       billing, ledger",
    ]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_request_on_standard_input_is_read_with_either_line_end(run: Run, line_end: str) -> None:
    stdin = saved("mandato", providers.mandato(BODY), line_end=line_end)

    assert run("mandato", "-", stdin=stdin).exit_code == 0


def test_a_refused_request_is_shown_with_its_reason_and_findings(run: Run) -> None:
    result = run("mandato", "-", stdin=saved("mandato", providers.mandato(BODY), BODY + b"\n"))

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "Refused: wrong_signature",
        (
            " - The signature matches if the newline at the end of the body is removed. A tool added the "
            "newline, usually an editor. Send and save bodies byte for byte."
        ),
    ]


def test_an_old_request_is_shown_with_the_time_of_its_signature(run: Run) -> None:
    request = saved("hisab", providers.hisab(BODY, at=NOW))

    late = run("hisab", "-", "--now", str(NOW + 40_000), stdin=request)

    assert late.exit_code == 1
    assert "Refused: stale_timestamp\n - The timestamp is 40000 s old; the limit is 8h.\n" in late.stdout
    assert late.stderr == f"Try: add --now {NOW} to verify it as of the time when it was signed\n"
    assert run("hisab", "-", "--now", str(NOW), stdin=request).exit_code == 0


def test_now_is_the_clock_without_the_option(run: Run) -> None:
    request = saved("hisab", providers.hisab(BODY, at=time.time()))

    assert run("hisab", "-", stdin=request).exit_code == 0


def test_a_request_for_another_source_is_recognized(run: Run) -> None:
    result = run("hisab", "-", stdin=saved("mandato", providers.mandato(BODY)))

    assert "The request verifies for the source mandato." in result.stdout
    assert (
        " - The request was sent to another path. The path of the source is /webhooks/hisab.\n"
        in result.stdout
    )


def test_the_verdict_can_be_printed_as_json(run: Run) -> None:
    good = json.loads(run("mandato", "-", "--json", stdin=saved("mandato", providers.mandato(BODY))).stdout)
    bad = run("mandato", "-", "--json", stdin=saved("mandato", {}))

    assert good["verified"] is True
    assert good["events"][0] == {
        "id": "evt_1",
        "type": "invoice.accepted",
        "time": "2025-01-15T10:00:15Z",
        "subject": "inv_1",
        "account": None,
        "keys": ["dlv_1", "evt_1"],
        "destinations": ["billing", "ledger"],
    }
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["reason"] == "missing_signature"
    assert json.loads(bad.stdout)["findings"][0] == "The header X-Mandato-Signature is missing."


def test_an_event_without_a_matching_route_is_reported(run: Run) -> None:
    result = run("hisab", "-", "--now", str(NOW), stdin=saved("hisab", providers.hisab(BODY, at=NOW)))

    assert "  to       no route matches: stored, not delivered" in result.stdout
    assert "  dedupe   2. sha256:" in result.stdout


def test_a_handshake_is_reported(run: Run) -> None:
    body = b'{"t": "hello", "c": "abc"}'

    result = run("slack-like", "-", stdin=saved("slack-like", {"X-Token": SECRET}, body))

    assert result.exit_code == 0
    assert "Handshake hello: the gateway answers it and stores no event.\n" in result.stdout


def test_the_client_option_is_checked_against_an_allowlist(run: Run) -> None:
    request = saved("office", {}, b'{"t": "x"}')

    assert run("office", "-", "--client", "203.0.113.9", stdin=request).exit_code == 0
    refused = run("office", "-", stdin=request)
    assert refused.stdout == (
        "Refused: wrong_credentials\n"
        " - The client's address is not known. For a saved request, add `--client ADDRESS`.\n"
    )


@pytest.mark.parametrize(
    ("request_line", "headers", "body", "reason"),
    [
        ("GET", {}, b"", "method_not_allowed"),
        ("POST", {"Content-Encoding": "gzip"}, b"", "unsupported_encoding"),
        ("POST", {}, b"x" * 1001, "too_large"),
    ],
)
def test_requests_that_ingest_refuses_before_verification_are_refused(
    run: Run, request_line: str, headers: dict[str, str], body: bytes, reason: str
) -> None:
    raw = saved("mandato", headers, body).replace(b"POST", request_line.encode())

    result = run("mandato", "-", stdin=raw)

    assert result.exit_code == 1
    assert result.stdout.startswith(
        (f"Refused: {reason}\n - The ", f"Refused: {reason}\n - Send the body without ")
    )


def test_a_source_with_published_keys_is_explained(run: Run) -> None:
    result = run("paypal", "-", stdin=saved("paypal", {"X-Hub-Signature": "sha1=00"}))

    assert result.stdout.startswith(
        "Refused: missing_signature\n - The header PAYPAL-TRANSMISSION-SIG is missing.\n"
    )


def test_neither_secret_nor_signature_nor_body_is_printed(run: Run) -> None:
    headers = providers.mandato(BODY, secret="another-secret-of-some-length")

    result = run("mandato", "-", stdin=saved("mandato", headers))

    for text in (SECRET, headers["X-Mandato-Signature"], "unmistakable"):
        assert text not in result.output


SHOP = """\
sources:
  shop:
    verify:
      type: hmac
      signature: {header: Shop-Signature}
      timestamp: {header: Shop-Time, tolerance: 5m}
      signed: "{timestamp}.{body}"
    secrets: env:SHOP_SECRET
    event: {type: "{body:type}"}
"""


@pytest.mark.parametrize(("file", "secret"), [("late.http", SECRET), ("wrong.http", "another-secret-01")])
def test_the_page_on_operations_shows_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, secret: str
) -> None:
    """The page breaks long lines as a terminal does."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    shown = re.search(rf"^\$ gatehouse verify shop {file}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text(SHOP)
    signature = hmac.new(secret.encode(), f"{NOW}.".encode() + BODY, "sha256").hexdigest()
    Path(file).write_bytes(saved("shop", {"Shop-Signature": signature, "Shop-Time": str(NOW)}))
    now = NOW + 812 if file == "late.http" else NOW

    result = CliRunner(env={"SHOP_SECRET": SECRET}).invoke(main, ["verify", "shop", file, "--now", str(now)])

    assert shown is not None
    assert (result.stdout + result.stderr).split() == shown[1].split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mandato", "absent.http"), "Error: absent.http: can't be read: No such file or directory"),
        (("mandat", "-"), 'Error: unknown source "mandat"'),
        (("none", "-"), "Error: source none can't verify: env:UNSET is not set"),
        (("mandato", "-"), "Error: no blank line ends the headers"),
        (("--rejected", "01JD"), "Error: the config's operator listener takes any free port"),
        (("--rejected", "01JD", "--operator", "http://127.0.0.1:1"), "Error: no answer from http://127"),
    ],
)
def test_files_and_sources_that_cannot_be_used_are_errors_with_a_hint(
    run: Run, arguments: tuple[str, ...], message: str
) -> None:
    stdin = saved("none", {}) if arguments[0] == "none" else b"{}"

    result = run(*arguments, stdin=stdin)

    assert result.exit_code == 1
    assert result.stderr.startswith(message)
    assert "\nTry: " in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("mandato",),
        ("mandato", "-", "--rejected", "01JD"),
        ("--rejected", "01JD", "--now", "1"),
        ("--rejected", "01JD", "--client", "192.0.2.1"),
    ],
)
def test_missing_and_conflicting_arguments_are_usage_errors(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_the_help_names_every_option(run: Run) -> None:
    result = run("--help")

    for word in ("[OPTIONS] SOURCE FILE", "--now", "--client", "--rejected", "--operator", "--json"):
        assert word in result.stdout


COMPRESSED = """\
sources:
  own:
    decode: {verify: VERIFY}
    secrets: env:SECRET
    verify: {type: hmac, signature: {header: X-Signature}}
    event: {type: "{body:type}"}
destinations: {app: {url: "http://127.0.0.1:9"}}
routes: [{from: "*", to: app}]
"""


@pytest.mark.parametrize("what", ["sent", "decoded"])
def test_a_compressed_request_is_decoded_as_ingest_decodes_it(tmp_path: Path, what: str) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(COMPRESSED.replace("VERIFY", what))
    packed = gzip.compress(BODY, mtime=0)
    signature = hmac.new(SECRET.encode(), packed if what == "sent" else BODY, "sha256").hexdigest()
    raw = saved("own", {"X-Signature": signature, "Content-Encoding": "gzip"}, packed)

    def verify(request: bytes) -> Result:
        arguments = ["verify", "-c", str(config), "own", "-"]
        return CliRunner(env={"SECRET": SECRET}).invoke(main, arguments, input=request)

    assert verify(raw).exit_code == 0, verify(raw).output
    assert "  type     invoice.accepted\n" in verify(raw).stdout
    forged = verify(raw.replace(signature.encode(), b"00" * 32))
    assert forged.exit_code == 1
    assert "Content-Encoding" not in forged.stdout

"""The commands `sign` and `send`: requests that verify, and output that reports the answers."""

from __future__ import annotations

import json
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner, Result
from multidict import CIMultiDict

from gatehouse.cli import main
from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.errors import VerificationError
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request

NOW = 1_750_000_000
ENVIRONMENT = {"S": "s3cr3t-of-at-least-16-bytes"}
CONFIG = """\
server: {listen: "0.0.0.0:18080"}
sources:
  mandato: {provider: mandato, secrets: env:S}
  hisab: {provider: hisab, secrets: env:S, path: /in/hisab}
  e-invoice-be: {provider: e-invoice-be, secrets: env:S}
  none: {provider: mando, secrets: env:UNSET}
  own: {verify: {type: token, header: X-Token, secrets: env:S}, event: {type: "{body:t}"}}
"""

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command beside the config."""
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text(CONFIG)

    def call(*arguments: str, stdin: bytes = b"") -> Result:
        return CliRunner(env=ENVIRONMENT).invoke(main, arguments, input=stdin)

    return call


def source(name: str) -> Source:
    config = parse(CONFIG).config
    return Source(name, config.sources[name], config, Secrets(Path(), ENVIRONMENT))


def curl(result: Result) -> tuple[str, Request]:
    """Read a curl command as a shell would: its URL, and the request that it sends."""
    assert result.exit_code == 0, result.output
    program, *arguments, url = shlex.split(result.stdout.replace(" \\\n", " "))
    assert program == "curl"
    options = list(zip(arguments[::2], arguments[1::2], strict=True))
    headers: CIMultiDict[str] = CIMultiDict()
    for name, _, value in (words.partition(": ") for option, words in options if option == "-H"):
        headers.add(name, value)
    ((kind, data),) = [pair for pair in options if pair[0].startswith("--data-")]
    from_file = kind == "--data-binary" and data.startswith("@")
    body = Path(data[1:]).read_bytes() if from_file else data.encode()
    parts = urlsplit(url)
    return url, Request("POST", parts.path, parts.query, headers, body)


@pytest.mark.parametrize("name", ["mandato", "hisab", "e-invoice-be"])
def test_sign_prints_a_command_whose_request_verifies(run: Run, name: str) -> None:
    url, request = curl(run("sign", name, "--now", str(NOW)))
    source(name).verification.verify(request, NOW)
    assert url == f"http://127.0.0.1:18080{source(name).path}"


def test_sign_quotes_the_body_for_a_shell(run: Run) -> None:
    body = b"""{"id": "it's $HOME `date` \\\\ \\"", "type": "x"}\n"""
    _, request = curl(run("sign", "mandato", "--body", "-", stdin=body))
    assert request.body == body
    source("mandato").verification.verify(request, NOW)


def test_sign_names_the_file_and_keeps_its_bytes(run: Run) -> None:
    Path("a body.bin").write_bytes(b'{"id":"\xff\x00","type":"x"}')
    result = run("sign", "mandato", "--body", "a body.bin")
    assert "--data-binary '@a body.bin'" in result.stdout
    _, request = curl(result)
    source("mandato").verification.verify(request, NOW)


@pytest.mark.parametrize("body", [b"\xff", b"a\0b", b"1" * 200_000])
def test_sign_refuses_a_body_that_a_command_line_can_not_contain(run: Run, body: bytes) -> None:
    result = run("sign", "mandato", "--body", "-", stdin=body)
    assert result.exit_code == 1
    assert "--body FILE" in result.stderr


def test_sign_signs_the_headers_given_and_sends_them(run: Run) -> None:
    _, request = curl(run("sign", "mandato", "--header", "x-mandato-delivery-id: mine", "--header", "X-A:b"))
    assert request.headers.getall("X-Mandato-Delivery-Id") == ["mine"]
    assert request.headers["X-A"] == "b"


def test_sign_keeps_a_signature_that_the_operator_gives(run: Run) -> None:
    _, request = curl(run("sign", "mandato", "--header", "X-Mandato-Signature: 00"))
    with pytest.raises(VerificationError):
        source("mandato").verification.verify(request, NOW)


def test_sign_makes_a_new_event_each_time_by_default(run: Run) -> None:
    first, second = (curl(run("sign", "mandato"))[1].body for _ in range(2))
    assert first != second
    first, second = (curl(run("sign", "mandato", "--no-fresh"))[1].body for _ in range(2))
    assert first == second == source("mandato").settings.samples[0].body.encode()


def test_sign_replaces_the_type_and_the_ids_of_a_file_when_asked(run: Run) -> None:
    Path("body.json").write_bytes(b'{"id":"evt_1", "type":"a", "n": 45.50}')
    result = run("sign", "mandato", "--body", "body.json", "--type", "b", "--fresh")
    _, request = curl(result)
    assert "@body.json" not in result.stdout
    sent = json.loads(request.body)
    assert sent["type"] == "b"
    assert sent["id"] != "evt_1"
    assert b'"n": 45.50' in request.body


@pytest.mark.parametrize(
    ("given", "goes_to"),
    [
        ("https://gate.example", "https://gate.example/in/hisab"),
        ("https://gate.example/", "https://gate.example/in/hisab"),
        ("http://[::1]:81/other?a=b", "http://[::1]:81/other?a=b"),
    ],
)
def test_sign_completes_an_address_with_the_path_of_the_source(run: Run, given: str, goes_to: str) -> None:
    assert curl(run("sign", "hisab", "--url", given))[0] == goes_to


@pytest.mark.parametrize(
    "wrong",
    [
        ("--url", "ftp://a"),
        ("--url", "no-scheme"),
        ("--url", "http://a:b"),
        ("--header", "no-colon"),
        ("--header", ": nothing"),
        ("--header", "a b: c"),
        ("--header", "a: b\r\nc: d"),
        ("--now", "-1"),
        ("--now", "nan"),
        ("--now", "1e400"),
        ("--count", "0"),
    ],
)
def test_invalid_options_are_usage_errors(run: Run, wrong: tuple[str, str]) -> None:
    result = run("send", "mandato", *wrong)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_a_source_without_examples_asks_for_a_body(run: Run) -> None:
    result = run("sign", "own")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: source own has no documented example\n"
        "Try: pass a body as the provider sends it with --body FILE"
    )
    _, request = curl(run("sign", "own", "--body", "-", stdin=b"{}"))
    assert request.headers["Content-Type"] == "application/json"
    source("own").verification.verify(request, NOW)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none",), "Error: source none can't sign: env:UNSET is not set\nTry: "),
        (("mandato", "--body", "nowhere"), "Error: nowhere: can't be read: No such file or directory\nTry: "),
        (("mandato", "--body", "."), "Error: .: can't be read: Is a directory\nTry: "),
        (("e-invoice-be", "--body", "gateway.yaml"), "can't sign this request: malformed_body\nTry: "),
        (("mandato", "--body", "gateway.yaml", "--type", "x"), 'Error: the event type "x" can\'t be set'),
        (
            ("mandato", "-c", "nowhere.yaml"),
            "Error: nowhere.yaml: can't be read: No such file or directory\nTry: ",
        ),
    ],
)
def test_mistakes_are_errors_with_a_hint(run: Run, arguments: tuple[str, ...], said: str) -> None:
    for command in ("sign", "send"):
        result = run(command, *arguments)
        assert result.exit_code == 1
        assert said in result.stderr
        assert "\nTry: " in result.stderr


@pytest.fixture
def stripe(run: Run) -> Run:
    """Return a function that runs a command for a source of a provider with samples."""
    Path("pay.yaml").write_text(
        "server: {listen: 127.0.0.1:18080}\nsources: {pay: {provider: stripe, secrets: env:S}}\n"
    )
    return lambda command, *arguments: run(command, "pay", "-c", "pay.yaml", *arguments)


def test_a_type_with_a_sample_gets_its_shape_and_the_time_of_the_request(stripe: Run) -> None:
    _, request = curl(stripe("sign", "--type", "charge.refunded", "--now", str(NOW)))
    sent = json.loads(request.body)
    assert (sent["type"], sent["created"]) == ("charge.refunded", NOW)
    assert sent["data"]["object"]["refunded"] is True


def test_a_sample_is_a_new_event_each_time_but_not_with_no_fresh(stripe: Run) -> None:
    arguments = ("sign", "--type", "invoice.paid", "--now", str(NOW))
    first, second = (json.loads(curl(stripe(*arguments))[1].body) for _ in range(2))
    assert first["id"] != second["id"]
    assert first["data"]["object"]["id"] != second["data"]["object"]["id"]
    first, second = (curl(stripe(*arguments, "--no-fresh"))[1].body for _ in range(2))
    assert first == second


def test_a_type_without_a_sample_is_set_in_the_sample_of_the_nearest_type(stripe: Run) -> None:
    _, request = curl(stripe("sign", "--type", "invoice.voided"))
    sent = json.loads(request.body)
    assert sent["type"] == "invoice.voided"
    assert sent["data"]["object"]["object"] == "invoice"


def test_set_changes_values_and_adds_members_after_everything_else(stripe: Run) -> None:
    changes = ("id=evt_mine", "data.object.amount=5.50", 'data.object.metadata={"a": [1]}', "data.note=hello")
    options = [word for change in changes for word in ("--set", change)]
    _, request = curl(stripe("sign", "--type", "charge.succeeded", *options))
    sent = json.loads(request.body)
    assert sent["id"] == "evt_mine"
    assert b'"amount": 5.50' in request.body
    assert sent["data"]["object"]["metadata"] == {"a": [1]}
    assert sent["data"]["note"] == "hello"


def test_set_changes_a_body_from_a_file_too(run: Run) -> None:
    _, request = curl(run("sign", "mandato", "--body", "-", "--set", "n=2", stdin=b'{"id":"1","n":1}'))
    assert json.loads(request.body) == {"id": "1", "n": 2}


@pytest.mark.parametrize("path", ["id.x", "data.object.items.data.7.id", "data.object.items.data.x.id"])
def test_set_with_a_path_that_does_not_fit_the_body_is_an_error(stripe: Run, path: str) -> None:
    result = stripe("sign", "--type", "customer.subscription.created", "--set", f"{path}=1")
    assert result.exit_code == 1
    assert result.stderr.startswith(f'Error: the body has no place for "{path}"\nTry: ')


@pytest.mark.parametrize("text", ["a", "=1", "a..b=1", ".a=1"])
def test_set_without_a_path_or_a_value_is_a_usage_error(stripe: Run, text: str) -> None:
    assert stripe("sign", "--set", text).exit_code == 2


def test_list_types_lists_the_types_that_have_a_sample_and_sends_nothing(stripe: Run, run: Run) -> None:
    types = stripe("send", "--list-types").stdout.splitlines()
    assert types == sorted(types)
    assert {"payment_intent.succeeded", "invoice.paid"} <= set(types)
    assert json.loads(stripe("send", "--list-types", "--json").stdout) == {"types": types}
    assert run("send", "mandato", "--list-types").stdout == "invoice.accepted\n"
    assert run("send", "own", "--list-types").stdout == ""


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        (
            ["send", "pay", "-c", "pay.yaml", "--type"],
            "invoice.p",
            ["invoice.paid", "invoice.payment_failed"],
        ),
        (["sign", "-c", "pay.yaml", "pay", "--type"], "payo", ["payout.paid"]),
        (["send", "nothing", "-c", "pay.yaml", "--type"], "", []),
        (["send", "pay", "-c", "nowhere.yaml", "--type"], "", []),
    ],
)
def test_a_shell_completes_types_that_have_a_sample(
    stripe: Run, words: list[str], incomplete: str, expected: list[str]
) -> None:
    completion = BashComplete(main, {}, "gatehouse", "_GATEHOUSE_COMPLETE")
    assert [item.value for item in completion.get_completions(words, incomplete)] == expected


class Answering(HTTPServer):
    """Stands in for a gateway, and keeps the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[Request] = []
        self.statuses = [200]
        self.answer = b'{"status":"accepted",\n"id":"\x1b[31mred"}'
        #: The Content-Length of the answers; None sends none.
        self.announced: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = CIMultiDict(self.headers.items())
        self.server.requests.append(Request("POST", self.path, "", headers, body))
        statuses = self.server.statuses
        self.send_response(statuses[min(len(self.server.requests), len(statuses)) - 1])
        if self.server.announced is not None:
            self.send_header("Content-Length", str(self.server.announced))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Run the server that stands in for a gateway."""
    with Answering() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_send_sends_a_request_that_verifies_and_prints_the_answer(run: Run, answering: Answering) -> None:
    result = run("send", "hisab", "--now", str(NOW), "--url", answering.url)
    assert result.exit_code == 0
    assert result.stdout.startswith('200  {"status":"accepted", "id":"?[31mred"}  (')
    (request,) = answering.requests
    assert request.path == "/in/hisab"
    source("hisab").verification.verify(request, NOW)


def test_send_reports_an_empty_answer(run: Run, answering: Answering) -> None:
    answering.answer = b""
    assert run("send", "hisab", "--url", answering.url).stdout.startswith("200  (no body)  (")


def test_send_reports_a_connection_that_is_closed_in_the_middle_of_the_answer(
    run: Run, answering: Answering
) -> None:
    answering.announced = len(answering.answer) + 1
    result = run("send", "hisab", "--url", answering.url)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "the server closed the connection in the middle of its answer\nTry: " in result.stderr


def test_send_prints_the_beginning_of_a_long_answer(run: Run, answering: Answering) -> None:
    answering.answer = b"x" * 100_000
    answering.announced = len(answering.answer)
    result = run("send", "hisab", "--url", answering.url)
    assert result.exit_code == 0
    assert f"200  {'x' * 4096}  (" in result.stdout


def test_send_sends_as_many_new_events_as_asked_for_each_twice(run: Run, answering: Answering) -> None:
    result = run("send", "hisab", "--count", "3", "--duplicate", "--url", answering.url, "--now", str(NOW))
    assert len(result.stdout.splitlines()) == 6
    bodies = [request.body for request in answering.requests]
    ids = [request.headers["X-Webhook-Delivery-Id"] for request in answering.requests]
    for sent in (bodies, ids):
        assert sent[::2] == sent[1::2]
        assert len(set(sent)) == 3


def test_send_sends_the_bytes_of_a_file_with_the_headers_of_the_example(
    run: Run, answering: Answering
) -> None:
    Path("body.json").write_bytes(b'{"event": "x",  "n": 45.50}')
    run("send", "hisab", "--body", "body.json", "--url", answering.url)
    (request,) = answering.requests
    assert request.body == b'{"event": "x",  "n": 45.50}'
    assert request.headers["X-Webhook-Delivery-Id"].startswith("del_")
    assert request.headers["User-Agent"] == "Hisab-Webhooks/1.0"


@pytest.mark.parametrize("status", [302, 401, 404, 413, 500, 503])
def test_send_fails_when_an_answer_is_not_2xx(run: Run, answering: Answering, status: int) -> None:
    answering.statuses = [200, status]
    result = run("send", "mandato", "--count", "2", "--url", answering.url)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].startswith(f"{status}  ")
    assert result.stderr.startswith("Error: 1 of 2 answers are not 2xx\nTry: ")


def test_send_reports_that_no_server_listens(run: Run) -> None:
    with HTTPServer(("127.0.0.1", 0), _Handler) as unused:
        port = unused.server_port
    result = run("send", "mandato", "--url", f"http://127.0.0.1:{port}")
    assert result.exit_code == 1
    expected = f"Error: no answer from http://127.0.0.1:{port}/webhooks/mandato: Connection refused\nTry: "
    assert result.stderr.startswith(expected)


def test_send_reports_a_server_that_does_not_speak_http(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"220 mail ready\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        result = run("send", "mandato", "--url", f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "\nTry: " in result.stderr


def test_a_listener_on_any_port_has_no_address_to_send_to(run: Run) -> None:
    Path("gateway.yaml").write_text(CONFIG.replace(":18080", ":0"))
    result = run("send", "mandato")
    assert result.exit_code == 1
    assert "Try: pass the gateway's address with --url http://host:port" in result.stderr

"""The parts of the demo: workspace, app, cases and their comparison, and the table."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console

from gatehouse import providers
from gatehouse.config.load import load
from gatehouse.config.secrets import Secrets
from gatehouse.demo.app import App, Received
from gatehouse.demo.cases import (
    ACCEPTED,
    DUPLICATE,
    REFUSED,
    Answer,
    Case,
    Row,
    build_cases,
    counter_increases,
    find_differences,
    parse_answer,
    parse_metrics,
)
from gatehouse.demo.screen import answer_table
from gatehouse.demo.workspace import PROVIDERS, Workspace, choose_port, new_app_secret
from gatehouse.errors import GatewayError
from gatehouse.ingest.source import Source, build_sources

NOW = 1_750_000_000.0


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Write a demo's files."""
    made = Workspace(tmp_path)
    secret = new_app_secret()
    made.write(server_port=1, operator_port=2, app_url="http://127.0.0.1:3", app_secret=secret)
    return made


@pytest.fixture
def sources(workspace: Workspace) -> dict[str, Source]:
    """Compile the demo's sources."""
    loaded = load(workspace.config)
    return build_sources(loaded.config, Secrets(loaded.directory, {}))


def received(event_id: str, *, is_signed: bool = True) -> Received:
    return Received({"webhook-id": event_id}, b"{}", 0.0, is_signed)


def expected_row(source: Source, event_id: str) -> Row:
    row = Row(source.name, source.settings.title, build_cases(source, NOW), received=received(event_id))
    row.answers = {case.kind: case.expected for case in row.cases}
    row.answers["example"] = Answer(200, "accepted", event_id)
    return row


@pytest.fixture
def rows(sources: dict[str, Source]) -> list[Row]:
    """Make the rows of a demo in which everything is as expected."""
    return [expected_row(source, f"E{number}") for number, source in enumerate(sources.values())]


def received_by_app(rows: list[Row]) -> list[Received]:
    return [row.received for row in rows if row.received]


def test_the_providers_of_the_demo_have_presets() -> None:
    assert set(PROVIDERS) <= set(providers.names())


def test_every_source_of_a_demo_has_its_secret(sources: dict[str, Source]) -> None:
    assert [source.not_ready for source in sources.values()] == [None] * 5


def test_only_the_user_can_read_the_secrets_of_a_demo(workspace: Workspace) -> None:
    folder = workspace.directory / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Occupy a port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def test_another_port_is_chosen_when_the_default_port_is_taken(taken_port: int) -> None:
    assert choose_port(None, default=taken_port) not in (0, taken_port)


def test_a_requested_port_that_is_taken_is_an_error(taken_port: int) -> None:
    with pytest.raises(GatewayError, match=f"port {taken_port} on 127.0.0.1 is taken"):
        choose_port(taken_port, default=8080)


def test_port_0_requests_any_free_port() -> None:
    assert choose_port(0, default=8080) > 0


@pytest.mark.parametrize(
    ("provider", "old", "note"),
    [
        ("e-invoice-be", None, ""),
        ("getpeppr", REFUSED, "15 min old"),
        ("hisab", REFUSED, "9 h old"),
        ("mandato", DUPLICATE, "new delivery id"),
        ("mando", None, ""),
    ],
)
def test_each_provider_sends_its_example_and_requests_that_must_not_pass(
    sources: dict[str, Source], provider: str, old: Answer | None, note: str
) -> None:
    made = {case.kind: case for case in build_cases(sources[provider], NOW)}
    assert [made[kind].expected for kind in ("example", "retry", "forged")] == [ACCEPTED, DUPLICATE, REFUSED]
    assert (made["retry"].headers, made["retry"].body) == (made["example"].headers, made["example"].body)
    assert made["forged"].headers == made["example"].headers
    assert made["forged"].body != made["example"].body
    assert ("old" in made) == (old is not None)
    if old:
        assert (made["old"].expected, made["old"].note) == (old, note)


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (200, b'{"status":"accepted","id":"E1"}', "200 accepted"),
        (401, b'{"error":{"code":"unauthorized","message":"m"}}', "401 refused"),
        (503, b'{"error":{"code":"unavailable","message":"m"}}', "503 unavailable"),
        (200, b"<html>", "200 unknown answer"),
        (200, b"[]", "200 unknown answer"),
        (200, b"{}", "200 unknown answer"),
        (500, b'{"error": 1}', "500 unknown answer"),
    ],
)
def test_an_answer_is_shown_as_status_and_word(status: int, body: bytes, shown: str) -> None:
    assert str(parse_answer(status, body)) == shown


def test_no_difference_is_found_when_all_is_as_expected(rows: list[Row]) -> None:
    assert find_differences(rows, received_by_app(rows)) == []


def test_an_answer_that_differs_is_named(rows: list[Row]) -> None:
    rows[3].answers["forged"] = Answer(200, "accepted", "E9")
    assert find_differences(rows, received_by_app(rows)) == [
        "Mandato, forged: 200 accepted instead of 401 refused"
    ]


def test_an_answer_that_is_missing_is_named(rows: list[Row]) -> None:
    del rows[4].answers["retry"]
    assert find_differences(rows, received_by_app(rows)) == [
        "Mando, retry: no answer instead of 200 duplicate"
    ]


def test_an_event_that_the_app_did_not_receive_is_named(rows: list[Row]) -> None:
    rows[0].received = None
    assert find_differences(rows, received_by_app(rows)) == [
        "e-invoice.be: the app did not receive the event"
    ]


def test_an_event_with_a_wrong_signature_is_named(rows: list[Row]) -> None:
    rows[1].received = received("E1", is_signed=False)
    assert find_differences(rows, received_by_app(rows)) == [
        "getpeppr: the app received the event with a wrong signature"
    ]


def test_an_event_that_is_received_twice_or_unexpectedly_is_named(rows: list[Row]) -> None:
    found = find_differences(rows, [*received_by_app(rows), received("E2"), received("E9")])
    assert found == [
        "the app received event E2 more than once",
        "the app received event E9, which no answer names",
    ]


def test_a_provider_without_an_example_is_named(rows: list[Row]) -> None:
    empty = Row("x", "Xyz", received=received("E0"))
    assert "Xyz: no documented example to send" in find_differences([*rows, empty], received_by_app(rows))


def test_counter_increases_are_summed_over_sources() -> None:
    before = parse_metrics(
        "# TYPE gatehouse_requests_total counter\n"
        'gatehouse_requests_total{source="a",outcome="accepted"} 1\n'
        'gatehouse_requests_total{source="b",outcome="accepted"} 0\n'
        'gatehouse_requests_total{source="b",outcome="duplicate"} 4\n'
        "# TYPE process_cpu_seconds_total counter\n"
        "process_cpu_seconds_total 1\n"
    )
    after = parse_metrics(
        "# TYPE gatehouse_requests_total counter\n"
        'gatehouse_requests_total{source="a",outcome="accepted"} 3\n'
        'gatehouse_requests_total{source="b",outcome="accepted"} 1\n'
        'gatehouse_requests_total{source="b",outcome="duplicate"} 4\n'
        "# TYPE gatehouse_deliveries_pending gauge\n"
        'gatehouse_deliveries_pending{destination="app"} 2\n'
        'gatehouse_deliveries_pending{destination="archive"} 3\n'
        "# TYPE gatehouse_store_bytes gauge\n"
        "gatehouse_store_bytes 4096\n"
    )
    assert counter_increases(before, after) == {'gatehouse_requests_total{outcome="accepted"}': 3}
    assert after.gauges == {'gatehouse_deliveries_pending{destination="app"}': 2}


@pytest.mark.parametrize(
    ("changed", "is_signed"),
    [
        ({}, True),
        ({"webhook-id": "E2"}, False),
        ({"webhook-timestamp": "1"}, False),
        ({"webhook-timestamp": "soon"}, False),
        ({"webhook-signature": "v1,AAAA"}, False),
        ({"webhook-signature": "v1,é"}, False),
        ({"webhook-timestamp": "²"}, False),
        ({"webhook-timestamp": "9" * 5000}, False),
    ],
)
async def test_the_app_accepts_signed_events_only(changed: dict[str, str], is_signed: bool) -> None:
    secret = new_app_secret()
    sent, body = str(int(time.time())), b'{"a": 1}'
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"E1.{sent}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "webhook-id": "E1",
        "webhook-timestamp": sent,
        "webhook-signature": "v1,AAAA v1," + base64.b64encode(mac).decode(),
    }
    async with App(secret).serve() as app, aiohttp.ClientSession() as client:
        async with client.post(f"{app.url}/events", data=body, headers=headers | changed) as answer:
            assert answer.status == (204 if is_signed else 401)
        (got,) = app.received
        assert got.is_signed is is_signed
        assert await app.wait_for("E9", 0.01) is None


def drawn(rows: list[Row], width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(answer_table(rows, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_fits_the_width_without_cutting_words(rows: list[Row], width: int) -> None:
    table = drawn(rows, width)
    assert max(map(len, table.splitlines())) <= width
    for words, times in (
        ("200 accepted", 5),
        ("200 duplicate", 6),
        ("401 refused", 7),
        ("15 min old", 1),
        ("9 h old", 1),
        ("new delivery id", 1),
        ("signs no time", 2),
        ("signature ok", 5),
    ):
        assert table.count(words) == times


def test_the_table_shows_what_differs_beside_what_is_expected(rows: list[Row]) -> None:
    rows[3].answers["forged"] = Answer(200, "accepted")
    rows[0].received = None
    rows[1].received = received("E1", is_signed=False)
    table = drawn(rows, 100)
    for words in ("not 401 refused", "nothing", "bad signature"):
        assert words in table


def test_the_table_can_be_drawn_without_answers(sources: dict[str, Source]) -> None:
    table = drawn([Row(name, name) for name in sources], 100)
    assert "…" in table
    assert "refused" not in table


def test_a_case_shows_no_secret(sources: dict[str, Source], workspace: Workspace) -> None:
    """Basic and token schemes would send theirs; the demo's five providers sign."""
    secrets = [file.read_text().strip() for file in (workspace.directory / "secrets").iterdir()]
    sent: list[Case] = [case for source in sources.values() for case in build_cases(source, NOW)]
    shown = json.dumps([dict(case.headers) for case in sent])
    assert not any(secret in shown for secret in secrets)

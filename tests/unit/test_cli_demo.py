"""The parts of the demo: it says what differs, and its table can be read at any width."""

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
from gatehouse.demo.app import App, Arrived
from gatehouse.demo.cases import ACCEPTED, DUPLICATE, REFUSED, Answer, Case, cases, read_answer
from gatehouse.demo.play import Row, differences
from gatehouse.demo.scrape import moved, parse
from gatehouse.demo.table import answer_table
from gatehouse.demo.workspace import PROVIDERS, Workspace, choose_port, new_app_secret
from gatehouse.errors import GatewayError
from gatehouse.ingest.source import Source, build_sources

NOW = 1_750_000_000.0


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Write a demo's files."""
    made = Workspace(tmp_path)
    secret = new_app_secret()
    made.write(server_port=1, operator_port=2, app_url="http://127.0.0.1:3/events", app_secret=secret)
    return made


@pytest.fixture
def sources(workspace: Workspace) -> dict[str, Source]:
    """Compile the demo's sources."""
    loaded = load(workspace.config)
    return build_sources(loaded.config, Secrets(loaded.directory, {}))


def arrived(event_id: str, *, is_signed: bool = True) -> Arrived:
    return Arrived({"webhook-id": event_id}, b"{}", 0.0, is_signed)


def row_as_it_should_be(source: Source, event_id: str) -> Row:
    row = Row(source.name, source.settings.title, cases(source, NOW), arrived=arrived(event_id))
    row.answers = {case.kind: case.expected for case in row.cases}
    row.answers["example"] = Answer(200, "accepted", event_id)
    return row


@pytest.fixture
def rows(sources: dict[str, Source]) -> list[Row]:
    """Make the rows of a demo in which everything was as it should be."""
    return [row_as_it_should_be(source, f"E{number}") for number, source in enumerate(sources.values())]


def seen(rows: list[Row]) -> list[Arrived]:
    return [row.arrived for row in rows if row.arrived]


def test_the_demo_plays_providers_that_there_are() -> None:
    assert set(PROVIDERS) <= set(providers.names())


def test_every_source_of_a_demo_has_its_secret(sources: dict[str, Source]) -> None:
    assert [source.not_ready for source in sources.values()] == [None] * 5


def test_only_the_user_can_read_the_secrets_of_a_demo(workspace: Workspace) -> None:
    folder = workspace.directory / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


@pytest.fixture
def taken() -> Iterator[int]:
    """Take a port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def test_the_usual_port_gives_way_when_it_is_taken(taken: int) -> None:
    assert choose_port(None, usual=taken) not in (0, taken)


def test_a_port_that_was_asked_for_does_not_give_way(taken: int) -> None:
    with pytest.raises(GatewayError, match=f"port {taken} on 127.0.0.1 is taken"):
        choose_port(taken, usual=8080)


def test_port_0_asks_for_any_free_one() -> None:
    assert choose_port(0, usual=8080) > 0


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
def test_each_provider_sends_its_example_and_what_must_not_pass(
    sources: dict[str, Source], provider: str, old: Answer | None, note: str
) -> None:
    made = {case.kind: case for case in cases(sources[provider], NOW)}
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
def test_an_answer_is_shown_as_it_was(status: int, body: bytes, shown: str) -> None:
    assert str(read_answer(status, body)) == shown


def test_nothing_differs_when_all_is_as_it_should_be(rows: list[Row]) -> None:
    assert differences(rows, seen(rows)) == []


def test_an_answer_that_differs_is_named(rows: list[Row]) -> None:
    rows[3].answers["forged"] = Answer(200, "accepted", "E9")
    assert differences(rows, seen(rows)) == ["Mandato, forged: 200 accepted instead of 401 refused"]


def test_an_answer_that_is_missing_is_named(rows: list[Row]) -> None:
    del rows[4].answers["retry"]
    assert differences(rows, seen(rows)) == ["Mando, retry: no answer instead of 200 duplicate"]


def test_an_event_that_does_not_arrive_is_named(rows: list[Row]) -> None:
    rows[0].arrived = None
    assert differences(rows, seen(rows)) == ["e-invoice.be: its event did not arrive at the app"]


def test_an_event_with_a_wrong_signature_is_named(rows: list[Row]) -> None:
    rows[1].arrived = arrived("E1", is_signed=False)
    assert differences(rows, seen(rows)) == ["getpeppr: its event arrived with a wrong signature"]


def test_an_event_that_arrives_twice_or_unasked_is_named(rows: list[Row]) -> None:
    found = differences(rows, [*seen(rows), arrived("E2"), arrived("E9")])
    assert found == [
        "event E2 arrived more than once",
        "event E9 arrived, and no example was answered with it",
    ]


def test_a_provider_without_an_example_is_named(rows: list[Row]) -> None:
    empty = Row("x", "Xyz", arrived=arrived("E0"))
    assert "Xyz: no documented example to send" in differences([*rows, empty], seen(rows))


def test_counters_that_moved_are_summed_over_sources() -> None:
    before = parse(
        "# TYPE gatehouse_requests_total counter\n"
        'gatehouse_requests_total{source="a",outcome="accepted"} 1\n'
        'gatehouse_requests_total{source="b",outcome="accepted"} 0\n'
        'gatehouse_requests_total{source="b",outcome="duplicate"} 4\n'
        "# TYPE process_cpu_seconds_total counter\n"
        "process_cpu_seconds_total 1\n"
    )
    after = parse(
        "# TYPE gatehouse_requests_total counter\n"
        'gatehouse_requests_total{source="a",outcome="accepted"} 3\n'
        'gatehouse_requests_total{source="b",outcome="accepted"} 1\n'
        'gatehouse_requests_total{source="b",outcome="duplicate"} 4\n'
        "# TYPE gatehouse_deliveries_pending gauge\n"
        'gatehouse_deliveries_pending{destination="app"} 2\n'
        "# TYPE gatehouse_store_bytes gauge\n"
        "gatehouse_store_bytes 4096\n"
    )
    assert moved(before, after) == {'gatehouse_requests_total{outcome="accepted"}': 3}
    assert after.levels == {'gatehouse_deliveries_pending{destination="app"}': 2}


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
async def test_the_app_believes_what_is_signed_only(changed: dict[str, str], is_signed: bool) -> None:
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
        async with client.post(app.url, data=body, headers=headers | changed) as answer:
            assert answer.status == (204 if is_signed else 401)
        (got,) = app.arrived
        assert got.is_signed is is_signed
        assert await app.wait_for("E9", 0.01) is None


def drawn(rows: list[Row], width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(answer_table(rows, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_shows_every_word_within_the_width(rows: list[Row], width: int) -> None:
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


def test_the_table_shows_what_differs_beside_what_should_be(rows: list[Row]) -> None:
    rows[3].answers["forged"] = Answer(200, "accepted")
    rows[0].arrived = None
    rows[1].arrived = arrived("E1", is_signed=False)
    table = drawn(rows, 100)
    for words in ("not 401 refused", "nothing", "bad signature"):
        assert words in table


def test_the_table_can_be_drawn_before_there_are_answers(sources: dict[str, Source]) -> None:
    table = drawn([Row(name, name) for name in sources], 100)
    assert "…" in table
    assert "refused" not in table


def test_a_case_shows_no_secret(sources: dict[str, Source], workspace: Workspace) -> None:
    """Basic and token schemes would send theirs; the demo's five providers sign."""
    secrets = [file.read_text().strip() for file in (workspace.directory / "secrets").iterdir()]
    sent: list[Case] = [case for source in sources.values() for case in cases(source, NOW)]
    shown = json.dumps([dict(case.headers) for case in sent])
    assert not any(secret in shown for secret in secrets)

"""The lines of `gatehouse tail`."""

from __future__ import annotations

from typing import Any

import click
import pytest

from gatehouse.cli import show_error
from gatehouse.cli.following import Entry
from gatehouse.cli.tail import describe
from gatehouse.errors import GatewayError

FAILED = {
    "at": "2026-12-01T12:03:04.5Z",
    "source": "shop",
    "type": "sale.created",
    "external_id": "evt_1",
    "destination": "billing",
    "reason": "server_error",
    "http_status": 503,
    "duration_ms": 12.6,
    "error": None,
}


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ({"status": "pending", "next": "2026-12-01T12:04:00.0Z"}, "; again at 12:04:00"),
        ({"status": "pending", "next": None}, "; again when the destination is resumed"),
        ({"status": "dead", "next": None}, "; now a dead letter"),
        ({"status": None, "next": None}, "; the event is not stored"),
        ({"next": None}, ""),
    ],
    ids=["pending", "paused", "dead", "relayed", "earlier version"],
)
def test_a_failed_attempt_says_what_becomes_of_its_delivery(more: dict[str, Any], end: str) -> None:
    line = describe(Entry("1", "attempt", FAILED | more))
    assert line is not None
    assert line.startswith("12:03:04  shop  sale.created  evt_1  → billing  ")
    assert line.endswith(f"  13 ms{end}")


def test_a_refused_request_without_a_source_shows_that_its_path_is_unknown() -> None:
    refused: dict[str, Any] = {
        "at": "2026-12-01T12:03:04.5Z",
        "outcome": "not_found",
        "status": 404,
        "reason": None,
    }
    for client, shown in (("192.0.2.1", "192.0.2.1"), (None, "an unknown address")):
        line = describe(Entry("1", "request", refused | {"source": None, "client": client}))
        assert line is not None
        expected = f"12:03:04  unknown path  refused 404 not_found  from {shown}"
        assert click.unstyle(line) == expected


def test_nothing_in_a_line_makes_a_terminal_act() -> None:
    hostile = {
        name: f"\x07{name}" for name in ("at", "source", "type", "external_id", "destination", "reason")
    }
    line = describe(Entry("1", "attempt", FAILED | hostile | {"status": "dead", "next": None}))
    assert line is not None
    assert "\x07" not in line


def test_nothing_in_an_error_makes_a_terminal_act(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(GatewayError("the gateway says \x1b[2J\nand more", hint="\u202etry"))
    assert capsys.readouterr().err == "Error: the gateway says \\x1b[2J\nand more\nTry: \\u202etry\n"

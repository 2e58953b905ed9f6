"""`gatehouse events` against a scripted API: the search, and one event."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.cells import cell_len

from doubles.operator_api import EVENT, ID, NOTHING, SHOWN, ScriptedApi, refusal


async def test_events_are_a_table(api: ScriptedApi) -> None:
    result = await api.run("events", "--status", "dead", answers=[{"events": [EVENT], "cursor": None}])

    assert result.exit_code == 0, result.output
    assert api.asked[0][1] == "/api/v1/events?limit=50&status=dead"
    assert result.stdout.splitlines() == [
        "id                          received              source  type          subject  deliveries",
        f"{ID}  2025-06-15T15:06:40Z  shop    sale.created  -        1 pending, 2 dead",
    ]


async def test_a_search_follows_the_pages_until_it_has_enough_events(api: ScriptedApi) -> None:
    other = EVENT | {"id": "01JD0000000000000000000001"}
    result = await api.run(
        *("events", "--external-id", "evt 1", "--subject", "s", "--account", "a", "--contains", "INV-1&é"),
        *("--destination", "billing", "--since", "1h", "--until", "now", "--limit", "2"),
        *("--reason", "timeout", "--http-status", "503"),
        answers=[
            {"events": [], "cursor": "c1", "searched_to": "2025-06-15T15:06:40Z"},
            {"events": [EVENT], "cursor": "c2", "searched_to": "2025-06-14T15:06:40Z"},
            {"events": [other], "cursor": "c3", "searched_to": "2025-06-13T15:06:40Z"},
        ],
    )

    assert result.exit_code == 0, result.output
    queries = [parse_qs(urlsplit(path).query) for _, path, _ in api.asked]
    assert queries[0] == {
        "limit": ["2"],
        "destination": ["billing"],
        "since": ["1h"],
        "until": ["now"],
        "external_id": ["evt 1"],
        "subject": ["s"],
        "account": ["a"],
        "contains": ["INV-1&é"],
        "reason": ["timeout"],
        "http_status": ["503"],
    }
    assert [query.get("cursor") for query in queries] == [None, ["c1"], ["c2"]]
    assert [query["limit"] for query in queries] == [["2"], ["2"], ["1"]]
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["id", ID, other["id"], "more:"]
    assert result.stdout.endswith("more: --cursor c3\n")


async def test_a_search_shows_on_a_terminal_how_far_back_it_has_come(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatehouse.cli.searching.is_watched", lambda: True)
    page = {"events": [], "cursor": "c1", "searched_to": "2025-06-15T15:06:40Z"}
    result = await api.run(
        "events", "--contains", "x", answers=[page, {"events": [], "cursor": None, "searched_to": None}]
    )

    assert result.stderr == "\r\x1b[Ksearched back to 2025-06-15 15:06 …\r\x1b[K"
    assert result.stdout == "no events\n"


async def test_ctrl_c_ends_a_search_and_shows_what_it_found(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gatehouse.cli.searching._show_progress", interrupt)
    page = {"events": [EVENT], "cursor": "c1", "searched_to": "2025-06-15T15:06:40Z"}
    result = await api.run("events", "--contains", "x", answers=[page])

    assert result.exit_code == 130
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["id", ID, "more:"]


async def test_an_event_is_found_by_the_id_of_the_provider(api: ScriptedApi) -> None:
    found = await api.run(
        "events", "evt_1", answers=[{"events": [EVENT], "cursor": None, "searched_to": None}, SHOWN]
    )
    asked = [path for _, path, _ in api.asked]
    assert asked == ["/api/v1/events?limit=50&external_id=evt_1", f"/api/v1/events/{ID}"]
    assert found.stdout.splitlines()[6:9] == [
        "received     2025-06-15T15:06:40.5Z",
        r"verified     by HMAC-SHA256 with file:/run/shop\x1b[2J",
        "stored       2025-06-15T15:06:40.504Z",
    ]
    assert "header       user-agent" in found.stdout

    several = {"events": [EVENT, EVENT], "cursor": None, "searched_to": None}
    listed = await api.run("events", "evt_1", answers=[several])
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["id", ID, ID]

    missing = await api.run("events", "evt_1", answers=[NOTHING])
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "no event has this id of the gateway or of the provider" in missing.stderr


async def test_an_id_of_the_provider_may_look_like_one_of_the_gateway(api: ScriptedApi) -> None:
    other = EVENT | {"id": "01JD0000000000000000000001"}
    page = {"events": [other], "cursor": None, "searched_to": None}
    found = await api.run("events", ID, answers=[refusal(404, "no event has this id"), page, SHOWN])
    assert [path for _, path, _ in api.asked] == [
        f"/api/v1/events/{ID}",
        f"/api/v1/events?limit=50&external_id={ID}",
        f"/api/v1/events/{other['id']}",
    ]
    assert found.exit_code == 0

    missing = await api.run("events", ID, answers=[refusal(404, "no event has this id"), NOTHING])
    assert missing.exit_code == 1
    assert "no event has this id" in missing.stderr


async def test_the_attempts_of_a_delivery_are_a_table(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatehouse.cli.output.is_terminal", lambda: True)
    result = await api.run("events", ID, answers=[SHOWN])

    lines = result.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("delivery     billing: "))
    assert [line.split()[:6] for line in lines[start + 1 : start + 3]] == [
        ["attempt", "time", "reason", "status", "duration", "error"],
        ["1", "2025-06-15T15:06:41Z", "connect", "-", "-", "Connection"],
    ]
    row = lines[start + 3]
    assert "2        2025-06-15T15:06:41Z  rejected  422     38 ms     <p>no\\x1b[31m customer</p>" in row
    assert lines[start + 4].startswith("delivery     ledger: pending, 1 attempt, ")
    assert max(map(cell_len, lines[start + 1 : start + 4])) <= 100


async def test_an_event_is_shown_with_its_whole_body(api: ScriptedApi) -> None:
    result = await api.run("events", ID, answers=[SHOWN])

    assert api.asked == [("GET", f"/api/v1/events/{ID}", None)]
    assert "header       user-agent: Mando/1\\x1b[2J\n" in result.stdout
    assert "delivery     billing: dead, 5 attempts, rejected 422\n" in result.stdout
    assert "delivery     ledger: pending, 1 attempt, due 2025-06-15T15:30:00Z\n" in result.stdout
    assert '\n\n{"note":\t"' + "x" * 2000 + '\\x1b[31m"}\n' in result.stdout
    assert "subject" not in result.stdout


async def test_a_body_that_is_not_text_is_shown_in_base64(api: ScriptedApi) -> None:
    shown: dict[str, Any] = {name: value for name, value in SHOWN.items() if name != "body"}
    result = await api.run("events", ID, answers=[shown | {"body_base64": "/w=="}])

    assert result.stdout.endswith("\n\nin base64: /w==\n")

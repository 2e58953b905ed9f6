"""The commands `events`, `dead`, `retry`, `replay`, `pause` and `resume`, against a scripted API."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import parse_qs, urlsplit

import click
import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from rich.cells import cell_len

from gatehouse.cli import main
from gatehouse.cli.output import visible
from gatehouse.store.records import Action

CONFIG = """\
sources:
  shop: {provider: mando, secrets: env:SECRET}
destinations:
  billing: {url: "http://127.0.0.1:1/"}
routes: [{from: shop, to: billing}]
"""
ID = "01JD0000000000000000000000"
DEAD = {
    "id": f"{ID}:billing",
    "event_id": ID,
    "source": "shop",
    "type": "sale.created",
    "destination": "billing",
    "status": "dead",
    "attempts": 5,
    "received": "2025-06-15T15:06:40Z",
    "due": None,
    "last_reason": "rejected",
    "last_http_status": 422,
    "updated": "2025-06-15T15:21:40.123Z",
    "note": None,
    "discarded_by": None,
}
ATTEMPT = {
    "number": 1,
    "at": "2025-06-15T15:06:41.5Z",
    "reason": "connect",
    "http_status": None,
    "duration_ms": None,
    "error": "Connection refused",
    "reply": None,
}
ATTEMPTS = [
    ATTEMPT,
    ATTEMPT
    | {"number": 2, "http_status": 422, "duration_ms": 38, "error": None}
    | {"reason": "rejected", "reply": "\r\n <p>no\x1b[31m customer</p>\nsecond line" + "x" * 900},
]
EVENT = {
    "id": ID,
    "source": "shop",
    "provider": "mando",
    "external_id": "evt_1",
    "type": "sale.created",
    "time": "2025-06-15T15:06:40Z",
    "received": "2025-06-15T15:06:40.5Z",
    "subject": None,
    "account": None,
    "deliveries": {"pending": 1, "delivered": 0, "dead": 2},
}
NOTHING: dict[str, Any] = {"events": [], "cursor": None, "searched_to": None}
SHOWN = EVENT | {
    "content_type": "application/json",
    "verified": {"by": "HMAC-SHA256", "secret": "file:/run/shop\x1b[2J"},
    "stored": "2025-06-15T15:06:40.504Z",
    "headers": [["user-agent", "Mando/1\x1b[2J"]],
    "body": '{"note":\t"' + "x" * 2000 + '\x1b[31m"}\n',
    "deliveries": [
        DEAD | {"attempts_made": 5, "attempts": ATTEMPTS},
        DEAD
        | {"destination": "ledger", "status": "pending", "attempts_made": 1, "attempts": []}
        | {"due": "2025-06-15T15:30:00Z"}
        | {"last_reason": None, "last_http_status": None},
    ],
}


class ScriptedApi:
    """Gives scripted answers and records the requests."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: deque[tuple[int, Any]] = deque()
        self.file = directory / "gateway.yaml"
        self.file.write_text(CONFIG)

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append((request.method, str(request.rel_url), json.loads(body) if body else None))
        status, answer = self.answers.popleft()
        return web.json_response(answer, status=status)

    async def run(self, *arguments: str, answers: list[Any] | None = None) -> Result:
        """Run a command against the API, which gives these answers: 200, or (status, answer)."""
        self.asked.clear()
        self.answers = deque(one if isinstance(one, tuple) else (200, one) for one in answers or [])
        where = ("--operator", self.url, "-c", str(self.file))
        # In a thread: the command runs an event loop of its own.
        return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, *where])


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ScriptedApi]:
    """Run the API."""
    made_up = ScriptedApi(tmp_path)
    runner = await made_up.start()
    yield made_up
    await runner.cleanup()


def refusal(status: int, message: str) -> tuple[int, Any]:
    return status, {"error": {"code": "x", "message": message}}


async def test_dead_letters_are_a_table(api: ScriptedApi) -> None:
    unreachable = DEAD | {"last_reason": "connect", "last_http_status": None}
    result = await api.run(
        *("dead", "--destination", "billing", "--type", "sale.*", "--limit", "2"),
        answers=[{"deliveries": [DEAD, unreachable], "cursor": "abc"}],
    )

    assert result.exit_code == 0, result.output
    asked = "/api/v1/deliveries?status=dead&limit=2&destination=billing&type=sale.*"
    assert api.asked == [("GET", asked, None)]
    head, row, other, more = result.stdout.splitlines()
    assert head.split() == ["id", "dead", "since", "type", "attempts", "last", "outcome", "meaning"]
    assert row.startswith(f"{ID}:billing  2025-06-15T15:21:40Z  sale.created")
    assert row.endswith("5         rejected 422  refused by the app")
    assert other.endswith("5         connect       no connection")
    assert more == "more: --cursor abc"


async def test_changes_are_a_table(api: ScriptedApi) -> None:
    change = {"at": "2025-06-15T15:06:40.5Z", "who": "alice", "role": "operate", "count": 2}
    replayed = {"event_id": ID, "destinations": ["billing", "ledger"]}
    retried = {"filter": {"type": "sale.*"}, "destinations": ["billing"]}
    rows = [
        change | {"action": "replay", "what": replayed},
        change | {"action": "retry", "what": retried},
        change | {"action": "pause", "what": {"destination": "x\x1b[2J"}},
    ]
    result = await api.run(
        *("audit", "--who", "alice", "--since", "2d"), answers=[{"audit": rows, "cursor": None}]
    )

    assert result.exit_code == 0, result.output
    assert api.asked == [("GET", "/api/v1/audit?limit=50&who=alice&since=2d", None)]
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["at", "who", "role", "action", "count", "what"],
        [
            *("2025-06-15T15:06:40Z", "alice", "operate", "replay", "2"),
            *(f"event_id={ID}", "destinations=billing,ledger"),
        ],
        [
            *("2025-06-15T15:06:40Z", "alice", "operate", "retry", "2"),
            *('filter={"type":', '"sale.*"}', "destinations=billing"),
        ],
        ["2025-06-15T15:06:40Z", "alice", "operate", "pause", "2", r"destination=x\x1b[2J"],
    ]


async def test_no_changes_are_one_line_and_json_is_the_answer(api: ScriptedApi) -> None:
    answer: dict[str, Any] = {"audit": [], "cursor": None}
    table = await api.run("audit", answers=[answer])
    as_json = await api.run("audit", "--action", "pause", "--json", answers=[answer])

    assert table.stdout == "no changes\n"
    assert json.loads(as_json.stdout) == answer


def test_the_audit_can_be_filtered_by_every_action() -> None:
    command = cast("Any", main.get_command(click.Context(main), "audit"))
    (option,) = (one for one in command.params if one.name == "action")
    assert set(option.type.choices) == set(get_args(Action))


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


async def test_tables_have_at_most_100_cells_and_escape_control_characters(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatehouse.cli.output.is_terminal", lambda: True)
    wide = EVENT | {"type": "請求書" * 40, "subject": "\x1b]0;owned\x07\u202e" + "s" * 900}
    result = await api.run("events", answers=[{"events": [EVENT, wide], "cursor": None}])

    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert max(map(cell_len, lines)) <= 100
    assert all(line.startswith(ID) for line in lines[1:])
    assert "…" in lines[2]
    assert "\\x1b]0;" in lines[2]
    assert "1 pending, 2 dead" in lines[1]
    assert not {"\x1b", "\x07", "\u202e"} & set(result.stdout)


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


@pytest.mark.case("F-54")
async def test_without_a_terminal_no_column_is_shortened(api: ScriptedApi) -> None:
    wide = EVENT | {"id": "01JD" + "9" * 22, "type": "t" * 90, "subject": "s" * 900, "source": "shop" * 16}
    events = await api.run("events", answers=[{"events": [EVENT, wide], "cursor": None}])
    (line,) = [line for line in events.stdout.splitlines() if str(wide["id"]) in line]
    assert line.split() == [
        *(wide["id"], "2025-06-15T15:06:40Z", "shop" * 16, "t" * 90, "s" * 900),
        *("1", "pending,", "2", "dead"),
    ]
    dead = await api.run("dead", answers=[{"deliveries": [DEAD | {"type": "t" * 300}], "cursor": None}])
    assert "t" * 300 in dead.stdout


@pytest.mark.case("F-54")
@pytest.mark.parametrize(
    ("command", "answer", "expected"),
    [
        ("events", {"events": [EVENT, EVENT | {"id": "02"}]}, [ID]),
        ("replay", {"events": [EVENT]}, [ID]),
        ("retry", {"deliveries": [DEAD]}, [f"{ID}:billing"]),
    ],
)
async def test_ids_from_the_running_gateway_are_completed(
    api: ScriptedApi, command: str, answer: dict[str, Any], expected: list[str]
) -> None:
    api.answers = deque([(200, answer)])
    words = f"gatehouse {command} --operator {api.url} -c {api.file} 01"
    environment = {
        "_GATEHOUSE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    result = await asyncio.to_thread(
        lambda: CliRunner(env=environment).invoke(
            main, prog_name="gatehouse", complete_var="_GATEHOUSE_COMPLETE"
        )
    )

    assert [line.partition(",")[2] for line in result.stdout.splitlines() if line] == expected


def test_control_characters_are_escaped() -> None:
    assert visible("a\x1b[0m\r\x00é\u202e\ud800") == "a\\x1b[0m\\r\\x00é\\u202e\\ud800"
    assert visible("日本 plain") == "日本 plain"


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


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("events", "--json"), {"events": [EVENT], "cursor": None}),
        (("events", ID, "--json"), SHOWN),
        (("dead", "--json"), {"deliveries": [DEAD], "cursor": None}),
    ],
)
async def test_json_output_is_the_answer_of_the_api(
    api: ScriptedApi, arguments: tuple[str, ...], answer: dict[str, Any]
) -> None:
    result = await api.run(*arguments, answers=[answer])

    assert json.loads(result.stdout) == answer


async def test_an_empty_list_says_so(api: ScriptedApi) -> None:
    nothing: list[Any] = []
    dead = await api.run("dead", answers=[{"deliveries": nothing, "cursor": None}])
    events = await api.run("events", answers=[{"events": nothing, "cursor": None}])
    not_yet = await api.run("dead", answers=[{"deliveries": nothing, "cursor": "abc"}])

    assert [dead.stdout, events.stdout] == ["no dead letters\n", "no events\n"]
    assert not_yet.stdout == "none on this page\nmore: --cursor abc\n"


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("dead", "--destination", "biling"), {"deliveries": [], "cursor": None}),
        (("retry", "--source", "shpo"), {"retried": {}, "done": True, "as_of": "2025-06-15T15:06:40Z"}),
        (("events", "--source", "shpo"), {"events": [], "cursor": None}),
    ],
)
async def test_an_unknown_name_without_results_is_an_error(
    api: ScriptedApi, arguments: tuple[str, ...], answer: dict[str, Any]
) -> None:
    result = await api.run(*arguments, answers=[answer])

    assert (result.exit_code, result.stdout) == (1, "")
    assert f'unknown {arguments[1].removeprefix("--")} "{arguments[2]}"' in result.stderr
    assert "did you mean" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry",),
        ("retry", f"{ID}:billing", "--all"),
        ("retry", f"{ID}:billing", "--destination", "billing"),
        ("retry", f"{ID}:billing", "--dry-run"),
        ("retry", "--dry-run"),
        ("retry", "--all", "--source", "shop"),
        ("retry", "--list", "--source", "shop"),
        ("replay",),
        ("replay", ID, "--list"),
        ("replay", "--all", "--stop", ID),
        ("pause",),
        ("resume",),
        ("events", ID, "--source", "shop"),
        ("events", "--limit", "501"),
        ("dead", "--limit", "-1"),
        ("events", "--status", "gone"),
    ],
)
async def test_usage_errors_exit_2_without_a_request(api: ScriptedApi, arguments: tuple[str, ...]) -> None:
    result = await api.run(*arguments)

    assert result.exit_code == 2
    assert api.asked == []


async def test_retry_repeats_with_the_time_of_the_first_step_until_it_is_done(api: ScriptedApi) -> None:
    first = {"retried": {"billing": 400, "ledger": 100}, "done": False, "as_of": "2025-06-15T15:06:40Z"}
    last = {"retried": {"billing": 7}, "done": True, "as_of": "2025-06-15T15:06:40Z"}
    result = await api.run("retry", "--type", "sale.*", answers=[first, first, last])

    assert result.stdout == "billing  807 retried\nledger  200 retried\n"
    assert result.stderr == ""
    where = "/api/v1/deliveries/retry"
    again = {"type": "sale.*", "as_of": "2025-06-15T15:06:40Z"}
    assert api.asked == [("POST", where, {"type": "sale.*"}), ("POST", where, again), ("POST", where, again)]


async def test_a_dry_run_counts_page_by_page(api: ScriptedApi) -> None:
    result = await api.run(
        *("retry", "--all", "--dry-run"),
        answers=[
            {"would_retry": {"billing": 500}, "cursor": "abc"},
            {"would_retry": {"billing": 3}, "cursor": None},
        ],
    )

    assert result.stdout == "billing  503 would be retried\n"
    assert [body for _, _, body in api.asked] == [
        {"all": True, "dry_run": True},
        {"all": True, "dry_run": True, "cursor": "abc"},
    ]


async def test_a_retry_of_nothing_says_so(api: ScriptedApi) -> None:
    answer = {"retried": {}, "done": True, "as_of": "2025-06-15T15:06:40Z"}
    result = await api.run("retry", "--all", answers=[answer])
    as_json = await api.run("retry", "--all", "--json", answers=[answer])

    assert (result.exit_code, result.stdout) == (0, "no dead letters match\n")
    assert json.loads(as_json.stdout) == {"retried": {}}


async def test_progress_is_shown_on_terminals(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatehouse.cli.retry._is_watched", lambda: True)
    first = {"retried": {"billing": 500}, "done": False, "as_of": "2025-06-15T15:06:40Z"}
    result = await api.run("retry", "--all", answers=[first, first | {"done": True}])

    assert result.stderr == "\r\x1b[K500 so far …\r\x1b[K"
    assert result.stdout == "billing  1000 retried\n"


async def test_ids_are_retried_one_by_one_even_if_one_is_refused(api: ScriptedApi) -> None:
    result = await api.run(
        *("retry", "A:billing", "B:billing", "C:billing", "A:billing"),
        answers=[
            {"retried": {"billing": 1}, "done": True},
            refusal(404, "no delivery has this id, or it is no longer kept"),
            {"retried": {}, "done": True},
        ],
    )

    assert result.exit_code == 1
    assert result.stdout == "A:billing  retried\nC:billing  unchanged: not a dead letter\n"
    assert "Error: B:billing: " in result.stderr
    assert "no delivery has this id" in result.stderr
    assert [path for _, path, _ in api.asked] == [f"/api/v1/deliveries/{x}:billing/retry" for x in "ABC"]


async def test_replay_reports_replayed_and_unchanged_deliveries(api: ScriptedApi) -> None:
    result = await api.run(
        *("replay", "A", "B/..", "--to", "billing", "--to", "ledger", "--yes"),
        answers=[
            {"id": "A", "replayed": ["billing"], "left_alone": ["ledger"]},
            {"id": "B/..", "replayed": ["billing", "ledger"], "left_alone": []},
        ],
    )

    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "A  to billing; unchanged, since pending or replayed in the last 10 seconds: ledger\n"
        "B/..  to billing, ledger\n"
    )
    assert api.asked[0] == ("POST", "/api/v1/events/A/replay", {"destinations": ["billing", "ledger"]})
    assert api.asked[1][1] == "/api/v1/events/B%2F../replay"


@pytest.mark.case("F-56")
async def test_replay_to_a_destination_without_a_route_needs_confirmation(api: ScriptedApi) -> None:
    routed = SHOWN | {"routed": ["billing"]}
    replayed = {"id": ID, "replayed": ["billing"], "left_alone": []}

    refused = await api.run("replay", ID, "--to", "billing", "--to", "ledger", answers=[routed])
    asked_then = list(api.asked)
    fine = await api.run("replay", ID, "--to", "billing", answers=[routed, replayed])
    forced = await api.run("replay", ID, "--to", "ledger", "--yes", answers=[replayed])

    assert refused.exit_code == 2
    assert f"no route sends {ID} (sale.created from shop) to ledger; nothing was replayed" in refused.stderr
    assert "--yes" in refused.stderr
    assert [method for method, *_ in asked_then] == ["GET"]
    assert (fine.exit_code, forced.exit_code) == (0, 0), fine.output + forced.output
    assert api.asked[-1][0] == "POST"


async def test_pause_and_resume_print_the_new_state(api: ScriptedApi) -> None:
    state = {"name": "billing", "paused": True, "not_ready": None, "pending": 3, "dead": 1}
    paused = await api.run("pause", "billing", answers=[state])
    resumed = await api.run("resume", "billing", answers=[state | {"paused": False}])
    as_json = await api.run("pause", "billing", "--json", answers=[state])

    assert paused.stdout == "billing  paused, 3 pending, 1 dead\n"
    assert resumed.stdout == "billing  delivering, 3 pending, 1 dead\n"
    assert json.loads(as_json.stdout) == state


async def test_pausing_an_unknown_destination_lists_the_known_ones(api: ScriptedApi) -> None:
    missing = refusal(404, "no destination has this name")
    result = await api.run("pause", "biling", answers=[missing])
    not_yet = await api.run("pause", "billing", answers=[missing])

    assert result.exit_code == 1
    assert 'Try: did you mean "billing"?' in result.stderr
    assert "gatehouse reload" in not_yet.stderr


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(401, "send the operator token as a bearer token"), "operator.token"),
        (refusal(403, "this needs a token with the role operate"), "set a token with the role operate"),
        (refusal(429, "too many wrong tokens came from this address"), "wait a minute"),
        (refusal(503, "the store does not answer"), "run the command again"),
        ((500, {}), "answered 500\n"),
        ((200, []), "is not the operator listener of a gateway"),
    ],
)
async def test_an_error_that_concerns_every_id_ends_the_command(
    api: ScriptedApi, answer: tuple[int, Any], said: str
) -> None:
    result = await api.run("replay", "A", "B", answers=[answer])

    assert result.exit_code == 1
    assert said in result.stderr
    assert len(api.asked) == 1
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("name", ["events", "dead", "retry", "replay", "pause", "resume"])
async def test_help_says_what_each_command_does(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"], terminal_width=100)

    assert result.exit_code == 0
    assert "--operator URL" in result.stdout
    assert "--json" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100

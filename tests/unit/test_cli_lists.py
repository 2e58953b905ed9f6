"""The lists that commands print from a scripted API: tables, pages, JSON, and completion."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any, cast, get_args

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from doubles.operator_api import DEAD, EVENT, ID, SHOWN, ScriptedApi
from gatehouse.cli import main
from gatehouse.cli.output import visible
from gatehouse.store.records import Action


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


async def test_operations_are_a_table(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatehouse.cli.output.is_terminal", lambda: True)
    running = {
        "id": ID,
        "state": "running",
        "total": 1204,
        "done": 400,
        "failed": 2,
        "rate": "50/s",
        "started": "2025-06-15T15:06:40.5Z",
        "ended": None,
        "by": "ci",
        "filter": {"source": "shop", "until": "2025-06-15T15:06:40.5Z"},
        "to": ["billing"],
        "waiting_for": ["billing"],
    }
    stopped = running | {"state": "cancelled", "to": None, "failed": 0, "filter": {}, "waiting_for": []}
    answer = {"retries": [running, stopped]}
    listed = await api.run("retry", "--list", answers=[answer])
    as_json = await api.run("retry", "--list", "--json", answers=[answer])
    empty = await api.run("replay", "--list", answers=[{"replays": []}])

    assert api.asked == [("GET", "/api/v1/replays", None)]
    _, first, second = listed.stdout.splitlines()
    start = f"{ID}  2025-06-15T15:06:40Z  ci  "
    assert first.startswith(f"{start}waiting  402 of 1,204, 2 failed  50/s")
    assert second.startswith(f"{start}stopped  400 of 1,204            50/s")
    assert cell_len(first) <= 100
    assert json.loads(as_json.stdout) == answer
    assert empty.stdout == "no replays\n"


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

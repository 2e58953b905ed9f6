"""The commands `retry`, `replay`, `pause` and `resume` against a scripted API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from doubles.operator_api import ID, SHOWN, ScriptedApi, refusal
from gatehouse.cli import main


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

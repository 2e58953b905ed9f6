"""Retry, replay and pause over the operator API and its commands, against a running gateway."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from doubles.destination import ScriptedDestination, once, status
from gateways import CONFIG, RunGateway
from operating import DEAD, PAUSED, PENDING, Operator, make_dead_letters, run


@pytest.mark.case("O-14")
async def test_dead_letters_are_listed_shown_and_retried(
    operator: Operator, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    first, second, third = await make_dead_letters(operator, destination, 3)
    listed = await operator.run("dead")
    assert listed.exit_code == 0, listed.output
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [
        *(f"{third}:app", f"{second}:app", f"{first}:app"),
    ]
    assert listed.stdout.count("gone 410") == 3
    _, counted = await operator.get("/api/v1/deliveries/dead?source=mando&type=sale.*&destination=app")
    (group,) = counted["groups"]
    assert (group["destination"], group["reason"], group["http_status"], group["count"]) == (
        *("app", "gone", 410),
        3,
    )
    events = (await operator.get("/api/v1/events"))[1]["events"]
    assert [group["newest"], group["oldest"]] == [events[0]["received"], events[-1]["received"]]
    assert (counted["cursor"], counted["searched_to"]) == (None, None)
    for query in ("status=dead", "cursor=x", "type="):
        assert (await operator.get(f"/api/v1/deliveries/dead?{query}"))[0] == 400
    shown = await operator.run("events", second)
    assert "delivery     app: dead, 1 attempt, gone 410\n" in shown.stdout
    assert '"id": "evt_1"' in shown.stdout

    retried = await operator.run("retry", f"{second}:app")
    assert retried.stdout == f"{second}:app  retried\n"
    received = await destination.wait_for(4)
    assert (received[3].event_id, received[3].attempt) == (second, 2)
    await operator.until(DEAD, 2)
    again = await operator.run("retry", f"{second}:app")
    assert (again.exit_code, again.stdout) == (0, f"{second}:app  unchanged: not a dead letter\n")

    counted = await operator.run("retry", "--type", "sale.*", "--dry-run")
    assert counted.stdout == "app  2 would be retried\n"
    assert (await operator.run("dead", "--json")).stdout.count('"status": "dead"') == 2
    everything = await operator.run("retry", "--type", "sale.*")
    assert everything.stdout == "app  2 retried\n"
    received = await destination.wait_for(6)
    assert {one.event_id for one in received[4:]} == {first, third}
    await operator.until(DEAD, 0)
    assert (await operator.run("retry", "--all")).stdout == "no dead letters match\n"
    assert len(destination.requests) == 6
    said = [json.loads(line) for line in logged.getvalue().splitlines() if "deliveries.retried" in line]
    assert [(line["destinations"], line["count"]) for line in said] == [(["app"], 1), (["app"], 2)]


async def test_a_retry_of_all_ends_even_if_all_become_dead_again(
    operator: Operator, destination: ScriptedDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_dead_letters(operator, destination, 6)
    destination.always(status(410))
    monkeypatch.setattr("gatehouse.operator.records.RETRY_STEP", 2)

    async with asyncio.timeout(10):
        result = await operator.run("retry", "--all")

    assert result.stdout == "app  6 retried\n"
    await destination.wait_for(12)
    await operator.until(DEAD, 6)
    assert len(destination.requests) == 12


async def test_dead_letters_of_a_removed_destination_are_shown_and_stay(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    async with run(run_gateway, destination, tmp_path) as operator:
        (event_id,) = await make_dead_letters(operator, destination, 1)
    text = CONFIG.replace("app:", "other:").replace("to: app", "to: other").format(url=destination.url)
    (tmp_path / "gateway.yaml").write_text(text)
    async with run_gateway(text) as running:
        operator = Operator(running, tmp_path / "gateway.yaml")
        assert f"{event_id}:app" in (await operator.run("dead", "--destination", "app")).stdout
        retried = await operator.run("retry", f"{event_id}:app")
        assert (retried.exit_code, retried.stdout) == (1, "")
        assert "the config has no destination 'app'; it has: other" in retried.stderr
        assert (await operator.run("retry", "--all", "--dry-run")).stdout == "no dead letters match\n"
        assert (await operator.run("retry", "--all")).stdout == "no dead letters match\n"
        code, answer = await operator.post(f"/api/v1/events/{event_id}/replay")
        assert (code, "name the destinations" in answer["error"]["message"]) == (400, True)

        replayed = await operator.run("replay", event_id, "--to", "other")
        assert replayed.stdout == f"{event_id}  to other\n"
        assert [one.event_id for one in await destination.wait_for(2)] == [event_id] * 2
        await operator.until(("gatehouse_deliveries_pending", "other"), 0)


@pytest.mark.case("O-14")
async def test_two_operators_at_once_cause_one_more_delivery(
    operator: Operator, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    event_id = await operator.send(1)
    await destination.wait_for(1)
    await operator.until(PENDING, 0)

    path = f"/api/v1/events/{event_id}/replay"
    answers = [await operator.post(path)]
    await destination.wait_for(2)
    await operator.until(PENDING, 0)  # already delivered when the others arrive
    answers += await asyncio.gather(*(operator.post(path) for _ in range(8)))

    assert [code for code, _ in answers] == [200] * 9
    assert [answer["replayed"] for _, answer in answers] == [["app"], *([[]] * 8)]
    assert [answer["left_alone"] for _, answer in answers] == [[], *([["app"]] * 8)]
    said = await operator.run("replay", event_id)
    assert said.stdout == f"{event_id}  unchanged, since pending or replayed in the last 10 seconds: app\n"
    assert [one.event_id for one in destination.requests] == [event_id] * 2
    assert logged.getvalue().count('"event":"event.replayed"') == 1


@pytest.mark.case("O-14")
async def test_concurrent_replays_cause_one_more_delivery(
    operator: Operator, destination: ScriptedDestination
) -> None:
    event_id = await operator.send(1)
    await destination.wait_for(1)
    await operator.until(PENDING, 0)

    said = await asyncio.gather(*(operator.run_apart("replay", event_id) for _ in range(3)))

    assert sorted(said) == [
        f"{event_id}  to app\n",
        f"{event_id}  unchanged, since pending or replayed in the last 10 seconds: app\n",
        f"{event_id}  unchanged, since pending or replayed in the last 10 seconds: app\n",
    ]
    await destination.wait_for(2)
    await operator.until(PENDING, 0)
    assert len(destination.requests) == 2


async def test_a_pending_delivery_is_not_replayed(
    operator: Operator, destination: ScriptedDestination
) -> None:
    go = asyncio.Event()
    destination.script(once(go, status(200)))
    event_id = await operator.send(1)
    await destination.wait_for(1)

    answer = await operator.post(f"/api/v1/events/{event_id}/replay")
    assert answer == (200, {"id": event_id, "replayed": [], "left_alone": ["app"]})
    go.set()
    await operator.until(PENDING, 0)
    # It was ignored, so the next request is the first one.
    assert (await operator.post(f"/api/v1/events/{event_id}/replay"))[1]["replayed"] == ["app"]
    await destination.wait_for(2)
    await operator.until(PENDING, 0)


async def test_a_paused_destination_gets_nothing_until_it_is_resumed(
    operator: Operator, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    paused = await operator.run("pause", "app")
    assert (paused.exit_code, paused.stdout) == (0, "app  paused, 0 pending, 0 dead\n")
    assert (await operator.run("pause", "app")).stdout == "app  paused, 0 pending, 0 dead\n"
    ids = [await operator.send(number) for number in range(3)]
    await operator.until(PENDING, 3)
    assert (await operator.running.metrics())[PAUSED] == 1
    (state,) = (await operator.get("/api/v1/destinations"))[1]["destinations"]
    assert (state["name"], state["paused"], state["pending"]) == ("app", True, 3)
    assert destination.requests == []

    assert (await operator.run("resume", "app")).stdout == "app  delivering, 3 pending, 0 dead\n"
    assert sorted(one.event_id for one in await destination.wait_for(3)) == sorted(ids)
    await operator.until(PENDING, 0)
    assert (await operator.running.metrics())[PAUSED] == 0
    assert '"event":"destination.paused","destination":"app"' in logged.getvalue()
    assert '"event":"destination.resumed","destination":"app"' in logged.getvalue()


async def test_a_destination_stays_paused_over_a_restart(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    async with run(run_gateway, destination, tmp_path) as operator:
        assert (await operator.post("/api/v1/destinations/app/pause"))[0] == 200
        event_id = await operator.send(1)
    async with run(run_gateway, destination, tmp_path) as operator:
        assert (await operator.running.metrics())[PAUSED] == 1
        await operator.until(PENDING, 1)
        other = await operator.send(2)
        await operator.until(PENDING, 2)
        assert destination.requests == []

        assert (await operator.post("/api/v1/destinations/app/resume"))[0] == 200
        received = await destination.wait_for(2)
        assert {one.event_id for one in received} == {event_id, other}
        await operator.until(PENDING, 0)


@pytest.mark.parametrize(
    ("path", "body", "code", "said"),
    [
        ("/api/v1/events/nope/replay", None, 404, "no event has this id"),
        ("/api/v1/deliveries/nope:app/retry", None, 404, "no delivery has this id"),
        ("/api/v1/deliveries/nope/retry", None, 400, "a colon"),
        ("/api/v1/deliveries/retry", None, 400, "all"),
        ("/api/v1/deliveries/retry", [], 400, "JSON object"),
        ("/api/v1/deliveries/retry", {"destination": "ap"}, 400, "no destination 'ap'"),
        ("/api/v1/deliveries/retry", {"all": True, "dry_run": True, "cursor": "made-up"}, 400, "cursor"),
        ("/api/v1/deliveries/retry", {"destinations": "app"}, 400, "unknown filter"),
        ("/api/v1/destinations/ap/pause", None, 404, "no destination has this name"),
        ("/api/v1/destinations/%FF/resume", None, 404, "no destination has this name"),
        ("/api/v1/events/x%00y/replay", None, 400, "one line"),
        ("/api/v1/deliveries/retry", {"source": "x" * 70_000}, 413, "Too Large"),
    ],
)
async def test_an_impossible_change_is_refused_with_its_reason(
    operator: Operator, path: str, body: Any, code: int, said: str
) -> None:
    got, answer = await operator.post(path, body)

    assert got == code
    assert said in answer["error"]["message"]


async def test_an_event_is_replayed_to_configured_destinations_only(operator: Operator) -> None:
    event_id = await operator.send(1)
    code, answer = await operator.post(f"/api/v1/events/{event_id}/replay", {"destinations": ["ledger"]})

    assert (code, answer["error"]["message"]) == (
        400,
        "the config has no destination 'ledger'; it has: app",
    )


async def test_a_locked_store_is_503_for_operators_too(
    operator: Operator, destination: ScriptedDestination, tmp_path: Path
) -> None:
    event_id = await operator.send(1)
    await destination.wait_for(1)
    await operator.until(PENDING, 0)
    lock = sqlite3.connect(tmp_path / "gatehouse.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    code, answer = await operator.post("/api/v1/destinations/app/pause")
    replayed = await operator.post(f"/api/v1/events/{event_id}/replay")
    lock.execute("ROLLBACK")
    lock.close()

    assert (code, answer["error"]["code"]) == (503, "unavailable")
    assert replayed[0] == 503
    assert (await operator.running.metrics())[PAUSED] == 0
    # It had no effect, so it can be repeated at once.
    assert (await operator.post(f"/api/v1/events/{event_id}/replay"))[1]["replayed"] == ["app"]
    await operator.until(PENDING, 0)

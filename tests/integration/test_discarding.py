"""Dead letters are discarded over the API and with the command, against a running gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gatehouse.cli import main
from gatehouse.errors import StoreUnavailableError
from gatehouse.store.records import DeliveryQuery, Retried
from gatehouse.store.sqlite import SqliteStore
from gateways import CONFIG, RunGateway, Running

DEAD = ("gatehouse_deliveries_dead", "app")
PATH = "/api/v1/deliveries/discard"


async def ask(running: Running, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with running.client.request(method, running.operator_url + path, json=body) as answer:
        return answer.status, await answer.json()


async def run(running: Running, folder: Path, *arguments: str) -> Result:
    file = folder / "gateway.yaml"
    file.write_text(CONFIG.format(url="http://127.0.0.1:1/"))
    where = ("--operator", running.operator_url, "-c", str(file))
    return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, *where])


async def make_dead_letters(running: Running, destination: ScriptedDestination, count: int) -> list[str]:
    destination.always(status(410))
    ids = []
    for number in range(count):
        body = providers.body(id=f"evt_{number}", type="sale.created")
        ids.append(str((await running.send("mando", body, providers.mando(body)))[1]["id"]))
    await running.until(DEAD, count)
    destination.always(status(200))
    return ids


async def test_dead_letters_are_discarded_by_id(running: Running, destination: ScriptedDestination) -> None:
    first, second = await make_dead_letters(running, destination, 2)
    body = {"ids": [f"{first}:app"], "note": "nobody needs it"}
    assert await ask(running, "POST", PATH, body) == (200, {"discarded": {"app": 1}, "done": True})
    assert await ask(running, "POST", PATH, body) == (200, {"discarded": {}, "done": True})

    _, listed = await ask(running, "GET", "/api/v1/deliveries?status=dead")
    assert [each["event_id"] for each in listed["deliveries"]] == [second]
    assert (await running.metrics())[DEAD] == 1
    _, shown = await ask(running, "GET", f"/api/v1/events/{first}")
    (delivery,) = shown["deliveries"]
    assert (delivery["status"], delivery["note"]) == ("discarded", "nobody needs it")
    assert delivery["discarded_by"] == "local"
    _, changes = await ask(running, "GET", "/api/v1/audit")
    (entry,) = changes["audit"]
    assert (entry["action"], entry["count"]) == ("discard", 1)
    assert entry["what"]["note"] == "nobody needs it"


async def test_a_discarded_event_can_be_replayed(running: Running, destination: ScriptedDestination) -> None:
    (only,) = await make_dead_letters(running, destination, 1)
    await ask(running, "POST", PATH, {"filter": {"destination": "app"}, "note": "by mistake"})
    code, answer = await ask(running, "POST", f"/api/v1/events/{only}/replay", {"destinations": ["app"]})
    assert (code, answer["replayed"]) == (200, ["app"])
    assert (await destination.wait_for(2))[1].event_id == only
    await running.until(("gatehouse_deliveries_total", "app", "delivered"), 1)


async def test_the_command_discards_and_shows_what_was_discarded(
    running: Running, destination: ScriptedDestination, tmp_path: Path
) -> None:
    first, _, _ = await make_dead_letters(running, destination, 3)
    one = await run(running, tmp_path, "discard", f"{first}:app", "--note", "of a test")
    assert (one.exit_code, one.stdout) == (0, "app  1 discarded\n")
    shown = await run(running, tmp_path, "events", first)
    assert "delivery     app: discarded, 1 attempt, gone 410, by local: of a test\n" in shown.stdout

    asked = await run(running, tmp_path, "discard", "--type", "sale.*", "--note", "of a test")
    assert asked.exit_code == 2
    assert "2 dead letters match; nothing was discarded. Add --yes to discard them" in asked.stderr
    rest = await run(
        running, tmp_path, "discard", "--type", "sale.*", "--note", "of a test", "--yes", "--json"
    )
    assert (rest.exit_code, rest.stdout) == (0, '{\n  "discarded": {\n    "app": 2\n  }\n}\n')
    none = await run(running, tmp_path, "discard", "--type", "sale.*", "--note", "of a test")
    assert (none.exit_code, none.stdout) == (0, "no dead letters match\n")
    listed = await run(running, tmp_path, "events", "--status", "discarded")
    assert listed.stdout.count("1 discarded") == 3


async def test_a_note_and_a_choice_are_needed(running: Running, tmp_path: Path) -> None:
    without = await run(running, tmp_path, "discard", "--type", "sale.*")
    assert (without.exit_code, "Missing option '--note'" in without.stderr) == (2, True)
    neither = await run(running, tmp_path, "discard", "--note", "x")
    assert (neither.exit_code, "name either IDs or filters" in neither.stderr) == (2, True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"filter": {"destination": "app"}}, "give a note"),
        ({"filter": {"destination": "app"}, "note": ""}, "note must be one line"),
        ({"note": "x"}, "either ids or a filter"),
        ({"ids": ["a:b"], "filter": {"destination": "app"}, "note": "x"}, "either ids or a filter"),
        ({"filter": {}, "note": "x"}, "at least one filter"),
        ({"filter": {"limit": 3}, "note": "x"}, "unknown filter"),
        ({"filter": {"status": "pending"}, "note": "x"}, "only dead deliveries"),
        ({"ids": [], "note": "x"}, "ids must be a list"),
        ({"ids": ["no-colon"], "note": "x"}, "a delivery id is"),
        ({"ids": ["a:b"], "note": "x", "reason": "y"}, "unknown member"),
    ],
)
async def test_a_wrong_request_discards_nothing(running: Running, body: Any, message: str) -> None:
    code, answer = await ask(running, "POST", PATH, body)
    assert code == 400
    assert message in answer["error"]["message"]


async def test_dead_letters_of_a_destination_that_is_gone_are_discarded(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIG.format(url=destination.url)
    async with run_gateway(config) as running:
        await make_dead_letters(running, destination, 2)
    async with run_gateway(config.replace("app:", "new:").replace("to: app", "to: new")) as running:
        body = {"filter": {"destination": "app"}, "note": "it is gone"}
        assert await ask(running, "POST", PATH, body) == (200, {"discarded": {"app": 2}, "done": True})


async def test_what_was_discarded_before_the_store_failed_is_in_the_audit(
    running: Running, destination: ScriptedDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await make_dead_letters(running, destination, 2)
    discard, calls = SqliteStore.discard, 0

    async def fail_later(store: SqliteStore, query: DeliveryQuery, **given: Any) -> Retried:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise StoreUnavailableError("the disk is gone")
        return await discard(store, query, **given)

    monkeypatch.setattr(SqliteStore, "discard", fail_later)
    body = {"ids": [f"{first}:app", f"{second}:app"], "note": "nobody needs it"}
    assert (await ask(running, "POST", PATH, body))[0] == 503

    (entry,) = (await ask(running, "GET", "/api/v1/audit"))[1]["audit"]
    assert (entry["action"], entry["count"]) == ("discard", 1)

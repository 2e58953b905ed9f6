"""Audit entries over real sockets: each change of an operator is recorded, with who made it."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gatehouse.operator.audit import Change
from gatehouse.operator.tokens import Identity
from gatehouse.telemetry import log
from gatehouse.workers.api import record_change
from gateways import CONFIG, RunGateway, Running
from operators import ALICE, CI, OPERATOR, VALUES, WITH_TOKENS, ask, supervised


@pytest.fixture
async def running(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> AsyncIterator[Running]:
    """Run a gateway with three tokens, from a file that a reload can read."""
    config = WITH_TOKENS.format(url=destination.url)
    (tmp_path / "gateway.yaml").write_text(config)
    async with run_gateway(config, **VALUES) as gateway:
        yield gateway


async def audit(running: Running, query: str = "", url: str = "", **headers: str) -> list[dict[str, Any]]:
    """List the audit entries, without their times."""
    code, answer = await ask(running, "GET", f"/api/v1/audit{query}", headers or CI, url=url)
    assert code == 200, answer
    return [{name: value for name, value in entry.items() if name != "at"} for entry in answer["audit"]]


def changed(
    who: str, action: str, what: dict[str, Any], count: int = 1, role: str = "operate"
) -> dict[str, Any]:
    return {"who": who, "role": role, "action": action, "what": what, "count": count}


async def dead_letter(running: Running, destination: ScriptedDestination, number: int = 1) -> str:
    """Send an event that the destination refuses. Return its id when it is a dead letter."""
    destination.always(status(410))
    body = providers.body(id=f"evt_{number}", type="sale.created")
    _, answer = await running.send("mando", body, providers.mando(body))
    running.client.headers.update(OPERATOR)
    await running.until(("gatehouse_deliveries_dead", "app"), number)
    del running.client.headers["Authorization"]
    return str(answer["id"])


async def test_a_pause_and_a_resume_are_recorded(running: Running, logged: io.StringIO) -> None:
    await ask(running, "POST", "/api/v1/destinations/app/pause", ALICE)
    await ask(running, "POST", "/api/v1/destinations/app/resume", OPERATOR)

    assert await audit(running) == [
        changed("operator", "resume", {"destination": "app"}),
        changed("alice", "pause", {"destination": "app"}),
    ]
    log.flush()
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    line = next(line for line in lines if line["event"] == "operator.changed")
    assert (line["who"], line["role"], line["action"], line["count"]) == ("alice", "operate", "pause", 1)
    assert json.loads(line["what"]) == {"destination": "app"}


async def test_a_replay_is_recorded_with_its_destinations(
    running: Running, destination: ScriptedDestination
) -> None:
    event_id = await dead_letter(running, destination)
    destination.always(status(200))

    path = f"/api/v1/events/{event_id}/replay"
    await ask(running, "POST", path, ALICE)
    _, again = await ask(running, "POST", path, OPERATOR)

    assert again["left_alone"] == ["app"]
    assert await audit(running) == [
        changed("alice", "replay", {"event_id": event_id, "destinations": ["app"]})
    ]


async def test_retries_are_recorded_with_their_filters_and_numbers(
    running: Running, destination: ScriptedDestination
) -> None:
    first = await dead_letter(running, destination, 1)
    await dead_letter(running, destination, 2)
    await dead_letter(running, destination, 3)
    await ask(running, "POST", "/api/v1/destinations/app/pause", OPERATOR)

    filters = {"type": "sale.*", "since": "2020-01-01"}
    await ask(running, "POST", f"/api/v1/deliveries/{first}:app/retry", ALICE)
    await ask(running, "POST", "/api/v1/deliveries/retry", ALICE, filters | {"dry_run": True})
    await ask(running, "POST", "/api/v1/deliveries/retry", OPERATOR, filters)
    await ask(running, "POST", "/api/v1/deliveries/retry", OPERATOR, filters)

    of_filter = {"type": "sale.*", "since": "2020-01-01T00:00:00Z"}
    of_one = {"event_id": first, "destination": "app"}
    assert await audit(running, "?action=retry") == [
        changed("operator", "retry", {"filter": of_filter, "destinations": ["app"]}, 2),
        changed("alice", "retry", {"filter": of_one, "destinations": ["app"]}, 1),
    ]


async def test_a_reload_is_recorded_with_what_changed_and_a_refused_one_is_not(
    running: Running, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    good = file.read_text()
    file.write_text(good + "nonsense: true\n")
    assert (await ask(running, "POST", "/-/reload", ALICE))[0] == 400
    file.write_text(good.replace("app: {", "app: {concurrency: 2, "))
    assert (await ask(running, "POST", "/-/reload", ALICE))[0] == 200

    assert await audit(running) == [
        changed("alice", "reload", {"file": str(file), "destinations_changed": ["app"]})
    ]


async def test_a_reload_by_signal_is_recorded_under_the_name_of_the_signal(running: Running) -> None:
    await running.gateway.reload()

    ((entry),) = await audit(running)
    assert (entry["who"], entry["action"]) == ("SIGHUP", "reload")


async def test_without_tokens_changes_are_made_by_local(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        await ask(running, "POST", "/api/v1/destinations/app/pause", {})

        assert [entry["who"] for entry in await audit(running)] == ["local"]


async def test_refused_requests_are_not_recorded(running: Running) -> None:
    await ask(running, "POST", "/api/v1/destinations/app/pause", CI)
    await ask(running, "POST", "/api/v1/destinations/nothing/pause", ALICE)
    await ask(running, "POST", "/api/v1/events/nothing/replay", ALICE)

    assert await audit(running) == []


async def test_entries_are_filtered_and_paged(running: Running) -> None:
    for _ in range(2):
        await ask(running, "POST", "/api/v1/destinations/app/pause", ALICE)
        await ask(running, "POST", "/api/v1/destinations/app/resume", OPERATOR)

    assert len(await audit(running, "?who=alice")) == 2
    assert len(await audit(running, "?action=resume&since=1h")) == 2
    assert await audit(running, "?until=1h") == []
    _, first = await ask(running, "GET", "/api/v1/audit?limit=3", CI)
    _, second = await ask(running, "GET", f"/api/v1/audit?limit=3&cursor={first['cursor']}", CI)
    assert [entry["action"] for entry in first["audit"] + second["audit"]] == [
        "resume",
        "pause",
        "resume",
        "pause",
    ]
    assert second["cursor"] is None


@pytest.mark.parametrize("query", ["who=", "action=edit", "since=never", "limit=0", "cursor=x", "source=a"])
async def test_an_invalid_query_is_refused(running: Running, query: str) -> None:
    assert (await ask(running, "GET", f"/api/v1/audit?{query}", CI))[0] == 400


async def test_a_reload_works_without_the_store_and_is_then_only_in_the_log(
    running: Running, tmp_path: Path, logged: io.StringIO
) -> None:
    lock = sqlite3.connect(tmp_path / "gatehouse.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        assert (await ask(running, "POST", "/-/reload", ALICE))[0] == 200
        assert (await ask(running, "POST", "/api/v1/destinations/app/pause", ALICE))[0] == 503
        assert (await ask(running, "GET", "/healthz", {}))[0] == 200
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    log.flush()
    assert '"operator.changed"' in logged.getvalue()
    assert '"audit.not_stored"' in logged.getvalue()


async def test_a_worker_records_whom_the_supervisor_names(
    destination: ScriptedDestination, tmp_path: Path
) -> None:
    forged = {"Gatehouse-Operator": "operate mallory"}
    async with supervised(destination.url, tmp_path) as (running, url):
        await ask(running, "POST", "/api/v1/destinations/app/pause", ALICE | forged, url=url)

        assert await audit(running, url=url) == [changed("alice", "pause", {"destination": "app"})]
        assert (await ask(running, "POST", "/-/audit", ALICE, {}, url=url))[0] == 404


async def test_a_change_of_the_supervisor_is_recorded_once(
    destination: ScriptedDestination, tmp_path: Path
) -> None:
    async with supervised(destination.url, tmp_path) as (running, url):
        identity = Identity("alice", "operate")
        await record_change(running.workers, identity, Change("reload", {"file": "gateway.yaml"}))

        assert await audit(running, url=url) == [changed("alice", "reload", {"file": "gateway.yaml"})]


async def test_a_change_that_no_worker_can_record_is_in_the_log(logged: io.StringIO) -> None:
    await record_change([], Identity("alice", "operate"), Change("reload", {}))

    log.flush()
    assert '"operator.changed"' in logged.getvalue()
    assert '"audit.not_stored"' in logged.getvalue()

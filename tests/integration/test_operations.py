"""Replays and retries of many events, against a running gateway and a real destination."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

from conformance.builders import accept, arrival, event
from doubles import providers
from doubles.destination import ScriptedDestination, after, status
from doubles.providers import SECRET
from gatehouse.store.base import Reply, Store
from gatehouse.store.operations import PlanStep
from gatehouse.store.postgres import PostgresSettings, PostgresStore
from gatehouse.store.sqlite import SqliteStore
from gateways import CONFIG, SIGNING_SECRET, RunGateway, Running
from postgres_server import PASSWORD, Database
from processes import serving

T = TypeVar("T")

#: The time limit of one test's waits (seconds).
WITHIN = 60.0
SECRETS = {"SECRET": SECRET, "EINVOICE": "secret", "SIGNING": SIGNING_SECRET}
DONE = ("gatehouse_replay_events_total", "replay", "done")
PENDING = ("gatehouse_deliveries_pending", "app")
DELIVERED = Reply(200, None, b"")


async def fill(
    store: Store, number: int, *, ago: float, to: str = "app", kind: str = "sale.created"
) -> list[str]:
    """Store delivered events, received one millisecond after the other. Returns their ids."""
    first = time.time() - ago
    made = [
        event(b'{"id":"evt"}', source="mando", received=first + n / 1000, event_type=kind)
        for n in range(number)
    ]
    for start in range(0, number, 50):
        batch = (arrival(of=each, to=[to], reply=DELIVERED) for each in made[start : start + 50])
        await accept(store, *batch)
    await store.close()
    return [each.id for each in made]


async def sqlite(folder: Path) -> Store:
    return await SqliteStore.open(folder / "gatehouse.db")


async def until(found: Callable[[], Awaitable[T]]) -> T:
    """Ask again until the answer is true."""
    async with asyncio.timeout(WITHIN):
        while not (answer := await found()):  # noqa: ASYNC110 - as operators do
            await asyncio.sleep(0.02)
    return answer


async def until_each_arrived(destination: ScriptedDestination, number: int) -> None:
    async def have_arrived() -> bool:
        return len({each.event_id for each in destination.requests}) >= number

    await until(have_arrived)


class Operator:
    """Starts operations at a gateway, and watches them."""

    def __init__(self, running: Running, url: str = "") -> None:
        self.running = running
        self.url = url or running.operator_url

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.running.client.request(method, f"{self.url}/api/v1/{path}", json=body) as answer:
            return answer.status, await answer.json()

    async def start(self, kind: str = "replays", **body: Any) -> str:
        code, answer = await self.ask("POST", kind, body)
        assert code == 202, answer
        return str(answer["id"])

    async def show(self, started: str, kind: str = "replays") -> dict[str, Any]:
        code, answer = await self.ask("GET", f"{kind}/{started}")
        assert code == 200, answer
        found: dict[str, Any] = answer
        return found

    async def ended(self, started: str, kind: str = "replays") -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            shown = await self.show(started, kind)
            return None if shown["state"] == "running" else shown

        shown = await until(look)
        assert shown is not None
        return shown

    async def waits(self, started: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            shown = await self.show(started)
            return shown if shown["waiting_for"] else None

        shown = await until(look)
        assert shown is not None
        return shown


async def test_a_time_window_goes_to_one_destination_at_the_rate(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    store = await sqlite(tmp_path)
    wanted = await fill(store, 150, ago=7000)
    await fill(await sqlite(tmp_path), 30, ago=7300)
    await fill(await sqlite(tmp_path), 30, ago=100, kind="sale.closed")
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        operator = Operator(running)
        chosen: dict[str, Any] = {
            "filter": {"source": "mando", "type": "*.created", "since": "2h"},
            "to": ["app"],
        }
        plan = {
            "events": 150,
            "deliveries": 150,
            "by": {"source": {"mando": 150}, "type": {"sale.created": 150}, "destination": {"app": 150}},
        }
        assert await operator.ask("POST", "replays", chosen | {"dry_run": True}) == (200, plan)
        assert destination.requests == []

        started = await operator.start(**chosen, rate="50/s")
        received = await destination.wait_for(150, within=WITHIN)
        shown = await operator.ended(started)
        assert (await running.metrics())[DONE] == 150

    assert Counter(each.event_id for each in received) == Counter(wanted)
    assert (shown["state"], shown["total"], shown["done"], shown["failed"]) == ("done", 150, 150, 0)
    assert (shown["rate"], shown["by"], shown["to"]) == ("50/s", "local", ["app"])
    times = sorted(each.at for each in received)
    # The first step starts at once, and each one of 5 events takes 0.1 s.
    assert times[-1] - times[0] >= 149 / 50 - 0.3
    for late, early in ((times[n + 50], times[n]) for n in range(100)):
        assert late - early > 0.75, "more than 50 events within less than a second"


async def test_the_oldest_events_go_first_with_the_same_key_as_before(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    wanted = await fill(await sqlite(tmp_path), 10, ago=100)
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        operator = Operator(running)
        await operator.ended(await operator.start(filter={"since": "1h"}, rate="20/s"))
        received = await destination.wait_for(10)
    assert [each.event_id for each in received] == wanted


async def test_events_that_come_after_the_start_are_not_replayed(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    await fill(await sqlite(tmp_path), 20, ago=100)
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        operator = Operator(running)
        started = await operator.start(filter={"since": "1h"}, rate="20/s")
        body = providers.body(id="evt_new", type="sale.created")
        _, answer = await running.send("mando", body, providers.mando(body))
        assert (await operator.ended(started))["done"] == 20
        received = await destination.wait_for(21)
    assert Counter(each.event_id for each in received)[answer["id"]] == 1


async def test_a_stopped_replay_sends_nothing_more(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    await fill(await sqlite(tmp_path), 200, ago=100)
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        operator = Operator(running)
        started = await operator.start(filter={"since": "1h"}, to=["app"], rate="50/s")
        await destination.wait_for(20)
        code, shown = await operator.ask("DELETE", f"replays/{started}")
        assert (code, shown["state"]) == (200, "cancelled")
        # What was due already is delivered, and nothing else.
        await destination.wait_for(shown["done"])
        assert await operator.ask("DELETE", f"replays/{started}") == (200, shown)
        _, again = await operator.ask("GET", "replays")
        assert again == {"replays": [shown]}
        code, changes = await operator.ask("GET", "audit")
        assert [entry["count"] for entry in changes["audit"]] == [shown["done"], 200]
        assert [next(iter(entry["what"])) for entry in changes["audit"]] == ["stopped", "started"]
        await running.until(("gatehouse_deliveries_total", "app", "delivered"), shown["done"])
        assert len(destination.requests) == shown["done"] < 200


async def test_requests_that_stop_a_replay_together_are_one_change(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    await fill(await sqlite(tmp_path), 200, ago=100)
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        operator = Operator(running)
        path = "replays/" + await operator.start(filter={"since": "1h"}, rate="50/s")
        answers = await asyncio.gather(*(operator.ask("DELETE", path) for _ in range(5)))
        assert [(code, shown["state"]) for code, shown in answers] == [(200, "cancelled")] * 5
        _, changes = await operator.ask("GET", "audit")
        assert [next(iter(entry["what"])) for entry in changes["audit"]] == ["stopped", "started"]


async def test_a_replay_waits_while_its_destination_is_paused(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    await fill(await sqlite(tmp_path), 100, ago=100)
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        operator = Operator(running)
        await operator.ask("POST", "destinations/app/pause")
        started = await operator.start(filter={"since": "1h"}, to=["app"], rate="1000/s")
        shown = await operator.waits(started)
        assert (shown["waiting_for"], shown["state"], shown["done"]) == (["app"], "running", 0)
        await operator.ask("POST", "destinations/app/resume")
        assert (await operator.ended(started))["done"] == 100
        await destination.wait_for(100)


async def test_a_destination_that_is_down_gets_no_backlog(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    await fill(await sqlite(tmp_path), 500, ago=100)
    config = CONFIG.replace("max: 20ms}}", "max: 20ms}}, breaker: {{failures: 1, open: 60s}}")
    async with run_gateway(config.format(url=destination.url)) as running:
        operator = Operator(running)
        destination.always(status(500))
        started = await operator.start(filter={"since": "1h"}, to=["app"], rate="1000/s")
        await running.until(("gatehouse_breaker_open", "app"), 1)
        shown = await operator.waits(started)
        assert shown["done"] <= 150
        assert (await running.metrics())[PENDING] <= 150
        destination.always(status(200))
        await operator.ask("POST", "destinations/app/resume")
        assert (await operator.ended(started))["done"] == 500
        await until_each_arrived(destination, 500)


async def test_a_new_event_does_not_wait_for_a_replay_to_a_slow_destination(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    await fill(await sqlite(tmp_path), 2000, ago=100)
    config = CONFIG.replace("secret: env:SIGNING", "secret: env:SIGNING, concurrency: 1")
    destination.always(after(0.01, status(200)))
    async with run_gateway(config.format(url=destination.url)) as running:
        operator = Operator(running)
        started = await operator.start(filter={"since": "1h"}, to=["app"], rate="5000/s")
        await destination.wait_for(100)
        body = providers.body(id="evt_new", type="sale.created")
        _, answer = await running.send("mando", body, providers.mando(body))
        sent = time.monotonic()

        async def has_arrived() -> bool:
            return answer["id"] in {each.event_id for each in destination.requests}

        await until(has_arrived)
        took = time.monotonic() - sent
        await operator.ask("DELETE", f"replays/{started}")
    assert took < 5, "the replay of 2,000 events takes at least 20 s"


async def test_a_plan_ends_when_its_client_is_gone(
    run_gateway: RunGateway,
    destination: ScriptedDestination,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await fill(await sqlite(tmp_path), 500, ago=100)
    monkeypatch.setattr("gatehouse.store.operations._SCAN_ROWS", 1)
    plan, scanned, left = SqliteStore.plan, [0], asyncio.Event()

    async def count(store: SqliteStore, *given: Any) -> PlanStep:
        scanned[0] += 1
        if scanned[0] == 10:
            await left.wait()
        return await plan(store, *given)

    monkeypatch.setattr(SqliteStore, "plan", count)
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        body = {"all": True, "dry_run": True}
        asking = asyncio.create_task(Operator(running).ask("POST", "replays", body))

        async def has_begun() -> bool:
            return scanned[0] == 10

        await until(has_begun)
        asking.cancel()
        await asyncio.wait([asking])
        # The gateway answers another request, so it has seen the end of the connection before.
        assert (await Operator(running).ask("GET", "replays"))[0] == 200
        left.set()
        # The steps of two plans take turns, so the first one would end before this one.
        assert (await Operator(running).ask("POST", "replays", body))[0] == 200
        assert scanned[0] < 2 * 500


async def test_dead_letters_are_retried_at_the_rate(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        operator = Operator(running)
        destination.always(status(410))
        for number in range(12):
            body = providers.body(id=f"evt_{number}", type="sale.created")
            await running.send("mando", body, providers.mando(body))
        await running.until(("gatehouse_deliveries_dead", "app"), 12)
        destination.always(status(200))
        code, plan = await operator.ask("POST", "retries", {"all": True, "dry_run": True})
        assert (code, plan["events"], plan["by"]["destination"]) == (200, 12, {"app": 12})

        started = await operator.start("retries", filter={"type": "sale.*"}, rate="10/s")
        assert (await operator.ended(started, "retries"))["done"] == 12
        received = await destination.wait_for(24)
        await running.until(("gatehouse_deliveries_total", "app", "delivered"), 12)
        assert (await running.metrics())["gatehouse_deliveries_dead", "app"] == 0
    retried = received[12:]
    assert all(each.attempt == 2 for each in retried)
    assert retried[-1].at - retried[0].at > 0.9


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "give a filter"),
        ({"filter": {}}, "give a filter"),
        ({"filter": {"since": "1h", "limit": 3}}, "unknown filter"),
        ({"filter": {"since": "soon"}}, "since must be a time"),
        ({"filter": "1h"}, "filter must be an object"),
        ({"filter": {"since": "1h"}, "rate": "fast"}, "rate must be"),
        ({"filter": {"since": "1h"}, "rate": 0}, "rate must be"),
        ({"filter": {"since": "1h"}, "rate": "0.000000001/h"}, "at least one event per day"),
        ({"filter": {"since": "1h"}, "to": []}, "to must be a list of names"),
        ({"filter": {"since": "1h"}, "to": ["nowhere"]}, "no destination 'nowhere'"),
        ({"filter": {"since": "1h"}, "speed": "1/s"}, "unknown member"),
        ({"filter": {"since": "1h"}, "dry_run": 1}, "dry_run must be true or false"),
    ],
)
async def test_a_wrong_request_starts_nothing(running: Running, body: Any, message: str) -> None:
    for kind in ("replays", "retries"):
        code, answer = await Operator(running).ask("POST", kind, body)
        assert code == 400
        assert message in answer["error"]["message"]
    assert await Operator(running).ask("GET", "replays") == (200, {"replays": []})


async def test_an_operation_has_one_kind(running: Running) -> None:
    operator = Operator(running)
    started = await operator.start(all=True)
    assert (await operator.ask("GET", f"retries/{started}"))[0] == 404
    assert (await operator.ask("DELETE", f"retries/{started}"))[0] == 404
    assert (await operator.ended(started))["total"] == 0


def write_config(folder: Path, destination: ScriptedDestination, more: str = "") -> Path:
    file = folder / "gateway.yaml"
    file.write_text(CONFIG.format(url=destination.url) + more)
    return file


async def test_a_replay_continues_after_the_gateway_was_killed(
    running: Running, destination: ScriptedDestination, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    wanted = await fill(await sqlite(folder), 400, ago=100)
    file = write_config(folder, destination)
    async with serving(file, **SECRETS) as gateway:
        operator = Operator(running, gateway.operator_url)
        started = await operator.start(filter={"since": "1h"}, to=["app"], rate="100/s")
        await destination.wait_for(100, within=WITHIN)
        gateway.kill()
        await gateway.wait()
    before = len(destination.requests)
    assert before < 400
    async with serving(file, **SECRETS) as gateway:
        operator = Operator(running, gateway.operator_url)
        shown = await operator.ended(started)
        assert (shown["done"], shown["failed"]) == (400, 0)
        await until_each_arrived(destination, 400)
        gateway.terminate()
        await gateway.wait()
    counts = Counter(each.event_id for each in destination.requests)
    assert set(counts) == set(wanted)
    repeated = {event_id: number for event_id, number in counts.items() if number > 1}
    # Those whose attempt was in progress: no more than one step.
    assert len(repeated) <= 10
    assert set(repeated.values()) <= {2}


async def test_another_gateway_takes_over_a_replay_when_the_first_is_killed(
    run_gateway: RunGateway, destination: ScriptedDestination, database: Database, tmp_path: Path
) -> None:
    store = await PostgresStore.open(PostgresSettings(database.url, database.password))
    wanted = await fill(store, 400, ago=100)
    more = f'store: {{url: "{database.url}", password: env:STORE_PASSWORD}}\n'
    file = write_config(tmp_path, destination, more)
    config = file.read_text()
    async with serving(file, **SECRETS, STORE_PASSWORD=PASSWORD) as first, AsyncExitStack() as later:
        # Either gateway may begin an operation, so the second one starts when the first runs it.
        body = {"filter": {"since": "1h"}, "to": ["app"], "rate": "40/s"}
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{first.operator_url}/api/v1/replays", json=body) as answer,
        ):
            started = str((await answer.json())["id"])
        await destination.wait_for(20, within=WITHIN)
        second = await later.enter_async_context(run_gateway(config, STORE_PASSWORD=PASSWORD))
        await destination.wait_for(60, within=WITHIN)
        # Only the gateway that runs it counts its events.
        assert (await second.metrics())[DONE] == 0
        first.kill()
        await first.wait()
        killed = time.monotonic()
        stopped = len(destination.requests)

        operator = Operator(second)
        await second.until(DONE, 1, within=WITHIN)
        assert time.monotonic() - killed <= 30
        shown = await operator.ended(started)
        assert (shown["state"], shown["done"]) == ("done", 400)
        assert 0 < (await second.metrics())[DONE] <= 400 - stopped + 50
        await until_each_arrived(destination, 400)
    counts = Counter(each.event_id for each in destination.requests)
    assert set(counts) == set(wanted)
    assert sum(1 for number in counts.values() if number > 1) <= 20


async def test_a_gateway_that_stops_lets_another_one_continue_at_once(
    run_gateway: RunGateway, destination: ScriptedDestination, database: Database
) -> None:
    store = await PostgresStore.open(PostgresSettings(database.url, database.password))
    await fill(store, 100, ago=100)
    config = CONFIG.format(url=destination.url)
    config += f'store: {{url: "{database.url}", password: env:STORE_PASSWORD}}\n'
    async with run_gateway(config, STORE_PASSWORD=PASSWORD) as first:
        started = await Operator(first).start(filter={"since": "1h"}, to=["app"], rate="20/s")
        await destination.wait_for(20)
    async with run_gateway(config, STORE_PASSWORD=PASSWORD) as second:
        shown = await Operator(second).ended(started)
        assert shown["done"] == 100
        received = await destination.wait_for(100, within=WITHIN)
    assert len({each.event_id for each in received}) == 100
    assert max(late.at - early.at for early, late in pairwise(received)) < 12

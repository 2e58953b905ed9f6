"""Dead letters, replay and pause over the operator API and its commands, against a running gateway."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from doubles import providers
from doubles.destination import ScriptedDestination, once, status
from gatehouse.cli import main
from gateways import CONFIG, RunGateway, Running

TOKEN = "operator-token-of-some-length"
PENDING = ("gatehouse_deliveries_pending", "app")
DEAD = ("gatehouse_deliveries_dead", "app")
PAUSED = ("gatehouse_destination_paused", "app")
REFUSED = "gatehouse_operator_refused_total"


@dataclass
class Operator:
    """Sends requests to a running gateway."""

    running: Running
    file: Path

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        url = f"{self.running.operator_url}{path}"
        async with self.running.client.get(url, headers=headers) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            return answer.status, json.loads(await answer.text())

    async def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        url = f"{self.running.operator_url}{path}"
        async with self.running.client.post(url, json=body, headers=headers) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            return answer.status, json.loads(await answer.text())

    async def run(self, *arguments: str) -> Result:
        """Run a command."""
        where = ("--operator", self.running.operator_url, "-c", str(self.file))
        # In a thread, because the command runs its own event loop.
        return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, *where])

    async def run_apart(self, *arguments: str) -> str:
        """Run a command in its own process. Returns its output."""
        where = ("--operator", self.running.operator_url, "-c", str(self.file))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gatehouse", *arguments, *where), stdout=PIPE
        )
        async with asyncio.timeout(20):
            said, _ = await process.communicate()
        return said.decode()

    async def send(self, number: int, **fields: Any) -> str:
        """Send an event. Returns its id."""
        given = {"id": f"evt_{number}", "type": "sale.created", "data": {"id": str(number)}} | fields
        body = providers.body(**given)
        code, answer = await self.running.send("mando", body, providers.mando(body))
        assert code == 200, answer
        return str(answer["id"])

    async def until(self, series: tuple[str, ...], value: float) -> None:
        """Scrape until a series has a value. Gauges also decrease."""
        async with asyncio.timeout(10):
            while (await self.running.metrics())[series] != value:  # noqa: ASYNC110 - as Prometheus does
                await asyncio.sleep(0.01)


@pytest.fixture
async def operator(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> AsyncIterator[Operator]:
    """Run a gateway with one destination, `app`."""
    async with run(run_gateway, destination, tmp_path) as it:
        yield it


@asynccontextmanager
async def run(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> AsyncIterator[Operator]:
    text = CONFIG.format(url=destination.url)
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    async with run_gateway(text) as running:
        yield Operator(running, file)


async def make_dead_letters(operator: Operator, destination: ScriptedDestination, count: int) -> list[str]:
    """Make dead letters: the destination replies 410 to these events, and 200 afterwards."""
    destination.always(status(410))
    ids = [await operator.send(number) for number in range(count)]
    await operator.until(DEAD, count)
    destination.always(status(200))
    return ids


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


async def test_events_are_found_by_their_fields(operator: Operator, destination: ScriptedDestination) -> None:
    first, second = await make_dead_letters(operator, destination, 2)
    third = await operator.send(3, note="INV-é-3\n")
    await operator.until(PENDING, 0)

    async def found(*options: str) -> list[str]:
        listed = await operator.run("events", *options)
        assert listed.exit_code == 0, listed.output
        return [line.split()[0] for line in listed.stdout.splitlines()[1:]]

    shown = await operator.run("events", "evt_1")
    assert shown.stdout.startswith(f"id           {second}\n")
    assert await found("--external-id", "evt_3") == [third]
    assert await found("--contains", "evt_") == [third, second, first]
    assert await found("--contains", '"evt_0"', "--source", "mando", "--since", "1h") == [first]
    assert await found("--reason", "gone", "--destination", "app") == [second, first]
    assert await found("--http-status", "410", "--limit", "1") == [second, "more:"]
    assert await found("--reason", "ok") == [third]
    assert await found("--reason", "timeout") == []
    missing = await operator.run("events", "evt_9")
    assert (missing.exit_code, missing.stdout) == (1, "")
    dead = await operator.run("dead", "--reason", "gone", "--http-status", "410")
    assert dead.stdout.count("gone 410") == 2
    retried = await operator.run("retry", "--reason", "gone", "--dry-run")
    assert retried.stdout == "app  2 would be retried\n"
    assert (
        await operator.run("retry", "--http-status", "503", "--dry-run")
    ).stdout == "no dead letters match\n"


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


@pytest.mark.parametrize(
    "query",
    [
        *("limit=1000000000", "limit=0", "limit=-1", "limit=1;DROP TABLE events", "offset=-5", "sort=id"),
        *("cursor=made-up", "cursor=%27%20OR%201=1", "cursor=WzEsImEiXQ", "cursor=W10", "status=%25"),
        *("source=a&source=b", "since=soon", "type=", "source=a%00b"),
    ],
)
@pytest.mark.case("S-53")
async def test_lists_refuse_invalid_filters(operator: Operator, query: str) -> None:
    await operator.send(1)
    for kind in ("events", "deliveries"):
        code, answer = await operator.get(f"/api/v1/{kind}?{query}")
        assert (code, answer["error"]["code"]) == (400, "bad_request"), kind


@pytest.mark.case("S-53")
async def test_metacharacters_in_filters_are_text(operator: Operator) -> None:
    await operator.send(1)
    await operator.send(2, type="sale[x]?")
    for kind in ("events", "deliveries"):
        for given in ("type=%25", "type=sale.create?", "type=[a-z]*", "type=%27%20OR%20%271", "source=*"):
            code, answer = await operator.get(f"/api/v1/{kind}?{given.replace('?', '%3F')}")
            assert (code, answer[kind]) == (200, []), given
        code, answer = await operator.get(f"/api/v1/{kind}?type=sale[x]%3F*")
        assert [row["type"] for row in answer[kind]] == ["sale[x]?"]
        code, answer = await operator.get(f"/api/v1/{kind}?type={'*a' * 500}")
        assert (code, answer[kind]) == (200, [])


async def test_lists_continue_at_the_cursor(operator: Operator) -> None:
    ids = [await operator.send(number) for number in range(5)]
    seen, path = [], "/api/v1/events?limit=2"
    for _ in range(3):
        _, answer = await operator.get(path)
        seen += [row["id"] for row in answer["events"]]
        path = f"/api/v1/events?limit=2&cursor={answer['cursor']}"

    assert seen == ids[::-1]
    assert answer["cursor"] is None


async def test_an_event_with_bytes_that_are_not_utf_8_is_shown(
    operator: Operator,
) -> None:
    body = b'{"id": "evt_9", "type": "sale.created", "data": {}, "n": "\xc3\xa9"}'
    headers = providers.mando(body) | {"X-Note": "caf\udce9"}
    _, answer = await operator.running.send("mando", body, headers)
    shown = await operator.run("events", answer["id"])

    assert shown.exit_code == 0, shown.output
    assert '"n": "é"' in shown.stdout


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


POSTS = (
    "/api/v1/events/{id}/replay",
    "/api/v1/deliveries/retry",
    "/api/v1/deliveries/{id}:app/retry",
    "/api/v1/destinations/app/pause",
    "/api/v1/destinations/app/resume",
    "/-/reload",
)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain;charset=UTF-8"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Origin": "null"},
        {"Origin": "https://attacker.example"},
        {"Origin": "http://127.0.0.1.attacker.example"},
        {"Sec-Fetch-Site": "same-site", "Content-Type": "application/json"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.case("S-51")
async def test_another_sites_page_changes_nothing(
    operator: Operator, destination: ScriptedDestination, path: str, headers: dict[str, str]
) -> None:
    event_id = await operator.send(1)
    await destination.wait_for(1)
    url = operator.running.operator_url + path.format(id=event_id)
    body = '{"all": true}'
    async with operator.running.client.post(url, data=body, headers=headers) as answer:
        assert answer.status == 403
        assert answer.headers["Cache-Control"] == "no-store"
    async with operator.running.client.get(url) as answer:
        assert answer.status in (404, 405)

    assert (await operator.running.metrics())[REFUSED, "cross_site"] == 1
    assert len(destination.requests) == 1
    assert (await operator.get("/api/v1/destinations"))[1]["destinations"][0]["paused"] is False


@pytest.mark.case("S-51")
async def test_a_page_under_another_host_name_reads_nothing(operator: Operator) -> None:
    code, answer = await operator.get("/api/v1/events", Host="attacker.example")

    assert (code, answer["error"]["code"]) == (403, "forbidden")
    assert (await operator.running.metrics())[REFUSED, "cross_site"] == 1


async def test_refusals_are_counted_from_zero(operator: Operator) -> None:
    metrics = await operator.running.metrics()

    assert {key[1] for key in metrics if key[0] == REFUSED} == {
        "unauthorized",
        "throttled",
        "cross_site",
        "forbidden",
    }
    assert all(value == 0 for key, value in metrics.items() if key[0] == REFUSED)


@asynccontextmanager
async def with_token(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> AsyncIterator[Operator]:
    config = CONFIG.replace('{{listen: "127.0.0.1:0"}}\ns', '{{listen: "127.0.0.1:0", token: env:T}}\ns')
    async with run_gateway(config.format(url=destination.url), T=TOKEN) as running:
        yield Operator(running, tmp_path)


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/deliveries", "/api/v1/destinations", "/metrics"])
@pytest.mark.case("S-50")
async def test_nothing_is_read_without_the_token(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path, path: str
) -> None:
    async with with_token(run_gateway, destination, tmp_path) as operator:
        for wrong in (TOKEN, f"bearer {TOKEN}", f"Bearer {TOKEN[:-1]}", "Bearer ", "Bearer é", "Bearer x"):
            assert (await operator.get(path, Authorization=wrong))[0] == 401
        for query in (f"?token={TOKEN}", f"?access_token={TOKEN}", ""):
            assert (await operator.get(path + query))[0] == 401
        url = operator.running.operator_url + path
        async with operator.running.client.get(url, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 200


@pytest.mark.case("S-50")
async def test_nothing_is_changed_without_the_token(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    async with with_token(run_gateway, destination, tmp_path) as operator:
        for path in POSTS:
            assert (await operator.post(path.format(id="x")))[0] == 401
        authorization = {"Authorization": f"Bearer {TOKEN}"}
        code, answer = await operator.post("/api/v1/destinations/app/pause", **authorization)
        assert (code, answer["paused"]) == (200, True)

"""`gatehouse serve --workers 2`, as separate processes on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from doubles import providers
from doubles.destination import ScriptedDestination, hang
from doubles.stream import reading
from postgres_server import Database
from processes import GatewayProcess, serving, spawn

CONFIG = """\
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0", token: env:TOKEN}}
store: {{url: "{store}", password: env:PASSWORD, connections: 2}}
sources:
  mando: {{provider: mando, secrets: env:SECRET}}
destinations:
  app: {{url: "{app}", timeout: 10s}}
routes:
  - {{from: "*", to: app}}
"""
TOKEN = "operator-token-of-some-length"
#: Each test starts at least three processes, and a test machine may have one core.
pytestmark = pytest.mark.timeout(180)


class Workers:
    """Two workers, their supervisor, and a client for both listeners."""

    def __init__(self, gateway: GatewayProcess, client: aiohttp.ClientSession, config: Path) -> None:
        self.gateway = gateway
        self.client = client
        self.config = config

    async def send(self, number: int, *, secret: str = providers.SECRET) -> int:
        """Send an event on a new connection. Return the status."""
        body = providers.body(id=f"evt_{number}", type="sale.created")
        url = f"{self.gateway.url}/webhooks/mando"
        headers = providers.mando(body, secret=secret) | {"Connection": "close"}
        async with self.client.post(url, data=body, headers=headers) as answer:
            return answer.status

    async def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request to the operator server. Return the status and the JSON of the answer."""
        given = {"Authorization": f"Bearer {TOKEN}"} | headers
        url = self.gateway.operator_url + path
        async with self.client.request(method, url, headers=given, json=body) as answer:
            return answer.status, await answer.json()

    async def metric(self, name: str, **labels: str) -> float:
        """Read the metrics, and return one value."""
        url, given = f"{self.gateway.operator_url}/metrics", {"Authorization": f"Bearer {TOKEN}"}
        async with self.client.get(url, headers=given) as answer:
            families = text_string_to_metric_families(await answer.text())
        (value,) = [
            sample.value
            for family in families
            for sample in family.samples
            if (sample.name, sample.labels) == (name, labels)
        ]
        return value

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of one event."""
        return [line for line in self.gateway.log if line["event"] == event]

    def that_logged(self, event: str) -> set[int]:
        """Return the numbers of the workers that logged an event."""
        return {line["worker"] for line in self.logged(event) if "worker" in line}

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition on the log."""
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - the log is read as it arrives
                await asyncio.sleep(0.02)

    async def until_ready(self) -> None:
        """Wait until all workers serve."""
        async with asyncio.timeout(60):
            while (await self.ask("/readyz"))[0] != 200:  # noqa: ASYNC110 - as a load balancer does
                await asyncio.sleep(0.02)


def processes(supervisor: int) -> dict[int, int]:
    """Return the process ids of the workers, by number."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    found = {int(child): Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0") for child in children}
    return {
        int(words[words.index(b"--worker") + 1].rpartition(b"/")[2]): child for child, words in found.items()
    }


@pytest.fixture
async def app() -> AsyncIterator[ScriptedDestination]:
    """Run a destination."""
    async with ScriptedDestination() as running:
        yield running


@pytest.fixture
def config(tmp_path: Path, database: Database, app: ScriptedDestination) -> Path:
    """Write a config file."""
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG.format(store=database.url, app=app.url))
    return file


@pytest.fixture
def run_workers(
    tmp_path: Path, database: Database, config: Path
) -> Callable[[], AbstractAsyncContextManager[Workers]]:
    """Return the function that runs two workers."""

    @asynccontextmanager
    async def run() -> AsyncIterator[Workers]:
        secrets = {"SECRET": providers.SECRET, "TOKEN": TOKEN, "PASSWORD": database.password}
        async with (
            serving(config, options=["--workers", "2"], TMPDIR=str(tmp_path), **secrets) as gateway,
            aiohttp.ClientSession() as client,
        ):
            yield Workers(gateway, client, config)

    return run


RunWorkers = Callable[[], AbstractAsyncContextManager[Workers]]


async def test_two_workers_serve_one_port_and_are_counted_as_one(
    run_workers: RunWorkers, app: ScriptedDestination
) -> None:
    async with run_workers() as workers:
        assert len({line["listen"] for line in workers.logged("gateway.started")}) == 1
        sent = [await workers.send(number) for number in range(40)]
        forged = [await workers.send(number, secret="not-the-secret-of-mando") for number in range(20)]

        assert (set(sent), set(forged)) == ({200}, {401})
        await workers.until(lambda: workers.that_logged("request.accepted") == {1, 2})
        await workers.until(lambda: workers.that_logged("request.rejected") == {1, 2})
        requests = "gatehouse_requests_total"
        assert await workers.metric(requests, source="mando", outcome="accepted") == 40
        assert await workers.metric(requests, source="mando", outcome="unauthorized") == 20
        assert await workers.metric("gatehouse_request_duration_seconds_count", source="mando") == 60
        assert not workers.logged("not a log line"), "the workers write to one pipe"
        received = await app.wait_for(40)
        assert len({request.event_id for request in received}) == 40


async def try_what_operators_try(workers: Workers) -> None:
    """Probe and test a paused destination, test the routes, and send a sample."""
    status, closed = await workers.ask("/api/v1/destinations/app/probe", "POST")
    assert (status, closed["error"]["code"]) == (409, "paused")
    status, tested = await workers.ask("/api/v1/destinations/app/test", "POST")
    assert (status, tested["reason"]) == (200, "ok")
    _, routed = await workers.ask("/api/v1/routes?source=mando&type=sale.created")
    assert [one["name"] for one in routed["destinations"]] == ["app"]
    status, sample = await workers.ask("/api/v1/sources/mando/sample", "POST")
    assert (status, sample["status"]) == (200, 200)
    (event_id,) = sample["event_ids"]
    assert (await workers.ask(f"/api/v1/events/{event_id}"))[1]["type"] == sample["type"]


async def test_operators_see_the_state_of_all_workers(run_workers: RunWorkers) -> None:
    async with run_workers() as workers:
        assert await workers.ask("/healthz") == (200, {"status": "alive"})
        parts = {"worker 1": "ok", "worker 2": "ok"}
        assert await workers.ask("/readyz") == (200, {"status": "ready", "parts": parts})

        assert {await workers.send(number) for number in range(5)} == {200}
        while len(workers.that_logged("request.rejected")) < 2:
            await workers.send(1, secret="not-the-secret-of-mando")
        _, listed = await workers.ask("/api/v1/rejected")
        times = [datetime.fromisoformat(one["time"]) for one in listed["rejected"]]
        assert times == sorted(times, reverse=True)
        await workers.until(lambda: len(workers.logged("request.rejected")) == len(times))
        _, cut = await workers.ask("/api/v1/rejected?limit=1")
        assert cut["rejected"] == listed["rejected"][:1]
        for one in listed["rejected"]:
            assert await workers.ask(f"/api/v1/rejected/{one['id']}") == (200, one)
        assert (await workers.ask("/api/v1/rejected/nope"))[0] == 404
        assert (await workers.ask("/api/v1/rejected?source=nope"))[0] == 400

        _, events = await workers.ask("/api/v1/events?limit=3")
        assert len(events["events"]) == 3
        delivery = f"{events['events'][0]['id']}%3Aapp"
        status, retried = await workers.ask(f"/api/v1/deliveries/{delivery}/retry", "POST")
        assert (status, retried["retried"]) == (200, {})
        nothing: dict[str, Any] = {"groups": [], "cursor": None, "searched_to": None}
        assert await workers.ask("/api/v1/deliveries/dead") == (200, nothing)
        assert (await workers.ask("/api/v1/handshakes")) == (200, {"handshakes": []})
        assert (await workers.ask("/api/v1/nope"))[0] == 404
        status, paused = await workers.ask("/api/v1/destinations/app/pause", "POST")
        assert (status, paused["paused"]) == (200, True)
        (shown,) = (await workers.ask("/api/v1/destinations"))[1]["destinations"]
        assert (shown["name"], shown["paused"], shown["breaker"]) == ("app", True, "closed")

        status, whole = await workers.ask("/api/v1/status")
        assert (status, whole["reload"]["successful"], whole["store"]["kind"]) == (200, True, "postgresql")
        assert whole["workers"] == [{"number": 1, "serving": True}, {"number": 2, "serving": True}]
        (source,) = whole["sources"]
        assert source["refused_last_hour"] == len(times)
        assert source["last_refused"]["id"] == listed["rejected"][0]["id"]
        assert source["secrets"][0]["matched"] == 5
        assert whole["sources"] == (await workers.ask("/api/v1/sources"))[1]["sources"]
        assert whole["destinations"][0]["paused"]
        _, history = await workers.ask("/api/v1/history?source=mando")
        (seen,) = history["sources"]
        counted = [sum(number or 0 for number in seen[name]) for name in ("accepted", "refused")]
        assert (counted, history["destinations"]) == ([5, len(times)], [])
        await try_what_operators_try(workers)

        sent = 0
        while len(workers.that_logged("request.duplicate")) < 2:
            sent += await workers.send(0) == 200
        event_id = workers.logged("request.duplicate")[0]["event_id"]
        _, duplicates = await workers.ask(f"/api/v1/events/{event_id}/duplicates")
        assert (duplicates["count"], len(duplicates["latest"])) == (sent, min(20, sent))


async def test_the_operator_listener_of_several_workers_is_protected(run_workers: RunWorkers) -> None:
    async with run_workers() as workers:
        wrong = {"Authorization": "Bearer a-token-that-was-guessed"}
        assert (await workers.ask("/api/v1/events", **wrong))[0] == 401
        assert (await workers.ask("/-/reload", "POST", **wrong))[0] == 401
        elsewhere = {"Origin": "https://elsewhere.example.com"}
        assert (await workers.ask("/api/v1/destinations/app/pause", "POST", **elsewhere))[0] == 403

        refused = "gatehouse_operator_refused_total"
        assert await workers.metric(refused, reason="unauthorized") == 2
        assert await workers.metric(refused, reason="cross_site") == 1
        for _ in range(8):
            await workers.ask("/api/v1/events", **wrong)
        assert (await workers.ask("/api/v1/events"))[0] == 429


async def test_a_killed_worker_is_restarted_while_the_other_serves(
    run_workers: RunWorkers,
) -> None:
    async with run_workers() as workers:
        while len(workers.that_logged("request.accepted")) < 2:
            assert await workers.send(len(workers.logged("request.accepted"))) == 200
        counted = {"name": "gatehouse_requests_total", "source": "mando", "outcome": "accepted"}
        before = await workers.metric(**counted)

        os.kill(processes(workers.gateway.process.pid)[1], signal.SIGKILL)
        await workers.until(lambda: workers.logged("worker.ended"))
        assert {await workers.send(100 + number) for number in range(10)} == {200}
        (ended,) = workers.logged("worker.ended")
        assert (ended["worker"], ended["how"]) == (1, "SIGKILL")
        assert await workers.metric(**counted) == before + 10

        await workers.until_ready()
        assert await workers.metric(**counted) == before + 10, "the new worker counts from zero"
        assert await workers.metric("gatehouse_worker_ended_total", worker="1") == 1
        assert await workers.metric("gatehouse_worker_up", worker="1") == 1
        seen = len(workers.gateway.log)
        while not any(
            line["event"] == "request.accepted" and line["worker"] == 1 for line in workers.gateway.log[seen:]
        ):
            assert await workers.send(1000 + len(workers.gateway.log)) == 200


async def test_a_reload_reaches_both_workers_and_an_invalid_file_neither(run_workers: RunWorkers) -> None:
    async with run_workers() as workers:
        good = workers.config.read_text()
        more = good.replace("sources:\n", "sources:\n  shop: {provider: mando, secrets: env:SECRET}\n")
        workers.config.write_text(more)
        status, answer = await workers.ask("/-/reload", "POST", {"dry_run": True})
        assert (status, answer["status"], answer["sources"]["added"]) == (200, "checked", ["shop"])
        status, answer = await workers.ask("/-/reload", "POST")
        assert (status, answer["sources"]["added"]) == (200, ["shop"])
        await workers.until(lambda: workers.that_logged("config.reloaded") == {1, 2})
        _, changes = await workers.ask("/api/v1/audit")
        assert [(entry["who"], entry["action"]) for entry in changes["audit"]] == [("operator", "reload")]

        _, used = await workers.ask("/api/v1/config")
        assert (used["file"], used["text"]) == (str(workers.config), more.lstrip("\n"))
        workers.config.write_text("sources: 7\n")
        workers.gateway.process.send_signal(signal.SIGHUP)
        await workers.until(lambda: workers.logged("config.reload_failed"))
        status, answer = await workers.ask("/-/reload", "POST")
        assert (status, answer["error"]["problems"][0]["path"]) == (400, "sources")
        assert workers.that_logged("config.reload_failed") == set()
        assert await workers.metric("gatehouse_config_last_reload_successful") == 0
        reload = (await workers.ask("/api/v1/status"))[1]["reload"]
        assert not reload["successful"]
        assert (await workers.ask("/api/v1/config")) == (200, used)
        assert "gateway.yaml:1: sources" in reload["problems"][0]

        # A worker that starts now must not use the config that the others refused.
        os.kill(processes(workers.gateway.process.pid)[2], signal.SIGKILL)
        await workers.until(lambda: workers.logged("worker.ended"))
        await workers.until_ready()
        found = [line for line in workers.logged("gateway.started") if line.get("worker") == 2]
        assert [line["sources"] for line in found] == [["mando"], ["mando", "shop"]]


async def test_a_hanging_worker_is_restarted_with_the_config_of_the_others(
    run_workers: RunWorkers,
) -> None:
    async with run_workers() as workers:
        hanging = processes(workers.gateway.process.pid)[1]
        os.kill(hanging, signal.SIGSTOP)
        good = workers.config.read_text()
        more = good.replace("sources:\n", "sources:\n  shop: {provider: mando, secrets: env:SECRET}\n")
        workers.config.write_text(more)

        assert (await workers.ask("/api/v1/events"))[0] == 200
        status, ready = await workers.ask("/readyz")
        assert (status, ready["parts"]) == (503, {"worker 1": "does not answer", "worker 2": "ok"})
        assert (await workers.ask("/-/reload", "POST"))[0] == 200
        await workers.until(lambda: workers.logged("worker.ended"))
        await workers.until_ready()
        found = [line for line in workers.logged("gateway.started") if line.get("worker") == 1]
        assert [line["sources"] for line in found] == [["mando"], ["mando", "shop"]]


async def test_sigterm_stops_all_workers_gracefully(run_workers: RunWorkers, tmp_path: Path) -> None:
    async with run_workers() as workers:
        assert list(tmp_path.glob("gatehouse-*"))
        async with asyncio.timeout(10):
            workers.gateway.terminate()
            # The log ends when no process can write to it any more.
            assert await workers.gateway.wait() == 0
        assert workers.that_logged("gateway.stopped") == {1, 2}
        assert workers.gateway.log[-1]["event"] == "gateway.stopped"
        assert "worker" not in workers.gateway.log[-1]
        assert not list(tmp_path.glob("gatehouse-*"))


async def test_a_signal_to_all_processes_does_not_count_as_a_second_signal(
    run_workers: RunWorkers,
) -> None:
    async with run_workers() as workers:
        supervisor = workers.gateway.process.pid
        for process in (*processes(supervisor).values(), supervisor):
            os.kill(process, signal.SIGTERM)

        assert await workers.gateway.wait() == 0
        assert workers.that_logged("gateway.stopped") == {1, 2}


async def test_a_second_signal_ends_all_workers_at_once(
    run_workers: RunWorkers, app: ScriptedDestination, tmp_path: Path
) -> None:
    async with run_workers() as workers:
        app.always(hang())
        for number in range(10):
            await workers.send(number)
        await app.wait_for(2)
        workers.gateway.terminate()
        await workers.until(lambda: workers.that_logged("gateway.stopping"))
        workers.gateway.terminate()

        assert await workers.gateway.wait() == -signal.SIGTERM
        assert workers.that_logged("gateway.stopped") != {1, 2}
        assert not list(tmp_path.glob("gatehouse-*"))


async def test_a_killed_supervisor_leaves_nothing_behind(run_workers: RunWorkers, tmp_path: Path) -> None:
    async with run_workers() as workers:
        left = processes(workers.gateway.process.pid)
        workers.gateway.kill()
        await workers.gateway.wait()

        assert workers.that_logged("gateway.stopped") == {1, 2}
        assert not list(tmp_path.glob("gatehouse-*"))
        await workers.until(lambda: not any(map(_is_running, left.values())))


async def test_another_gateway_cannot_share_the_port(
    run_workers: RunWorkers, database: Database, tmp_path: Path
) -> None:
    async with run_workers() as workers:
        port = workers.gateway.url.rpartition(":")[2]
        other = tmp_path / "other.yaml"
        other.write_text(workers.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}", 1))
        secrets = {"SECRET": providers.SECRET, "TOKEN": TOKEN, "PASSWORD": database.password}
        second = await spawn(other, options=["--workers", "2"], **secrets)

        assert await second.wait() == 1
        assert f"can't listen on 127.0.0.1:{port}" in second.log[0]["line"]


async def test_a_worker_that_cannot_start_ends_all_workers(tmp_path: Path, config: Path) -> None:
    secrets = {"SECRET": providers.SECRET, "TOKEN": TOKEN, "PASSWORD": "not-the-password"}
    gateway = await spawn(config, options=["--workers", "2"], TMPDIR=str(tmp_path), **secrets)

    assert await gateway.wait() == 1
    lines = [line.get("line", "") for line in gateway.log]
    assert any("ended before it served: exit code 1" in line for line in lines)
    assert not list(tmp_path.glob("gatehouse-*"))


@pytest.mark.parametrize("workers", ["2", "0", "many"])
async def test_an_impossible_number_of_workers_is_refused(tmp_path: Path, workers: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("sources: {mando: {provider: mando, secrets: env:SECRET}}\n")
    command = (sys.executable, "-m", "gatehouse", "serve", "-c", str(file), "--workers", workers)
    process = await asyncio.create_subprocess_exec(*command, stderr=PIPE, stdout=PIPE)
    _, said = await process.communicate()

    if workers == "2":
        assert process.returncode == 1
        assert said.decode().splitlines() == [
            "Error: 2 workers can't share sqlite:///gatehouse.db: a SQLite store belongs to one process",
            "Try: serve without --workers, or give store.url a postgresql:// URL; docs/scaling.md says when",
        ]
    else:
        assert process.returncode == 2
        assert b"--workers" in said
    assert not (tmp_path / "gatehouse.db").exists()


def _is_running(process: int) -> bool:
    """Return whether a process still runs; an ended one may stay visible until its exit code is read."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def test_the_stream_shows_what_all_workers_do(run_workers: RunWorkers) -> None:
    given = {"Authorization": f"Bearer {TOKEN}"}
    async with run_workers() as workers:
        url = workers.gateway.operator_url
        async with reading(workers.client, url, "kinds=event&type=sale.*", headers=given) as stream:
            await stream.live()
            for number in range(40):
                assert await workers.send(number) == 200
            events = await stream.take(40)
            await workers.until(lambda: workers.that_logged("request.accepted") == {1, 2})
        for number in range(40, 50):
            assert await workers.send(number) == 200
        query = "kinds=event&destination=app"
        async with reading(workers.client, url, query, headers=given, after=stream.last_id) as again:
            events += await again.take(10)
        async with reading(workers.client, url, "since=1h&until=now&bodies=1", headers=given) as past:
            stored = [entry.data async for entry in past.entries()]

    assert sorted(entry.data["external_id"] for entry in events) == sorted(f"evt_{n}" for n in range(50))
    assert len({entry.id for entry in events}) == 50
    assert {entry["external_id"] for entry in stored} == {entry.data["external_id"] for entry in events}
    assert all(entry["body_base64"] for entry in stored)


async def test_the_stream_goes_on_without_a_gap_when_a_worker_is_killed(run_workers: RunWorkers) -> None:
    given = {"Authorization": f"Bearer {TOKEN}"}
    async with run_workers() as workers:
        url = workers.gateway.operator_url
        async with reading(workers.client, url, "kinds=event", headers=given) as stream:
            await stream.live()
            sent = [number for number in range(20) if await workers.send(number) == 200]
            os.kill(processes(workers.gateway.process.pid)[1], signal.SIGKILL)
            await workers.until(lambda: workers.logged("worker.ended"))
            sent += [number for number in range(20, 30) if await workers.send(number) == 200]
            await workers.until_ready()
            sent += [number for number in range(30, 50) if await workers.send(number) == 200]
            events = await stream.take(len(sent))

    assert sorted(entry.data["external_id"] for entry in events) == sorted(f"evt_{n}" for n in sent)


async def test_a_client_of_the_stream_does_not_delay_the_stop(run_workers: RunWorkers) -> None:
    given = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        run_workers() as workers,
        reading(workers.client, workers.gateway.operator_url, headers=given) as stream,
    ):
        await stream.live()
        workers.gateway.process.send_signal(signal.SIGTERM)
        await stream.until_comment("the gateway stops")
        assert [entry async for entry in stream.entries()] == []
        async with asyncio.timeout(20):
            assert await workers.gateway.process.wait() == 0

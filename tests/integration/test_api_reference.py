"""The API reference describes every route and every answer of running gateways."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from jsonschema import Draft202012Validator
from openapi_schema_validator import oas31_format_checker
from yarl import URL

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gatehouse.config.addresses import Address
from gatehouse.gateway.app import Gateway
from gatehouse.operator.page.entrance import DATA_PATHS
from gatehouse.operator.reload_result import LastReload
from gatehouse.operator.route_docs import route_description
from gatehouse.operator.server import OperatorServer
from gatehouse.operator.tokens import SUPERVISOR, Identity
from gatehouse.reference.openapi import ERRORS, document, served
from gatehouse.store.operations import MAX_RUNNING
from gatehouse.telemetry.metrics import SupervisorMetrics
from gatehouse.workers.api import WorkersApi
from gatehouse.workers.process import WorkerAnswer
from gateways import CONFIG, RunGateway, Running

TOKEN = "operator-token-of-some-length"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
WITH_ASANA = CONFIG.replace("sources:\n", "sources:\n  asana: {{provider: asana, secrets: env:ASANA}}\n")
WITH_TOKEN = WITH_ASANA.replace(
    'operator: {{listen: "127.0.0.1:0"}}', 'operator: {{listen: "127.0.0.1:0", token: env:T}}'
)
DOCUMENT = document()
ROUTES = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}


def closed(schema: Any) -> Any:
    """Allow no member that a schema does not describe."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: closed(value) for key, value in schema.items()}
    return strict | {"additionalProperties": False} if "properties" in schema else strict


COMPONENTS = DOCUMENT["components"] | {"schemas": closed(DOCUMENT["components"]["schemas"])}


def described(method: str, path: str, code: int) -> dict[str, Any]:
    """Return the description of one answer in the document."""
    answers = DOCUMENT["paths"][path][method.lower()]["responses"]
    assert str(code) in answers, f"{method} {path} answers {code}, which is not described"
    answer: dict[str, Any] = answers[str(code)]
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return answer


def complaints(schema: dict[str, Any], value: Any) -> list[str]:
    validator = Draft202012Validator(
        closed(schema) | {"components": COMPONENTS}, format_checker=oas31_format_checker
    )
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


class Api:
    """Sends requests to a gateway, and checks every answer against the document."""

    def __init__(self, running: Running, *, url: str = "", **headers: str) -> None:
        self._running = running
        self._url = url or running.operator_url
        self._headers = headers
        self.seen: set[tuple[str, str, int]] = set()

    async def get(self, path: str, code: int = 200, query: str = "", **given: Any) -> Any:
        return await self._ask("GET", path, code, query, **given)

    async def post(self, path: str, code: int = 200, **given: Any) -> Any:
        return await self._ask("POST", path, code, "", **given)

    async def delete(self, path: str, code: int = 200, **given: Any) -> Any:
        return await self._ask("DELETE", path, code, "", **given)

    async def _ask(
        self,
        method: str,
        path: str,
        code: int,
        query: str,
        *,
        body: Any = None,
        headers: dict[str, str] | None = None,
        **parts: str,
    ) -> Any:
        url = self._url + path.format(**parts) + query
        sent = self._headers | (headers or {})
        async with self._running.client.request(method, url, json=body, headers=sent) as answer:
            text = await answer.text()
        assert answer.status == code, text
        self.seen.add((method, path, code))
        about = described(method, path, code)
        for name, header in about.get("headers", {}).items():
            assert complaints(header["schema"], int(answer.headers[name])) == []
        ((kind, content),) = about["content"].items()
        assert answer.content_type == kind
        if kind != "application/json":
            return text
        found = json.loads(text)
        assert complaints(content["schema"], found) == []
        if code in ERRORS and "error" in found and found["error"]["code"] != "bad_config":
            assert found["error"]["code"] in ERRORS[code].codes
        return found


async def filled(running: Running, destination: ScriptedDestination) -> str:
    """Create events, dead letters, a refused request and a secret. Return the id of a dead letter."""
    ids = []
    for number, code in enumerate((200, 410, 410)):
        destination.always(status(code))
        body = providers.body(id=f"evt_{number}", type="sale.created", data={"id": str(number)})
        ids.append(str((await running.send("mando", body, providers.mando(body)))[1]["id"]))
        await destination.wait_for(number + 1)
    await running.until(("gatehouse_deliveries_dead", "app"), 2)
    again = providers.body(id="evt_0", type="sale.created", data={"id": "0"})
    assert (await running.send("mando", again, providers.mando(again)))[1]["status"] == "duplicate"
    unreadable = b"\xff\xfe is not UTF-8"
    assert (await running.send("mando", unreadable, providers.mando(unreadable)))[0] == 200
    forged = providers.mando(b"{}") | {"X-Mando-Signature": "sha256=" + "0" * 64}
    assert (await running.send("mando", b"{}", forged))[0] == 401
    url = f"{running.url}/webhooks/asana"
    secret = {"X-Hook-Secret": "b537207f20cbfa02357cf448134da559"}
    async with running.client.post(url, data=b"{}", headers=secret) as answer:
        assert answer.status == 200
    destination.always(status(200))
    return ids[-1]


async def change_deliveries(api: Api, dead: str) -> None:
    """Change deliveries and their destination in every way, while the destination is paused."""
    for action, code in (("probe", 409), ("pause", 200), ("test", 200)):
        await api.post(f"/api/v1/destinations/{{name}}/{action}", code, name="app")
    for kind, number in (("replays", 3), ("retries", 2)):
        path, chosen = f"/api/v1/{kind}", {"filter": {"since": "1h", "type": "sale.*"}}
        plan = await api.post(path, body=chosen | {"dry_run": True})
        assert plan["events"] == number
        started = await api.post(path, 202, body=chosen | {"to": ["app"], "rate": "20/m"})
        await api.get(path + "/{id}", id=started["id"])
        await api.delete(path + "/{id}", id=started["id"])
        assert len((await api.get(path))[kind]) == 1
    counted = await api.post("/api/v1/deliveries/retry", body={"type": "sale.*", "dry_run": True})
    assert counted["would_retry"] == {"app": 2}
    await api.post("/api/v1/deliveries/{id}/retry", id=f"{dead}:app")
    await api.post("/api/v1/events/{id}/replay", id=dead, body={"destinations": ["app"]})
    unneeded = {"ids": ["nothing:app"], "note": "not needed"}
    assert (await api.post("/api/v1/deliveries/discard", body=unneeded))["done"]
    retried = await api.post("/api/v1/deliveries/retry", body={"all": True})
    assert retried["done"] is True
    await api.get("/api/v1/deliveries", query="?status=pending")
    await api.post("/api/v1/destinations/{name}/resume", name="app")


async def test_the_answers_of_every_route_match_the_reference(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    config = WITH_TOKEN.format(url=destination.url)
    (tmp_path / "gateway.yaml").write_text(config)
    async with run_gateway(config, T=TOKEN) as running:
        api = Api(running, **AUTHORIZED)
        running.client.headers.update(AUTHORIZED)
        dead = await filled(running, destination)

        assert "gatehouse_requests_total" in await api.get("/metrics")
        for path in ("/healthz", "/readyz", "/api/v1/destinations", "/api/v1/history", "/api/v1/config"):
            await api.get(path)
        page = await api.get("/api/v1/events", query="?limit=2&since=1h")
        rest = await api.get("/api/v1/events", query=f"?limit=2&since=1h&cursor={page['cursor']}")
        assert (len(page["events"]), len(rest["events"]), rest["cursor"]) == (2, 2, None)
        for path in ("/api/v1/events/{id}", "/api/v1/events/{id}/duplicates"):
            last = [await api.get(path, id=one["id"]) for one in (*page["events"], *rest["events"])][-1]
        assert len(last["latest"]) == 1
        listed = await api.get("/api/v1/deliveries", query="?status=dead&type=sale.*&destination=app")
        assert len(listed["deliveries"]) == 2
        (group,) = (await api.get("/api/v1/deliveries/dead", query="?type=sale.*"))["groups"]
        assert (group["http_status"], group["count"]) == (410, 2)
        (refused,) = (await api.get("/api/v1/rejected", query="?source=mando&limit=10"))["rejected"]
        assert refused["headers"]
        await api.get("/api/v1/rejected/{id}", id=refused["id"])
        assert len((await api.get("/api/v1/sources"))["sources"]) == 6
        assert len((await api.get("/api/v1/handshakes"))["handshakes"]) == 1
        in_environment = (await api.get("/api/v1/environment", query="?name=T&name=U"))["set"]
        await api.post("/api/v1/sources/{name}/sample", name="hisab", body={"type": "invoice.paid"})
        routed = (await api.get("/api/v1/routes", query="?source=mando&type=sale.created"))["destinations"]
        tried = {"source": "mando", "body": '{"id": "1", "type": "sale.created"}', "headers": {"X-A": "b"}}
        assert (await api.post("/api/v1/routes", body=tried))["events"][0]["destinations"] == ["app"]
        await api.post("/api/v1/routes", 400, body={"source": "nobody", "body": ""})
        assert (await api.get("/api/v1/events/{id}/routes", id=dead))["destinations"] == ["app"]
        await api.get("/api/v1/events/{id}/routes", 404, id="nope")
        assert (in_environment, len(routed)) == ({"T": True, "U": False}, 1)
        assert "event: event" in await api.get("/api/v1/stream", query="?since=1h&until=now")
        assert (await api.get("/api/v1/status"))["reload"]["successful"]
        await change_deliveries(api, dead)
        (tmp_path / "gateway.yaml").write_text(config.replace("hisab:", "hisab2:"))
        for body in ({"dry_run": True}, {}):
            assert (await api.post("/-/reload", body=body))["sources"]["added"] == ["hisab2"]
        changes = await api.get("/api/v1/audit", query="?who=operator&since=1h&limit=3")
        assert [entry["action"] for entry in changes["audit"]] == ["reload", "resume", "retry"]
        await api.get("/api/v1/audit", query=f"?who=operator&since=1h&cursor={changes['cursor']}")

    assert {(method, path) for method, path, _ in api.seen} == ROUTES


async def test_a_breaker_that_is_open_is_described(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIG.replace("max: 20ms}}", "max: 20ms}}, breaker: {{failures: 1, open: 60s}}")
    async with run_gateway(config.format(url=destination.url)) as running:
        destination.always(status(500))
        body = providers.body(id="evt_1", type="sale.created")
        await running.send("mando", body, providers.mando(body))
        await running.until(("gatehouse_breaker_open", "app"), 1)

        api = Api(running)
        (shown,) = (await api.get("/api/v1/destinations"))["destinations"]
        await api.post("/api/v1/destinations/{name}/probe", name="app")

    assert (shown["breaker"], shown["open_since"] is None) == ("open", False)


async def test_every_error_is_described(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    (tmp_path / "gateway.yaml").write_text("sources: {shop: {provider: mandoo, secrets: env:SECRET}}")
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        api = Api(running)
        for path in ("/api/v1/events", "/api/v1/deliveries", "/api/v1/rejected"):
            await api.get(path, 400, query="?limit=0")
        await api.get("/api/v1/deliveries/dead", 400, query="?limit=1")
        for path in ("environment", "routes"):
            await api.get(f"/api/v1/{path}", 400)
        await api.get("/api/v1/stream", 400, query="?kinds=events")
        await api.post("/api/v1/deliveries/retry", 400, body={})
        await api.post("/api/v1/deliveries/{id}/retry", 400, id="no-colon")
        await api.post("/api/v1/deliveries/discard", 400, body={"ids": ["nothing:app"]})
        await api.post("/api/v1/events/{id}/replay", 400, id="x", body={"destinations": []})
        await api.post("/api/v1/destinations/{name}/pause", name="app")
        body = providers.body(id="evt_1", type="sale.created")
        await running.send("mando", body, providers.mando(body))
        await asyncio.gather(
            *(api.post("/api/v1/replays", 202, body={"all": True, "to": ["app"]}) for _ in range(MAX_RUNNING))
        )
        for path in ("/api/v1/replays", "/api/v1/retries"):
            await api.post(path, 400, body={"filter": {"since": "soon"}})
            await api.post(path, 409, body={"all": True})
        await api.post("/-/reload", 400)
        await api.post("/-/reload", 400, body={"dry_run": "yes"})
        for path in DOCUMENT["paths"]:
            for method, operation in DOCUMENT["paths"][path].items():
                ask = getattr(api, method)
                if "404" in operation["responses"]:
                    await ask(path, 404, id="nothing:app", name="nothing")
                if "403" in operation["responses"]:
                    await ask(path, 403, id="x", name="x", headers={"Host": "example.com"})
                if method != "get":
                    await ask(path, 403, id="x", name="x", headers={"Origin": "https://example.com"})
        long = {"type": "x" * 70_000}
        await api.post("/api/v1/deliveries/retry", 413, body=long)
        await api.post("/api/v1/events/{id}/replay", 413, id="x", body=long)


async def test_answers_while_the_store_is_locked_are_described(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        api = Api(running)
        body = providers.body(id="evt_1", type="sale.created")
        event_id = str((await running.send("mando", body, providers.mando(body)))[1]["id"])
        await destination.wait_for(1)
        other = sqlite3.connect(tmp_path / "gatehouse.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            await api.get("/readyz", 503)
            await api.post("/api/v1/events/{id}/replay", 503, id=event_id)
        finally:
            other.execute("ROLLBACK")
            other.close()


async def test_answers_to_wrong_tokens_are_described(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(WITH_TOKEN.format(url=destination.url), T=TOKEN) as running:
        api = Api(running)
        guarded = [
            (getattr(api, method), path)
            for path, methods in DOCUMENT["paths"].items()
            for method, operation in methods.items()
            if operation.get("security") != []
        ]
        for ask, path in guarded:
            await ask(path, 401, id="x", name="x")
        for number in range(10):
            await api.get("/metrics", 401, headers={"Authorization": f"Bearer guess-{number}"})
        for ask, path in guarded:
            await ask(path, 429, id="x", name="x", headers=AUTHORIZED)
        await api.get("/healthz")
        await api.get("/readyz")


async def test_a_running_gateway_serves_the_described_routes_and_no_others(running: Running) -> None:
    gateway: Gateway = running.gateway
    # The others are the web page.
    api = [route for route in served(gateway.operator.app().router) if route[1].startswith(DATA_PATHS)]

    assert {(method, path) for method, path, _ in api} == ROUTES
    assert all(route_description(handler) for _, _, handler in api)


class Forwarding:
    """Stands in for a worker, with the answers of a running gateway."""

    def __init__(self, running: Running, *, is_serving: bool) -> None:
        self.number = 1
        self.is_serving = is_serving
        self.client = self
        self._running = running

    async def request(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        within: float = 15.0,
        identity: Identity = SUPERVISOR,
    ) -> WorkerAnswer:
        url = URL(self._running.operator_url + path, encoded=True)
        timeout = aiohttp.ClientTimeout(total=within)
        async with self._running.client.request(method, url, data=body, timeout=timeout) as answer:
            return WorkerAnswer(answer.status, await answer.read(), answer.headers["Content-Type"])


@asynccontextmanager
async def in_front_of_workers(running: Running, *, is_serving: bool) -> AsyncIterator[Api]:
    """Run the operator server of a supervisor with two workers."""
    workers = cast("Any", [Forwarding(running, is_serving=is_serving) for _ in range(2)])
    server = OperatorServer(
        Address("127.0.0.1", 0),
        None,
        SupervisorMetrics(2),
        {},
        WorkersApi(workers, lambda: LastReload(successful=True, at=0.0)).routes(),
        reload=running.gateway.reload,
    )
    await server.start()
    try:
        yield Api(running, url=f"http://127.0.0.1:{server.port}")
    finally:
        await server.stop()


async def test_the_answers_of_several_workers_match_the_reference(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(WITH_ASANA.format(url=destination.url)) as running:
        dead = await filled(running, destination)
        async with in_front_of_workers(running, is_serving=True) as api:
            for path in (
                "events",
                "deliveries",
                "deliveries/dead",
                "config",
                "sources",
                "handshakes",
                "destinations",
                "status",
                "history",
            ):
                await api.get(f"/api/v1/{path}")
            refused, _ = (await api.get("/api/v1/rejected"))["rejected"]
            await api.get("/api/v1/rejected/{id}", id=refused["id"])
            await api.get("/api/v1/rejected/{id}", 404, id="nothing")
            await api.get("/api/v1/rejected", 400, query="?limit=0")
            await api.get("/api/v1/events/{id}", id=dead)
            await api.get("/api/v1/events/{id}/duplicates", id=dead)
            await api.get("/api/v1/environment", query="?name=T")
            await api.post("/api/v1/destinations/{name}/pause", name="app")
            await api.post("/api/v1/destinations/{name}/probe", 409, name="app")
            await api.post("/api/v1/destinations/{name}/test", name="app")


async def test_every_route_answers_503_when_no_worker_answers(running: Running) -> None:
    async with in_front_of_workers(running, is_serving=False) as api:
        for path, methods in DOCUMENT["paths"].items():
            for method in methods:
                if path.startswith("/api/"):
                    ask = getattr(api, method)
                    await ask(path, 503, id="x", name="x")


def test_the_supervisor_serves_the_same_routes_as_a_gateway() -> None:
    own = {
        (route.method, route.path)
        for route in WorkersApi([], lambda: LastReload(successful=True, at=0.0)).routes()
        if route.method != "*"
    }

    assert own <= ROUTES


@pytest.mark.parametrize("undescribed", [{"code": "x", "message": "y", "more": 1}, {"code": "x"}])
def test_an_additional_or_missing_member_is_found(undescribed: dict[str, Any]) -> None:
    schema = described("GET", "/metrics", 401)["content"]["application/json"]["schema"]

    assert complaints(schema, {"error": undescribed})

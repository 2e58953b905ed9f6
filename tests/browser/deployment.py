"""What an operator looks at: a gateway with several sources, and the apps behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from browser.providers import Providers
from doubles.destination import BODY, Answer, ScriptedDestination, hang, status
from gatehouse.config.load import load
from gatehouse.language.request import Request
from gateways import SIGNING_SECRET
from processes import serving

#: The tokens of two operators, and of somebody who may only look.
TOKENS = {
    "OPERATOR_TOKEN": "token-of-the-operator",
    "ALICE_TOKEN": "token-of-alice-herself",
    "GRAFANA_TOKEN": "token-of-the-dashboard",
}
OPERATOR, ALICE, GRAFANA = TOKENS.values()

#: `SUPPORT_SECRET` is missing, so the source `support` is not ready.
ENVIRONMENT = TOKENS | {
    "SHOP_SECRET": "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",
    "PAYMENTS_SECRET": "whsec_9Zt1bqk0V7mYw3Lr5Xc2Nd8Pf6Hj4Gs1",
    "REPOS_SECRET": "hook-secret-of-the-repositories",
    "PARTNER_SECRET": "a-secret-that-the-partner-chose",
    "PARTNER_SECRET_OLD": "the-secret-before-the-rotation",
    "SIGNING_SECRET": SIGNING_SECRET,
}

CONFIG = """\
server: {{listen: "127.0.0.1:0", public_url: "https://hooks.example.com"}}
operator:
  listen: "127.0.0.1:0"
  token: env:OPERATOR_TOKEN
  tokens:
    - {{name: alice, token: env:ALICE_TOKEN, role: operate}}
    - {{name: grafana, token: env:GRAFANA_TOKEN, role: read}}
sources:
  shop: {{provider: shopify, secrets: env:SHOP_SECRET}}
  payments: {{provider: stripe, secrets: env:PAYMENTS_SECRET}}
  repos: {{provider: github, secrets: env:REPOS_SECRET}}
  support: {{provider: intercom, secrets: env:SUPPORT_SECRET}}
  partner:
    verify: {{type: hmac, signature: {{header: X-Partner-Signature}}}}
    secrets: [env:PARTNER_SECRET, env:PARTNER_SECRET_OLD]
    event:
      id: "{{body:id}}"
      type: "{{body:type}}"
      subject: "{{body:subject}}"
      account: "{{body:account}}"
    dedupe: {{by: ["{{body:id}}"]}}
destinations:
  # One attempt fails now and then.
  billing: {{url: "{app}/billing", secret: env:SIGNING_SECRET, retry: {{first: 10ms, max: 20ms}}}}
  # Down: the breaker is open.
  crm: {{url: "{app}/crm", breaker: {{failures: 3, open: 10m, max_open: 10m}}}}
  # Paused.
  warehouse: {{url: "{app}/warehouse"}}
  # Refuses some events for good.
  ledger: {{url: "{app}/ledger", retry_on: "!422", breaker: {{failures: 1000}}}}
  # Too slow.
  search:
    url: "{app}/search"
    timeout: 100ms
    retry: {{first: 50ms, max: 100ms, give_up_after: 400ms}}
    breaker: {{failures: 1000}}
  archive: {{url: "{app}/archive", format: raw, headers: ["X-*"]}}
routes:
  - {{from: shop, types: ["orders/*", "refunds/*"], to: [billing, warehouse]}}
  - {{from: shop, types: ["customers/*"], to: crm}}
  - {{from: shop, types: ["products/*"], to: search}}
  - {{from: payments, to: [billing, ledger]}}
  - {{from: repos, to: archive}}
  - {{from: partner, to: archive}}
"""

_REFUSED = b'{"error": "unknown account", "detail": "No ledger account has this id."}'
_DOWN = b"<html><body><h1>500 Internal Server Error</h1><p>database is locked</p></body></html>"


class App:
    """The apps behind the gateway: one server, with an answer for each path."""

    def __init__(self, server: ScriptedDestination) -> None:
        self.server = server
        #: By path. A test may replace an answer to repair an app.
        self.answers: dict[str, Answer] = {
            "/billing": _failing_at_first(
                b'"charge.succeeded"', status(503, body=b"deploying", retry_after="0")
            ),
            "/crm": status(500, body=_DOWN, content_type="text/html"),
            "/ledger": _by_body({b'"charge.refunded"': status(410), b'_failed"': status(422, body=_REFUSED)}),
            "/search": hang(),
        }
        server.always(self._answer)

    @property
    def url(self) -> str:
        """The scheme, host and port."""
        return f"http://127.0.0.1:{self.server.port}"

    @contextmanager
    def answering(self, path: str, answer: Answer) -> Iterator[None]:
        """Answer differently at a path for a while."""
        usual = self.answers.get(path)
        self.answers[path] = answer
        try:
            yield
        finally:
            self.answers[path] = usual or status(200)

    def received(self, path: str) -> list[str]:
        """Return the ids of the events that arrived at a path, one for each attempt."""
        return [request.event_id for request in self.server.requests if request.path == path]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        return await self.answers.get(request.path, status(200, body=b'{"ok": true}'))(request)


def _failing_at_first(part: bytes, answer: Answer) -> Answer:
    """Answer the first attempts of bodies that contain this part differently."""

    async def choose(request: web.Request) -> web.StreamResponse:
        is_first = request.headers["gatehouse-attempt"] == "1"
        return await (answer if is_first and part in request[BODY] else status(200))(request)

    return choose


def _by_body(answers: dict[bytes, Answer]) -> Answer:
    """Choose the answer by a part of the body."""

    async def choose(request: web.Request) -> web.StreamResponse:
        found = (answer for part, answer in answers.items() if part in request[BODY])
        return await next(found, status(200))(request)

    return choose


class Deployment:
    """A running gateway, its providers, and the apps behind it."""

    def __init__(
        self,
        ingest: str,
        operator: str,
        config: Path,
        providers: Providers,
        app: App,
        client: aiohttp.ClientSession,
    ) -> None:
        self.ingest = ingest
        self.operator = operator
        #: The config file.
        self.config = config
        self.providers = providers
        self.app = app
        self.client = client

    async def send(self, request: Request) -> tuple[int, Any]:
        """Send a request as its provider does. Returns the status and the JSON of the answer."""
        target = request.path + (f"?{request.query}" if request.query else "")
        async with self.client.post(
            self.ingest + target, data=request.body, headers=request.headers
        ) as answer:
            return answer.status, await answer.json()

    async def accept(self, request: Request) -> str:
        """Send a request that the gateway accepts. Returns the id of its event."""
        code, answer = await self.send(request)
        assert code == 200, answer
        return str(answer["id"])

    async def ask(self, method: str, path: str, body: Any = None, token: str = OPERATOR) -> tuple[int, Any]:
        """Ask the API. Returns the status and the JSON of the answer."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self.client.request(method, self.operator + path, headers=headers, json=body) as answer:
            return answer.status, json.loads(await answer.text() or "null")

    async def read(self, path: str) -> Any:
        """Read from the API."""
        code, answer = await self.ask("GET", f"/api/v1/{path}")
        assert code == 200, answer
        return answer

    async def delivery(self, event_id: str, destination: str) -> dict[str, Any]:
        """Read the delivery of an event to a destination."""
        found = (await self.read(f"events/{event_id}"))["deliveries"]
        return next(one for one in found if one["destination"] == destination)

    async def until_delivery(self, event_id: str, destination: str, status: str) -> dict[str, Any]:
        """Wait until a delivery has a status, and return it."""

        async def has_status() -> bool:
            found = (await self.read(f"events/{event_id}"))["deliveries"]
            return any(one["destination"] == destination and one["status"] == status for one in found)

        await self.until(has_status)
        return await self.delivery(event_id, destination)

    async def make_dead_letter(self) -> str:
        """Let ledger refuse an event for good. Returns the id of the event."""
        event_id = await self.accept(self.providers.request("payments", "invoice.payment_failed"))
        await self.until_delivery(event_id, "ledger", "dead")
        return event_id

    async def destination(self, name: str) -> dict[str, Any]:
        """Read the state of a destination."""
        found = (await self.read("destinations"))["destinations"]
        return next(one for one in found if one["name"] == name)

    async def until(self, condition: Callable[[], Awaitable[bool]], within: float = 15.0) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(within):
            while not await condition():  # noqa: ASYNC110 - the API is polled, as operators do
                await asyncio.sleep(0.02)

    async def settle(self) -> None:
        """Wait until only the destinations that are down or paused have pending deliveries."""

        async def has_settled() -> bool:
            found = (await self.read("destinations"))["destinations"]
            pending = {one["name"] for one in found if one["pending"]}
            is_open = any(one["name"] == "crm" and one["breaker"] == "open" for one in found)
            return is_open and pending == {"crm", "warehouse"}

        await self.until(has_settled)


@asynccontextmanager
async def running_deployment(folder: Path, *, path: str | None = None) -> AsyncIterator[Deployment]:
    """Run a gateway in a process of its own, and the apps in this one. `path` is `operator.path`."""
    async with ScriptedDestination() as server, aiohttp.ClientSession() as client:
        app = App(server)
        file = folder / "gateway.yaml"
        under = f"operator:\n  path: {path}\n" if path else "operator:\n"
        file.write_text(CONFIG.format(app=app.url).replace("operator:\n", under))
        async with serving(file, **ENVIRONMENT) as gateway:
            providers = Providers(load(file), ENVIRONMENT)
            yield Deployment(gateway.url, gateway.operator_url, file, providers, app, client)

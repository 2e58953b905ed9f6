"""A gateway in this process: real sockets, real SQLite, a real destination."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from doubles.destination import ScriptedDestination
from doubles.providers import SECRET
from prometheus_client.parser import text_string_to_metric_families

from gatehouse import log
from gatehouse.app import Gateway
from gatehouse.config.load import parse

SIGNING_SECRET = "whsec_" + base64.b64encode(b"destination-signing-key-").decode()
BASIC = "gatehouse:a-long-enough-password"

CONFIG = """
server: {{listen: "127.0.0.1:0", public_url: "https://hooks.example.com"}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  mandato: {{provider: mandato, secrets: [env:SECRET]}}
  mando: {{provider: mando, secrets: [env:SECRET]}}
  e-invoice: {{provider: e-invoice-be, secrets: [env:EINVOICE]}}
  getpeppr: {{provider: getpeppr, secrets: [env:SECRET]}}
  hisab: {{provider: hisab, secrets: [env:SECRET]}}
destinations:
  app: {{url: "{url}", secret: env:SIGNING, retry: {{first: 10ms, max: 20ms}}}}
routes:
  - {{from: "*", to: app}}
"""


class Running:
    """A gateway that serves, and a client for both of its listeners."""

    def __init__(self, gateway: Gateway, client: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.client = client
        self.url = f"http://127.0.0.1:{gateway.ingest.port}"
        self.operator_url = f"http://127.0.0.1:{gateway.operator.port}"

    async def send(
        self, source: str, body: bytes, headers: dict[str, str], *, chunked: bool | None = None
    ) -> tuple[int, Any]:
        """Post to a source; return the status and the JSON of the answer."""
        url, data = f"{self.url}/webhooks/{source}", io.BytesIO(body)
        async with self.client.post(url, data=data, headers=headers, chunked=chunked) as answer:
            return answer.status, await answer.json()

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """Scrape: by name and label values, in the order of the labels' names."""
        async with self.client.get(f"{self.operator_url}/metrics") as answer:
            text = await answer.text()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


RunGateway = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
async def destination() -> AsyncIterator[ScriptedDestination]:
    """Run a destination."""
    async with ScriptedDestination() as running:
        yield running


@pytest.fixture
def run_gateway(tmp_path: Path) -> RunGateway:
    """Give the function that runs a gateway from a config text."""

    @asynccontextmanager
    async def run(config: str, **environment: str) -> AsyncIterator[Running]:
        secrets = {"SECRET": SECRET, "EINVOICE": "secret", "SIGNING": SIGNING_SECRET, "BASIC": BASIC}
        loaded = parse(config, directory=tmp_path)
        async with (
            Gateway(loaded, environment=secrets | environment) as gateway,
            aiohttp.ClientSession() as client,
        ):
            yield Running(gateway, client)
        # A connection that the client closed is gone from the server's side one turn later.
        await asyncio.sleep(0)

    return run


@pytest.fixture
async def running(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Running]:
    """Run a gateway with the five providers and one destination."""
    async with run_gateway(CONFIG.format(url=destination.url)) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def logged() -> Iterator[io.StringIO]:
    """Collect what is logged."""
    stream = io.StringIO()
    log.configure(json=True, stream=stream)
    yield stream
    structlog.reset_defaults()

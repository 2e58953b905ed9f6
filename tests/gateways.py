"""A gateway in the process of the test: its config, and a client for both listeners."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from gatehouse.gateway.app import Gateway

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
    """A running gateway, and a client for both of its listeners."""

    def __init__(self, gateway: Gateway, client: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.client = client
        self.url = f"http://127.0.0.1:{gateway.ingest.port}"
        self.operator_url = f"http://127.0.0.1:{gateway.operator.port}"

    async def send(
        self, source: str, body: bytes, headers: dict[str, str], *, chunked: bool | None = None
    ) -> tuple[int, Any]:
        """Post to a source. Returns the status and the JSON of the answer."""
        url, data = f"{self.url}/webhooks/{source}", io.BytesIO(body)
        async with self.client.post(url, data=data, headers=headers, chunked=chunked) as answer:
            return answer.status, await answer.json()

    async def ask(self, path: str) -> Any:
        """Get a path of the operator's listener. Returns the JSON of the answer."""
        async with self.client.get(f"{self.operator_url}{path}") as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """Scrape the metrics. The keys are the name and the label values, in the order of the label names."""
        async with self.client.get(f"{self.operator_url}/metrics") as answer:
            text = await answer.text()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def until(self, series: tuple[str, ...], value: float, within: float = 10.0) -> None:
        """Scrape until a series has reached a value."""
        async with asyncio.timeout(within):
            while (await self.metrics())[series] < value:  # noqa: ASYNC110 - metrics are polled, as Prometheus does
                await asyncio.sleep(0.01)


RunGateway = Callable[..., AbstractAsyncContextManager[Running]]

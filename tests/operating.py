"""An operator of a gateway in this process: requests to the API, and commands."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gatehouse.cli import main
from gateways import CONFIG, RunGateway, Running

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

"""The story of an outage, told with the commands that an operator uses. docs/operations.md tells it too."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from doubles import providers
from doubles.destination import BODY, ScriptedDestination, status
from processes import GatewayProcess

#: The breaker opens soon and probes often, so that the story takes seconds.
CONFIG = """\
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  shop: {{provider: mando, secrets: env:SECRET}}
destinations:
  billing:
    url: "{billing}"
    breaker: {{failures: 3, open: 1s, max_open: 1s}}
    retry: {{first: 100ms, max: 500ms}}
  archive: {{url: "{archive}"}}
routes:
  - {{from: shop, to: billing}}
"""
#: Billing does not know the customer of this invoice.
UNKNOWN = "INV-2041"
REFUSAL = b"customer of INV-2041 is unknown"
WITHIN = 60.0


class Finished(NamedTuple):
    """A command that has ended."""

    code: int
    shown: str
    errors: str

    @property
    def answer(self) -> Any:
        """What `--json` prints."""
        return json.loads(self.shown)


class Scene:
    """A running gateway, the apps behind it, and the shell of an operator."""

    def __init__(self, folder: Path, gateway: GatewayProcess) -> None:
        self._folder = folder
        self._gateway = gateway

    async def gatehouse(self, *words: str) -> Finished:
        """Run a command, as the operator does, and wait for its end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gatehouse", *words, "--operator", self._gateway.operator_url),
            cwd=self._folder,
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WITHIN):
            shown, errors = await process.communicate()
        assert process.returncode is not None
        return Finished(process.returncode, shown.decode(), errors.decode())

    async def sell(self, *numbers: int) -> None:
        """Let the provider send an invoice for each number, and check that each gets a 2xx."""
        async with aiohttp.ClientSession() as client:
            for number in numbers:
                data = {"invoice": f"INV-{number}"}
                body = providers.body(id=f"evt_{number}", type="sale.completed", data=data)
                url, headers = f"{self._gateway.url}/webhooks/shop", providers.mando(body)
                async with client.post(url, data=body, headers=headers) as answer:
                    assert answer.status == 200

    async def until_status(self, *, shows: str) -> Finished:
        """Ask for the status until it shows a text."""
        async with asyncio.timeout(WITHIN):
            while shows not in (found := await self.gatehouse("status")).shown:
                pass
        return found

    async def deliveries(self) -> dict[str, int]:
        """Return how many deliveries of billing are pending and dead."""
        answer = (await self.gatehouse("status", "--json")).answer
        billing = next(one for one in answer["destinations"] if one["name"] == "billing")
        return {"pending": billing["pending"], "dead": billing["dead"]}

    async def until_drained(self) -> None:
        """Wait until billing has no pending delivery."""
        async with asyncio.timeout(WITHIN):
            while (await self.deliveries())["pending"]:
                pass


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")}
    return kept | {"SECRET": providers.SECRET, "NO_COLOR": "1"}


@asynccontextmanager
async def running(folder: Path, **urls: str) -> AsyncIterator[Scene]:
    """Run a gateway that delivers to these URLs."""
    (folder / "gateway.yaml").write_text(CONFIG.format(**urls))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gatehouse", "serve", "--log", "json"),
        cwd=folder,
        env=_environment(),
        stderr=asyncio.subprocess.PIPE,
    )
    gateway = GatewayProcess(process)
    try:
        await gateway.started()
        yield Scene(folder, gateway)
    finally:
        if process.returncode is None:
            gateway.terminate()
        assert await gateway.wait() == 0


async def refuse_the_unknown_customer(request: web.Request) -> web.StreamResponse:
    """Answer as billing does after the outage: it refuses one invoice for good."""
    is_unknown = UNKNOWN.encode() in request[BODY]
    return web.Response(status=410, body=REFUSAL) if is_unknown else web.Response(status=204)


async def test_an_operator_handles_an_outage_from_the_first_failure_to_the_audit(tmp_path: Path) -> None:
    async with (
        ScriptedDestination() as billing,
        ScriptedDestination() as archive,
        running(tmp_path, billing=billing.url, archive=archive.url) as scene,
    ):
        gatehouse = scene.gatehouse

        # Everything works, and nothing needs an operator.
        await scene.sell(*range(2000, 2020))
        await scene.until_drained()
        assert (await gatehouse("status")).code == 0

        # Billing goes down. Providers still get a 2xx. The circuit breaker opens, and `status` says so.
        await billing.stop()
        await scene.sell(*range(2020, 2060))
        open_breaker = await scene.until_status(
            shows="the circuit breaker of destination billing has been open"
        )
        assert open_breaker.code == 1
        assert "next probe" in open_breaker.shown
        assert (await scene.deliveries())["pending"] == 40

        # Billing comes back. A probe closes the breaker, and the backlog drains without an operator. Billing
        # refuses one event for good.
        billing.always(refuse_the_unknown_customer)
        await billing.start()
        await scene.until_drained()
        assert await scene.deliveries() == {"pending": 0, "dead": 1}
        dead = await gatehouse("status")
        assert dead.code == 1
        assert "Problem: destination billing has 1 dead letter" in dead.shown

        # A colleague asks about the invoice. Its number finds the event, and the event shows the app's reply.
        found = await gatehouse("events", "--contains", UNKNOWN, "--json")
        (event,) = found.answer["events"]
        assert event["external_id"] == "evt_2041"
        shown = await gatehouse("events", event["id"])
        assert "410" in shown.shown
        assert REFUSAL.decode() in shown.shown

        # The customer is added to billing. The operator retries the dead letter.
        billing.always(status(204))
        assert (await gatehouse("retry", f"{event['id']}:billing")).code == 0
        await scene.until_drained()
        assert await scene.deliveries() == {"pending": 0, "dead": 0}
        details = (await gatehouse("events", event["id"], "--json")).answer
        (delivery,) = details["deliveries"]
        assert delivery["status"] == "delivered"
        assert [attempt["http_status"] for attempt in delivery["attempts"]][-2:] == [410, 204]
        assert (await gatehouse("status")).code == 0

        # The archive needs everything of the last two hours: first a plan, then the replay at 50 a second.
        words = ("replay", "--source", "shop", "--since", "2h", "--to", "archive", "--rate", "50/s")
        plan = (await gatehouse(*words, "--dry-run", "--json")).answer
        assert (plan["events"], plan["by"]["destination"]) == (60, {"archive": 60})
        assert archive.requests == []
        refused = await gatehouse(*words)
        assert refused.code == 2, "without a terminal it wants --yes"
        assert archive.requests == []
        assert (await gatehouse(*words, "--yes")).code == 0
        arrived = await archive.wait_for(60, within=WITHIN)
        assert len({request.event_id for request in arrived}) == len(arrived) == 60
        assert arrived[-1].at - arrived[0].at >= 0.8, "60 events at 50 a second take more than a second"

        # The audit tells who did what, newest first. Whoever may use the listener without a token is `local`.
        audit = (await gatehouse("audit", "--json")).answer["audit"]
        assert [(entry["action"], entry["who"]) for entry in audit] == [
            ("replay", "local"),
            ("retry", "local"),
        ]
        assert audit[0]["count"] == 60

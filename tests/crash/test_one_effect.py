"""The example app processes each event once, even if the gateway is killed and replies get lost."""

from __future__ import annotations

import asyncio
import importlib.util
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from doubles import providers
from gateways import SIGNING_SECRET
from processes import serving

APP = Path(__file__).parents[2] / "deploy/example-app/app.py"
KILLS = 3
#: The number of events that are acknowledged in each life before its end.
EVENTS = 40
CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  mando: {{provider: mando, secrets: [env:SECRET]}}
destinations:
  app: {{url: "{url}", secret: env:SIGNING, retry: {{first: 20ms, max: 100ms}}}}
routes:
  - {{from: mando, to: app}}
"""


@pytest.fixture
def app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_effect_app", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Line:
    """A proxy between the gateway and the app: it counts requests, and loses one reply in ten."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self._random = Random(19)

    @web.middleware
    async def pass_on(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        self.attempts[request.headers["webhook-id"]] += 1
        if self._random.random() < 0.1 and request.transport is not None:
            request.transport.abort()
        return answer


@asynccontextmanager
async def listening(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    finally:
        await runner.cleanup()


class Provider:
    """Sends events in sequence, each until it is acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.url = ""
        self.stop = False

    async def until_acknowledged(self, more: int) -> None:
        """Wait for `number` more acknowledgements."""
        wanted = len(self.acknowledged) + more
        async with asyncio.timeout(20):
            while len(self.acknowledged) < wanted:  # noqa: ASYNC110 - there is only a counter to poll
                await asyncio.sleep(0.01)

    async def send(self, client: aiohttp.ClientSession, sender: int) -> None:
        number = 0
        while not self.stop:
            body = providers.body(id=f"evt_{sender}_{number}", type="sale.created", data={})
            try:
                async with client.post(self.url, data=body, headers=providers.mando(body)) as answer:
                    if answer.status == 200:
                        self.acknowledged.add((await answer.json())["id"])
                        number += 1
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)  # nothing signals that the gateway is back


@pytest.mark.timeout(120)
@pytest.mark.case("D-19")
async def test_an_event_that_is_delivered_twice_is_processed_once(
    app: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    effects: Counter[str] = Counter()

    def note(event: dict[str, Any]) -> None:
        effects[event["id"]] += 1

    monkeypatch.setattr(app, "show", note)
    random, line, provider = Random(19), Line(), Provider()
    application = app.build(SIGNING_SECRET)
    application.middlewares.append(line.pass_on)
    config = tmp_path / "gateway.yaml"
    async with listening(application) as url, aiohttp.ClientSession() as client:
        config.write_text(CONFIG.format(url=url))
        senders: list[asyncio.Task[None]] = []
        for _ in range(KILLS):
            async with serving(config, SECRET=providers.SECRET, SIGNING=SIGNING_SECRET) as gateway:
                provider.url = f"{gateway.url}/webhooks/mando"
                senders = senders or [asyncio.create_task(provider.send(client, n)) for n in range(8)]
                await provider.until_acknowledged(EVENTS)
                await asyncio.sleep(random.uniform(0, 0.2))
                gateway.kill()
                await gateway.wait()
        async with serving(config, SECRET=providers.SECRET, SIGNING=SIGNING_SECRET) as gateway:
            provider.url, provider.stop = f"{gateway.url}/webhooks/mando", True
            await asyncio.gather(*senders)
            async with asyncio.timeout(30):
                while provider.acknowledged - line.attempts.keys():  # noqa: ASYNC110 - the app signals nothing
                    await asyncio.sleep(0.05)

    assert len(provider.acknowledged) >= KILLS * EVENTS
    assert max(line.attempts.values()) > 1  # otherwise the test proves nothing
    assert set(effects.values()) == {1}
    assert len(effects) == len(line.attempts) >= len(provider.acknowledged)

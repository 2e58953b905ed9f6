"""The gateway as a separate process, on a machine whose clock is set while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from doubles import providers, shim
from doubles.destination import ScriptedDestination, status
from processes import serving

CONFIG = """\
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  mando: {provider: mando, secrets: env:SECRET}
destinations:
  app: {url: "%s", retry: {first: 1s, max: 1s, give_up_after: 40s}}
routes:
  - {from: mando, to: app}
"""
SOURCE = Path(shim.__file__).with_name("set_clock.c")


@pytest.mark.case("F-12")
@pytest.mark.parametrize("seconds", [-7200, 45, 8 * 86400])
async def test_a_retry_comes_on_time_and_known_events_stay_known(tmp_path: Path, seconds: int) -> None:
    ahead = tmp_path / "ahead"
    ahead.write_text("0")
    preloaded = {"LD_PRELOAD": str(shim.build(SOURCE, tmp_path)), "CLOCK_AHEAD": str(ahead)}
    async with ScriptedDestination() as destination:
        destination.script(status(503), status(503))
        file = tmp_path / "gateway.yaml"
        file.write_text(CONFIG % destination.url)
        async with (
            serving(file, SECRET=providers.SECRET, **preloaded) as gateway,
            aiohttp.ClientSession() as client,
        ):
            body = providers.body(id="evt_1", type="sale.created")

            async def send() -> str:
                url = f"{gateway.url}/webhooks/mando"
                async with client.post(url, data=body, headers=providers.mando(body)) as answer:
                    assert answer.status == 200
                    return str((await answer.json())["status"])

            assert await send() == "accepted"
            await destination.wait_for(1)
            ahead.write_text(str(seconds))
            await destination.wait_for(3)
            assert await send() == "duplicate"
            async with asyncio.timeout(10):
                while not (found := [line for line in gateway.log if line["event"] == "clock.jumped"]):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert abs(found[0]["seconds"] - seconds) < 2
            assert not [line for line in gateway.log if line["event"] == "delivery.dead"]

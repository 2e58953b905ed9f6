"""The same event on 64 connections at once is stored and forwarded once, and answered 64 times."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from doubles import providers
from doubles.destination import ScriptedDestination
from processes import serving

CONNECTIONS = 64
IDS = 50
CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  mando: {{provider: mando, secrets: [env:SECRET]}}
destinations:
  app: {{url: "{url}"}}
routes:
  - {{from: mando, to: app}}
"""


@pytest.mark.case("D-05")
async def test_an_id_sent_on_64_connections_at_once_is_accepted_once(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with ScriptedDestination() as destination, aiohttp.ClientSession(connector=connector) as client:
        config.write_text(CONFIG.format(url=destination.url))
        async with serving(config, SECRET=providers.SECRET) as gateway:
            url = f"{gateway.url}/webhooks/mando"

            async def send(body: bytes) -> tuple[int, str, str]:
                async with client.post(url, data=body, headers=providers.mando(body)) as answer:
                    said = await answer.json()
                    return answer.status, said["status"], said["id"]

            for number in range(IDS):
                body = providers.body(id=f"evt_{number}", type="sale.created", data={})
                answers = await asyncio.gather(*(send(body) for _ in range(CONNECTIONS)))

                assert {status for status, _, _ in answers} == {200}
                assert Counter(said for _, said, _ in answers) == {
                    "accepted": 1,
                    "duplicate": CONNECTIONS - 1,
                }
                assert len({event_id for _, _, event_id in answers}) == 1
            await destination.wait_for(IDS)
            gateway.terminate()
            assert await gateway.wait() == 0

    assert Counter(request.event_id for request in destination.requests).most_common(1)[0][1] == 1
    assert len(destination.requests) == IDS

"""A start with a large store: pending deliveries are counted at once, and are not read into memory."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import pytest

from conformance.builders import accept, arrival, event
from doubles import providers
from gatehouse.store.sqlite import SqliteStore
from processes import serving

MIB = 1024 * 1024
PENDING = 3000
BODY = b'{"id":"evt_1","pad":"%s"}' % (b"x" * 20_000)
CONFIG = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  mandato: {provider: mandato, secrets: [env:SECRET]}
destinations:
  billing: {url: "http://127.0.0.1:9/events"}
"""


async def peak_after_start(config: Path) -> tuple[int, str]:
    """Start a gateway. Return its peak memory when it is ready, and its metrics."""
    async with serving(config, SECRET=providers.SECRET) as gateway, aiohttp.ClientSession() as client:
        async with client.get(f"{gateway.operator_url}/readyz") as answer:
            assert answer.status == 200
        async with client.get(f"{gateway.operator_url}/metrics") as answer:
            metrics = await answer.text()
        status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024, metrics


@pytest.mark.case("D-23")
async def test_pending_deliveries_are_counted_at_the_start_and_stay_on_disk(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG)
    empty, _ = await peak_after_start(config)
    store, now = await SqliteStore.open(tmp_path / "gatehouse.db"), time.time()
    for _ in range(PENDING // 500):
        await accept(store, *[arrival(of=event(BODY, received=now)) for _ in range(500)])
    await store.close()

    full, metrics = await peak_after_start(config)

    assert f'gatehouse_deliveries_pending{{destination="billing"}} {PENDING}.0' in metrics
    assert full - empty < PENDING * len(BODY) / 2
